"""Numbers that know how they add up: over micro-batches, ranks and updates, always by `add`. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sum:
    """A total, such as a loss over tokens or a count."""

    value: float


@dataclass(frozen=True, slots=True)
class Max:
    """The largest so far."""

    value: float


Statistic = Sum | Max
Statistics = Mapping[str, Statistic]
"""By name. A part that doesn't know a name has nothing to add to it, so {} is the neutral element."""


def add(*parts: Statistics) -> dict[str, Statistic]:
    """The parts as one, in their order: the result doesn't depend on how they were divided, but for rounding.

    Raises: TypeError where two parts disagree about what a name is.
    """
    total: dict[str, Statistic] = {}
    for part in parts:
        for name, new in part.items():
            match total.get(name), new:
                case None, _:
                    total[name] = new
                case Sum(a), Sum(b):
                    total[name] = Sum(a + b)
                case Max(a), Max(b):
                    total[name] = Max(math.nan if math.isnan(a + b) else max(a, b))
                case before, _:
                    raise TypeError(f"{name}: {before} and {new} don't add up")
    return total


def number(statistics: Statistics, name: str) -> float:
    """Its value; 0 where nothing was counted."""
    return statistics[name].value if name in statistics else 0.0


def ratio(statistics: Statistics, name: str, over: str) -> float:
    """One total over another; 0 of none."""
    return number(statistics, name) / (number(statistics, over) or 1.0)


def to_plain(statistics: Statistics) -> dict[str, list[Any]]:
    """For JSON: {name: ["Sum", 2.5]}."""
    return {name: [type(one).__name__, one.value] for name, one in statistics.items()}


def from_plain(plain: Mapping[str, Any]) -> dict[str, Statistic]:
    """The inverse."""
    return {name: {"Sum": Sum, "Max": Max}[kind](value) for name, (kind, value) in plain.items()}
