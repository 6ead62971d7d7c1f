"""Paragraph 4: from rewards to what the policy is updated on (N4.3, N4.7)."""

from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.advantages import decoupled_gae, moments, reward_to_go, whiten
from plaudit.formulas.masks import masked_sum
from plaudit.formulas.mismatch import truncated_weights, trusted_responses, trusted_tokens
from plaudit.formulas.policy_losses import importance_ratio, trust_region_losses
from plaudit.records.tensors import Experience
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.options import GAE, Exclude, Returns, Truncate
from plaudit.training.policy.scored import ScoredRollout


def estimate(
    scored: ScoredRollout, rewards: Float[Tensor, "B R"], agreed: "Agreement", config: PPOConfig
) -> Experience:
    """How much better than expected each token was, whitened as the options say; and which tokens the losses may use.

    A new estimator is an arm here, beside its options and its formula; one that compares the answers to a prompt finds
    them together, `samples_per_prompt` rows each.
    """
    rollout, mask, values = scored.rollout, scored.mask, scored.outputs.old_values
    match config.advantage:
        case GAE() as gae:
            if values is None:
                raise ValueError("gae needs a critic")
            advantages, returns = decoupled_gae(
                rewards,
                values,
                mask,
                gamma=gae.gamma,
                policy_lambda=gae.gae_lambda,
                critic_lambda=gae.gae_lambda if gae.critic_gae_lambda is None else gae.critic_gae_lambda,
            )
        case Returns(gamma=gamma):
            advantages, returns = reward_to_go(rewards, mask, gamma=gamma), None
        case _ as never:
            assert_never(never)
    whitening = config.advantage.whitening
    if whitening and whitening.over == "iteration":
        advantages = whiten(advantages, mask, moments(advantages, mask), std_floor=whitening.std_floor)
    return Experience(
        group_ids=torch.arange(len(rollout.rows)) // config.samples_per_prompt,
        prompt_ids=rollout.prompt_ids,
        prompt_mask=rollout.prompt_mask,
        response_ids=rollout.response_ids,
        response_mask=mask,
        loss_mask=agreed.loss_mask,
        importance=agreed.importance,
        old_logprobs=scored.outputs.old_logprobs,
        ref_logprobs=scored.outputs.ref_logprobs,
        scores=torch.where(scored.scores.valid, scored.scores.scores, 0.0),
        rewards=rewards,
        advantages=advantages,
        old_values=values,
        returns=returns,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How sampler and trainer agree on the probabilities of the tokens, and what follows for the losses."""

    loss_mask: Bool[Tensor, "B R"]
    importance: Float[Tensor, "B R"]
    kl_sampler: float
    """KL(π_sampler ‖ π_old) in nats per token, by k3."""
    corrected: float
    """Share of the tokens that are truncated or left out."""


def agreement(scored: ScoredRollout, config: PPOConfig) -> Agreement:
    """Measured always, corrected as the options say; rewards and advantages are made of all kept tokens (N4.3)."""
    mask = scored.mask
    compared = (scored.outputs.old_logprobs, scored.rollout.sampler_logprobs, mask)
    loss_mask, importance = mask, mask.float()
    match config.sampler_mismatch:
        case None:
            pass
        case Truncate(cap=cap):
            importance = truncated_weights(*compared, cap=cap)
        case Exclude(by=by, low=low, high=high):
            trusted = trusted_tokens if by == "token" else trusted_responses
            loss_mask = trusted(*compared, low=low, high=high)
        case _ as never:
            assert_never(never)
    num_tokens = max(int(mask.sum()), 1)
    is_cut = isinstance(config.sampler_mismatch, Truncate)
    corrected = importance < importance_ratio(*compared) if is_cut else mask & ~loss_mask
    return Agreement(
        loss_mask=loss_mask,
        importance=importance,
        kl_sampler=float(masked_sum(trust_region_losses(*compared), mask)) / num_tokens,
        corrected=float(corrected.sum()) / num_tokens,
    )
