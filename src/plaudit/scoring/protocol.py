"""What every judge looks like from outside: groups in, `Scores` out (N3, N3.14)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
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


def check_scores(name: str, scores: Scores, num: int, groups: Sequence[Group] = ()) -> Scores:
    """The same `scores`, or a UserError how they break the protocol: length, dtype, device, NaN in a valid row, whose
    answer is shown where the `groups` are known."""
    for field, tensor, dtype in (("scores", scores.scores, torch.float32), ("valid", scores.valid, torch.bool)):
        if tuple(tensor.shape) != (num,):
            raise UserError(f"scorer {name!r}: `{field}` has shape {list(tensor.shape)} for {num} responses")
        if tensor.dtype != dtype or tensor.device.type != "cpu":
            own = f"{tensor.dtype} on {tensor.device}"
            raise UserError(f"scorer {name!r}: `{field}` must be {dtype} on the CPU, not {own}")
    broken = (scores.valid & ~torch.isfinite(scores.scores)).nonzero().flatten().tolist()
    if broken:
        value = scores.scores[broken[0]].item()
        answers = [(text, group.prompt.text) for group in groups for text in group.responses]
        row = f"row {broken[0]}"
        if answers:
            text, prompt = answers[broken[0]]
            row = f"the answer {text[:80]!r} to {prompt[:80]!r}"
        raise UserError(f"scorer {name!r}: {row} scores {value}, which is no finite number")
    return scores


def all_scores(scorer: Scorer, groups: Sequence[Group], undefined: str) -> list[float]:
    """One number a response, flat. UserError `undefined` where the scorer abstains on one."""
    scores = check_scores(scorer.name, scorer.score(groups), num_responses(groups))
    if not bool(scores.valid.all()):
        raise UserError(undefined)
    return scores.scores.tolist()


def row_problem(scorer: Scorer, columns: Mapping[str, Any]) -> str:
    """Why `scorer` can't judge a row with these columns, in a sentence; empty where it can.

    A scorer says so by a method of this name, or names its `required_columns`; one that does neither needs none.
    """
    if (own := getattr(scorer, "row_problem", None)) is not None:
        return own(columns)
    return missing_column(scorer.name, columns, getattr(scorer, "required_columns", ()))


def missing_column(name: str, columns: Mapping[str, Any], needed: Iterable[str], *, filled: bool = False) -> str:
    """Which of the `needed` columns a row lacks; `filled`: null and [] count as lacking, empty text never does."""
    for column in needed:
        value = columns.get(column, MISSING)
        problem = "is missing" if value is MISSING else ""
        if filled and value is None:
            problem = "is null"
        elif filled and isinstance(value, (list, tuple)) and not value:
            problem = "is an empty list"
        if problem:
            hint = "" if filled else "; a reward function takes `prompts`, `completions` and the data's columns by name"
            return f"the scorer {name!r} needs the column {column!r}, which {problem}{hint}"
    return ""


def check_columns(problem_of: Scorer | Callable[[Mapping[str, Any]], str], rows: Iterable[Row]) -> None:
    """Before any model loads: UserError naming the first row that a scorer can't judge by its columns."""
    problem_of = partial(row_problem, problem_of) if isinstance(problem_of, Scorer) else problem_of
    for index, row in enumerate(rows):
        if problem := problem_of(row.columns if isinstance(row, PromptRow | Ranking) else {}):
            raise UserError(f"{row.where or f'row {index}'}: {problem}")
