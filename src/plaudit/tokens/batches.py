"""One layout for every batch of training: packed rows, no padding (docs/decisions/0004-packed-batches.md).

    ids        p p p p r r r | p p r r r r r | p p p r      one long line of T tokens
               └ row 0 ─────┘ └ row 1 ──────┘ └ row 2 ┘

Each row is a prompt and the response that follows it. What is asked of a model comes back in the
field's padded shapes [B R] and [B], so that formulas never see the packing.

Answers to one prompt may share it (`pack_shared`): it stands and runs once, and its answers branch off.

    ids        p p p p r r r r r r r r | p p r r r
               └ stem ─┘└ 0 ─┘└ row 1 ─┘ └ row 2 ─┘
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Ids = Sequence[int]
SharedRows = tuple[Ids, Sequence[Ids]]
"""A prompt's ids and those of its answers."""


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
    response_index: Int[Tensor, "B R"]
    """Where response token j itself stands; 0 outside the mask."""
    last_index: Int[Tensor, " B"]
    """Where each row's last token stands."""
    prompt_index: Int[Tensor, " B"]
    """Where its prompt's last token stands."""
    segments: tuple[tuple[int, int], ...]
    """(length, stem) of each packed segment: a row, a shared prompt, or an answer that branches off it; −1: no stem."""

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(p + r for p, r in zip(self.prompt_lengths, self.response_lengths, strict=True))

    @property
    def num_rows(self) -> int:
        return len(self.prompt_lengths)

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model."""
        return len(self.ids)

    @property
    def is_shared(self) -> bool:
        """Whether some answers branch off a prompt that runs once."""
        return any(stem >= 0 for _, stem in self.segments)

    def to(self, device: torch.device | str) -> "TokenBatch":
        names = ("ids", "position_ids", "response_ids", "response_mask", "predict_index")
        names += ("response_index", "last_index", "prompt_index")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def unshared(self) -> "TokenBatch":
        """The same rows, each with its own prompt: for models that can't branch."""
        starts = [0, *accumulate(length for length, _ in self.segments)]
        line = self.ids.tolist()
        pieces = [line[begin:end] for begin, end in pairwise(starts)]
        stems = {stem for _, stem in self.segments}
        prompts: list[Ids] = []
        responses: list[Ids] = []
        for index, ((_, stem), piece) in enumerate(zip(self.segments, pieces, strict=True)):
            if index in stems:
                continue
            whole = piece if stem < 0 else pieces[stem] + piece
            cut = self.prompt_lengths[len(prompts)]
            prompts.append(whole[:cut])
            responses.append(whole[cut:])
        return pack(prompts, responses).to(self.ids.device)


def pack(prompts: Sequence[Ids], responses: Sequence[Ids]) -> TokenBatch:
    """Lay out B prompts and responses, which may be empty, one after the other, on the CPU. ValueError as
    `pack_shared`, and where the counts differ."""
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses")
    return pack_shared([(prompt, [response]) for prompt, response in zip(prompts, responses, strict=True)])


def pack_shared(groups: Sequence[SharedRows]) -> TokenBatch:
    """Lay out (prompt, its K answers) so that each prompt runs once: P + Σ R tokens instead of K·P + Σ R.

    The B rows are the answers, in order. A prompt with one answer is an ordinary row. ValueError where there is no row,
    or a prompt is empty: something must predict the first response token.
    """
    groups = [(prompt, answers) for prompt, answers in groups if answers]
    if not groups:
        raise ValueError("a batch needs at least one row")
    if empty := [i for i, (prompt, _) in enumerate(groups) if len(prompt) == 0]:
        raise ValueError(f"row {empty[0]}: the prompt has no token, so nothing predicts the first response token")
    line: list[int] = []
    positions: list[int] = []
    segments: list[tuple[int, int]] = []
    last_prompt: list[int] = []
    first_response: list[int] = []
    sizes: list[tuple[int, int]] = []
    for prompt, answers in groups:
        stem = len(segments) if len(answers) > 1 else -1
        if len(answers) > 1:
            segments.append((len(prompt), -1))
        line += prompt
        positions += range(len(prompt))
        end_of_prompt = len(line) - 1
        for answer in answers:
            last_prompt.append(end_of_prompt)
            first_response.append(len(line))
            sizes.append((len(prompt), len(answer)))
            segments.append((len(answer), stem) if stem >= 0 else (len(prompt) + len(answer), -1))
            line += answer
            positions += range(len(prompt), len(prompt) + len(answer))
    prompt_lengths, response_lengths = (tuple(column) for column in zip(*sizes, strict=True))
    ids, before, begin = torch.tensor(line), torch.tensor(last_prompt), torch.tensor(first_response)
    count = torch.tensor(response_lengths)
    columns = torch.arange(max(response_lengths))
    mask = columns < count.unsqueeze(1)
    # The first response token is predicted by the prompt's last output, each later one by the token before it.
    predict = torch.where(columns == 0, before.unsqueeze(1), begin.unsqueeze(1) + columns - 1)
    target = (begin.unsqueeze(1) + columns).clamp(max=len(line) - 1)
    return TokenBatch(
        ids=ids,
        position_ids=torch.tensor(positions),
        prompt_lengths=prompt_lengths,
        response_lengths=response_lengths,
        response_ids=torch.where(mask, ids[target], 0),
        response_mask=mask,
        predict_index=torch.where(mask, predict, 0),
        response_index=torch.where(mask, target, 0),
        last_index=torch.where(count > 0, begin + count - 1, before),
        prompt_index=before,
        segments=tuple(segments),
    )


def sharing(rows: Iterable[tuple[Ids, Ids]]) -> list[SharedRows]:
    """Rows in order; neighbours with the same prompt become one group."""
    groups: list[tuple[Ids, list[Ids]]] = []
    for prompt, response in rows:
        if groups and groups[-1][0] == prompt:
            groups[-1][1].append(response)
        else:
            groups.append((prompt, [response]))
    return list(groups)


def by_prompt(rows: Sequence[int], prompts: Sequence[Ids]) -> list[int]:
    """The same rows, those of one prompt (`prompts[row]`) together; else in order."""
    first: dict[tuple[int, ...], int] = {}
    return sorted(rows, key=lambda row: first.setdefault(tuple(prompts[row]), len(first)))


def unpad(ids: Int[Tensor, "B N"], mask: Bool[Tensor, "B N"]) -> list[list[int]]:
    """The kept ids of each row, whichever side the padding is on."""
    flat, ends = ids[mask].tolist(), [0, *accumulate(mask.sum(1).tolist())]
    return [flat[begin:end] for begin, end in pairwise(ends)]


def pad_left(rows: Sequence[Ids], pad: int = 0) -> tuple[Int[Tensor, "B P"], Bool[Tensor, "B P"]]:
    """Prompts as the house stores them: padding on the left."""
    ids, mask = pad_right([row[::-1] for row in rows], pad)
    return ids.flip(1), mask.flip(1)


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
