"""How a judge's scores follow labels of single answers: ratings (N3.6, N3.7) and verdicts (N3.5).

Pure: scores and labels in, numbers out. `units` say what each answer's interval draws whole: its prompt, as a rule.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from plaudit.evaluation.intervals import Estimate, clustered_interval
from plaudit.formulas.calibration import brier_score
from plaudit.formulas.correlation import mean_ranks, pearson, spearman
from plaudit.hardware.randomness import generator

RESAMPLES = 200
MIN_UNITS = 3
"""Of fewer no bootstrap interval is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingMeasures:
    """Scores beside ratings, over all answers."""

    pearson: Estimate
    spearman: Estimate
    rmse: float
    """In the ratings' unit; it means something where the judge learnt this very scale."""
    rmse_fitted: float
    """Of the best straight line through them, whatever the scale."""
    label_std: float
    """The RMSE of the ratings' own mean: what a constant reaches."""
    answers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictMeasures:
    """Scores beside accept and reject."""

    accuracy: Estimate
    """Of "a score above 0 accepts"; a score of 0 is half right."""
    auc: Estimate | None
    """P(an accepted answer scores above a rejected one), ties half: the area under the ROC curve. None where all
    answers have one label."""
    brier: float
    """Of P(accept) = σ(score)."""
    accepted: float
    """Share of the answers."""
    answers: int

    @property
    def majority(self) -> float:
        """Accuracy of always saying what is said most."""
        return max(self.accepted, 1.0 - self.accepted)


def rating_measures(
    scores: Sequence[float], labels: Sequence[float], units: Sequence[Hashable], seed: int
) -> RatingMeasures:
    """Of answers that were scored and rated, one entry each."""
    x, y = (torch.tensor(values, dtype=torch.float64) for values in (scores, labels))
    linear, deviation = estimate(pearson, x, y, units, seed), y.std(correction=0).item()
    return RatingMeasures(
        pearson=linear,
        spearman=estimate(spearman, x, y, units, seed),
        rmse=(x - y).square().mean().sqrt().item(),
        rmse_fitted=deviation * math.sqrt(max(0.0, 1.0 - linear.value**2)),
        label_std=deviation,
        answers=len(scores),
    )


def labellers_correlation(ratings: Sequence[Sequence[float]]) -> float | None:
    """Pearson of single ratings with the mean of the other labellers' ratings of the same answer: what a judge's
    correlation may be compared with. None where no answer has two ratings."""
    own = [rating for several in ratings if len(several) > 1 for rating in several]
    others = [
        (math.fsum(several) - rating) / (len(several) - 1)
        for several in ratings
        if len(several) > 1
        for rating in several
    ]
    return pearson(*(torch.tensor(x, dtype=torch.float64) for x in (own, others))) if own else None


def verdict_measures(
    scores: Sequence[float], accepted: Sequence[bool], units: Sequence[Hashable], seed: int
) -> VerdictMeasures:
    """Of answers that were scored and accepted or rejected, one entry each."""
    x, y = torch.tensor(scores, dtype=torch.float64), torch.tensor(accepted, dtype=torch.float64)
    right = [0.5 if not score else float((score > 0) == label) for score, label in zip(scores, accepted, strict=True)]
    low, high = clustered_interval(right, units)
    return VerdictMeasures(
        accuracy=Estimate(value=sum(right) / max(len(right), 1), low=low, high=high),
        auc=estimate(auc, x, y, units, seed) if 0 < sum(accepted) < len(accepted) else None,
        brier=brier_score(x.sigmoid(), y).item(),
        accepted=y.mean().item(),
        answers=len(scores),
    )


def auc(scores: Tensor, accepted: Tensor) -> float:
    """P(an accepted answer scores above a rejected one), ties half; ½ where there are none of a kind."""
    positives = accepted > 0.5
    count = int(positives.sum())
    pairs = count * (len(accepted) - count)
    above = mean_ranks(scores)[positives].sum().item() - count * (count + 1) / 2
    return above / pairs if pairs else 0.5


def estimate(
    measure: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor, units: Sequence[Hashable], seed: int
) -> Estimate:
    """`measure` of all answers, and the 2.5 and 97.5 % quantiles of it where whole units are drawn with replacement.
    A draw whose labels are all alike says nothing of agreement with them and is left out."""
    value = measure(x, y)
    members: dict[Hashable, list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    if len(members) < MIN_UNITS:
        return Estimate(value=value, low=None, high=None)
    sizes = torch.tensor([len(indices) for indices in members.values()])
    together = torch.tensor([index for indices in members.values() for index in indices])
    draws = torch.randint(len(sizes), (RESAMPLES, len(sizes)), generator=generator(seed, "bootstrap"))
    taken = [together[_positions(draw, sizes)] for draw in draws]
    values = [measure(x[index], y[index]) for index in taken if y[index].min() < y[index].max()]
    if not values:
        return Estimate(value=value, low=None, high=None)
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.tensor(values, dtype=torch.float64).quantile(quantiles).tolist()
    return Estimate(value=value, low=low, high=high)


def _positions(draw: Int[Tensor, " n"], sizes: Int[Tensor, " N"]) -> Int[Tensor, " M"]:
    """Where the drawn units' members stand, in a line that holds all units one after the other."""
    starts, drawn = sizes.cumsum(0) - sizes, sizes[draw]
    before = drawn.cumsum(0) - drawn
    return (starts[draw] - before).repeat_interleave(drawn) + torch.arange(int(drawn.sum()))
