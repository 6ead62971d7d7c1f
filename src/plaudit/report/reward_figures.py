"""Figures of measured judges that no single number tells: reliability and margins. From summary.json to plotly."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from plaudit.report.collect import RunData
from plaudit.report.figures import COLOURS, Figure, bare_layout, dashed, plain, rounded
from plaudit.report.reading import finite
from plaudit.telemetry.numbers import number

BLOCK = "judges"
"""Where summary.json keeps what these figures are drawn from."""
Judges = list[tuple[str, Mapping[str, Any]]]


def measured(runs: Sequence[RunData]) -> list[Figure]:
    """All figures of the runs that measured judges on pairs; none for others. Damaged numbers are left out."""
    judges = [
        (f"{run.name} · {name}" if len(runs) > 1 else name, _mapping(judge))
        for run in runs
        for name, judge in _mapping(run.summary.get(BLOCK)).items()
    ]
    return [figure for figure in (_reliability(judges), *_margins(judges)) if figure is not None]


def _reliability(judges: Judges) -> Figure | None:
    traces: list[dict[str, Any]] = []
    for index, (name, judge) in enumerate(judges):
        bins = [_mapping(each) for each in _list(judge.get("reliability"))]
        points = [tuple(finite(each.get(what)) for what in ("confidence", "accuracy", "pairs")) for each in bins]
        points = [point for point in points if None not in point and point[2]]
        if not points:
            continue
        xs, ys, counts = zip(*points, strict=True)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": rounded(xs),
                "y": rounded(ys),
                "customdata": list(counts),
                "name": plain(name),
                "line": {"color": COLOURS[index % len(COLOURS)], "width": 1.5},
                "marker": {"size": [6 + 14 * math.sqrt(count / max(counts)) for count in counts], "opacity": 0.75},
                "hovertemplate": "says %{x:.3f}, is right in %{y:.3f} of %{customdata:.0f} pairs",
            }
        )
    if not traces:
        return None
    layout = bare_layout("P(favourite is better) = σ(score difference)", "share in which it is", legend=True)
    layout["shapes"] = [dashed((0.5, 0.5, 1.0, 1.0))]
    layout["xaxis"]["range"], layout["yaxis"]["range"] = [0.48, 1.02], [-0.02, 1.02]
    return Figure(
        title="Reliability",
        caption="Below the dashed line a judge is surer than it is right. A larger mark is a bin of more pairs. A "
        "rule's scores have no scale, nor has a probability: such a curve only says how far a unit of it is from a "
        "nat of preference.",
        keys=(),
        draw=lambda: {"data": traces, "layout": layout},
        alt=f"Reliability: {'; '.join(trace['name'] for trace in traces)}.",
    )


def _margins(judges: Judges) -> Iterator[Figure]:
    for index, (name, judge) in enumerate(judges):
        margins = _mapping(judge.get("margins"))
        histogram = _mapping(margins.get("histogram"))
        low, width = finite(histogram.get("low")), finite(histogram.get("width"))
        counts = [finite(count) or 0.0 for count in _list(histogram.get("counts"))]
        if low is None or not width or not sum(counts):
            continue
        trace = {
            "type": "bar",
            "x": rounded([low + (i + 0.5) * width for i in range(len(counts))]),
            "y": rounded([count / sum(counts) for count in counts]),
            "width": width,
            "marker": {"color": COLOURS[index % len(COLOURS)], "line": {"width": 0}},
            "hovertemplate": "%{y:.1%} of pairs<extra></extra>",
        }
        layout = bare_layout("score of the better answer less that of the other", "share of pairs", legend=False)
        layout["yaxis"]["tickformat"] = ".0%"
        layout |= {"bargap": 0, "shapes": [dashed((0, 0, 0, 1), yref="paper")]}
        mean, std = finite(margins.get("mean")), finite(margins.get("std"))
        known = mean is not None and std is not None
        moments = f"Mean {number(mean, 3)}, standard deviation {number(std, 3)}. " if known else ""
        yield Figure(
            title=f"Margins · {plain(name)}",
            caption=f"{moments}Left of the dashed line the judge is wrong.",
            keys=(),
            draw=partial(dict, data=[trace], layout=layout),
            alt=f"Distribution of the margins of {name}. {moments}",
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
