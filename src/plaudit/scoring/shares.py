"""Judging on several ranks (docs/parallel.md): who is asked what, so that all hear what one process would have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from plaudit.hardware.ranks import Ranks
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.scoring.protocol import Scorer, row_problem


def score_shares(score: Callable[[Sequence[Group]], Scores], groups: Sequence[Group], ranks: Ranks) -> Scores:
    """Each rank judges its share of the groups: for judges that look at every group by itself. Flat [B], as one
    process would say it."""
    if ranks.is_alone:
        return score(groups)
    mine = ranks.share(len(group.prompt.text) + sum(map(len, group.responses)) for group in groups)
    rows = iter(plain(score([groups[i] for i in mine]))) if mine else iter(())
    gathered = ranks.gather_rows({i: [next(rows) for _ in groups[i].responses] for i in mine})
    return from_plain([row for i in range(len(groups)) for row in gathered[i]])


@dataclass(frozen=True, slots=True)
class FirstRankScorer:
    """A judge that only the first rank asks, about all groups at once; the others are told.

    For reward functions, which may look at the whole batch, draw random numbers, or ask a service that costs money.
    """

    scorer: Scorer
    ranks: Ranks

    @property
    def name(self) -> str:
        return self.scorer.name

    def row_problem(self, columns: Mapping[str, Any]) -> str:
        return row_problem(self.scorer, columns)

    def score(self, groups: Sequence[Group]) -> Scores:
        return from_plain(self.ranks.ask_first(lambda: plain(self.scorer.score(groups))))


PlainScore = Sequence[Any]
"""What a judge said of one response, as JSON can carry it: score, valid, parts, the tokens' scores or None."""


def plain(scores: Scores) -> list[PlainScore]:
    """One row per response; float32 goes through unchanged."""
    numbers, valid = scores.scores.tolist(), scores.valid.tolist()
    parts = {name: values.tolist() for name, values in scores.parts.items()}
    tokens = scores.token_scores or [None] * len(numbers)
    return [
        (number, valid[i], {name: values[i] for name, values in parts.items()}, tokens[i])
        for i, number in enumerate(numbers)
    ]


def from_plain(rows: Sequence[PlainScore]) -> Scores:
    """The record again; every row names the same parts. Tokens have scores where those of every row have."""
    names = list(rows[0][2]) if rows else []
    by_token = bool(rows) and all(row[3] is not None for row in rows)
    return Scores(
        scores=torch.tensor([row[0] for row in rows], dtype=torch.float32),
        valid=torch.tensor([row[1] for row in rows], dtype=torch.bool),
        parts={name: torch.tensor([row[2][name] for row in rows], dtype=torch.float32) for name in names},
        token_scores=tuple(tuple(row[3]) for row in rows) if by_token else (),
    )
