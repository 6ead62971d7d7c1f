"""From what the judge says to what PPO optimises, token by token (N4.6)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.advantages import moments, scale
from plaudit.formulas.rewards import (
    clipped_scores,
    dense_token_rewards,
    length_penalty,
    normalised_scores,
    penalised_unfinished,
    replaced_unfinished,
    soft_overlong_penalty,
    token_rewards,
)
from plaudit.formulas.statistics import RunningMoments, merge, running_moments
from plaudit.records.text import FinishReason
from plaudit.telemetry.console import warn
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.judged import Judged

FAR_FROM_ZERO = 2.0
"""Standard deviations; from here on a token's place weighs about as much as what the judge can tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """What PPO optimises."""

    mask: Bool[Tensor, "B R"]
    """The rollout's mask, less the rows whose judge abstained: they leave here."""
    rewards: Float[Tensor, "B R"]
    scores_seen: RunningMoments
    """What normalising knows of the judge's scores, this iteration's included."""


def shape(judged: Judged, config: PPOConfig, *, kl_coef: float, scores_seen: RunningMoments) -> Shaped:
    """Paragraph 3: the score goes on the last kept token (or on each, where a judge of tokens says so), the price of
    the KL on each; in the order of `Shaping`. `scores_seen`: of the iterations before."""
    valid, options = judged.scores.valid, config.shaping
    mask = judged.rollout.response_mask & valid.unsqueeze(1)
    said = torch.where(valid, judged.scores.scores, 0.0)
    _warn_if_nothing_is_taught(said[valid])
    seen = _seen(said, valid, config, scores_seen)
    scores = _shaped_scores(said, judged, config, seen)
    _warn_if_position_is_taught(scores[valid], judged, config)
    kl_coef = kl_coef if config.kl.place == "reward" else 0.0
    if options.credit == "token":
        rewards = dense_token_rewards(_token_scores(judged, mask), judged.opinions.ref_kl, mask, kl_coef=kl_coef)
        rewards = rewards + token_rewards(scores - said, torch.zeros_like(rewards), mask, kl_coef=0.0)
    else:
        rewards = token_rewards(scores, judged.opinions.ref_kl, mask, kl_coef=kl_coef)
    if options.whiten:
        rewards = scale(rewards, mask, moments(rewards, mask), std_floor=options.whiten.std_floor)
    return Shaped(mask=mask, rewards=rewards, scores_seen=seen)


def _seen(
    said: Float[Tensor, " B"], valid: Bool[Tensor, " B"], config: PPOConfig, before: RunningMoments
) -> RunningMoments:
    """Moments of the scores that normalising goes by. The first iteration's answers are the reference's own."""
    rule = config.shaping.normalise
    if rule is None or (rule.kind == "reference" and before.count):
        return before
    return merge(before, running_moments(moments(said, valid)))


def _shaped_scores(
    said: Float[Tensor, " B"], judged: Judged, config: PPOConfig, seen: RunningMoments
) -> Float[Tensor, " B"]:
    options, scores = config.shaping, said
    if rule := options.normalise:
        scores = normalised_scores(scores, mean=seen.mean, std=seen.std, std_floor=rule.std_floor)
    if options.score_limit:
        scores = clipped_scores(scores, score_limit=options.score_limit)
    ended = torch.tensor([reason is not FinishReason.LENGTH for reason in judged.rollout.finish_reasons])
    if options.unfinished and options.unfinished.kind == "penalty":
        scores = penalised_unfinished(scores, ended, penalty=options.unfinished.penalty)
    elif options.unfinished:
        scores = replaced_unfinished(scores, ended, unfinished_score=options.unfinished.score)
    lengths = judged.rollout.response_mask.sum(1)
    if options.length and options.length.kind == "per_token":
        free, price = options.length.free_tokens, options.length.price
        scores = scores + length_penalty(lengths, free_tokens=free, penalty_per_token=price)
    elif options.length:
        limit = config.sampling.max_new_tokens
        scores = scores + soft_overlong_penalty(lengths, max_length=limit, buffer=options.length.buffer)
    return scores


def _token_scores(judged: Judged, mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    if not judged.scores.token_scores:
        raise UserError("shaping.credit: token needs a judge that scores tokens; this one scores whole responses")
    tokens = torch.zeros(mask.shape)
    for row, (numbers, kept) in enumerate(zip(judged.scores.token_scores, judged.rollout.response_mask, strict=True)):
        if bool(judged.scores.valid[row]):
            tokens[row, kept] = torch.tensor(numbers)
    return tokens


def _warn_if_nothing_is_taught(kept: Float[Tensor, " n"]) -> None:
    if not len(kept):
        warn("ppo: the judge abstained from every answer: this iteration teaches nothing")
    if len(kept) > 1 and bool((kept == kept[0]).all()):
        warn(f"ppo: all {len(kept)} scores are {float(kept[0]):g}: this iteration teaches nothing but the KL's price")


def _warn_if_position_is_taught(kept: Float[Tensor, " n"], judged: Judged, config: PPOConfig) -> None:
    """While V ≡ 0, Â_t = (γλ)^(T−t) r: scores far from 0 make a token's place worth something."""
    is_new = not bool(judged.opinions.old_values[judged.rollout.response_mask].any())
    has_no_place = config.gamma * config.gae_lambda == 1.0 or config.shaping.credit == "token"
    if not is_new or has_no_place or config.critic_warmup or not config.value_coef or len(kept) < 2:
        return
    mean, std = float(kept.mean()), float(kept.std())
    if abs(mean) > FAR_FROM_ZERO * std > 0:
        warn(
            f"ppo: the scores are {mean:.3g} ± {std:.2g}, and a new critic expects 0: until it has learned, "
            f"{'late' if mean > 0 else 'early'} tokens are favoured, whatever they say. Centre the scores "
            "(`reference:` of a reward model, or shaping.normalise), or let the critic learn first (critic_warmup)"
        )
