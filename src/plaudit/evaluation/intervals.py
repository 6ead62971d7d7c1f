"""Numbers with intervals: means, and shares whose trials are not independent (several pairs of one prompt)."""

import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from plaudit.formulas.intervals import mean_interval, wilson_interval
from plaudit.hardware.randomness import generator
from plaudit.records.results import Result

RESAMPLES = 200
MIN_UNITS = 3
"""Of fewer no bootstrap interval is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval; None where there is too little for one."""

    value: float
    low: float | None
    high: float | None


def mean_estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent values and its normal interval, in their unit; NaN where one is no finite number.
    ValueError for none."""
    if not values:
        raise ValueError("mean_estimate: no values")
    if not all(map(math.isfinite, values)):
        return Estimate(value=math.nan, low=None, high=None)
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(value=mean, low=None, high=None)
    low, high = mean_interval(mean, statistics.stdev(values, mean), len(values))
    return Estimate(value=mean, low=low, high=high)


def mean_of(measure: str, subject: str, values: Sequence[float], **more: Any) -> Result:
    """The mean of independent values with its interval, as a result; `more`: its other fields."""
    return Result(measure=measure, subject=subject, count=len(values), **asdict(mean_estimate(values)), **more)


def share_of(measure: str, subject: str, outcomes: Sequence[float], prompts: Sequence[Hashable], **more: Any) -> Result:
    """The mean of outcomes in [0, 1] with its 95 % interval; outcomes of one prompt are one cluster."""
    low, high = clustered_interval(outcomes, prompts)
    value = sum(outcomes) / max(len(outcomes), 1)
    return Result(measure=measure, subject=subject, value=value, low=low, high=high, count=len(outcomes), **more)


def clustered_interval(
    outcomes: Sequence[float], clusters: Sequence[Hashable], *, z: float = 1.96
) -> tuple[float, float]:
    """Interval of the mean of outcomes in [0, 1] that come in clusters (here: prompts), such as pairs of one ranking.

    Pairs of one prompt share answers, so n pairs tell less than n trials would. The variance of the mean is taken from
    the spread *between* clusters (linearised ratio, C clusters, e_c the sum of a cluster's outcomes less the mean):

        V = C / (C − 1) · Σ_c e_c² / n²,        n_eff = p̂ (1 − p̂) / V,  at most n

    and Wilson's interval is made for n_eff trials. Where the spread says nothing (all right, all wrong, one cluster)
    each cluster counts as one trial. One outcome a cluster gives Wilson's own interval, within C / (C − 1).
    No outcome: (0, 1). (Effective sample size with a score interval: Korn & Graubard 1998, Franco et al. 2019.)
    """
    n = len(outcomes)
    if n == 0:
        return 0.0, 1.0
    mean = sum(outcomes) / n
    excess: dict[Hashable, float] = {}
    for outcome, cluster in zip(outcomes, clusters, strict=True):
        excess[cluster] = excess.get(cluster, 0.0) + outcome - mean
    trials = min(float(n), _effective_trials(mean, n, list(excess.values())))
    # Wilson depends on z² / n alone: fewer trials are a wider z.
    return wilson_interval(float(sum(outcomes)), n, z * math.sqrt(n / trials))


def _effective_trials(mean: float, n: int, excess: Sequence[float]) -> float:
    count = len(excess)
    binomial = mean * (1.0 - mean)
    if count == 1 or binomial <= 0.0:
        return float(count)
    variance = count / (count - 1) * sum(e * e for e in excess) / n**2
    return binomial / variance if variance > 0.0 else math.inf


def bootstrap(
    measure: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor, units: Sequence[Hashable], seed: int | None
) -> Estimate:
    """`measure` of all answers, and the 2.5 and 97.5 % quantiles of it where whole units are drawn with replacement.
    A draw whose labels are all alike says nothing of agreement with them and is left out. No `seed`, no interval."""
    value = measure(x, y)
    members: dict[Hashable, list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    if seed is None or len(members) < MIN_UNITS:
        return Estimate(value=value, low=None, high=None)
    sizes = torch.tensor([len(indices) for indices in members.values()])
    together = torch.tensor([index for indices in members.values() for index in indices])
    draws = torch.randint(len(sizes), (RESAMPLES, len(sizes)), generator=generator(seed, "bootstrap"))
    resampled = [together[_positions(draw, sizes)] for draw in draws]
    values = [measure(x[index], y[index]) for index in resampled if y[index].min() < y[index].max()]
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
