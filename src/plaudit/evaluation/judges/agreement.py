"""How far a judge agrees with labels of every kind: what `eval reward` asks of any judge, and training of its model.

Rankings are in `pairs.py`. Ratings (N3.6, N3.7) go aspect by aspect: several labellers' numbers of one answer count as
their mean, and an aspect is compared with the judge's own part `aspect/NAME`, or with its score where it has no such
part. Verdicts say of single answers that they are accepted or not (N3.5).
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from plaudit.data.formats import competition_ranks
from plaudit.errors import UserError
from plaudit.evaluation.intervals import bootstrap, share_of
from plaudit.evaluation.judges import pairs
from plaudit.evaluation.judges.rows import Answers, ScoredRows, interval_units
from plaudit.evaluation.options import TruthConfig
from plaudit.formulas.calibration import brier_score
from plaudit.formulas.correlation import mean_ranks, pearson, spearman
from plaudit.records.results import Result
from plaudit.records.text import Group

DEFAULT = "score"
"""The aspect of ratings that name none; nothing is said of it in the results."""


def agreement(
    scored: ScoredRows,
    *,
    truth: TruthConfig | None = None,
    seed: int | None = 0,
    threshold: float | None = None,
    log_odds: bool = False,
) -> list[Result]:
    """On rankings, ratings and verdicts, as far as there are some; `seed` is that of the bootstrap intervals, None for
    none; the last two are those of `of_verdicts`.

    Raises: UserError where the judge abstains on all that could be measured.
    """
    verdicts = of_verdicts(scored, seed, threshold=threshold, log_odds=log_odds)
    return [*pairs.agreement(scored, truth=truth), *of_ratings(scored, seed), *verdicts]


def of_ratings(scored: ScoredRows, seed: int | None) -> list[Result]:
    """Correlations, error and pair accuracy of every aspect that somebody rated; nothing where nothing is rated."""
    aspects = dict.fromkeys(aspect for row in scored.rows.rated for answer in row.ratings for aspect in answer)
    return [result for aspect in aspects for result in _of_aspect(aspect, scored, seed)]


def _of_aspect(aspect: str, scored: ScoredRows, seed: int | None) -> list[Result]:
    rows, aspect_scores = scored.rows.rated, scored.aspects.get(aspect, scored.rated)
    means = [[_mean(ratings.get(aspect, ())) for ratings in row.ratings] for row in rows]
    units = interval_units([row.group for row in rows])
    answers = [
        (score, rating, unit)
        for columns in zip(aspect_scores, means, units, strict=True)
        for score, rating, unit in zip(*columns, strict=True)
        if score is not None and rating is not None
    ]
    if not answers:
        raise UserError(f"{scored.judge}: abstained on every answer rated for {aspect!r}")
    scores, ratings = (torch.tensor([one[i] for one in answers], dtype=torch.float64) for i in (0, 1))
    own_units = [unit for _, _, unit in answers]
    linear = bootstrap(pearson, scores, ratings, own_units, seed)
    deviation = ratings.std(correction=0).item()
    people = labellers_correlation([r[aspect] for row in rows for r in row.ratings if aspect in r])
    about = {"subject": scored.judge, "part": "" if aspect == DEFAULT else aspect, "count": len(answers)}
    return [
        Result(
            measure=f"aspect/{aspect}_spearman_over_labels",
            floor=0.0,
            ceiling=1.0,
            **about,
            **asdict(bootstrap(spearman, scores, ratings, own_units, seed)),
        ),
        Result(measure=f"aspect/{aspect}_pearson_over_labels", floor=0.0, ceiling=people, **about, **asdict(linear)),
        Result(
            measure=f"aspect/{aspect}_rmse_over_labels",
            value=(scores - ratings).square().mean().sqrt().item(),
            floor=deviation,
            ceiling=0.0,
            facts={"rmse_of_best_line": deviation * math.sqrt(max(0.0, 1.0 - linear.value**2))},
            **about,
        ),
        *_pair_accuracy(aspect, scored, aspect_scores, means),
    ]


def _pair_accuracy(
    aspect: str, scored: ScoredRows, answers: Answers, means: Sequence[Sequence[float | None]]
) -> list[Result]:
    """The judge's order of a prompt's answers against their ratings'; nothing where no prompt has two to compare."""
    scores: list[tuple[float | None, ...]] = []
    ranks: list[tuple[int, ...]] = []
    groups: list[Group] = []
    for row_scores, ratings, row in zip(answers, means, scored.rows.rated, strict=True):
        rated = [(k, mean) for k, mean in enumerate(ratings) if mean is not None]
        scores.append(tuple(row_scores[k] for k, _ in rated))
        ranks.append(competition_ranks([-mean for _, mean in rated]))
        groups.append(replace(row.group, responses=tuple(row.group.responses[k] for k, _ in rated)))
    judged = pairs.judged_pairs(tuple(scores), ranks, groups, [row.subset for row in scored.rows.rated])
    return pairs.accuracy(f"aspect/{aspect}_accuracy_over_pairs", scored.judge, judged)


