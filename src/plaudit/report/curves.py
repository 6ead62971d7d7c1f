"""The curves of a stage: one figure a panel of the register, several runs laid over each other."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from plaudit.report import measures
from plaudit.report.collect import RunData
from plaudit.report.columns import Series
from plaudit.report.figures import (
    COLOURS,
    ILL,
    MAX_POINTS,
    Figure,
    bare_layout,
    dashed,
    plain,
    rounded,
    thin,
    whole_ticks,
)
from plaudit.stages import RUNS
from plaudit.telemetry.numbers import number
from plaudit.telemetry.register import Panel

SMOOTH_FROM = 120
"""Points from which on a moving mean is drawn over the raw curve."""
SMOOTH_SHARE = 0.04
"""Width of the moving mean, as a share of the points, up to `SMOOTH_AT_MOST` of them."""
SMOOTH_AT_MOST = 401
MARKERS_UP_TO = 40
"""Points up to which each is marked."""
DECADES = 2
"""Powers of ten that a panel's numbers span at least where they are drawn on a logarithmic axis."""
MAX_OF_FIGURE, FEWEST = 16_000, 120
"""Points of a figure's curves together, and of a curve at least."""
DASHES = ("solid", "dash", "dot", "dashdot")


def curves(runs: Sequence[RunData], everyone: Sequence[RunData]) -> list[Figure]:
    """One figure a panel. `everyone`: all runs of the report, in whose order traces name theirs (`meta`), for the
    page's switch of the axis."""
    keys = [key for run in runs for key, series in run.series.items() if series.last is not None]
    return [_panel_figure(runs, everyone, panel, inside) for panel, inside in measures.arrange(keys)]


def smooth(ys: Sequence[float | None], width: int) -> list[float | None]:
    """Mean over the `width` (odd) neighbours around each point, fewer at the ends; gaps are left out and stay gaps."""
    means = moving_mean(np.array([math.nan if y is None else y for y in ys]), width)
    return [None if y is None else float(mean) for y, mean in zip(ys, means, strict=True)]


def moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The same of an array in which gaps are NaN."""
    known = ~np.isnan(values)
    window = np.ones(min(width, 2 * len(values) - 1))
    half = len(window) // 2
    # "full" and cut by hand: "same" would give the window's length where it is longer than the curve.
    sums = np.convolve(np.where(known, values, 0.0), window, "full")[half : half + len(values)]
    counts = np.convolve(known, window, "full")[half : half + len(values)]
    return np.where(known, sums / np.maximum(counts, 1), math.nan)


def _panel_figure(runs: Sequence[RunData], everyone: Sequence[RunData], panel: Panel, keys: tuple[str, ...]) -> Figure:
    widths = [_width(run.series[key]) for run in runs for key in keys if key in run.series]
    smoothed = max(widths, default=0)
    caption = panel.caption + (f" Bold: mean over {smoothed} neighbouring points." if smoothed else "")
    several = len(runs) > 1
    return Figure(
        title=panel.title[:1].upper() + panel.title[1:],
        caption=caption.strip(),
        keys=keys,
        draw=partial(_plot, runs, everyone, keys),
        alt=f"{panel.title}. " + " ".join(_in_words(r, key, several) for r in runs for key in keys if key in r.series),
        folded=panel.folded,
    )


def _plot(runs: Sequence[RunData], everyone: Sequence[RunData], keys: tuple[str, ...]) -> dict[str, Any]:
    several = len(runs) > 1
    points = max(FEWEST, min(MAX_POINTS, MAX_OF_FIGURE // (len(runs) * len(keys))))
    traces: list[dict[str, Any]] = []
    for run_index, run in enumerate(runs):
        for key_index, key in enumerate(keys):
            series = run.series.get(key)
            if series is None or series.last is None:
                continue
            name = measures.measure(key).title if len(keys) > 1 or not several else ""
            label = " · ".join(part for part in (run.name if several else "", name) if part)
            colour = COLOURS[(run_index if several else key_index) % len(COLOURS)]
            dash = DASHES[key_index % len(DASHES)] if several else "solid"
            meta = next(index for index, other in enumerate(everyone) if other is run)
            drawn = [*_curve(series, label, colour, dash, points), *_marks(run, key)]
            traces += [{**trace, "meta": meta} for trace in drawn]
    return {"data": traces, "layout": _layout(runs, keys, traces, _levels(runs, keys))}


def _layout(
    runs: Sequence[RunData], keys: Sequence[str], traces: Sequence[dict[str, Any]], levels: dict[float, str]
) -> dict[str, Any]:
    units = dict.fromkeys(measures.measure(key).unit for key in keys)
    named = sum(trace.get("showlegend", True) for trace in traces)
    counted = RUNS[runs[0].stage].counts if runs[0].stage in RUNS else "step"
    layout = bare_layout(counted, ", ".join(filter(None, units)), legend=named > 1)
    layout["hovermode"] = "x unified"
    layout["xaxis"] |= whole_ticks(min(trace["x"][0] for trace in traces), max(trace["x"][-1] for trace in traces))
    logarithmic = spans_decades([y for trace in traces for y in trace["y"] if y is not None] + list(levels))
    if logarithmic:
        layout["yaxis"] |= {"type": "log", "exponentformat": "power", "dtick": 1}
    elif all(map(measures.is_share, units)):
        layout["yaxis"] |= {"tickformat": ".3~p", "hoverformat": ".3~p"}
    layout["shapes"] = [dashed((0, value, 1, value), xref="paper") for value in levels]  # whatever the axis counts
    layout["annotations"] = [_level_label(value, name, traces, logarithmic) for value, name in levels.items()]
    return layout


def spans_decades(values: Sequence[float]) -> bool:
    """Whether a linear axis would press most of the values, all of them positive, into its lowest twentieth while the
    whole range spans `DECADES` powers of ten."""
    if not values or min(values) <= 0:
        return False
    return max(values) / min(values) >= 10**DECADES and float(np.median(values)) < max(values) / 20


def smoothing_width(points: int) -> int:
    """Odd; 0 where the curve has few points and needs none."""
    return 0 if points < SMOOTH_FROM else min(2 * max(2, round(points * SMOOTH_SHARE / 2)) + 1, SMOOTH_AT_MOST)


def _width(series: Series) -> int:
    if series.last is None:
        return 0
    return series.width if series.means else smoothing_width(len(series.steps))


def _curve(series: Series, label: str, colour: str, dash: str, points: int) -> list[dict[str, Any]]:
    """The raw curve; where it is long, faint, with its moving mean over it."""
    xs, ys = thin(series.steps, series.values, points)
    raw = {
        "type": "scatter",
        "mode": "lines+markers" if len(series.known) <= MARKERS_UP_TO else "lines",
        "x": xs,
        "y": rounded(ys),
        "name": plain(label),
        "legendgroup": plain(label),
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"size": 5},
    }
    if not (width := _width(series)):
        return [raw]
    xs, ys = thin(series.steps, series.means or smooth(series.values, width), points)
    mean = {**raw, "x": xs, "y": rounded(ys), "hoverinfo": "skip"}
    faint = {**raw, "line": {"color": colour, "width": 1}, "opacity": 0.35, "showlegend": False}
    return [faint, mean]


def _marks(run: RunData, key: str) -> list[dict[str, Any]]:
    """Where a rule of health fired on the curve."""
    at = dict(run.series[key].known)
    fired = [one for one in run.health or () if one.key == key and one.since in at]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [one.since],
            "y": rounded([at[one.since or 0]]),
            "name": plain(f"{one.level}: {one.rule}"),
            "marker": {"size": 11, "symbol": "x-thin", "line": {"width": 3, "color": ILL}},
            "hovertemplate": plain(one.says) + "<extra></extra>",
        }
        for one in fired
    ]


def _levels(runs: Sequence[RunData], keys: Sequence[str]) -> dict[float, str]:
    """Height -> names of the floors, ceilings and other judges known for the panel's curves.

    Only a run's own results count: what another stage found on other prompts is no bound of what is drawn.
    """
    names: dict[float, dict[str, None]] = {}
    units: dict[float, str] = {}
    for run in runs:
        for result in run.results:
            about = measures.measure(result.measure)
            if about.curve not in keys or about.curve not in run.series:
                continue
            ends = (("floor", result.floor), ("ceiling", result.ceiling))
            for label, value in ((result.subject, result.value),) if result.role else ends:
                if value is not None:
                    height = float(f"{value:.4g}")
                    names.setdefault(height, {})[label] = None
                    units[height] = about.unit
    return {height: f"{', '.join(labels)}: {measures.shown(height, units[height])}" for height, labels in names.items()}


def _level_label(value: float, name: str, traces: Sequence[dict[str, Any]], logarithmic: bool) -> dict[str, Any]:
    """Stands at the end where the curves leave more room."""

    def room(end: int) -> float:
        return min((abs(y - value) for trace in traces if (y := trace["y"][end]) is not None), default=0.0)

    at_start = room(0) > room(-1)
    return {
        "text": plain(name),
        "xref": "paper",
        "x": 0.01 if at_start else 0.99,
        "xanchor": "left" if at_start else "right",
        "y": math.log10(value) if logarithmic else value,  # plotly wants exponents here, but not in shapes
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
        "borderpad": 1,
    }


def _in_words(run: RunData, key: str, several: bool) -> str:
    known = run.series[key].known
    if not known:
        return ""
    (first_step, first), (last_step, last) = known[0], known[-1]
    name = measures.measure(key).title + (f" of {run.name}" if several else "")
    return f"{name}: {number(first)} at step {first_step}, {number(last)} at step {last_step}."
