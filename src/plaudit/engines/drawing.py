"""One token a row, its log-probability and the entropy it was drawn at, from one pass over the vocabulary (N4.1)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64
"""Tokens whose probabilities are summed before the search: first among the blocks, then inside one of them."""
BELOW_ONE = 1.0 - 2.0**-52
"""So that rounding never lets a uniform fall off the end of what it is looked for in."""
LEAST = -1e4
"""Stands for the logit −inf where entropies are wanted: exp of it is 0, and 0 times it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What N rows of logits gave."""

    tokens: Int[Tensor, " N"]
    logprobs: Float[Tensor, " N"]
    """Nats, at the sampling temperature."""
    entropies: Float[Tensor, " N"] | None
    """Nats, of the whole distribution; None where nobody wants them."""


def draw(
    logits: Float[Tensor, "N V"],
    temperature: float,
    uniform: Float[Tensor, " N"],
    *,
    greedy: bool = False,
    entropy: bool = False,
) -> Draw:
    """Invert each row's cumulative distribution at its uniform (float64 in [0, 1)), or take the likeliest token.

    Probabilities are float32; sums over blocks of them, and inside the one that is hit, are made in float64. So a token
    comes as often as its float32 probability says, and one of probability 0 never does. The logits are used up: at a
    large vocabulary, memory that is asked for anew costs more than the arithmetic.
    """
    likeliest = logits.argmax(-1) if greedy else None
    shifted = logits.sub_(logits.amax(-1, keepdim=True))
    if temperature != 1.0:
        shifted.div_(temperature)
    weights = shifted.clamp_(min=LEAST).exp() if entropy else shifted.exp_()
    blocks = _block_sums(weights).double()
    total = blocks.sum(-1)
    tokens = _invert(weights, blocks, uniform) if likeliest is None else likeliest
    logprobs = weights.gather(1, tokens.unsqueeze(1)).squeeze(1).double().log() - total.log()
    entropies = None
    if entropy:
        entropies = (total.log() - shifted.mul_(weights).sum(-1).double() / total).float()
    return Draw(tokens=tokens, logprobs=logprobs.float(), entropies=entropies)


def _block_sums(weights: Float[Tensor, "N V"]) -> Float[Tensor, "N K"]:
    whole = weights.shape[1] // BLOCK * BLOCK
    sums = weights[:, :whole].unflatten(1, (-1, BLOCK)).sum(-1) if whole else weights[:, :0]
    rest = weights[:, whole:]
    return torch.cat([sums, rest.sum(-1, keepdim=True)], dim=1) if rest.shape[1] else sums


def _invert(weights: Float[Tensor, "N V"], blocks: Float[Tensor, "N K"], uniform: Float[Tensor, " N"]) -> Tensor:
    """The first token at which the running sum exceeds uniform × total."""
    cumulative = blocks.cumsum(-1)
    block, inside = _search(cumulative, uniform.unsqueeze(1) * cumulative[:, -1:])
    share = inside / blocks.gather(1, block)
    columns = block * BLOCK + torch.arange(BLOCK, device=weights.device)
    mine = weights.gather(1, columns.clamp(max=weights.shape[1] - 1)).double()
    within = mine.masked_fill_(columns >= weights.shape[1], 0.0).cumsum(-1)
    tokens = block * BLOCK + _search(within, share * within[:, -1:])[0]
    return tokens.clamp(max=weights.shape[1] - 1).squeeze(1)  # a row of NaN has no border to find


def _search(cumulative: Float[Tensor, "N K"], target: Float[Tensor, "N 1"]) -> tuple[Tensor, Tensor]:
    """Where the running sum first exceeds the target, and how far the target lies beyond the sum before: [N 1] each."""
    target = torch.minimum(target, cumulative[:, -1:] * BELOW_ONE)
    index = torch.searchsorted(cumulative, target, right=True).clamp(max=cumulative.shape[1] - 1)
    before = torch.where(index > 0, cumulative.gather(1, (index - 1).clamp(min=0)), 0.0)
    return index, target - before
