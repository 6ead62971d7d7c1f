"""Fewer answers of long rankings: 33 answers of one prompt are 528 pairs, most of them between near equals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
        thin.append(_of_answers(row, _chosen_answers(row, answers, min_gap, source)))
    return thin


def _chosen_answers(row: Ranking, answers: int, min_gap: float, source: str) -> list[int]:
    scores = row.columns.get("response_score")
    if min_gap and (scores is None or any(not isinstance(x, int | float) for x in scores)):
        raise UserError(f"{source}: `min_gap` needs a `score` of every answer; {row.where} has none")
    order = sorted(range(len(row.responses)), key=lambda index: uniform(f"{row.prompt.id} {index}", 0))
    indices: list[int] = []
    for index in order:
        if scores is None or all(abs(scores[index] - scores[other]) >= min_gap for other in indices):
            indices.append(index)
        if len(indices) == answers:
            break
    return sorted(indices)


def _of_answers(row: Ranking, indices: Sequence[int]) -> Ranking:
    ranks = [row.ranks[index] for index in indices]
    return replace(
        row,
        responses=tuple(row.responses[index] for index in indices),
        ranks=tuple(1 + sum(other < rank for other in ranks) for rank in ranks),
        columns={
            name: tuple(value[i] for i in indices) if isinstance(value, tuple) else value  # files give lists
            for name, value in row.columns.items()
        },
    )
