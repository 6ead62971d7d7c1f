"""How good a reward model is on held-out answers with labels of their own: `label_measures` as metrics and as rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from plaudit.data.clean import unit_keys
from plaudit.evaluation.label_measures import RatingMeasures, VerdictMeasures, rating_measures, verdict_measures
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Rating, Verdict
from plaudit.scoring.protocol import Scorer

SEED = 0
"""Of the intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingReport:
    """Agreement with held-out ratings, by aspect."""

    aspects: Mapping[str, RatingMeasures]

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {f"aspect/{n}_spearman_over_labels": a.spearman.value for n, a in self.aspects.items()}

    def facts(self) -> dict[str, object]:
        """For summary.json."""
        told = {
            name: {
                "pearson": a.pearson.value,
                "spearman": a.spearman.value,
                "rmse": a.rmse,
                "floor": a.label_std,
                "count": a.answers,
            }
            for name, a in self.aspects.items()
        }
        return {"aspects": told}

    def rows(self, name: str) -> list[dict]:
        """Rows of the report's table: rank correlation with the ratings, and the error beside a constant's."""
        blank = {"name": name, "low": None, "high": None, "ceiling": None}
        rows = []
        for aspect, a in self.aspects.items():
            rank = {"metric": f"held-out rank correlation: {aspect} ({a.answers} ratings)", **asdict(a.spearman)}
            error = {"metric": f"held-out error (RMSE): {aspect}", "value": a.rmse}
            rows.append(blank | rank | {"floor": 0.0, "ceiling": 1.0, "unit": "Spearman's rho"})
            rows.append(blank | error | {"floor": a.label_std, "unit": "rating"})
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReport:
    """Agreement with held-out verdicts."""

    measured: VerdictMeasures

    def metrics(self) -> dict[str, float]:
        """For metrics.jsonl."""
        area = {} if self.measured.auc is None else {"held_out_auc": self.measured.auc.value}
        return {"held_out_accuracy_over_rows": self.measured.accuracy.value, **area}

    def facts(self) -> dict[str, object]:
        """For summary.json."""
        accuracy, area = self.measured.accuracy, self.measured.auc
        return {
            "accuracy": accuracy.value,
            "low": accuracy.low,
            "high": accuracy.high,
            "auc": None if area is None else area.value,
            "answers": self.measured.answers,
        }

    def rows(self, name: str) -> list[dict]:
        """Rows of the report's table; no area where all answers have one label."""
        measured = self.measured
        accuracy = {"metric": f"held-out accuracy ({measured.answers} answers)", **asdict(measured.accuracy)}
        rows = [{"name": name, "floor": measured.majority, "ceiling": None, "unit": "share"} | accuracy]
        if measured.auc is not None:
            area = {"metric": "held-out area under the ROC curve", **asdict(measured.auc)}
            rows.append({"name": name, "floor": 0.5, "ceiling": 1.0, "unit": "share of pairs"} | area)
        return rows


def labelled_report(scorer: Scorer, rows: Sequence[Rating] | Sequence[Verdict]) -> RatingReport | VerdictReport:
    """The measure that the rows' labels ask for."""
    return verdict_report(scorer, rows) if isinstance(rows[0], Verdict) else rating_report(scorer, rows)


def rating_report(scorer: Scorer, rows: Sequence[Rating]) -> RatingReport:
    """Each rated aspect against the scorer's part `aspect/NAME`, or against its score where it has no such part."""
    said, units = _score(scorer, rows), unit_keys(rows)
    found = {}
    for aspect in dict.fromkeys(name for row in rows for name in row.scores):
        there = [i for i, row in enumerate(rows) if aspect in row.scores and bool(said.valid[i])]
        if not there:
            continue
        predictions = said.parts.get(f"aspect/{aspect}", said.scores)[there].tolist()
        labels = [rows[i].scores[aspect] for i in there]
        found[aspect] = rating_measures(predictions, labels, [units[i] for i in there], SEED)
    return RatingReport(aspects=found)


def verdict_report(scorer: Scorer, rows: Sequence[Verdict]) -> VerdictReport:
    """The scorer's sign and order against held-out labels."""
    said, units = _score(scorer, rows), unit_keys(rows)
    kept = torch.nonzero(said.valid).flatten().tolist()
    scores, accepted = said.scores[kept].tolist(), [rows[i].label for i in kept]
    return VerdictReport(measured=verdict_measures(scores, accepted, [units[i] for i in kept], SEED))


def _score(scorer: Scorer, rows: Sequence[Rating | Verdict]) -> Scores:
    return scorer.score([Group(prompt=row.prompt, responses=(row.response,)) for row in rows])
