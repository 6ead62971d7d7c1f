"""One layout for every batch of training: packed rows, no padding (docs/decisions/0004-packed-batches.md).

    ids        p p p p r r r | p p r r r r r | p p p r      one long line of T tokens
               └ row 0 ─────┘ └ row 1 ──────┘ └ row 2 ┘

Each row is a prompt and the response that follows it. What is asked of a model comes back in the
field's padded shapes [B R] and [B], so that formulas never see the packing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Ids = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Packed prompts and responses. B rows, T tokens in all, R the longest response."""

    ids: Int[Tensor, " T"]
    position_ids: Int[Tensor, " T"]
    """Restart at 0 in every row."""
    prompt_lengths: tuple[int, ...]
    response_lengths: tuple[int, ...]
    response_ids: Int[Tensor, "B R"]
    """The tokens that are predicted; 0 outside the mask."""
    response_mask: Bool[Tensor, "B R"]
    predict_index: Int[Tensor, "B R"]
    """Where in the packed line the output stands that predicts response token j: one before the token itself."""
    last_index: Int[Tensor, " B"]
    """Where each row's last token stands."""

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(p + r for p, r in zip(self.prompt_lengths, self.response_lengths, strict=True))

    @property
    def num_rows(self) -> int:
        return len(self.prompt_lengths)

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model."""
        return sum(self.lengths)

    @property
    def num_targets(self) -> int:
        """Response tokens: the denominator of a token mean."""
        return sum(self.response_lengths)

    def to(self, device: torch.device | str) -> "TokenBatch":
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("ids", "position_ids", "response_ids", "response_mask", "predict_index", "last_index")
        }
        return TokenBatch(prompt_lengths=self.prompt_lengths, response_lengths=self.response_lengths, **moved)


def pack(prompts: Sequence[Ids], responses: Sequence[Ids]) -> TokenBatch:
    """Lay rows out one after the other, on the CPU.

    Args: B prompts of at least one token each (something must predict the first response token) and B responses,
    which may be empty.
    Raises: ValueError where there is no row, a prompt is empty, or the counts differ.
    """
    if not prompts:
        raise ValueError("a batch needs at least one row")
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses")
    if empty := [i for i, prompt in enumerate(prompts) if len(prompt) == 0]:
        raise ValueError(f"row {empty[0]}: the prompt has no token, so nothing predicts the first response token")
    prompt_lengths = tuple(len(p) for p in prompts)
    response_lengths = tuple(len(r) for r in responses)
    lengths = [p + r for p, r in zip(prompt_lengths, response_lengths, strict=True)]
    flat = [token for p, r in zip(prompts, responses, strict=True) for part in (p, r) for token in part]
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    columns = torch.arange(max(response_lengths, default=0))
    mask = columns < torch.tensor(response_lengths).unsqueeze(1)
    first = starts + torch.tensor(prompt_lengths) - 1
    predict = torch.where(mask, first.unsqueeze(1) + columns, 0)
    ids = torch.tensor(flat, dtype=torch.long)
    # The token that is predicted stands one to the right of the output that predicts it.
    response_ids = torch.where(mask, ids[(predict + 1).clamp(max=len(flat) - 1)], 0)
    return TokenBatch(
        ids=ids,
        position_ids=torch.cat([torch.arange(n) for n in lengths]),
        prompt_lengths=prompt_lengths,
        response_lengths=response_lengths,
        response_ids=response_ids,
        response_mask=mask,
        predict_index=predict,
        last_index=starts + torch.tensor(lengths) - 1,
    )


def unpad(ids: Int[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> list[list[int]]:
    """The kept ids of each row, whichever side the padding is on."""
    return [row[keep].tolist() for row, keep in zip(ids.cpu(), mask.cpu(), strict=True)]


def pad_left(rows: Sequence[Ids], pad: int = 0) -> tuple[Int[Tensor, "B P"], Bool[Tensor, "B P"]]:
    """Prompts as the house stores them: padding on the left."""
    width = max((len(r) for r in rows), default=0)
    ids = torch.tensor([[pad] * (width - len(r)) + list(r) for r in rows], dtype=torch.long).reshape(len(rows), width)
    lengths = torch.tensor([len(r) for r in rows])
    return ids, torch.arange(width) >= (width - lengths).unsqueeze(1)


def pad_right(rows: Sequence[Ids], pad: int = 0) -> tuple[Int[Tensor, "B R"], Bool[Tensor, "B R"]]:
    """Responses as the house stores them: padding on the right."""
    width = max((len(r) for r in rows), default=0)
    ids = torch.tensor([list(r) + [pad] * (width - len(r)) for r in rows], dtype=torch.long).reshape(len(rows), width)
    lengths = torch.tensor([len(r) for r in rows])
    return ids, torch.arange(width) < lengths.unsqueeze(1)


def by_token_budget(lengths: Iterable[int], budget: int) -> list[list[int]]:
    """Cut row indices, in order, into micro-batches of at most `budget` tokens (a longer row stands alone).

    The cut never changes a gradient: losses are sums over the minibatch's own count.
    """
    cuts: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not cuts or used + length > budget:
            cuts.append([])
            used = 0
        cuts[-1].append(index)
        used += length
    return cuts
