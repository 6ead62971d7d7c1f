"""What every figure is made of: plotly's dictionaries (`data`, `layout`), colours, thinning. No drawing, no files.

The colours read on a light and on a dark page; what depends on the page's theme (ink, grid) is added by the page.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_POINTS = 2000
"""Per trace."""
COLOURS = ("#3f74d8", "#e0762f", "#2b9c75", "#c04f8f", "#8a67d6", "#b58a1c", "#4aa3c7", "#a8664a")
REFERENCE = "#8b8f98"
ILL = "#d03b3b"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif'

Points = tuple[list[float], list[float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    title: str
    caption: str
    keys: tuple[str, ...]
    """Metrics and terms shown, for the links to their definitions."""
    draw: Callable[[], dict[str, Any]]
    """Makes `plot`, when somebody looks at the figure."""
    alt: str
    """The figure in a sentence, for those who can't see it."""
    wide: bool = False
    folded: bool = False

    @property
    def plot(self) -> dict[str, Any]:
        """`data` and `layout`, for plotly."""
        return self.draw()


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
        inside = range(1 + stretch * inner // stretches, 1 + (stretch + 1) * inner // stretches)
        known = [(y, index) for index in inside if (y := ys[index]) is not None]
        keep |= {min(known)[1], max(known)[1]} if known else set(inside[:1])
    indices = sorted(keep)
    return [xs[index] for index in indices], [ys[index] for index in indices]


def plain(text: str) -> str:
    """Text for plotly, which reads a few HTML tags in names: none of the text's own may count."""
    return html.escape(text, quote=False)


def bare_layout(x_title: str, y_title: str, *, legend: bool) -> dict[str, Any]:
    axis = {"automargin": True, "zeroline": False, "title": {"standoff": 8, "font": {"size": 12}}}
    return {
        **dict.fromkeys(("paper_bgcolor", "plot_bgcolor"), "rgba(0,0,0,0)"),
        "font": {"family": FONT, "size": 12},
        "margin": {"l": 48, "r": 16, "t": 12, "b": 40},
        "hovermode": "closest",
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 11}},
        "xaxis": {**axis, "title": {**axis["title"], "text": x_title}},
        "yaxis": {**axis, "title": {**axis["title"], "text": y_title}, "hoverformat": ".4~g"},
    }


def whole_ticks(low: float, high: float) -> dict[str, int]:
    """A short axis of steps would be divided between them."""
    return {"dtick": 1} if high - low < 8 else {}


def rounded(values: Sequence[float | None]) -> list[float | None]:
    """Six significant digits: more can't be seen and would be half of the file."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.6g}") for value in values]


def dashed(ends: tuple[float, float, float, float], **axes: str) -> dict[str, Any]:
    """A reference as plotly's shape: a line from (x0, y0) to (x1, y1)."""
    line = {"color": REFERENCE, "width": 1.5, "dash": "dash"}
    return {"type": "line", **dict(zip(("x0", "y0", "x1", "y1"), ends, strict=True)), "line": line, **axes}
