"""What every judge looks like from outside: groups in, `Scores` out (N3, N3.14)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from plaudit.errors import UserError
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, PromptRow, Ranking, Row

MISSING = object()


@runtime_checkable
class Scorer(Protocol):
    """Anything that judges responses. Scores are what the judge says; PPO's rewards are made from them elsewhere."""

    @property
    def name(self) -> str:
        """One word for metrics and messages."""
        ...

    def score(self, groups: Sequence[Group]) -> Scores:
        """Flat [B] over the responses of all groups, in order: float32 on the CPU, `valid` False where it abstains."""
        ...


def num_responses(groups: Sequence[Group]) -> int:
    """B: how many responses the groups hold together."""
    return sum(len(group.responses) for group in groups)


def scores_of(name: str, values: Sequence[float | None]) -> Scores:
    """One judge's numbers as a record. None abstains: the row scores 0.0 and is not valid, its part is NaN."""
    valid = torch.tensor([value is not None for value in values], dtype=torch.bool)
    part = torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)
    return Scores(scores=torch.where(valid, part, torch.zeros_like(part)), valid=valid, parts={name: part})


def check_scores(name: str, scores: Scores, num: int) -> Scores:
    """The same `scores`, or a UserError how they break the protocol: length, dtype, device, NaN in a valid row."""
    for field, tensor, dtype in (("scores", scores.scores, torch.float32), ("valid", scores.valid, torch.bool)):
        if tuple(tensor.shape) != (num,):
            raise UserError(f"scorer {name!r}: `{field}` has shape {list(tensor.shape)} for {num} responses")
        if tensor.dtype != dtype or tensor.device.type != "cpu":
            raise UserError(
                f"scorer {name!r}: `{field}` must be {dtype} on the CPU, not {tensor.dtype} on {tensor.device}"
            )
    broken = (scores.valid & ~torch.isfinite(scores.scores)).nonzero().flatten().tolist()
    if broken:
        value = scores.scores[broken[0]].item()
        raise UserError(f"scorer {name!r}: row {broken[0]} scores {value} and counts as valid")
    return scores


def required_columns(scorer: Scorer) -> tuple[str, ...]:
    """Data columns without which the scorer cannot work; a scorer that says nothing needs none."""
    return tuple(getattr(scorer, "required_columns", ()))


def check_columns(scorer: Scorer, rows: Iterable[Row]) -> None:
    """Before any model loads: UserError naming the first row that lacks a column that `scorer` needs."""
    needed = required_columns(scorer)
    empty_refused = frozenset(getattr(scorer, "filled_columns", ()))
    for index, row in enumerate(rows):
        columns = row.columns if isinstance(row, PromptRow | Ranking) else {}
        for column in needed:
            value = columns.get(column, MISSING)
            problem = column_problem(value, refuse_empty=column in empty_refused)
            if problem:
                where = row.where or f"row {index}"
                raise UserError(f"{where}: the scorer {scorer.name!r} needs the column {column!r}, which {problem}")


def column_problem(value: Any, *, refuse_empty: bool) -> str:
    """Why `value` cannot stand in a needed column; empty where it can. Empty text is a value, None and [] are not."""
    if value is MISSING:
        return "is missing"
    if refuse_empty and value is None:
        return "is null"
    if refuse_empty and isinstance(value, (list, tuple)) and not value:
        return "is an empty list"
    return ""