def _mean(ratings: Sequence[float]) -> float | None:
    return sum(ratings) / len(ratings) if ratings else None


def labellers_correlation(ratings: Sequence[Sequence[float]]) -> float | None:
    """Pearson of single ratings with the mean of the other labellers' ratings of the same answer: what a judge's
    correlation may be compared with. None where no answer has two ratings."""
    several = [numbers for numbers in ratings if len(numbers) > 1]
    own = [rating for numbers in several for rating in numbers]
    others = [(math.fsum(numbers) - rating) / (len(numbers) - 1) for numbers in several for rating in numbers]
    return pearson(*(torch.tensor(x, dtype=torch.float64) for x in (own, others))) if own else None


FOLDS = 10


def of_verdicts(
    scored: ScoredRows, seed: int | None, *, threshold: float | None = None, log_odds: bool = False
) -> list[Result]:
    """Accuracy of "a score above the threshold accepts", area under the ROC curve (where both verdicts occur), and of
    judges that say `log_odds` of acceptance the Brier score.

    The threshold is told, or 0 for log-odds; else it is learnt: for each tenth of the prompts on the other nine, so
    that no verdict has a say in how it is met.
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
    fixed = 0.0 if threshold is None and log_odds else threshold
    thresholds = learnt_thresholds(scores, accepted, own_units) if fixed is None else torch.full_like(scores, fixed)
    right = ((scores > thresholds) == (accepted > 0.5)).double().tolist()
    frequency = accepted.mean().item()
    about = {"subject": scored.judge, "count": len(answers)}
    facts = {"accepted": frequency, "abstained": len(rows) - len(answers), "threshold": thresholds.median().item()}
    results = [
        share_of(
            "held_out_accuracy_over_rows",
            scored.judge,
            right,
            own_units,
            floor=max(frequency, 1.0 - frequency),
            ceiling=1.0,
            ties=int((scores == thresholds).sum()),
            facts=facts | {"threshold_learnt": float(fixed is None)},
        )
    ]
    if 0.0 < frequency < 1.0:
        area = bootstrap(auc, scores, accepted, own_units, seed)
        results.append(Result(measure="held_out_auc", floor=0.5, ceiling=1.0, **about, **asdict(area)))
    if not log_odds:
        return results
    brier, constant = brier_score(scores.sigmoid(), accepted).item(), frequency * (1.0 - frequency)
    return [*results, Result(measure="brier_over_rows", value=brier, floor=constant, ceiling=0.0, **about)]


def learnt_thresholds(scores: Tensor, accepted: Tensor, units: Sequence[Hashable]) -> Tensor:
    """Each answer's threshold [N], learnt on the answers of other units (prompts): in FOLDS parts, or one a unit."""
    numbers = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    fold = torch.tensor([numbers[unit] % FOLDS for unit in units])
    thresholds = torch.zeros_like(scores)
    for part in fold.unique():
        here = fold == part
        others = ~here if (~here).any() else here  # a single unit has no others
        thresholds[here] = best_threshold(scores[others], accepted[others])
    return thresholds


def best_threshold(scores: Tensor, accepted: Tensor) -> float:
    """The one above which to accept for most verdicts to be met: midway between two scores; of several equally good
    ones the middle one."""
    values, where = scores.unique(return_inverse=True)
    step = torch.zeros_like(values).index_add(0, where, 1.0 - 2.0 * accepted)  # met by rejecting, less by accepting
    met = torch.cat([values.new_zeros(1), step.cumsum(0)])
    cuts = torch.cat([values[:1] - 1.0, (values[1:] + values[:-1]) / 2.0, values[-1:]])
    best = (met == met.max()).nonzero().flatten()
    return cuts[best[len(best) // 2]].item()


def auc(scores: Tensor, accepted: Tensor) -> float:
    """P(an accepted answer scores above a rejected one), ties half; ½ where there are none of a kind."""
    positives = accepted > 0.5
    count = int(positives.sum())
    both = count * (len(accepted) - count)
    above = mean_ranks(scores)[positives].sum().item() - count * (count + 1) / 2
    return above / both if both else 0.5
