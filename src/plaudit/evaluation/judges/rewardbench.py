"""RewardBench 2's score of a judge (Malik et al. 2025), from its files: best of four, and the subset Ties.

Of each subset but Ties: how often the correct answer scores highest; where n answers share the top, 1/n. An answer on
which the judge abstains is the last. Ties has each question twice: `ref:N` with one correct answer, `tied:N` with
several; with m_x the margin of the worst correct over the best wrong answer of x, and s the spread of the correct ones,

    0.3 P(m_tied > 0) + 0.3 P(m_ref > 0) + 0.2 P(m_tied > s) + 0.2 P(min(m_ref, m_tied) > s)
    + 0.01 mean tanh(min(m_ref, m_tied) / s − 1)

The whole is the mean over the subsets.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from plaudit.errors import UserError
from plaudit.evaluation.intervals import share_of
from plaudit.evaluation.judges.rows import RankedRow, ScoredRows
from plaudit.records.results import Result

TIES = "ties"
MEASURE = "rewardbench_over_subsets"


def rewardbench2(scored: ScoredRows) -> list[Result]:
    """The whole, then each subset. UserError for rows that are not RewardBench 2's."""
    subsets: dict[str, list[tuple[RankedRow, list[float]]]] = {}
    for row, scores in zip(scored.rows.ranked, scored.ranked, strict=True):
        numbers = [-math.inf if score is None else score for score in scores]
        subsets.setdefault(str(row.group.columns.get("subset", "")), []).append((row, numbers))
    parts: list[Result] = []
    for name, rows in subsets.items():
        if name.lower() == TIES:
            value = ties_score([(str(row.group.columns.get("id", "")), row.ranks, scores) for row, scores in rows])
            parts.append(
                Result(measure=MEASURE, subject=scored.judge, value=value, part=name, ceiling=1.01, count=len(rows))
            )
            continue
        credits = [best_of(row.ranks, scores, row.where) for row, scores in rows]
        floor = fmean(1.0 / len(scores) for _, scores in rows)
        prompts = [row.group.prompt.id for row, _ in rows]
        parts.append(share_of(MEASURE, scored.judge, credits, prompts, part=name, floor=floor, ceiling=1.0))
    whole = Result(measure=MEASURE, subject=scored.judge, value=fmean(part.value for part in parts), ceiling=1.0)
    return [whole, *parts]


def best_of(ranks: Sequence[int], scores: Sequence[float], where: str = "") -> float:
    """1/n where the correct answer, that of rank 1, is among the n that score highest, else 0. UserError where it is
    not exactly one."""
    if (correct := ranks.count(1)) != 1:
        raise UserError(f"{where}: {correct} answers of rank 1, and outside of the subset Ties one is correct")
    highest = max(scores)
    return 1.0 / scores.count(highest) if scores[ranks.index(1)] == highest > -math.inf else 0.0


def ties_score(rows: Sequence[tuple[str, Sequence[int], Sequence[float]]]) -> float:
    """Of Ties: (id, ranks with 1 for the correct answers, scores) each; see the head of this file."""
    margins: dict[str, dict[str, tuple[float, float]]] = {"ref": {}, "tied": {}}
    for own_id, ranks, scores in rows:
        kind, colon, number = own_id.partition(":")
        if kind not in margins or not colon:
            raise UserError(f"subset Ties: the id {own_id!r} is neither `ref:N` nor `tied:N`")
        right = [score for score, rank in zip(scores, ranks, strict=True) if rank == 1]
        wrong = [score for score, rank in zip(scores, ranks, strict=True) if rank != 1]
        margins[kind][number] = min(right) - max(wrong), max(right) - min(right)
    both = [(margins["ref"][n][0], *margins["tied"][n]) for n in margins["tied"] if n in margins["ref"]]
    if not both:
        raise UserError("subset Ties: no question has both its rows, `ref:N` and `tied:N`")
    return (
        0.3 * _positive(margins["tied"])
        + 0.3 * _positive(margins["ref"])
        + 0.2 * fmean(tied > spread for _, tied, spread in both)
        + 0.2 * fmean(min(ref, tied) > spread for ref, tied, spread in both)
        + 0.01 * fmean(_bounded(min(ref, tied), spread) for ref, tied, spread in both)
    )


def _positive(margins: Mapping[str, tuple[float, float]]) -> float:
    return fmean(margin > 0.0 for margin, _ in margins.values())


def _bounded(margin: float, spread: float) -> float:
    """tanh(margin / spread − 1), its limits where the spread is 0; 0 where both are, or nothing is known."""
    if spread == 0.0:
        return 0.0 if math.isnan(margin) else float((margin > 0.0) - (margin < 0.0))
    value = math.tanh(margin / spread - 1.0)
    return 0.0 if math.isnan(value) else value
