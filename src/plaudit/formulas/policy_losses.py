"""The policy's objectives as per-token losses, with diagnostics as sums that add up over micro-batches and ranks.

All are losses, to be minimised: the papers' objectives with the sign flipped. `masks.weighted_sum` makes one number of
the losses [B R], with weights from `aggregation`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import pad

from plaudit.formulas.kl import LOG_RATIO_LIMIT, k3, kept_log_ratio
from plaudit.formulas.masks import at_least_float32, masked_sum, over_tokens, select


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStats:
    """Sums over kept tokens (N4.4), float64, without gradient. `a + b` merges micro-batches, minibatches or ranks."""

    num_tokens: Float64[Tensor, ""]
    """Kept tokens that were counted."""
    loss_sum: Float64[Tensor, ""]
    """Σ of the per-token loss, before any weight or division by the minibatch's count."""
    clipped_tokens: Float64[Tensor, ""]
    """Tokens that a clip (the dual one too) holds, so that they give no gradient."""
    approx_kl_old_sum: Float64[Tensor, ""]
    """Nats: Σ of k3 for KL(π_old ‖ π_θ), (ρ − 1) − log ρ ≥ 0 (the tokens were sampled from π_old)."""
    ratio_sum: Float64[Tensor, ""]
    """Σ ρ_t, each at most e^20. Its mean is 1 in expectation; far from it, the update is of another policy's tokens."""
    ratio_max: Float64[Tensor, ""]
    """max ρ_t, at most e^20; 0 where nothing was counted. Merges by max, not by sum."""

    @classmethod
    def zero(cls, device: torch.device | str = "cpu") -> "PolicyStats":
        """The neutral element of `+`."""
        nothing = torch.zeros((), dtype=torch.float64, device=device)
        return cls(
            num_tokens=nothing,
            loss_sum=nothing,
            clipped_tokens=nothing,
            approx_kl_old_sum=nothing,
            ratio_sum=nothing,
            ratio_max=nothing,
        )

    def __add__(self, other: "PolicyStats") -> "PolicyStats":
        return PolicyStats(
            num_tokens=self.num_tokens + other.num_tokens,
            loss_sum=self.loss_sum + other.loss_sum,
            clipped_tokens=self.clipped_tokens + other.clipped_tokens,
            approx_kl_old_sum=self.approx_kl_old_sum + other.approx_kl_old_sum,
            ratio_sum=self.ratio_sum + other.ratio_sum,
            ratio_max=torch.maximum(self.ratio_max, other.ratio_max),
        )

    @property
    def clip_fraction(self) -> float:
        """Share of the counted tokens that were clipped; 0 of none."""
        return (self.clipped_tokens / self.num_tokens.clamp(min=1.0)).item()

    @property
    def approx_kl_old(self) -> float:
        """Nats per token, never negative; 0 of none."""
        return (self.approx_kl_old_sum / self.num_tokens.clamp(min=1.0)).item()

    @property
    def ratio_mean(self) -> float:
        """Mean ρ of the counted tokens: what a ratio threshold looks at; 0 of none."""
        return (self.ratio_sum / self.num_tokens.clamp(min=1.0)).item()

    @property
    def loss_mean(self) -> float:
        """Loss per counted token; 0 of none."""
        return (self.loss_sum / self.num_tokens.clamp(min=1.0)).item()


def policy_gradient(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
) -> tuple[Float[Tensor, "B R"], PolicyStats]:
    """−Â_t log π_θ(y_t) per token, zero outside the mask: the plain policy gradient, no ratio   (N4.2).

    Right for the first update of an iteration only; later ones see tokens of another policy and don't correct for it.
    `old_logprobs` enter the diagnostics, not the loss. Gradient flows into `logprobs` only. Source: Williams 1992.
    """
    losses = -select(advantages.detach(), mask) * select(at_least_float32(logprobs), mask)
    nothing_clipped = torch.zeros_like(mask)
    return losses, _stats(losses, nothing_clipped, kept_log_ratio(logprobs, old_logprobs, mask), mask)


def surrogate(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
) -> tuple[Float[Tensor, "B R"], PolicyStats]:
    """−ρ_t Â_t per token, ρ_t = π_θ(y_t)/π_old(y_t), zero outside the mask: importance sampling, no clip   (N4.3).

    At ρ = 1 its gradient is `policy_gradient`'s. Nothing holds ρ back: add `trust_region_losses` (N4.5; Schulman et al.
    2017, eqs. 6 and 8). Gradient flows into `logprobs` only; `LOG_RATIO_LIMIT` as in `clipped_surrogate`.
    """
    log_ratio = _limited(kept_log_ratio(logprobs, old_logprobs, mask))
    losses = -select(advantages.detach(), mask) * log_ratio.exp()
    return losses, _stats(losses, torch.zeros_like(mask), log_ratio, mask)


