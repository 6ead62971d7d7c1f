"""Fewer answers of long rankings: 33 answers of one prompt are 528 pairs, most of them between near equals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plaudit.data.splits import uniform
from plaudit.errors import UserError
from plaudit.records.text import Ranking, Row


def thinned(rows: Sequence[Row], answers: int, min_gap: float, *, source: str) -> list[Row]:
    """Rankings with `answers` of their answers at most (0: any number), no two of which score closer than `min_gap`.

    Answers are visited in an order that is a hash of the prompt and the answer's index, the same each time; one is kept
    if its score is at least `min_gap` away from all that are kept. Those kept stand in their old order, with their
    places among themselves and their own `response_…` columns. UserError where the rows are no rankings, or where
    `min_gap` is asked for and answers have no score.
    """
    thin: list[Row] = []
    for row in rows:
        if not isinstance(row, Ranking):
            raise UserError(f"{source}: `answers` and `min_gap` thin rankings; {row.where} is none")
        thin.append(_of_places(row, _kept(row, answers, min_gap, source)))
    return thin


def _kept(row: Ranking, answers: int, min_gap: float, source: str) -> list[int]:
    scores = row.columns.get("response_score")
    if min_gap and (scores is None or any(not isinstance(x, int | float) for x in scores)):
        raise UserError(f"{source}: `min_gap` needs a `score` of every answer; {row.where} has none")
    order = sorted(range(len(row.responses)), key=lambda index: uniform(f"{row.prompt.id} {index}", 0))
    kept: list[int] = []
    for index in order:
        if scores is None or all(abs(scores[index] - scores[other]) >= min_gap for other in kept):
            kept.append(index)
        if len(kept) == answers:
            break
    return sorted(kept)


def _of_places(row: Ranking, kept: Sequence[int]) -> Ranking:
    ranks = [row.ranks[index] for index in kept]
    return replace(
        row,
        responses=tuple(row.responses[index] for index in kept),
        ranks=tuple(1 + sum(other < rank for other in ranks) for rank in ranks),
        columns={name: _chosen(name, value, kept) for name, value in row.columns.items()},
    )


def _chosen(name: str, value: Any, kept: Sequence[int]) -> Any:
    return tuple(value[index] for index in kept) if name.startswith("response_") and isinstance(value, tuple) else value
