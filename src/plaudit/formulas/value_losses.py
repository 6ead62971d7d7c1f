"""The critic's loss, and how much of the returns it explains."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from plaudit.formulas.advantages import mean_and_variance
from plaudit.formulas.masks import at_least_float32, select


def value_losses(
    values: Float[Tensor, "B R"],
    old_values: Float[Tensor, "B R"],
    returns: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    value_clip_range: float,
) -> Float[Tensor, "B R"]:
    """½ max((V_t − R̂_t)², (clip(V_t, V_old,t ± ε_v) − R̂_t)²) per token, zero outside the mask   (N4.8).

    With the ½ (the notes have it both ways); `value_clip_range` ε_v = 0 means no clipping, ½ (V − R̂)². Never smaller
    than the unclipped loss. Values and returns in score units. Gradient flows into `values` only.
    Source: lm-human-preferences; OpenAI baselines' ppo2. Raises ValueError for a negative `value_clip_range`.
    """
    if value_clip_range < 0.0:
        raise ValueError(f"value_clip_range must be 0 (no clipping) or positive, not {value_clip_range}")
    values = select(at_least_float32(values), mask)
    old_values = select(at_least_float32(old_values.detach()), mask)
    returns = select(returns.detach(), mask)
    unclipped = 0.5 * (values - returns).square()
    clipped = unclipped
    if value_clip_range > 0.0:
        # Clamped to the band's edges, not old + clamp(V − old): that rounds, and rounding would count as clipping.
        bounded = values.clamp(old_values - value_clip_range, old_values + value_clip_range)
        clipped = 0.5 * (bounded - returns).square()
    return torch.maximum(unclipped, clipped)


def explained_variance(
    error_moments: Float64[Tensor, "3"], return_moments: Float64[Tensor, "3"]
) -> Float64[Tensor, ""]:
    """1 − Var(R̂ − V) / Var(R̂): 1 is a perfect critic, 0 one as good as a constant, below 0 a worse one (N4.8).

    `error_moments` is `moments(returns − values, mask)`, `return_moments` is `moments(returns, mask)`, each summed over
    micro-batches and ranks. Returns that do not vary (to float64's rounding) leave nothing to explain: 0.
    """
    _, error_variance = mean_and_variance(error_moments)
    mean, variance = mean_and_variance(return_moments)
    constant = variance <= 1e-12 * mean.square()
    return torch.where(constant, 0.0, 1.0 - error_variance / variance.masked_fill(constant, 1.0))
