"""Figures of `eval reward`: reliability, margins, accuracy by subset and by length. From summary.json to plotly."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plaudit.report.collect import RunData
from plaudit.report.figures import COLOURS, REFERENCE, Figure, bare_layout, plain, rounded
from plaudit.report.reading import finite

Judges = list[tuple[str, Mapping[str, Any]]]


def measured(runs: Sequence[RunData]) -> list[Figure]:
    """All figures of the runs that measured judges on pairs; none for others. Damaged numbers are left out."""
    judges = [
        (f"{run.name} · {name}" if len(runs) > 1 else name, pairs)
        for run in runs
        for name, judge in _mapping(_mapping(run.summary.get("reward_eval")).get("judges")).items()
        if (pairs := _mapping(_mapping(judge).get("pairs")))
    ]
    figures = [_reliability(judges), _by_subset(judges), _by_length(judges)]
    return [figure for figure in (*figures, *_margins(judges)) if figure is not None]


def _reliability(judges: Judges) -> Figure | None:
    traces = []
    for index, (name, pairs) in enumerate(judges):
        calibration = _mapping(pairs.get("calibration"))
        points = [
            (x, y, count)
            for one in _list(calibration.get("bins"))
            if None not in (x := finite(_mapping(one).get("confidence")), y := finite(_mapping(one).get("accuracy")))
            and (count := finite(_mapping(one).get("pairs")))
        ]
        if not points:
            continue
        xs, ys, counts = zip(*points, strict=True)
        ece = finite(calibration.get("ece"))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": rounded(xs),
                "y": rounded(ys),
                "customdata": list(counts),
                "name": plain(name) + ("" if ece is None else f": error {ece:.3f}"),
                "line": {"color": COLOURS[index % len(COLOURS)], "width": 1.5},
                "marker": {"size": [6 + 14 * math.sqrt(count / max(counts)) for count in counts], "opacity": 0.75},
                "hovertemplate": "says %{x:.3f}, is right in %{y:.3f} of %{customdata:.0f} pairs",
            }
        )
    if not traces:
        return None
    alt = "Reliability: " + "; ".join(trace["name"] for trace in traces) + "."
    ideal = {
        "type": "scatter",
        "mode": "lines",
        "x": [0.5, 1.0],
        "y": [0.5, 1.0],
        "name": "calibrated",
        "hoverinfo": "skip",
        "line": {"color": REFERENCE, "width": 1.5, "dash": "dash"},
    }
    layout = bare_layout("P(favourite is better) = σ(score difference)", "share in which it is", legend=True)
    layout["xaxis"]["range"], layout["yaxis"]["range"] = [0.48, 1.02], [-0.02, 1.02]
    return Figure(
        title="Reliability",
        caption="Below the dashed line a judge is surer than it is right. A larger mark is a bin of more pairs. A "
        "rule's scores have no scale, nor has a probability: such a curve only says how far a unit of it is from a "
        "nat of preference.",
        keys=(),
        plot={"data": [ideal, *traces], "layout": layout},
        alt=alt,
    )


def _margins(judges: Judges) -> Iterator[Figure]:
    for index, (name, pairs) in enumerate(judges):
        margins = _mapping(pairs.get("margins"))
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
        zero = {"color": REFERENCE, "width": 1.5, "dash": "dash"}
        layout |= {
            "bargap": 0,
            "shapes": [{"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": zero}],
        }
        mean, std = finite(margins.get("mean")), finite(margins.get("std"))
        told = (
            "" if mean is None or std is None else f"Mean {mean:.3g}, standard deviation {std:.3g}. ".replace("-", "−")
        )
        yield Figure(
            title=f"Margins · {plain(name)}",
            caption=f"{told}Left of the dashed line the judge is wrong.",
            keys=(),
            plot={"data": [trace], "layout": layout},
            alt=f"Distribution of the margins of {name}. {told}",
        )


def _by_subset(judges: Judges) -> Figure | None:
    def parts(pairs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        subsets = _mapping(_mapping(pairs.get("accuracy")).get("subsets"))
        return {name or "(none)": {**_mapping(s), "value": _mapping(s).get("accuracy")} for name, s in subsets.items()}

    caption = "With 95 % intervals; the dashed line is a coin."
    found = [(name, parts(pairs)) for name, pairs in judges]
    if all(len(subsets) < 2 for _, subsets in found):
        return None
    return _dots("Accuracy by subset", caption, found)


def _by_length(judges: Judges) -> Figure | None:
    def parts(pairs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        length = _mapping(pairs.get("length"))
        labels = {"longer": "better answer is longer", "shorter": "better answer is shorter"}
        return {
            label: _mapping(length[f"accuracy_better_is_{which}"])
            for which, label in labels.items()
            if f"accuracy_better_is_{which}" in length
        }

    caption = "A judge that likes length is right above and wrong below; without such a bias the two are alike."
    return _dots("Accuracy by length", caption, [(name, parts(pairs)) for name, pairs in judges])


def _dots(title: str, caption: str, judges: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]]) -> Figure | None:
    """Shares with intervals, one row a part, the judges side by side in each."""
    rows = list(dict.fromkeys(part for _, parts in judges for part in parts))
    traces = []
    for index, (name, parts) in enumerate(judges):
        shares = [
            (row, value, finite(part.get("low")), finite(part.get("high")))
            for row, part in parts.items()
            if (value := finite(part.get("value"))) is not None
        ]
        if not shares:
            continue
        middle = (index - (len(judges) - 1) / 2) * 0.6 / len(judges)
        up = [(high if high is not None else value) - value for _, value, _, high in shares]
        down = [value - (low if low is not None else value) for _, value, low, _ in shares]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": rounded([value for _, value, _, _ in shares]),
                "y": [rows.index(row) + middle for row, *_ in shares],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": rounded(up),
                    "arrayminus": rounded(down),
                    "thickness": 1.2,
                },
                "name": plain(name),
                "marker": {"size": 8, "color": COLOURS[index % len(COLOURS)]},
                "hovertemplate": "%{x:.3f}",
            }
        )
    if not traces:
        return None
    layout = bare_layout("share of pairs", "", legend=len(traces) > 1)
    layout["xaxis"]["range"] = [-0.02, 1.02]
    layout["yaxis"] |= {
        "tickmode": "array",
        "tickvals": list(range(len(rows))),
        "ticktext": [plain(row) for row in rows],
        "range": [len(rows) - 0.5, -0.5],
    }
    coin = {"color": REFERENCE, "width": 1.5, "dash": "dash"}
    layout["shapes"] = [{"type": "line", "x0": 0.5, "x1": 0.5, "yref": "paper", "y0": 0, "y1": 1, "line": coin}]
    return Figure(
        title=title, caption=caption, keys=(), plot={"data": traces, "layout": layout}, alt=f"{title}. {caption}"
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