def clipped_surrogate(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float = math.inf,
) -> tuple[Float[Tensor, "B R"], PolicyStats]:
    """max(−ρ_t Â_t, −clip(ρ_t, 1−ε_low, 1+ε_high) Â_t) per token, zero outside the mask   (N4.3, N4.4).

    ε_low = ε_high is PPO's clip (Schulman et al. 2017, eq. 7), which has the *advantage* where note 001 writes the
    reward; ε_high > ε_low lets rare tokens grow (clip-higher: DAPO, Yu et al. 2025, eq. 10). `dual_clip` c > 1 bounds
    the loss of bad tokens by c |Â|: min(that, −c Â_t) where Â_t < 0 (Ye et al. 2020, eq. 5); infinite: no bound.
    Log-probabilities in nats, at the sampling temperature. Gradient flows into `logprobs` only. Raises ValueError for a
    negative range, or c ≤ 1.

    log ρ is held within ±`LOG_RATIO_LIMIT` = 20 nats, so that no ratio overflows: inside, value and gradient are exact;
    outside, the token gives no gradient (as verl has it). PPO's own clip already cuts three of those four corners; the
    fourth is Â < 0 with ρ > e^20, which `dual_clip` cuts.
    """
    if min(clip_low, clip_high) < 0.0:
        raise ValueError(f"clip_range must not be negative: {clip_low} below, {clip_high} above")
    if not dual_clip > 1.0:
        raise ValueError(f"dual_clip must be above 1, not {dual_clip}")
    log_ratio = _limited(kept_log_ratio(logprobs, old_logprobs, mask))
    advantages = select(advantages.detach(), mask)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    losses = torch.maximum(unclipped, clipped)
    if dual_clip < math.inf:
        losses = torch.where(advantages < 0.0, torch.minimum(losses, -dual_clip * advantages), losses)
    return losses, _stats(losses, mask & (losses != unclipped), log_ratio, mask)


def clipped_policy_loss(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    clip_range: float,
    num_tokens: int | Int[Tensor, ""],
) -> tuple[Float[Tensor, ""], PolicyStats]:
    """L = Σ_t of `clipped_surrogate` with ε_low = ε_high = ε, divided by num_tokens   (N4.3, N4.4).

    The token mean, PPO's own. `num_tokens` is the kept tokens of the whole minibatch (see `over_tokens`); an all-masked
    batch gives 0 and zero gradients. Raises ValueError for a negative `clip_range`.
    """
    losses, stats = clipped_surrogate(
        logprobs, old_logprobs, advantages, mask, clip_low=clip_range, clip_high=clip_range
    )
    return over_tokens(masked_sum(losses, mask), num_tokens), stats


def trust_region_losses(
    logprobs: Float[Tensor, "B R"], old_logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, "B R"]:
    """ρ_t − 1 − log ρ_t ≥ 0 per token, zero outside the mask: the penalty KL(π_old ‖ π_θ)   (N4.5).

    The tokens come from π_old, so for every π_θ its expectation is KL(π_old ‖ π_θ) and its expected gradient ∇ of that
    (it is k3 of log π_old − log π_θ). Nats; to be weighed by `trust_kl_coef` and added to `surrogate`, or to the clip.
    With π_old's logits kept, `kl.full(old_logits, logits)` is the exact one. Not the KL to the reference: this one
    limits a step, not the distance from the start. Source: Schulman et al. 2017, eq. 8.
    """
    return k3(-_limited(kept_log_ratio(logprobs, old_logprobs, mask)))


def _limited(log_ratio: Float[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


@torch.no_grad()
def _stats(
    losses: Float[Tensor, "B R"],
    clipped: Bool[Tensor, "B R"],
    log_ratio: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
) -> PolicyStats:
    ratio = select(_limited(log_ratio).exp(), mask)
    return PolicyStats(
        num_tokens=mask.sum().double(),
        loss_sum=masked_sum(losses, mask).double(),
        clipped_tokens=clipped.sum().double(),
        approx_kl_old_sum=masked_sum(k3(-_limited(log_ratio)), mask).double(),
        ratio_sum=ratio.double().sum(),
        ratio_max=pad(ratio.flatten(), (0, 1)).amax().double(),
    )
