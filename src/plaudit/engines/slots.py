"""Continuous batching: as many slots as rows that are written at once, and a finished row's slot goes to the next.

Prompts are read in packed batches ahead of their turn, each distinct one once. All of a prompt but its last token is
read there; that one is the first token that the row feeds in its slot, so that a new row joins the others' next step.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from plaudit.engines.llama import LlamaDecoder
from plaudit.engines.written import Response, Sampling, Written
from plaudit.hardware.randomness import uniforms


class _Prompts:
    """Reads prompts ahead, a packed batch of distinct ones at a time, in the order in which rows need them."""

    def __init__(self, decoder: LlamaDecoder, prompts: Sequence[Sequence[int]], budget: int):
        self.decoder, self.prompts = decoder, prompts
        distinct = list(dict.fromkeys(tuple(prompt[:-1]) for prompt in prompts if len(prompt) > 1))
        self.batches = balanced(distinct, budget)
        self.line: Tensor | None = None
        self.bounds: dict[tuple[int, ...], tuple[int, int]] = {}

    def copy_in(self, row: int, slot: int) -> None:
        """Put a row's prompt, all but the last token, into a slot."""
        head = tuple(self.prompts[row][:-1])
        if not head:
            return
        while head not in self.bounds:
            batch = self.batches.pop(0)
            self.line = self.decoder.prefill(batch)
            ends = [0, *accumulate(map(len, batch))]
            self.bounds = dict(zip(batch, pairwise(ends), strict=True))
        assert self.line is not None
        self.decoder.copy_in(self.line, *self.bounds[head], slot)


def balanced(prompts: Sequence[tuple[int, ...]], budget: int) -> list[list[tuple[int, ...]]]:
    """Batches, in order, of at most `budget` tokens (a longer prompt stands alone), of about as many tokens each."""
    total = sum(map(len, prompts))
    share = total / max(1, -(-total // budget))
    batches: list[list[tuple[int, ...]]] = []
    before = used = 0
    for prompt in prompts:
        is_full = used and (used + len(prompt) > budget or before >= share * len(batches))
        if not batches or is_full:
            batches.append([])
            used = 0
        batches[-1].append(prompt)
        used += len(prompt)
        before += len(prompt)
    return batches


def decode(
    decoder: LlamaDecoder, prompts: Sequence[Sequence[int]], base: Int[Tensor, " N"], task: Sampling, budget: int
) -> list[Response]:
    """Continue each prompt, in this order as slots get free; `base` as `randomness.bases`. Answers to one prompt must
    stand together."""
    size, limit = min(task.sampling.batch_size, len(prompts)), task.sampling.max_new_tokens
    decoder.reserve(size, max(map(len, prompts)) + limit - 1)
    written, slots = Written(decoder.trunk, task), _Slots(decoder, prompts, base, task, budget)
    free = list(range(size))
    while slots.refill(free):
        task.check_stop()
        live = slice(0, slots.count)
        tokens, rows, counts = slots.tokens[live], slots.rows[live], slots.written[live]
        hidden = decoder.step(tokens, slots.lengths[live], max(slots.longest[live]))
        uniform = slots.uniforms[live].gather(1, counts.unsqueeze(1)).squeeze(1)
        drawn, free = written.add(rows, counts, uniform, hidden, decoder.trunk.logits(hidden))
        slots.advance(drawn)
    return written.responses(len(prompts))


class _Slots:
    """The rows in the slots, of which the first `count` are taken."""

    def __init__(
        self, decoder: LlamaDecoder, prompts: Sequence[Sequence[int]], base: Tensor, task: Sampling, budget: int
    ):
        size, limit = min(task.sampling.batch_size, len(prompts)), task.sampling.max_new_tokens
        self.decoder, self.prompts, self.device = decoder, prompts, decoder.trunk.device
        self.read = _Prompts(decoder, prompts, budget)
        self.base, self.positions = base.to(self.device), torch.arange(limit, device=self.device)
        self.next_row = self.count = 0
        self.rows, self.tokens, self.lengths, self.written = torch.zeros(4, size, dtype=torch.long, device=self.device)
        """Which prompt stands there; the token that it feeds next; how many of its tokens the memory holds, and how
        many of its response there are."""
        self.uniforms = torch.zeros(size, limit, dtype=torch.float64, device=self.device)
        self.longest = [0] * size
        """`lengths`, known without asking the device."""

    def refill(self, free: Sequence[int]) -> bool:
        """Give free slots (ascending) to the next rows, and close the gaps that are left. False where nobody writes."""
        taken = free[: len(self.prompts) - self.next_row]
        if taken:
            self._begin(taken, range(self.next_row, self.next_row + len(taken)))
            self.next_row += len(taken)
            self.count = max(self.count, taken[-1] + 1)
        for slot in reversed(free[len(taken) :]):
            self.count -= 1
            if slot != self.count:
                self._move(self.count, slot)
        return self.count > 0

    def advance(self, tokens: Int[Tensor, " N"]) -> None:
        """Each row that writes has one token more."""
        live = slice(0, self.count)
        self.tokens[live] = tokens
        self.lengths[live] += 1
        self.written[live] += 1
        self.longest[live] = [length + 1 for length in self.longest[live]]

    def _begin(self, slots: Sequence[int], rows: Sequence[int]) -> None:
        for slot, row in zip(slots, rows, strict=True):
            self.read.copy_in(row, slot)
            self.longest[slot] = len(self.prompts[row]) - 1
        index, ids = (torch.tensor(list(x), device=self.device) for x in (slots, rows))
        self.rows[index], self.written[index] = ids, 0
        self.tokens[index] = torch.tensor([self.prompts[row][-1] for row in rows], device=self.device)
        self.lengths[index] = torch.tensor([self.longest[slot] for slot in slots], device=self.device)
        self.uniforms[index] = uniforms(self.base[ids].unsqueeze(1), self.positions)

    def _move(self, source: int, target: int) -> None:
        self.decoder.move(source, target, self.longest[source])
        for column in (self.rows, self.tokens, self.lengths, self.written, self.uniforms):
            column[target] = column[source]
        self.longest[target] = self.longest[source]
