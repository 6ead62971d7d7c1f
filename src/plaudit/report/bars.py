"""A result's place between its floor and its ceiling, as a drawing: numbers in the units of the picture."""

from __future__ import annotations

from dataclasses import dataclass

from plaudit.report import terms
from plaudit.report.collect import StageRow

BAR_LEFT, BAR_RIGHT = 20.0, 300.0
"""Ends of a stage bar's track, in units of its drawing, which is 320 wide."""
LABEL_ROOM = 110.0
"""References nearer to each other than this share one label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    x: float
    label: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stage's value between its references; x grows from worse to better. Widths are never negative."""

    dot: float
    ticks: tuple[Tick, ...]
    done: tuple[float, float] | None
    """(x, width) from the worse reference to the value."""
    interval: tuple[float, float] | None
    share: str
    alt: str


def bar(row: StageRow) -> Bar | None:
    """The value between floor and ceiling; None where the value or both references are unknown, or all are equal."""
    references = [(side, x) for side, x in (("floor", row.floor), ("ceiling", row.ceiling)) if x is not None]
    if row.value is None or not references:
        return None
    shown = [x for x in (row.value, row.low, row.high, row.floor, row.ceiling) if x is not None]
    low, high = min(shown), max(shown)
    if low == high:
        return None
    falling = _falling(row)

    def place(x: float) -> float:
        share = (high - x) / (high - low) if falling else (x - low) / (high - low)
        return round(BAR_LEFT + share * (BAR_RIGHT - BAR_LEFT), 1)

    share = share_reached(row)
    values = [x for _, x in references]
    worse, dot = min(map(place, values)), place(row.value)
    interval = None
    if row.low is not None and row.high is not None:
        left, right = sorted((place(row.low), place(row.high)))
        interval = (left, round(right - left, 1))
    told = ", ".join(f"{side} {x:.4g}" for side, x in references)
    return Bar(
        dot=dot,
        ticks=_ticks([(place(x), f"{side} {x:.4g}") for side, x in references]),
        done=(worse, round(dot - worse, 1)) if len(references) == 2 and dot > worse else None,
        interval=interval,
        share="" if share is None else f"{share:.0%}",
        alt=f"value {row.value:.4g}, {told}" + ("" if share is None else f", {share:.0%} of the way"),
    )


def share_reached(row: StageRow) -> float | None:
    """(value − worse) / (better − worse) of the two references; None without both, or where they are equal."""
    if row.value is None or row.floor is None or row.ceiling is None or row.floor == row.ceiling:
        return None
    worse, better = sorted((row.floor, row.ceiling), reverse=_falling(row))
    return (row.value - worse) / (better - worse)


def _falling(row: StageRow) -> bool:
    """Whether less is better: as the metric's definition says, else as floor and ceiling stand to each other."""
    known = terms.better(row.metric)
    return known == "down" if known else None not in (row.floor, row.ceiling) and row.ceiling < row.floor


def _ticks(marks: list[tuple[float, str]]) -> tuple[Tick, ...]:
    if len(marks) == 2 and abs(marks[0][0] - marks[1][0]) < LABEL_ROOM:
        (first, first_label), (second, second_label) = sorted(marks)
        label = f"{first_label} · {second_label}"
        return (Tick(x=first, label="", anchor="middle"), Tick(x=second, label=label, anchor=_anchor(second)))
    return tuple(Tick(x=x, label=label, anchor=_anchor(x)) for x, label in marks)


def _anchor(x: float) -> str:
    return "start" if x < 90 else "end" if x > 230 else "middle"
