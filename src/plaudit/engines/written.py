"""What is being written: each step adds a token to some rows; at the end each row has its own."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.engines.drawing import draw
from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Extra
from plaudit.engines.stopping import StopStrings
from plaudit.formulas.masks import at_least_float32
from plaudit.models.trunk import Trunk
from plaudit.records.text import FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What an engine was asked for, the same for all rows."""

    sampling: SamplingConfig
    greedy: bool
    want: frozenset[Extra]
    end_ids: frozenset[int]
    is_stopped: StopStrings
    check_stop: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One row, finished, as plain numbers."""

    ids: list[int]
    logprobs: list[float]
    finish: FinishReason
    values: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)


class Written:
    """Draws the next token of some rows, and keeps what all of them have."""

    def __init__(self, trunk: Trunk, task: Sampling):
        self.trunk, self.task = trunk, task
        self.steps: list[dict[str, Tensor]] = []
        self.stopped: set[int] = set()
        self.texts: dict[int, list[int]] = {}
        vocabulary = trunk.config.get_text_config().vocab_size
        self.is_end = torch.zeros(vocabulary, dtype=torch.bool, device=trunk.device)
        ends = [i for i in task.end_ids if i < vocabulary]
        self.is_end[ends] = True

    def add(
        self,
        rows: Int[Tensor, " N"],
        counts: Int[Tensor, " N"],
        uniform: Float[Tensor, " N"],
        hidden: Float[Tensor, "N H"],
        logits: Float[Tensor, "N V"],
    ) -> tuple[Int[Tensor, " N"], list[int]]:
        """One more token for these rows, which have `counts` so far: the tokens, and which of the N are finished. Row
        −1 is none: what is drawn for it is nobody's."""
        task = self.task
        drawn = draw(logits, task.sampling.temperature, uniform, greedy=task.greedy, entropy="entropy" in task.want)
        step = {"rows": rows.clone(), "ids": drawn.tokens, "logprobs": drawn.logprobs}
        if drawn.entropies is not None:
            step["entropies"] = drawn.entropies
        if "values" in task.want:
            step["values"] = self._values(hidden)
        self.steps.append(step)
        done = self.is_end[drawn.tokens] | (counts + 1 >= task.sampling.max_new_tokens)
        finished = done.nonzero().squeeze(1).tolist() if bool(done.any()) else []
        return drawn.tokens, sorted({*finished, *self._stopped(rows, drawn.tokens)})

    def _stopped(self, rows: Tensor, tokens: Tensor) -> list[int]:
        if not self.task.sampling.stop:
            return []
        ends = []
        for index, (row, token) in enumerate(zip(rows.tolist(), tokens.tolist(), strict=True)):
            if row < 0:
                continue
            ids = self.texts.setdefault(row, [])
            ids.append(token)
            if token not in self.task.end_ids and self.task.is_stopped(ids):
                self.stopped.add(row)
                ends.append(index)
        return ends

    def _values(self, hidden: Float[Tensor, "N H"]) -> Float[Tensor, " N"]:
        """As the trunk does: in fp32 and out of autocast."""
        head = self.trunk.value_head
        if head is None:
            raise ValueError("'values' wanted of a trunk without that head")
        with torch.autocast(hidden.device.type, enabled=False):
            return head(at_least_float32(hidden)).squeeze(-1)

    def responses(self, num_rows: int) -> list[Response]:
        """Of rows 0 … num_rows − 1, each of which has at least one token."""
        if not self.steps:
            return []
        line = {name: torch.cat([step[name] for step in self.steps]) for name in self.steps[0]}
        rows = line.pop("rows")
        order = torch.sort(rows, stable=True).indices[int((rows < 0).sum()) :]
        lengths = torch.bincount(rows[order], minlength=num_rows).tolist()
        columns = {name: x[order].cpu().split(lengths) for name, x in line.items()}
        return [
            self._response(row, {name: parts[row].tolist() for name, parts in columns.items()})
            for row in range(num_rows)
        ]

    def _response(self, row: int, numbers: dict[str, Any]) -> Response:
        stopped = FinishReason.STOP if row in self.stopped else FinishReason.LENGTH
        return Response(finish=FinishReason.EOS if numbers["ids"][-1] in self.task.end_ids else stopped, **numbers)


def wanted(trunk: Trunk, want: Collection[Extra]) -> frozenset[Extra]:
    """Raises: ValueError where the trunk has no head for it."""
    if unknown := set(want) - gathers(trunk):
        raise ValueError(f"this engine gathers {sorted(gathers(trunk))}, not {sorted(unknown)}")
    return frozenset(want)


def gathers(trunk: Trunk) -> frozenset[Extra]:
    """What can be had of the trunk while it decodes."""
    return frozenset(("entropy", "values")) if trunk.value_head is not None else frozenset(("entropy",))


def by_prompt(prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> list[int]:
    """These rows by the length of their prompts, answers to one prompt together."""
    return sorted(rows, key=lambda row: (len(prompts[row]), tuple(prompts[row])))
