"""Numbers with intervals: means, and shares whose trials are not independent (several pairs of one prompt)."""

import math
import statistics
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from plaudit.formulas.intervals import clustered_interval, mean_interval
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
