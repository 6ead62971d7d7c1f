"""How a judge's scores follow ratings of single answers (N3.6, N3.7), aspect by aspect.

Several labellers' numbers of one answer count as their mean. An aspect is compared with the judge's own part
`aspect/NAME`, or with its score where it has no such part.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch

from plaudit.data.formats import competition_ranks
from plaudit.errors import UserError
from plaudit.evaluation.intervals import bootstrap
from plaudit.evaluation.judges.pairs import accuracy, judged_pairs
from plaudit.evaluation.judges.rows import Answers, ScoredRows, interval_units
from plaudit.formulas.correlation import pearson, spearman
from plaudit.records.results import Result
from plaudit.records.text import Group

DEFAULT = "score"
"""The aspect of ratings that name none; nothing is said of it in the results."""


def agreement(scored: ScoredRows, seed: int) -> list[Result]:
    """Correlations, error and pair accuracy of every aspect that somebody rated; nothing where nothing is rated."""
    aspects = dict.fromkeys(aspect for row in scored.rows.rated for answer in row.ratings for aspect in answer)
    return [result for aspect in aspects for result in _of_aspect(aspect, scored, seed)]


def _of_aspect(aspect: str, scored: ScoredRows, seed: int) -> list[Result]:
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
    pairs = judged_pairs(tuple(scores), ranks, groups, [row.subset for row in scored.rows.rated])
    return accuracy(f"aspect/{aspect}_accuracy_over_pairs", scored.judge, pairs)


def _mean(ratings: Sequence[float]) -> float | None:
    return sum(ratings) / len(ratings) if ratings else None


def labellers_correlation(ratings: Sequence[Sequence[float]]) -> float | None:
    """Pearson of single ratings with the mean of the other labellers' ratings of the same answer: what a judge's
    correlation may be compared with. None where no answer has two ratings."""
    several = [numbers for numbers in ratings if len(numbers) > 1]
    own = [rating for numbers in several for rating in numbers]
    others = [(math.fsum(numbers) - rating) / (len(numbers) - 1) for numbers in several for rating in numbers]
    return pearson(*(torch.tensor(x, dtype=torch.float64) for x in (own, others))) if own else None
