"""Where the sampler's probabilities are not the trainer's: corrections of the losses, and the mismatch as sums.

The sampler (another engine, another precision, older weights) drew the tokens from π_sampler; the trainer computes
π_old for them. In exact arithmetic the two agree, and every function here does nothing. It is the *losses* that are
corrected: rewards and advantages are made of all kept tokens before.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn.functional import pad

from plaudit.formulas.kl import LOG_RATIO_LIMIT, k3, kept_log_ratio
from plaudit.formulas.masks import masked_sum, select


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchStats:
    """Sums over kept tokens (N4.3), float64, without gradient."""

    num_tokens: Float64[Tensor, ""]
    """Kept tokens that were counted."""
    gap_sum: Float64[Tensor, ""]
    """Nats: Σ |log π_old − log π_sampler|."""
    gap_max: Float64[Tensor, ""]
    """Nats: the largest of them; 0 where nothing was counted."""
    kl_sampler_sum: Float64[Tensor, ""]
    """Nats: Σ of k3 for KL(π_sampler ‖ π_old) ≥ 0 (the tokens were sampled from π_sampler)."""
    corrected_tokens: Float64[Tensor, ""]
    """Tokens whose weight was truncated, or that were masked."""

    @property
    def kl_sampler(self) -> float:
        """Nats per token, never negative; 0 of none."""
        return (self.kl_sampler_sum / self.num_tokens.clamp(min=1.0)).item()

    @property
    def corrected_fraction(self) -> float:
        """Share of the counted tokens that were truncated or masked; 0 of none."""
        return (self.corrected_tokens / self.num_tokens.clamp(min=1.0)).item()


@torch.no_grad()
def truncated_weights(
    old_logprobs: Float[Tensor, "B R"],
    sampler_logprobs: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    cap: float,
) -> tuple[Float[Tensor, "B R"], MismatchStats]:
    """w_t = min(π_old(y_t)/π_sampler(y_t), C) per token, zero outside the mask: truncated importance sampling   (N4.3).

    Times the policy's losses; the denominators stay. C = `cap` bounds the variance and biases only tokens above it; an
    infinite one measures and truncates nothing. Source: Ionides 2008; Yao et al. 2025 (for samplers that are not the
    trainer). Raises ValueError for C < 1, which would scale tokens down that agree.
    """
    if not cap >= 1.0:
        raise ValueError(f"cap must be at least 1, not {cap}")
    log_ratio = kept_log_ratio(old_logprobs, sampler_logprobs, mask)
    ratio = _ratio(log_ratio)
    return select(ratio.clamp(max=cap), mask), _stats(log_ratio, mask & (ratio > cap), mask)


@torch.no_grad()
def trusted_tokens(
    old_logprobs: Float[Tensor, "B R"],
    sampler_logprobs: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    low: float,
    high: float,
) -> tuple[Bool[Tensor, "B R"], MismatchStats]:
    """m_t ∧ [low ≤ π_old(y_t)/π_sampler(y_t) ≤ high]: a mask for the losses   (N4.3).

    Take it for every loss *and* for the counts that `aggregation` divides by: masked tokens leave numerator and
    denominator. Raises ValueError unless 0 ≤ low ≤ 1 ≤ high.
    """
    _check_bounds(low, high)
    log_ratio = kept_log_ratio(old_logprobs, sampler_logprobs, mask)
    ratio = _ratio(log_ratio)
    trusted = mask & (ratio >= low) & (ratio <= high)
    return trusted, _stats(log_ratio, mask & ~trusted, mask)


@torch.no_grad()
def trusted_responses(
    old_logprobs: Float[Tensor, "B R"],
    sampler_logprobs: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    low: float,
    high: float,
) -> tuple[Bool[Tensor, "B R"], MismatchStats]:
    """`trusted_tokens` by whole responses: the geometric mean of a row's ratios must lie in [low, high]   (N4.3).

    exp of the *mean* log-ratio, so that the bounds mean the same for short and long responses. Raises ValueError unless
    0 ≤ low ≤ 1 ≤ high.
    """
    _check_bounds(low, high)
    log_ratio = kept_log_ratio(old_logprobs, sampler_logprobs, mask)
    ratio = _ratio(log_ratio.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1))
    trusted = mask & (ratio >= low) & (ratio <= high)
    return trusted, _stats(log_ratio, mask & ~trusted, mask)


def _ratio(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def _check_bounds(low: float, high: float) -> None:
    if not 0.0 <= low <= 1.0 <= high <= math.inf:
        raise ValueError(f"the bounds of π_old/π_sampler must enclose 1, and not be negative: [{low}, {high}]")


def _stats(log_ratio: Tensor, corrected: Tensor, mask: Tensor) -> MismatchStats:
    return MismatchStats(
        num_tokens=mask.sum().double(),
        gap_sum=log_ratio.abs().double().sum(),
        gap_max=pad(log_ratio.abs().flatten(), (0, 1)).amax().double(),
        kl_sampler_sum=masked_sum(k3(-log_ratio.clamp(max=LOG_RATIO_LIMIT)), mask).double(),
        corrected_tokens=corrected.sum().double(),
    )
