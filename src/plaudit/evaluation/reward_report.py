"""How good a reward model is on held-out rankings, as metrics and as rows of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from plaudit.errors import UserError
from plaudit.evaluation.labelled_report import labelled_report
from plaudit.evaluation.options import TruthConfig
from plaudit.evaluation.reward_accuracy import (
    Accuracy,
    ExpectedAccuracy,
    as_ranking,
    expected_accuracy_of_rankings,
    group_of,
    pair_accuracy,
    score_groups,
)
from plaudit.formulas.preference_losses import kwise
from plaudit.records.text import Ranking, Rating, Verdict
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReport:
    """Accuracy on labels, and where the truth is known the expected accuracy beside its ceiling."""

    measured: Accuracy
    loss: float
    """Nats, the K-wise loss per prompt."""
    expected: ExpectedAccuracy | None

    @property
    def accuracy(self) -> float:
        return self.measured.accuracy

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {
            "held_out_accuracy_over_pairs": self.measured.accuracy,
            "held_out_loss_over_prompts": self.loss,
        }

    def facts(self) -> dict[str, float | int]:
        """For summary.json."""
        known = (
            {} if self.expected is None else {"expected": self.expected.accuracy, "attainable": self.expected.ceiling}
        )
        return {
            "accuracy": self.measured.accuracy,
            "low": self.measured.low,
            "high": self.measured.high,
            "pairs": self.measured.pairs,
            "prompts": self.measured.prompts,
            "score_ties": self.measured.score_ties,
            "label_ties": self.measured.label_ties,
            **known,
        }

    def rows(self, name: str) -> list[dict]:
        """One row of the report's table: against the known truth where there is one, else against the labels."""
        row = {
            "name": name,
            "floor": 0.5,
            "unit": "share of pairs",
            "low": self.measured.low,
            "high": self.measured.high,
        }
        if self.expected is None:
            return [row | {"metric": "held-out accuracy", "value": self.measured.accuracy, "ceiling": None}]
        # The labels' noise is known, so the interval is that of the labels and the value is without their noise.
        return [
            row
            | {
                "metric": "held-out accuracy, expected under the known label probabilities",
                "value": self.expected.accuracy,
                "low": None,
                "high": None,
                "ceiling": self.expected.ceiling,
            },
            row | {"metric": "held-out accuracy on the drawn labels", "value": self.measured.accuracy, "ceiling": None},
        ]


def floor_rows(name: str, floors: Mapping[str, Accuracy]) -> list[dict]:
    """Rows of the report's table for `floors.floor_accuracies`: what the reward model `name` must beat."""
    return [
        {
            "name": name,
            "metric": f"floor: {floor.replace('_', ' ')}",
            "value": found.accuracy,
            "low": found.low,
            "high": found.high,
            "floor": 0.5,
            "ceiling": None,
            "unit": "share of pairs",
        }
        for floor, found in floors.items()
    ]


class Report(Protocol):
    """What held-out rows say of a judge, whatever their labels are."""

    def metrics(self) -> dict[str, float]: ...
    def facts(self) -> dict[str, Any]: ...
    def rows(self, name: str) -> list[dict]: ...


def held_out_report(scorer: Scorer, rows: Sequence[Any], *, truth: TruthConfig | None = None) -> Report:
    """The measure that the rows' labels ask for: rankings and comparisons, ratings, or verdicts."""
    if isinstance(rows[0], Rating | Verdict):
        return labelled_report(scorer, rows)
    return reward_report(scorer, [as_ranking(row) for row in rows], truth=truth)


def reward_report(scorer: Scorer, rows: Sequence[Ranking], *, truth: TruthConfig | None = None) -> RewardReport:
    """Score every held-out answer once and compare with the labels (and with the truth)."""
    if not rows:
        raise UserError("held_out: no ranking to measure on")
    groups = [group_of(row) for row in rows]
    scores = score_groups(scorer, groups)
    measured = pair_accuracy(scores, [row.ranks for row in rows], prompts=[row.prompt.id for row in rows])
    expected = None
    if truth is not None:
        true_rewards = score_groups(function_scorer(FunctionConfig(function=truth.function)), groups)
        expected = expected_accuracy_of_rankings(scores, true_rewards, noise_scale=truth.noise)
    return RewardReport(measured=measured, loss=_loss(scores, rows), expected=expected)


def _loss(scores: Sequence[Sequence[float | None]], rows: Sequence[Ranking]) -> float:
    kept = [
        (score, rank, i)
        for i, (given, row) in enumerate(zip(scores, rows, strict=True))
        for score, rank in zip(given, row.ranks, strict=True)
        if score is not None
    ]
    total, count = kwise(*(torch.tensor(list(column)) for column in zip(*kept, strict=True)))
    return float(total / count.clamp(min=1))
