"""How much each token counts in a minibatch's loss: weights [B R], so that loss = Σ_t weight_t · loss_t.

The counts handed in are those of the *whole* minibatch, over micro-batches and ranks; a response is never cut in two.
Then the micro-batches' losses and gradients add up to the minibatch's, however it was split. Every loss of one update
takes the same weights, by `masks.weighted_sum`. A row without kept tokens has weight 0 and is not a response.
"""

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor


def token_mean_weights(mask: Bool[Tensor, "B R"], *, num_tokens: int | Int[Tensor, ""]) -> Float64[Tensor, "B R"]:
    """w_t = m_t / num_tokens: every token weighs the same, a long response more than a short one   (N4.10).

    `num_tokens` counts the kept tokens of the whole minibatch. Source: Ziegler et al. 2019; DAPO (Yu et al. 2025).
    """
    return mask.double() / _at_least_one(num_tokens)


def sequence_mean_weights(mask: Bool[Tensor, "B R"], *, num_responses: int | Int[Tensor, ""]) -> Float64[Tensor, "B R"]:
    """w_t = m_t / (|y| · num_responses): every response weighs the same, a long one's tokens less   (N4.10).

    |y| is the row's own count of kept tokens; `num_responses` counts the rows of the whole minibatch that have any.
    Source: GRPO (Shao et al. 2024), eq. 3.
    """
    lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return mask.double() / lengths / _at_least_one(num_responses)


def fixed_length_weights(
    mask: Bool[Tensor, "B R"], *, num_responses: int | Int[Tensor, ""], fixed_length: int
) -> Float64[Tensor, "B R"]:
    """w_t = m_t / (L · num_responses), L the same for all: no token's weight depends on any length   (N4.10).

    L = `fixed_length`, say the most tokens that a response may have; `num_responses` as in `sequence_mean_weights`.
    Source: Dr. GRPO (Liu et al. 2025). Raises ValueError where L < 1.
    """
    if fixed_length < 1:
        raise ValueError(f"fixed_length must be at least 1, not {fixed_length}")
    return mask.double() / fixed_length / _at_least_one(num_responses)


def _at_least_one(count: int | Int[Tensor, ""]) -> int | Tensor:
    return max(count, 1) if isinstance(count, int) else torch.clamp(count, min=1)
