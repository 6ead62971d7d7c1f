"""Results as rows and as drawings: a value on the scale of its unit, what it is to be read against as marks beside."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from plaudit.records.results import Result
from plaudit.report.measures import measure, shown

WHOLE, LEFT, RIGHT = 320.0, 20.0, 300.0
"""Width of the drawing, and the ends of the track in it."""
LETTER = 5.8
"""Width of a label's letter, about."""
FIRST_LANE, LANE = 42.0, 13.0
"""Where the labels' first line stands, and how far the next is from it."""
WIDE_RATIO = 100.0
"""A scale whose ends differ by this factor is logarithmic."""


Scale = tuple[float, float]
"""The lowest and the highest number of one unit: the ends of its track, whatever is drawn on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A reference on the track, its label below."""

    x: float
    label: str
    anchor: str
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A value between its references; x grows from worse to better. Widths are never negative."""

    dot: float
    marks: tuple[Mark, ...]
    height: float
    done: tuple[float, float] | None
    """(x, width) from the worse reference to the value."""
    interval: tuple[float, float] | None
    share: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    result: Result
    beside: tuple[tuple[str, float], ...]
    """(name, number) of what it is to be read against: floor and ceiling, then others on the same rows."""
    bar: Bar | None


def lines(results: Sequence[Result]) -> list[ResultLine]:
    """A row for each result, those of a stage by measure, in the order in which measures first appear.

    Floors and people stand as marks on the rows of what they were measured beside; they have rows of their own only
    where there is no such row.
    """
    scales = _scales(results)
    mains = {_about(result) for result in results if not result.role}
    order = {about: index for index, about in reversed([*enumerate(map(_about, results))])}
    stages = {stage: index for index, stage in reversed([*enumerate(result.stage for result in results)])}
    rows = [result for result in results if not result.role or _about(result) not in mains]
    rows.sort(key=lambda result: (stages[result.stage], order[_about(result)]))
    drawn = []
    for row in rows:
        others = [r for r in results if r.role and r is not row and _about(r) == _about(row)]
        ends = [(name, x) for name, x in (("floor", row.floor), ("ceiling", row.ceiling)) if x is not None]
        beside = (*ends, *((other.subject, other.value) for other in others))
        drawn.append(ResultLine(result=row, beside=beside, bar=_bar(row, beside, scales)))
    return drawn


def share_reached(result: Result) -> float | None:
    """(value − worse) / (better − worse) of the two references; None without both, or where they are equal."""
    if result.floor is None or result.ceiling is None or result.floor == result.ceiling:
        return None
    worse, better = sorted((result.floor, result.ceiling), reverse=falling(result))
    return (result.value - worse) / (better - worse)


def falling(result: Result) -> bool:
    """Whether less is better: as the measure says, else as floor and ceiling stand to each other."""
    better = measure(result.measure).better
    if better or result.floor is None or result.ceiling is None:
        return better == "down"
    return result.ceiling < result.floor


def _about(result: Result) -> tuple[str, str, str]:
    return result.stage, result.measure, result.part


def _x_of(value: float, scale: Scale, *, falling: bool) -> float:
    """x on the track; better is right."""
    low, high = scale
    if low > 0 and high / low >= WIDE_RATIO:
        low, high, value = math.log(low), math.log(high), math.log(value)
    share = (value - low) / (high - low)
    return round(LEFT + (1 - share if falling else share) * (RIGHT - LEFT), 1)


def _scales(results: Iterable[Result]) -> Mapping[str, Scale]:
    numbers: dict[str, list[float]] = {}
    for r in results:
        own = numbers.setdefault(measure(r.measure).unit, [])
        own += [x for x in (r.value, r.low, r.high, r.floor, r.ceiling) if x is not None]
    return {unit: (min(xs), max(xs)) for unit, xs in numbers.items() if min(xs) < max(xs)}


def _bar(result: Result, beside: Sequence[tuple[str, float]], scales: Mapping[str, Scale]) -> Bar | None:
    """None where there is nothing to read the value against."""
    unit = measure(result.measure).unit
    if unit not in scales or not (beside or result.low is not None):
        return None
    x_of = partial(_x_of, scale=scales[unit], falling=falling(result))
    dot, share = x_of(result.value), share_reached(result)
    interval = None
    if result.low is not None and result.high is not None:
        left, right = sorted((x_of(result.low), x_of(result.high)))
        interval = (left, round(right - left, 1))
    marks = _marks([(x_of(x), f"{label} {shown(x, unit)}") for label, x in beside])
    worse = min((x_of(x) for x in (result.floor, result.ceiling) if x is not None), default=dot)
    words = [f"value {shown(result.value, unit)}", *(f"{label} {shown(x, unit)}" for label, x in beside)]
    words += [] if share is None else [f"{share:.0%} of the way"]
    return Bar(
        dot=dot,
        marks=marks,
        height=max((mark.y for mark in marks), default=FIRST_LANE - LANE) + 4,
        done=(worse, round(dot - worse, 1)) if share is not None and dot > worse else None,
        interval=interval,
        share="" if share is None else f"{share:.0%}".replace("-", "−"),
        alt=", ".join(words),
    )


def _marks(references: Sequence[tuple[float, str]]) -> tuple[Mark, ...]:
    """Labels that would overlap stand in lines below each other; marks at one place share a label."""
    at: dict[float, list[str]] = {}
    for x, label in sorted(references):
        at.setdefault(x, []).append(label)
    ends: list[float] = []  # of each line, how far it is written
    marks = []
    for x, labels in at.items():
        label = " · ".join(labels)
        width = LETTER * len(label)
        anchor = "start" if x < width / 2 else "end" if x > WHOLE - width / 2 else "middle"
        left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
        lane = next((index for index, end in enumerate(ends) if left > end + LETTER), len(ends))
        ends[lane : lane + 1] = [left + width]
        marks.append(Mark(x=x, label=label, anchor=anchor, y=FIRST_LANE + lane * LANE))
    return tuple(marks)
