"""Estimators of KL(π ‖ other) from one sampled token, and the full sum. All in nats per token.

`log_ratio` = log π(y) − log other(y), *current minus other*, with y ~ π. For y ~ π:

| estimator | value        | E[value]          | E[gradient] when used as a per-token *loss*, on-policy |
|-----------|--------------|-------------------|--------------------------------------------------------|
| k1        | ℓ            | KL(π ‖ other)     | 0: it regularises nothing                              |
| k2        | ℓ²/2         | biased, ≈ for ℓ→0 | ∇ KL(π ‖ other)                                        |
| k3        | e^(−ℓ)−1+ℓ   | KL(π ‖ other)     | ∇ KL(other ‖ π), the other direction                   |
| full      | Σ_v π_v ℓ_v  | exact, no sample  | ∇ KL(π ‖ other)                                        |

In the *reward* (N4.6) each of them is a number without gradient, and k1's policy gradient is the right one.
Sources: N4.6; J. Schulman, "Approximating KL divergence" (2020), which writes r = other/π, so that ℓ = −log r.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.formulas.logprobs import _scaled_log_softmax

LOG_RATIO_LIMIT = 20.0
"""Nats. exp() of a log-ratio is taken of at most this much: e^20 = 4.9e8 is finite in float32, its product too."""


def k1(log_ratio: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """ℓ: unbiased for KL(π ‖ other), may be negative (N4.6). As a loss its expected gradient is zero."""
    return log_ratio


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
    logp = _scaled_log_softmax(logits, temperature)
    other_logp = _scaled_log_softmax(other_logits, temperature)
    impossible = logp == -torch.inf
    difference = logp.masked_fill(impossible, 0.0) - other_logp.masked_fill(impossible, 0.0)
    return (logp.exp() * difference).sum(dim=-1)
