"""Estimators of KL(π ‖ other) from one sampled token, and the full sum. All in nats per token.

`log_ratio` ℓ = log π(y) − log other(y), *current minus other*, with y ~ π. What each is worth, given the text so far:

| estimator | value        | E[value]          | E[gradient] as a per-token *loss*, on-policy  |
|-----------|--------------|-------------------|-----------------------------------------------|
| k1        | ℓ            | KL(π ‖ other)     | 0: it regularises nothing                     |
| abs_k1    | abs ℓ        | not a KL          | 2 ∇ TV(π, other), the total variation         |
| k2        | ℓ²/2         | biased, ≈ for ℓ→0 | ∇ KL(π ‖ other)                               |
| k3        | e^(−ℓ)−1+ℓ   | KL(π ‖ other)     | ∇ KL(other ‖ π), the other direction          |
| full      | Σ_v π_v ℓ_v  | exact, no sample  | ∇ KL(π ‖ other)                               |

A loss holds each next-token distribution near the other's. It does not see that a token leads to texts where the two
policies differ: that part of the sequence KL's gradient comes only through the *reward* (N4.6). There each estimator is
a number without gradient, r_t = −β k_t, and what the policy gradient makes of it is

| in the reward | E[policy gradient] of Σ_t k_t                                                               |
|---------------|---------------------------------------------------------------------------------------------|
| k1            | ∇ of the sequence KL(π ‖ other), whole and exact                                            |
| full          | its future part only: add `full` as a loss, at the same β, and it is whole                  |
| k3            | its future part; at the token itself ∇KL(π ‖ other) − ∇KL(other ‖ π), which is 0 near π=other |
| k2, abs_k1    | that of another penalty                                                                     |

After the first update of an iteration the tokens come from π_old, no longer from π, and the table's expectations are
off by the ratio. A factor ρ = π/π_old *with its gradient* would mend it: given the text so far,
E_old[∇(ρ k1)] = E_old[∇(ρ k3)] = ∇ KL(π ‖ other) for every π_old, π = π_old included. `full` needs no mending.

Sources: N4.6; J. Schulman, "Approximating KL divergence" (2020), which writes r = other/π, so that ℓ = −log r.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.logprobs import all_logprobs
from plaudit.formulas.masks import at_least_float32, select

LOG_RATIO_LIMIT = 20.0
"""Nats. exp() of a log-ratio is taken of at most this much: e^20 = 4.9e8 is finite in float32, its product too."""


def kept_log_ratio(
    logprobs: Float[Tensor, "B R"], other_logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, "B R"]:
    """ℓ = log π − log other where the mask is True, 0 elsewhere, float32 or better (N4.3, N4.6); nats.

    Every estimator below is 0 at ℓ = 0, so that of `kept_log_ratio(…)` it is already masked. Gradient flows into
    `logprobs` only.
    """
    return select(at_least_float32(logprobs) - other_logprobs.detach(), mask)


def k1(log_ratio: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """ℓ: unbiased for KL(π ‖ other), may be negative (N4.6). As a loss its expected gradient is zero."""
    return log_ratio


def abs_k1(log_ratio: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """|ℓ| ≥ 0: no estimate of a KL (N4.6). As an on-policy loss its expected gradient is 2 ∇ TV(π, other)."""
    return log_ratio.abs()


def k2(log_ratio: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """ℓ²/2 ≥ 0: biased, low variance (N4.6). As an on-policy loss its expected gradient is ∇ KL(π ‖ other)."""
    return 0.5 * log_ratio.square()


def k3(log_ratio: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """e^(−ℓ) − 1 + ℓ ≥ 0: unbiased for KL(π ‖ other) (N4.6). As an on-policy loss its gradient is ∇ KL(other ‖ π).

    Where ℓ < −`LOG_RATIO_LIMIT` it is held at its value there, with gradient 0, instead of overflowing.
    """
    bounded = log_ratio.clamp(min=-LOG_RATIO_LIMIT)
    # expm1, because exp(−ℓ) − 1 + ℓ loses all digits for small ℓ; what rounding leaves below 0 is 0.
    return (torch.expm1(-bounded) + bounded).clamp(min=0.0)


def full(
    logits: Float[Tensor, "*dims V"], other_logits: Float[Tensor, "*dims V"], temperature: float = 1.0
) -> Float[Tensor, "*dims"]:
    """KL(π ‖ other) = Σ_v π_v (log π_v − log other_v), π = softmax(logits/τ), other = softmax(other_logits/τ) (N4.6).

    A token that π cannot write (logit −inf) adds 0; one that only `other` cannot write makes it +inf.
    Raises ValueError for a temperature that is not positive.
    """
    logp = all_logprobs(logits, temperature)
    other_logp = all_logprobs(other_logits, temperature)
    impossible = logp == -torch.inf
    difference = logp.masked_fill(impossible, 0.0) - other_logp.masked_fill(impossible, 0.0)
    return (logp.exp() * difference).sum(dim=-1)
