"""How a judge's scores follow verdicts on single answers, accepted or not (N3.5)."""

from dataclasses import asdict

import torch
from torch import Tensor

from plaudit.errors import UserError
from plaudit.evaluation.intervals import bootstrap, share_of
from plaudit.evaluation.judges.rows import ScoredRows, interval_units
from plaudit.formulas.calibration import brier_score
from plaudit.formulas.correlation import mean_ranks
from plaudit.records.results import Result


def agreement(scored: ScoredRows, seed: int) -> list[Result]:
    """Accuracy of "a score above 0 accepts", area under the ROC curve (where both verdicts occur) and Brier score.

    Raises: UserError where there are verdicts and the judge abstains on all of them.
    """
    rows = scored.rows.verdicts
    if not rows:
        return []
    units = interval_units([row.group for row in rows])
    answers = [
        (score, row.accepted, unit)
        for (score,), row, (unit,) in zip(scored.verdicts, rows, units, strict=True)
        if score is not None
    ]
    if not answers:
        raise UserError(f"{scored.judge}: abstained on every verdict")
    scores = torch.tensor([score for score, _, _ in answers], dtype=torch.float64)
    accepted = torch.tensor([label for _, label, _ in answers], dtype=torch.float64)
    own_units = [unit for _, _, unit in answers]
    right = [0.5 if not score else float((score > 0) == label) for score, label, _ in answers]
    frequency = accepted.mean().item()
    about = {"subject": scored.judge, "count": len(answers)}
    results = [
        share_of(
            "held_out_accuracy_over_rows",
            scored.judge,
            right,
            own_units,
            floor=max(frequency, 1.0 - frequency),
            ceiling=1.0,
            ties=right.count(0.5),
            facts={"accepted": frequency, "abstained": len(rows) - len(answers)},
        )
    ]
    if 0.0 < frequency < 1.0:
        area = bootstrap(auc, scores, accepted, own_units, seed)
        results.append(Result(measure="held_out_auc", floor=0.5, ceiling=1.0, **about, **asdict(area)))
    brier, constant = brier_score(scores.sigmoid(), accepted).item(), frequency * (1.0 - frequency)
    return [*results, Result(measure="brier_over_rows", value=brier, floor=constant, ceiling=0.0, **about)]


def auc(scores: Tensor, accepted: Tensor) -> float:
    """P(an accepted answer scores above a rejected one), ties half; ½ where there are none of a kind."""
    positives = accepted > 0.5
    count = int(positives.sum())
    pairs = count * (len(accepted) - count)
    above = mean_ranks(scores)[positives].sum().item() - count * (count + 1) / 2
    return above / pairs if pairs else 0.5
