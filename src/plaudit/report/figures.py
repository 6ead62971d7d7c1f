"""Figures: pure functions from run records to plotly's dictionaries (`data`, `layout`). No drawing, no files.

The colours read on a light and on a dark page; what depends on the page's theme (ink, grid) is added by the page.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from plaudit.report import panels, terms
from plaudit.report.collect import RunData, Series
from plaudit.report.rollouts import Answer
from plaudit.stages import RUNS

MAX_POINTS = 2000
"""Per trace."""
SMOOTH_FROM = 120
"""Points from which on a moving mean is drawn over the raw curve."""
SMOOTH_SHARE = 0.04
"""Width of the moving mean, as a share of the points, up to `SMOOTH_AT_MOST` of them."""
SMOOTH_AT_MOST = 401
MARKERS_UP_TO = 40
"""Points up to which each is marked."""
BINS = 30

COLOURS = ("#3f74d8", "#e0762f", "#2b9c75", "#c04f8f", "#8a67d6", "#b58a1c", "#4aa3c7", "#a8664a")
REFERENCE = "#8b8f98"
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
BY_ITERATION = [[0.0, "#4c86ea"], [0.5, "#b05fc0"], [1.0, "#f0843c"]]
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif'

Points = tuple[list[float], list[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    title: str
    caption: str
    keys: tuple[str, ...]
    """Metrics and terms shown, for the links to their definitions."""
    plot: dict[str, Any]
    """`data` and `layout`, for plotly."""
    alt: str
    """The figure in a sentence, for those who can't see it."""
    wide: bool = False
    folded: bool = False


def curves(stage: str, runs: Sequence[RunData]) -> list[Figure]:
    """One figure per panel of the stage's metrics; several runs are laid over each other, told apart by name."""
    keys = [key for run in runs for key, series in run.series.items() if series.last is not None]
    return [_panel_figure(stage, runs, panel, taken) for panel, taken in panels.arrange(keys)]


def frontier(runs: Sequence[RunData]) -> Figure | None:
    """Score against √KL, a point per iteration, coloured by iteration; None where no run logged both.

    The mean KL may be negative by noise near the start: such points stand at 0.
    """
    pairs = [(run, *pair) for run in runs for pair in _FRONTIER_PAIRS if set(pair) <= run.series.keys()]
    names = list(dict.fromkeys(run.name for run, *_ in pairs))
    traces = [
        trace
        for run, score_key, kl_key in pairs
        if (trace := _frontier_trace(run, score_key, kl_key, names.index(run.name), named=len(names) > 1))
    ]
    if not traces:
        return None
    keys = dict.fromkeys(key for _, *pair in pairs for key in pair)
    steps = [step for trace in traces for step in trace["customdata"]]
    layout = bare_layout("√KL to the reference, √nats", "score units", legend=len(traces) > 1)
    layout["coloraxis"] = {
        "colorscale": BY_ITERATION,
        "cmin": min(steps),
        "cmax": max(max(steps), min(steps) + 1),
        "colorbar": {
            "title": {"text": "iteration", "side": "right"},
            "thickness": 12,
            "outlinewidth": 0,
            **_whole_ticks(min(steps), max(steps)),
        },
    }
    layout["xaxis"]["rangemode"] = "tozero"
    traces += [_legend_entry(trace) for trace in traces] if len(traces) > 1 else []
    return Figure(
        title="Score against √KL",
        caption="What the distance from the reference bought. Where the true score bends down while the judge's rises, "
        "the judge is being gamed.",
        keys=("√KL", *keys),
        plot={"data": traces, "layout": layout},
        alt=f"Score against the square root of the KL, {len(steps)} points.",
        wide=True,
    )


_FRONTIER_PAIRS = (
    ("ppo/score_over_responses", "ppo/kl_ref_over_responses"),
    ("ppo/true_score_over_responses", "ppo/kl_ref_over_responses"),
    ("ppo/held_out_score_over_responses", "ppo/held_out_kl_ref_over_responses"),
    ("eval/score_over_responses", "eval/kl_ref_over_responses"),
    ("eval/true_score_over_responses", "eval/kl_ref_over_responses"),
)


