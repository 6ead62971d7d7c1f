"""How good a reward model is on held-out answers with labels of their own: ratings (N3.6, N3.7), verdicts (N3.5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.evaluation.intervals import clustered_interval
from plaudit.formulas.correlation import concordance, pearson, spearman
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Rating, Verdict
from plaudit.scoring.protocol import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectAgreement:
    """One aspect's predictions beside its ratings."""

    pearson: float
    spearman: float
    rmse: float
    """In the ratings' unit."""
    floor: float
    """The error of the ratings' own mean: what a constant reaches."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingReport:
    """Agreement with held-out ratings, by aspect."""

    aspects: Mapping[str, AspectAgreement]

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {f"reward/aspect/{n}_spearman_over_labels": a.spearman for n, a in self.aspects.items()}

    def facts(self) -> dict[str, object]:
        """For summary.json."""
        return {
            "aspects": {
                n: {"pearson": a.pearson, "spearman": a.spearman, "rmse": a.rmse, "floor": a.floor, "count": a.count}
                for n, a in self.aspects.items()
            }
        }

    def rows(self, name: str) -> list[dict]:
        """Rows of the report's table: rank correlation with the ratings, and the error beside a constant's."""
        blank = {"name": name, "low": None, "high": None, "ceiling": None}
        rows = []
        for aspect, a in self.aspects.items():
            rank = {"metric": f"held-out rank correlation: {aspect} ({a.count} ratings)", "value": a.spearman}
            error = {"metric": f"held-out error (RMSE): {aspect}", "value": a.rmse}
            rows.append(blank | rank | {"floor": 0.0, "ceiling": 1.0, "unit": "Spearman's rho"})
            rows.append(blank | error | {"floor": a.floor, "unit": "rating"})
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReport:
    """Accuracy at score 0, and the probability that an accepted answer scores above a rejected one."""

    accuracy: float
    low: float
    high: float
    majority: float
    """Accuracy of always saying what is said most."""
    auc: float
    count: int

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {"reward/held_out_accuracy_over_rows": self.accuracy, "reward/held_out_auc": self.auc}

    def facts(self) -> dict[str, object]:
        """For summary.json."""
        return {"accuracy": self.accuracy, "low": self.low, "high": self.high, "auc": self.auc, "answers": self.count}

    def rows(self, name: str) -> list[dict]:
        """Rows of the report's table."""
        accuracy = {"metric": f"held-out accuracy ({self.count} answers)", "value": self.accuracy}
        auc = {"metric": "held-out area under the ROC curve", "value": self.auc, "floor": 0.5, "ceiling": 1.0}
        return [
            {"name": name, "low": self.low, "high": self.high, "floor": self.majority, "ceiling": None, "unit": "share"}
            | accuracy,
            {"name": name, "low": None, "high": None, "unit": "share of pairs"} | auc,
        ]


def rating_report(scorer: Scorer, rows: Sequence[Rating]) -> RatingReport:
    """Each rated aspect against the scorer's part `aspect/NAME`, or against its score where it has no such part."""
    said = _score(scorer, rows)
    found = {}
    for aspect in dict.fromkeys(name for row in rows for name in row.scores):
        there = [i for i, row in enumerate(rows) if aspect in row.scores and bool(said.valid[i])]
        if not there:
            continue
        predictions = said.parts.get(f"aspect/{aspect}", said.scores)[there]
        labels = torch.tensor([rows[i].scores[aspect] for i in there])
        found[aspect] = AspectAgreement(
            pearson=pearson(predictions, labels),
            spearman=spearman(predictions, labels),
            rmse=_rmse(predictions, labels),
            floor=_rmse(labels.mean(), labels),
            count=len(there),
        )
    return RatingReport(aspects=found)


def verdict_report(scorer: Scorer, rows: Sequence[Verdict]) -> VerdictReport:
    """The scorer's sign against held-out labels; a score of 0 is half right."""
    said = _score(scorer, rows)
    kept = [i for i in range(len(rows)) if bool(said.valid[i])]
    scores, labels = said.scores[kept], torch.tensor([float(rows[i].label) for i in kept])
    right = torch.where(scores == 0, 0.5, ((scores > 0) == (labels > 0.5)).float()).tolist()
    low, high = clustered_interval(right, [rows[i].prompt.id for i in kept])
    share = float(labels.mean())
    wins, pairs = concordance(scores, labels)
    return VerdictReport(
        accuracy=sum(right) / len(right),
        low=low,
        high=high,
        majority=max(share, 1.0 - share),
        auc=wins / pairs if pairs else 0.5,
        count=len(kept),
    )


def _score(scorer: Scorer, rows: Sequence[Rating | Verdict]) -> Scores:
    return scorer.score([Group(prompt=row.prompt, responses=(row.response,)) for row in rows])


def _rmse(predictions: Tensor, labels: Tensor) -> float:
    return float((predictions.double() - labels.double()).square().mean().sqrt())
