"""How scores and lengths were spread before and after."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from plaudit.report.collect import RunData
from plaudit.report.figures import COLOURS, REFERENCE, Figure, bare_layout, rounded
from plaudit.report.rollouts import CUT, Answer
from plaudit.report.samples import by_policy
from plaudit.telemetry.numbers import number, percent

BINS = 30

Sides = tuple[list[Answer], list[Answer]]


def distributions(runs: Sequence[RunData]) -> list[Figure]:
    """Before and after, for each run and policy with answers: scores and lengths."""
    figures: list[Figure] = []
    for run in runs:
        for policy, sides, labels in _before_and_after(run):
            whose = [part for part in (run.name if len(runs) > 1 else "", policy) if part]
            for title, key, unit, read in _kinds(sides):
                values = tuple([value for answer in side if (value := read(answer)) is not None] for side in sides)
                if all(values):
                    caption = _cut(sides, labels) if key == "length" else ""
                    whole = " · ".join([f"{title} before and after", *whose])
                    figures.append(_histogram(whole, caption, key, unit, values, labels))
    return figures


def _kinds(sides: Sides) -> list[tuple[str, str, str, Callable[[Answer], float | None]]]:
    """(title, term, unit, how to read it). Lengths in tokens where every answer has them, else in characters."""
    tokens = all(answer.length is not None for side in sides for answer in side)
    return [
        ("Scores", "score", "score units", lambda answer: answer.score),
        ("Lengths", "length", "tokens" if tokens else "characters", lambda a: a.length if tokens else len(a.text)),
    ]


def _before_and_after(run: RunData) -> list[tuple[str, Sides, tuple[str, str]]]:
    """(policy, answers before and after, what to call the two); from samples, else from the outermost rollouts."""
    if run.samples:
        of = by_policy(run.samples)
        return [(p, ([s.before for s in of[p]], [s.after for s in of[p]]), ("before", "after")) for p in of]
    if run.first is None or run.last is None:
        return []
    early, late = ([rollout.answer for rollout in each.rollouts] for each in (run.first, run.last))
    return [("", (early, late), (f"iteration {run.first.number}", f"iteration {run.last.number}"))]


def _histogram(
    title: str, caption: str, key: str, unit: str, sides: tuple[list[float], ...], labels: tuple[str, str]
) -> Figure:
    low, high = min(map(min, sides)), max(map(max, sides))
    width = high / BINS - low / BINS or 1.0
    if key == "length":  # whole numbers: a bin takes the same number of them as its neighbour
        width = math.ceil(width)
        low -= 0.5
    centres = [low + (index + 0.5) * width for index in range(BINS)]
    traces: list[dict[str, Any]] = []
    for values, label, colour in zip(sides, labels, (REFERENCE, COLOURS[0]), strict=True):
        counts = [0] * BINS
        for value in values:
            counts[min(int(value / width - low / width), BINS - 1)] += 1
        mean = math.fsum(value / len(values) for value in values)
        traces.append(
            {
                "type": "bar",
                "x": rounded(centres),
                "y": [count / len(values) for count in counts],
                "width": width,
                "name": f"{label}: mean {number(mean, 3)}, n = {len(values)}",
                "marker": {"color": colour, "line": {"width": 0}},
                "opacity": 0.6,
                "hovertemplate": f"{label}: %{{y:.1%}} of answers<extra></extra>",
            }
        )
    layout = bare_layout(f"{key}, {unit}", "share of answers", legend=True)
    layout["yaxis"]["tickformat"] = ".0%"
    layout |= {"barmode": "overlay", "bargap": 0}
    alt = f"{title}: {' and '.join(trace['name'] for trace in traces)}."
    return Figure(title=title, caption=caption, keys=(key,), draw=lambda: {"data": traces, "layout": layout}, alt=alt)


def _cut(sides: Sides, labels: tuple[str, str]) -> str:
    """How many answers the limit cut, on both sides; "" where no file says how answers ended."""
    shares: list[str] = []
    for side, label in zip(sides, labels, strict=True):
        ended = [answer.finish_reason for answer in side if answer.finish_reason]
        shares += [f"{label} {percent(ended.count(CUT) / len(ended))}"] if ended else []
    return f"Cut by the limit: {', '.join(shares)}." if shares else ""