def distributions(runs: Sequence[RunData]) -> list[Figure]:
    """How scores were spread before and after, for each run and policy with answers; true scores too, where known."""
    made = []
    for run in runs:
        for policy, before, after, labels in _before_and_after(run):
            whose = " · ".join(part for part in ("", run.name if len(runs) > 1 else "", policy) if part)
            for title, key, read in (("Scores", "score", _score), ("True scores", "true score", _true_score)):
                sides = _known(before, read), _known(after, read)
                if all(sides):
                    made.append(_histogram(f"{title} before and after{' · ' * bool(whose)}{whose}", key, sides, labels))
    return made


def thin(xs: Sequence[float], ys: Sequence[float | None], limit: int = MAX_POINTS) -> Points:
    """At most `limit` (>= 4) points of a curve by ascending x, keeping both ends and the extremes of every stretch.

    The lowest and the highest of each stretch stay, in their places, so no spike disappears. A stretch without any
    number stays as one gap.
    """
    if len(xs) <= limit:
        return list(xs), list(ys)
    stretches = (limit - 2) // 2
    keep = {0, len(xs) - 1}
    inner = len(xs) - 2
    for stretch in range(stretches):
        indices = range(1 + stretch * inner // stretches, 1 + (stretch + 1) * inner // stretches)
        known = [index for index in indices if ys[index] is not None]
        keep |= {min(known, key=ys.__getitem__), max(known, key=ys.__getitem__)} if known else set(indices[:1])
    kept = sorted(keep)
    return [xs[index] for index in kept], [ys[index] for index in kept]


def smooth(ys: Sequence[float | None], width: int) -> list[float | None]:
    """Mean over the `width` (odd) neighbours around each point, fewer at the ends; gaps are left out and stay gaps."""
    known = np.array([y is not None for y in ys])
    values = np.array([0.0 if y is None else y for y in ys])
    window = np.ones(min(width, 2 * len(ys) - 1))
    half = len(window) // 2
    # "full" and cut by hand: "same" would give the window's length where it is longer than the curve.
    sums = np.convolve(values, window, "full")[half : half + len(ys)]
    counts = np.convolve(known, window, "full")[half : half + len(ys)]
    return [float(total / count) if here else None for here, total, count in zip(known, sums, counts, strict=True)]


def plain(text: str) -> str:
    """Text for plotly, which reads a few HTML tags in names: none of the text's own may count."""
    return html.escape(text, quote=False)


def _panel_figure(stage: str, runs: Sequence[RunData], panel: panels.Panel, keys: tuple[str, ...]) -> Figure:
    several = len(runs) > 1
    traces: list[dict[str, Any]] = []
    smoothed = 0
    names = _names(keys)
    for run_index, run in enumerate(runs):
        for key_index, key in enumerate(keys):
            series = run.series.get(key)
            if series is None or series.last is None:
                continue
            name = names[key] if len(keys) > 1 or not several else ""
            label = " · ".join(part for part in (run.name if several else "", name) if part)
            colour = COLOURS[(run_index if several else key_index) % len(COLOURS)]
            dash = DASHES[key_index % len(DASHES)] if several else "solid"
            width = _smoothing_width(len(series.steps))
            smoothed = max(smoothed, width)
            traces += _curve(series, label, colour, dash, width)
    named_traces = sum(trace.get("showlegend", True) for trace in traces)
    units = dict.fromkeys(terms.unit(key) for key in keys)
    layout = bare_layout(_step_name(stage), ", ".join(unit for unit in units if unit), legend=named_traces > 1)
    layout["hovermode"] = "x unified"
    if set(units) == {"fraction"}:
        layout["yaxis"] |= {"tickformat": ".3~p", "hoverformat": ".3~p"}
    levels = _levels(runs, keys)
    ends = min(trace["x"][0] for trace in traces), max(trace["x"][-1] for trace in traces)
    layout["xaxis"] |= _whole_ticks(*ends)
    layout["annotations"] = [_level_label(value, name, traces) for value, name in levels.items()]
    traces += [_level_line(value, name, ends) for value, name in levels.items()]
    caption = panel.caption + (f" Bold: mean over {smoothed} neighbouring points." if smoothed else "")
    return Figure(
        title=panel.title[:1].upper() + panel.title[1:],
        caption=caption.strip(),
        keys=keys,
        plot={"data": traces, "layout": layout},
        alt=f"{panel.title}. " + " ".join(_in_words(r, key, several) for r in runs for key in keys if key in r.series),
        folded=panel.folded,
    )


def _names(keys: Sequence[str]) -> dict[str, str]:
    """Short names for a legend; whole keys where the short ones are the same."""
    names = {key: panels.words(panels.short(key)) for key in keys}
    return names if len(set(names.values())) == len(keys) else {key: key for key in keys}


def _smoothing_width(points: int) -> int:
    """Odd; 0 where the curve has few points and needs none."""
    return 0 if points < SMOOTH_FROM else min(2 * max(2, round(points * SMOOTH_SHARE / 2)) + 1, SMOOTH_AT_MOST)


def _curve(series: Series, label: str, colour: str, dash: str, width: int) -> list[dict[str, Any]]:
    """The raw curve; where it is long, faint, with its moving mean over it."""
    xs, ys = thin(series.steps, series.values)
    known = sum(y is not None for y in series.values)
    raw = {
        "type": "scatter",
        "mode": "lines+markers" if known <= MARKERS_UP_TO else "lines",
        "x": xs,
        "y": rounded(ys),
        "name": plain(label),
        "legendgroup": plain(label),
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"size": 5},
    }
    if not width:
        return [raw]
    xs, ys = thin(series.steps, smooth(series.values, width))
    mean = {**raw, "x": xs, "y": rounded(ys), "hoverinfo": "skip"}
    faint = {**raw, "line": {"color": colour, "width": 1}, "opacity": 0.35, "showlegend": False}
    return [faint, mean]


