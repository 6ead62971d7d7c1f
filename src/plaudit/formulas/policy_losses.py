"""The policy's objectives as per-token losses.

All are losses, to be minimised: the papers' objectives with the sign flipped. `masks.weighted_sum` makes one number of
the losses [B R], with weights from `aggregation`.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.kl import LOG_RATIO_LIMIT, k3, kept_log_ratio
from plaudit.formulas.masks import at_least_float32, select


def policy_gradient(
    logprobs: Float[Tensor, "B R"], advantages: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, "B R"]:
    """−Â_t log π_θ(y_t) per token, zero outside the mask: the plain policy gradient, no ratio   (N4.2).

    Right for the first update of an iteration only; later ones see tokens of another policy and don't correct for it.
    Gradient flows into `logprobs` only. Source: Williams 1992.
    """
    return -select(advantages.detach(), mask) * select(at_least_float32(logprobs), mask)


def surrogate(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
) -> Float[Tensor, "B R"]:
    """−ρ_t Â_t per token, ρ_t = π_θ(y_t)/π_old(y_t), zero outside the mask: importance sampling, no clip   (N4.3).

    At ρ = 1 its gradient is `policy_gradient`'s. Nothing holds ρ back: add `trust_region_losses` (N4.5; Schulman et al.
    2017, eqs. 6 and 8). Gradient flows into `logprobs` only; `LOG_RATIO_LIMIT` as in `clipped_surrogate`.
    """
    log_ratio = _limited(kept_log_ratio(logprobs, old_logprobs, mask))
    return -select(advantages.detach(), mask) * log_ratio.exp()


def clipped_surrogate(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float = math.inf,
) -> Float[Tensor, "B R"]:
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
    return losses


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


def importance_ratio(
    logprobs: Float[Tensor, "B R"], old_logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, "B R"]:
    """ρ_t = π_θ(y_t)/π_old(y_t) *with* its gradient, zero outside the mask, at most e^20   (N4.3).

    Times a KL estimator (kl.py) it corrects for tokens of an earlier policy, and carries the score's gradient.
    """
    return select(_limited(kept_log_ratio(logprobs, old_logprobs, mask)).exp(), mask)


def _limited(log_ratio: Float[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
