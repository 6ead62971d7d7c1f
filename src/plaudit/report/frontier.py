"""Score against distance: what each unit of KL from the reference bought."""

import math
from collections.abc import Sequence
from typing import Any

from plaudit.report.collect import RunData
from plaudit.report.figures import REFERENCE, Figure, bare_layout, plain, rounded, thin, whole_ticks

SCORE, DISTANCE = "score_over_responses", "kl_ref_over_responses"
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
BY_ITERATION = [[0.0, "#4c86ea"], [0.5, "#b05fc0"], [1.0, "#f0843c"]]


def frontier(runs: Sequence[RunData]) -> Figure | None:
    """Score against √KL, a point per iteration, coloured by iteration; None where no run logged both.

    The mean KL may be negative by noise near the start: such points stand at 0.
    """
    measured = [run for run in runs if {SCORE, DISTANCE} <= run.series.keys()]
    traces = [trace for index, run in enumerate(measured) if (trace := _trace(run, SYMBOLS[index % len(SYMBOLS)]))]
    if not traces:
        return None
    steps = [step for trace in traces for step in trace["customdata"]]
    layout = bare_layout("√KL to the reference, √nats", "score units", legend=len(traces) > 1)
    low, high = min(steps), max(steps)
    title = {"text": "iteration", "side": "right"}
    bar = {"title": title, "thickness": 12, "outlinewidth": 0, **whole_ticks(low, high)}
    layout["coloraxis"] = {"colorscale": BY_ITERATION, "cmin": low, "cmax": max(high, low + 1), "colorbar": bar}
    layout["xaxis"]["rangemode"] = "tozero"
    traces += [_legend_entry(trace) for trace in traces] if len(traces) > 1 else []
    return Figure(
        title="Score against √KL",
        caption="What the distance from the reference bought. Where it buys less and less, the judge is near its end, "
        "or being gamed: a judge that training never saw tells which.",
        keys=("√KL", SCORE, DISTANCE),
        draw=lambda: {"data": traces, "layout": layout},
        alt=f"Score against the square root of the KL, {len(steps)} points.",
        wide=True,
    )


def _trace(run: RunData, symbol: str) -> dict[str, Any] | None:
    root_at = {float(step): math.sqrt(max(x, 0.0)) for step, x in run.series[DISTANCE].known}
    score_at = {float(step): y for step, y in run.series[SCORE].known}
    both = [step for step in score_at if step in root_at]
    if not both:
        return None
    steps, values = thin(both, [score_at[step] for step in both])
    roots = [root_at[step] for step in steps]
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(steps) <= 200 else "markers",
        "x": rounded(roots),
        "y": rounded(values),
        "customdata": list(steps),
        "name": plain(run.name),
        "showlegend": False,
        "cliponaxis": False,
        "line": {"color": "rgba(139,143,152,0.45)", "width": 0.7},
        "marker": {"size": 8, "symbol": symbol, "color": list(steps), "coloraxis": "coloraxis"},
        "hovertemplate": "iteration %{customdata}<br>score %{y:.4~g}<br>√KL %{x:.4~g}",
    }


def _legend_entry(trace: dict[str, Any]) -> dict[str, Any]:
    """A trace without points: plotly gives a marker coloured by number no colour of its own in the legend."""
    marker = {"symbol": trace["marker"]["symbol"], "size": 8, "color": REFERENCE}
    return {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "name": trace["name"], "marker": marker}
