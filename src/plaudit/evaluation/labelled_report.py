"""How good a reward model is on held-out answers with labels of their own: ratings (N3.6, N3.7), verdicts (N3.5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.data.clean import unit_keys
from plaudit.evaluation.intervals import clustered_interval
from plaudit.evaluation.reward_measures import auc, bootstrap
from plaudit.formulas.correlation import pearson, spearman
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Rating, Verdict
from plaudit.scoring.protocol import Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Numbers of a judge beside the labels, [N], and what each answer's prompt is, for intervals."""

    scores: Tensor
    labels: Tensor
    prompts: Sequence[str]

    def interval(self, measure: Callable[[Tensor, Tensor], float]) -> dict[str, float | None]:
        """{"low": …, "high": …} of a measure, by resampling prompts."""
        return bootstrap(measure, self.scores, self.labels, self.prompts, seed=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectAgreement:
    """One aspect's predictions beside its ratings."""

    pearson: float
    spearman: float
    rmse: float
    """In the ratings' unit."""
    floor: float
    """The error of the ratings' own mean: what a constant reaches."""
    said: Said

    @property
    def count(self) -> int:
        return len(self.said.labels)


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
            interval = a.said.interval(spearman)
            rows.append(blank | rank | interval | {"floor": 0.0, "ceiling": 1.0, "unit": "Spearman's rho"})
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
    said: Said

    @property
    def count(self) -> int:
        return len(self.said.labels)

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {"reward/held_out_accuracy_over_rows": self.accuracy, "reward/held_out_auc": self.auc}

    def facts(self) -> dict[str, object]:
        """For summary.json."""
        return {"accuracy": self.accuracy, "low": self.low, "high": self.high, "auc": self.auc, "answers": self.count}

    def rows(self, name: str) -> list[dict]:
        """Rows of the report's table."""
        accuracy = {"metric": f"held-out accuracy ({self.count} answers)", "value": self.accuracy}
        area = {"metric": "held-out area under the ROC curve", "value": self.auc, "floor": 0.5, "ceiling": 1.0}
        return [
            {"name": name, "low": self.low, "high": self.high, "floor": self.majority, "ceiling": None, "unit": "share"}
            | accuracy,
            {"name": name, "unit": "share of pairs"} | area | self.said.interval(auc),
        ]


def rating_report(scorer: Scorer, rows: Sequence[Rating]) -> RatingReport:
    """Each rated aspect against the scorer's part `aspect/NAME`, or against its score where it has no such part."""
    said = _score(scorer, rows)
    prompts = unit_keys(rows)
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
            said=Said(scores=predictions, labels=labels, prompts=[prompts[i] for i in there]),
        )
    return RatingReport(aspects=found)


def verdict_report(scorer: Scorer, rows: Sequence[Verdict]) -> VerdictReport:
    """The scorer's sign against held-out labels; a score of 0 is half right."""
    said = _score(scorer, rows)
    kept = [i for i in range(len(rows)) if bool(said.valid[i])]
    scores, labels = said.scores[kept], torch.tensor([float(rows[i].label) for i in kept])
    right = torch.where(scores == 0, 0.5, ((scores > 0) == (labels > 0.5)).float()).tolist()
    prompts = unit_keys(rows)
    said_of = Said(scores=scores, labels=labels, prompts=[prompts[i] for i in kept])
    low, high = clustered_interval(right, said_of.prompts)
    share = float(labels.mean())
    return VerdictReport(
        accuracy=sum(right) / len(right),
        low=low,
        high=high,
        majority=max(share, 1.0 - share),
        auc=auc(scores, labels),
        said=said_of,
    )


def _score(scorer: Scorer, rows: Sequence[Rating | Verdict]) -> Scores:
    return scorer.score([Group(prompt=row.prompt, responses=(row.response,)) for row in rows])


def _rmse(predictions: Tensor, labels: Tensor) -> float:
    return float((predictions.double() - labels.double()).square().mean().sqrt())
