"""Paragraph 3: from what the judge says to what PPO optimises, token by token (N4.6)."""

from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas import rewards as formulas
from plaudit.formulas.advantages import moments, scale
from plaudit.formulas.rewards import dense_token_rewards, token_rewards
from plaudit.formulas.statistics import RunningMoments, merge, running_moments
from plaudit.records.text import FinishReason
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.options import Overlong, PenalisedUnfinished, PerToken, ReplacedUnfinished
from plaudit.training.policy.scored import ScoredRollout


def shape(
    scored: ScoredRollout, config: PPOConfig, *, kl_coef: float, scores_seen: RunningMoments
) -> tuple[Float[Tensor, "B R"], RunningMoments]:
    """Rewards, and what normalising knows of the scores after this iteration; `scores_seen`: of those before.

    The score goes on the last kept token (or on each, where a judge scores tokens), the price of the KL on each; in the
    order of `Shaping`. Rows whose judge abstained leave here.
    """
    valid, options, mask, ref_kl = scored.scores.valid, config.shaping, scored.mask, scored.outputs.ref_kl
    raw = torch.where(valid, scored.scores.scores, 0.0)
    score_moments = _moments_with(raw, valid, config, scores_seen)
    scores = _shaped_scores(raw, scored, config, score_moments)
    kl_coef = kl_coef if config.kl.into == "reward" else 0.0
    if options.credit == "token":
        rewards = dense_token_rewards(_token_scores(scored), ref_kl, mask, kl_coef=kl_coef)
        rewards = rewards + token_rewards(scores - raw, torch.zeros_like(rewards), mask, kl_coef=0.0)
    else:
        rewards = token_rewards(scores, ref_kl, mask, kl_coef=kl_coef)
    if options.whiten:
        rewards = scale(rewards, mask, moments(rewards, mask), std_floor=options.whiten.std_floor)
    return rewards, score_moments


def _moments_with(
    raw: Float[Tensor, " B"], valid: Bool[Tensor, " B"], config: PPOConfig, before: RunningMoments
) -> RunningMoments:
    """Moments of the scores that normalising goes by. The first iteration's answers are the reference's own."""
    rule = config.shaping.normalise
    if rule is None or (rule.kind == "reference" and before.count):
        return before
    return merge(before, running_moments(moments(raw, valid)))


def _shaped_scores(
    raw: Float[Tensor, " B"], scored: ScoredRollout, config: PPOConfig, moments: RunningMoments
) -> Float[Tensor, " B"]:
    options, scores = config.shaping, raw
    if rule := options.normalise:
        scores = formulas.normalised_scores(scores, mean=moments.mean, std=moments.std, std_floor=rule.std_floor)
    if options.score_limit:
        scores = formulas.clipped_scores(scores, score_limit=options.score_limit)
    ended = torch.tensor([reason is not FinishReason.LENGTH for reason in scored.rollout.finish_reasons])
    match options.unfinished:
        case PenalisedUnfinished(penalty=penalty):
            scores = formulas.penalised_unfinished(scores, ended, penalty=penalty)
        case ReplacedUnfinished(score=score):
            scores = formulas.replaced_unfinished(scores, ended, unfinished_score=score)
        case None:
            pass
        case _ as never:
            assert_never(never)
    lengths = scored.rollout.response_mask.sum(1)
    match options.length:
        case PerToken(price=price, free_tokens=free):
            scores = scores + formulas.length_penalty(lengths, free_tokens=free, penalty_per_token=price)
        case Overlong(buffer=buffer):
            limit = config.sampling.max_new_tokens
            scores = scores + formulas.soft_overlong_penalty(lengths, max_length=limit, buffer=buffer)
        case None:
            pass
        case _ as never:
            assert_never(never)
    return scores


def _token_scores(scored: ScoredRollout) -> Float[Tensor, "B R"]:
    if not scored.scores.token_scores:
        raise UserError("shaping.credit: token needs a judge that scores tokens; this one scores whole responses")
    tokens = torch.zeros(scored.mask.shape)
    for row, (numbers, mask) in enumerate(zip(scored.scores.token_scores, scored.rollout.response_mask, strict=True)):
        if bool(scored.scores.valid[row]):
            tokens[row, mask] = torch.tensor(numbers)
    return tokens
