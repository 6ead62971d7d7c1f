"""The only reductions over tokens. Masks are bool, True counts, and work by selection.

Selection, never multiplication: NaN · 0 is NaN, in the value and in the gradient.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad


def select(x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"], fill: float = 0.0) -> Float[Tensor, "*dims"]:
    """x where the mask is True, `fill` elsewhere; no gradient flows into what was not selected (N4.1).

    Call it on the inputs, before the first non-linearity: a `where` that comes after an `exp` back-propagates
    0 · inf = NaN. `fill` must be a number at which what follows is finite.
    """
    return torch.where(mask, x, torch.full_like(x, fill))


def masked_sum(x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"]) -> Float[Tensor, ""]:
    """Σ_{t: m_t} x_t over everything (N4.1), 0-dim; 0 for an empty mask."""
    return select(x, mask).sum()


def masked_mean(x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"]) -> Float[Tensor, ""]:
    """Σ_{t: m_t} x_t / Σ_t m_t (N4.1), 0-dim; 0 for an empty mask (not NaN: an all-masked batch is legal)."""
    return masked_sum(x, mask) / mask.sum().clamp(min=1)


def weighted_sum(
    x: Float[Tensor, "*dims"], weights: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"]
) -> Float[Tensor, ""]:
    """Σ_{t: m_t} w_t x_t (N4.10), 0-dim, in x's precision: a loss from per-token losses and `aggregation`'s weights.

    No gradient flows into the weights. 0 for an empty mask.
    """
    return (select(weights.detach(), mask).to(x.dtype) * select(x, mask)).sum()


def last_index(mask: Bool[Tensor, "B R"]) -> Int[Tensor, " B"]:
    """max{t : m_t}, the column of each row's last kept token (N3.1, N4.6); -1 for an empty row.

    The note's `mask.nonzero()[-1]` fails on an empty response; this is defined on it.
    """
    columns = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    # The extra column of -1 answers for empty rows and for R = 0.
    return pad(torch.where(mask, columns, -1), (1, 0), value=-1).amax(dim=1)


def at_least_float32(x: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """x in float32 where it came in half precision, else x itself.

    Losses and log-softmaxes are taken in float32 or better: bfloat16 has 8 bits, and a ratio must be 1 ± 1e-4 (N4.3).
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
