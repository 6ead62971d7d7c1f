"""Where the sampler's probabilities are not the trainer's: weights and masks for the losses.

The sampler (another engine, another precision, older weights) drew the tokens from π_sampler; the trainer computes
π_old for them. In exact arithmetic the two agree, and every function here does nothing. It is the *losses* that are
corrected: rewards and advantages are made of all kept tokens before. How far the two are apart is
`policy_losses.trust_region_losses(old_logprobs, sampler_logprobs, mask)`, each token's part of KL(π_sampler ‖ π_old).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.kl import LOG_RATIO_LIMIT, kept_log_ratio
from plaudit.formulas.masks import select


@torch.no_grad()
def truncated_weights(
    old_logprobs: Float[Tensor, "B R"], sampler_logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], *, cap: float
) -> Float[Tensor, "B R"]:
    """w_t = min(π_old(y_t)/π_sampler(y_t), C) per token, zero outside the mask: truncated importance sampling   (N4.3).

    Times the policy's losses; the denominators stay. C = `cap` bounds the variance and biases only tokens above it.
    Source: Ionides 2008; Yao et al. 2025 (for samplers that are not the trainer). Raises ValueError for C < 1, which
    would scale tokens down that agree.
    """
    if not cap >= 1.0:
        raise ValueError(f"cap must be at least 1, not {cap}")
    return select(_ratio(kept_log_ratio(old_logprobs, sampler_logprobs, mask)).clamp(max=cap), mask)


@torch.no_grad()
def trusted_tokens(
    old_logprobs: Float[Tensor, "B R"],
    sampler_logprobs: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    low: float,
    high: float,
) -> Bool[Tensor, "B R"]:
    """m_t ∧ [low ≤ π_old(y_t)/π_sampler(y_t) ≤ high]: a mask for the losses   (N4.3).

    Take it for every loss *and* for the counts that `aggregation` divides by: masked tokens leave numerator and
    denominator. Raises ValueError unless 0 ≤ low ≤ 1 ≤ high.
    """
    _check_bounds(low, high)
    ratio = _ratio(kept_log_ratio(old_logprobs, sampler_logprobs, mask))
    return mask & (ratio >= low) & (ratio <= high)


@torch.no_grad()
def trusted_responses(
    old_logprobs: Float[Tensor, "B R"],
    sampler_logprobs: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    low: float,
    high: float,
) -> Bool[Tensor, "B R"]:
    """`trusted_tokens` by whole responses: the geometric mean of a row's ratios must lie in [low, high]   (N4.3).

    exp of the *mean* log-ratio, so that the bounds mean the same for short and long responses. Raises ValueError unless
    0 ≤ low ≤ 1 ≤ high.
    """
    _check_bounds(low, high)
    log_ratio = kept_log_ratio(old_logprobs, sampler_logprobs, mask)
    ratio = _ratio(log_ratio.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1))
    return mask & (ratio >= low) & (ratio <= high)


def _ratio(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def _check_bounds(low: float, high: float) -> None:
    if not 0.0 <= low <= 1.0 <= high <= math.inf:
        raise ValueError(f"the bounds of π_old/π_sampler must enclose 1, and not be negative: [{low}, {high}]")