def _levels(runs: Sequence[RunData], keys: Sequence[str]) -> dict[float, str]:
    """Value -> name of the levels known for the panel's metrics; what stands at one height shares its line."""
    bases = {panels.base(key) for key in keys}
    names: dict[float, dict[str, None]] = {}
    for run in runs:
        for reference in run.references:
            if panels.base(reference.metric) in bases:
                names.setdefault(float(f"{reference.value:.4g}"), {})[reference.label] = None
    return {value: f"{', '.join(labels)}: {value:.4g}" for value, labels in names.items()}


def _level_line(value: float, name: str, ends: tuple[float, float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(ends),
        "y": [value, value],
        "name": plain(name),
        "showlegend": False,
        "hoverinfo": "skip",
        "line": {"color": REFERENCE, "width": 1.5, "dash": "dash"},
    }


def _level_label(value: float, name: str, traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stands at the end where the curves leave more room."""

    def room(end: int) -> float:
        return min((abs(y - value) for trace in traces if (y := trace["y"][end]) is not None), default=0.0)

    at_start = room(0) > room(-1)
    return {
        "text": plain(name),
        "xref": "paper",
        "x": 0.01 if at_start else 0.99,
        "xanchor": "left" if at_start else "right",
        "y": value,
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
        "borderpad": 1,
    }


def _in_words(run: RunData, key: str, several: bool) -> str:
    series = run.series[key]
    known = [(step, value) for step, value in zip(series.steps, series.values, strict=True) if value is not None]
    if not known:
        return ""
    (first_step, first), (last_step, last) = known[0], known[-1]
    name = panels.words(panels.short(key)) + (f" of {run.name}" if several else "")
    return f"{name}: {first:.4g} at step {first_step}, {last:.4g} at step {last_step}."


def _frontier_trace(run: RunData, score_key: str, kl_key: str, run_index: int, *, named: bool) -> dict[str, Any] | None:
    scores, kls = run.series[score_key], run.series[kl_key]
    kl_at = dict(zip(kls.steps, kls.values, strict=True))
    points = [
        (step, math.sqrt(max(kl, 0.0)), score)
        for step, score in zip(scores.steps, scores.values, strict=True)
        if score is not None and (kl := kl_at.get(step)) is not None
    ]
    if not points:
        return None
    kind = panels.words(panels.short(score_key))
    symbol, style = _FRONTIER_SYMBOLS.get(kind, ("circle", ""))
    points = _every(points, MAX_POINTS)
    steps, roots, values = zip(*points, strict=True)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) <= 200 else "markers",
        "x": rounded(roots),
        "y": rounded(values),
        "customdata": list(steps),
        "name": plain(f"{run.name} · {kind}" if named else kind),
        "showlegend": False,
        "cliponaxis": False,
        "line": {"color": "rgba(139,143,152,0.45)", "width": 0.7},
        "marker": {
            "size": 8,
            "symbol": SYMBOLS[run_index % len(SYMBOLS)] + style if named else symbol,
            "color": list(steps),
            "coloraxis": "coloraxis",
        },
        "hovertemplate": "iteration %{customdata}<br>score %{y:.4~g}<br>√KL %{x:.4~g}",
    }


def _legend_entry(trace: dict[str, Any]) -> dict[str, Any]:
    """A trace without points: plotly gives a marker coloured by number no colour of its own in the legend."""
    marker = {"symbol": trace["marker"]["symbol"], "size": 8, "color": REFERENCE}
    return {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "name": trace["name"], "marker": marker}


# What marks a kind of score: alone in the figure, and added to the run's own symbol.
_FRONTIER_SYMBOLS = {"true score": ("diamond-open", "-open"), "held-out score": ("square", "-dot")}


def _every(points: list[tuple[int, float, float]], limit: int) -> list[tuple[int, float, float]]:
    """At most `limit` of the points: every n-th, and always the last, the lowest and the highest."""
    if len(points) <= limit:
        return points
    stride = math.ceil(len(points) / (limit - 3))
    extremes = [points[-1], min(points, key=lambda p: p[2]), max(points, key=lambda p: p[2])]
    return sorted({*points[::stride], *extremes})


def _score(answer: Answer) -> float | None:
    return answer.score


def _true_score(answer: Answer) -> float | None:
    return answer.true_score


def _known(answers: Sequence[Answer], read: Callable[[Answer], float | None]) -> list[float]:
    return [score for answer in answers if (score := read(answer)) is not None]


def _before_and_after(run: RunData) -> list[tuple[str, list[Answer], list[Answer], tuple[str, str]]]:
    """(policy, answers before, answers after, what to call the two); from samples, else from the outermost rollouts."""
    if run.samples:
        policies = dict.fromkeys(sample.policy for sample in run.samples)
        of = {policy: [sample for sample in run.samples if sample.policy == policy] for policy in policies}
        return [(p, [s.before for s in of[p]], [s.after for s in of[p]], ("before", "after")) for p in policies]
    if run.first is None or run.last is None:
        return []
    early, late = ([rollout.answer for rollout in each.rollouts] for each in (run.first, run.last))
    return [("", early, late, (f"iteration {run.first.number}", f"iteration {run.last.number}"))]


def _histogram(title: str, key: str, sides: tuple[list[float], list[float]], labels: tuple[str, str]) -> Figure:
    low, high = min(map(min, sides)), max(map(max, sides))
    width = high / BINS - low / BINS or 1.0
    centres = [low + (index + 0.5) * width for index in range(BINS)]
    traces = []
    for scores, label, colour in zip(sides, labels, (REFERENCE, COLOURS[0]), strict=True):
        counts = [0] * BINS
        for score in scores:
            counts[min(int(score / width - low / width), BINS - 1)] += 1
        traces.append(
            {
                "type": "bar",
                "x": rounded(centres),
                "y": [count / len(scores) for count in counts],
                "width": width,
                "name": f"{label}: mean {math.fsum(score / len(scores) for score in scores):.3g}, n = {len(scores)}",
                "marker": {"color": colour, "line": {"width": 0}},
                "opacity": 0.6,
                "hovertemplate": f"{label}: %{{y:.1%}} of answers<extra></extra>",
            }
        )
    layout = bare_layout(f"{key}, score units", "share of answers", legend=True)
    layout["yaxis"]["tickformat"] = ".0%"
    layout |= {"barmode": "overlay", "bargap": 0}
    alt = f"{title}: {' and '.join(trace['name'] for trace in traces)}."
    return Figure(title=title, caption="", keys=(key,), plot={"data": traces, "layout": layout}, alt=alt)


def bare_layout(x_title: str, y_title: str, *, legend: bool) -> dict[str, Any]:
    axis = {"automargin": True, "zeroline": False, "title": {"standoff": 8, "font": {"size": 12}}}
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12},
        "margin": {"l": 48, "r": 16, "t": 12, "b": 40},
        "hovermode": "closest",
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
        "xaxis": {**axis, "title": {**axis["title"], "text": x_title}},
        "yaxis": {**axis, "title": {**axis["title"], "text": y_title}, "hoverformat": ".4~g"},
    }


def _whole_ticks(low: float, high: float) -> dict[str, int]:
    """A short axis of steps would be divided between them."""
    return {"dtick": 1} if high - low < 8 else {}


def _step_name(stage: str) -> str:
    return RUNS[stage].counts if stage in RUNS else "step"


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Six significant digits: more can't be seen and would be half of the file."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.6g}") for value in values]
