"""The flow as SVG: three columns side by side, or one below the other for a phone. Where everything stands is reckoned
here, because SVG breaks no lines; what it looks like stands in page/flow.css.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.report.flow import Flow, FlowBox, FlowColumn
from plaudit.telemetry.visible import visible

WIDE, NARROW = 304.0, 356.0
"""A column's width."""
MARGIN, GUTTER, PAD = 12.0, 36.0, 13.0
HEAD, LINE, BELOW = 40.0, 18.0, 9.0
"""Heights: of a column's title, of a line of text, of what is free below a box's last line."""
SIZES = {"title": 15.0, "fact": 13.0, "order": 17.0, "quote": 13.0, "answer": 13.0, "label": 12.5, "end": 13.0}
"""Of letters, by the style's name in flow.css."""
MOST = {"title": 2, "fact": 3, "order": 2, "quote": 2, "answer": 1, "label": 3, "end": 2}
"""Lines that one text may take."""
READ = 400
"""Characters of a text of which lines are made."""
_THIN, _BROAD = frozenset(" ijltfrI.,:;'|!()[]/·"), frozenset("mwMW@%→…—QOGD")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowText:
    x: float
    y: float
    """Of the line the letters stand on."""
    style: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowShape:
    """A box or the pill at a column's end, with the texts in it."""

    id: str
    style: str
    x: float
    y: float
    width: float
    height: float
    texts: tuple[FlowText, ...]
    has_example: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDrawing:
    name: str
    """wide or narrow."""
    title: str
    width: float
    height: float
    heads: tuple[FlowText, ...]
    shapes: tuple[FlowShape, ...]
    arrows: tuple[str, ...]
    """Paths; each ends at its tip."""
    labels: tuple[FlowText, ...]
    """Beside the arrows."""


def drawing(flow: Flow, *, narrow: bool) -> FlowDrawing:
    width = NARROW if narrow else WIDE
    heads, shapes, arrows, labels = list[FlowText](), list[FlowShape](), list[str](), list[FlowText]()
    x, y, lowest = MARGIN, MARGIN, 0.0
    for number, column in enumerate(flow.columns, start=1):
        heads.append(FlowText(x=x, y=y + 20, style="head", text=f"{number}  {column.title}"))
        y = _column(column, x, y + HEAD, width, shapes, arrows, labels)
        lowest = max(lowest, y)
        x, y = (x, y + 22) if narrow else (x + width + GUTTER, MARGIN)
    columns = 1 if narrow else len(flow.columns)
    if not narrow:
        arrows += _links(flow, shapes)
    return FlowDrawing(
        name="narrow" if narrow else "wide",
        title=flow.title,
        width=2 * MARGIN + columns * width + (columns - 1) * GUTTER,
        height=lowest + MARGIN,
        heads=tuple(heads),
        shapes=tuple(shapes),
        arrows=tuple(arrows),
        labels=tuple(labels),
    )


def _column(
    column: FlowColumn, x: float, y: float, width: float, shapes: list[FlowShape], arrows: list[str],
    labels: list[FlowText],
) -> float:  # fmt: skip
    """Draw it from y down; how far it reaches."""
    for index, box in enumerate(column.boxes):
        shape = _shape(box, x, y, width)
        shapes.append(shape)
        y = shape.y + shape.height
        is_last = index == len(column.boxes) - 1
        if is_last and not (column.end or box.leaves):
            break
        texts = _texts(box.leaves, "label", x + 34, y + 8, width - 38)
        labels += texts
        tip = max(y + 26, (texts[-1].y if texts else y) + 12)
        arrows.append(f"M{x + 18:.1f} {y + 2:.1f}V{tip - 2:.1f}")
        y = tip
    if column.end:
        texts = _texts((column.end,), "end", x + PAD, y + 5, width - 2 * PAD)
        height = texts[-1].y + BELOW + 1 - y
        shapes.append(FlowShape(id="", style="end", x=x, y=y, width=width, height=height, texts=tuple(texts)))
        y += height
    return y


def _shape(box: FlowBox, x: float, y: float, width: float) -> FlowShape:
    inner, left, below = width - 2 * PAD, x + PAD, y + 6
    texts: list[FlowText] = []
    marked = inner - 64 if box.example else inner
    parts_by_style = {"title": (box.title,), "fact": box.facts, "order": (box.order,)}
    for style, parts in (parts_by_style | {"quote": box.quote, "answer": box.answers}).items():
        fresh = _texts(tuple(filter(None, parts)), style, left, below, marked if style == "title" else inner)
        texts += fresh
        below = fresh[-1].y + 5 if fresh else below
    return FlowShape(
        id=box.id, style="trained" if box.trained else "data", x=x, y=y, width=width,
        height=texts[-1].y + BELOW + 2 - y, texts=tuple(texts), has_example=box.example is not None,
    )  # fmt: skip


def _texts(parts: Sequence[str], style: str, x: float, y: float, width: float) -> list[FlowText]:
    lines = [line for part in parts for line in wrapped(part, width, SIZES[style], MOST[style])]
    step = max(LINE, SIZES[style] + 5)
    return [FlowText(x=x, y=y + step * (i + 1) - 4, style=style, text=line) for i, line in enumerate(lines)]


def _links(flow: Flow, shapes: Sequence[FlowShape]) -> list[str]:
    """From the side of a box to that of one in the next column."""
    by_id, paths = {shape.id: shape for shape in shapes}, list[str]()
    for begin, end in flow.links:
        one, two = by_id[begin], by_id[end]
        if two.x > one.x:
            y, aim, middle = one.y + one.height / 2, two.y + 20, two.x - GUTTER / 2
            paths.append(f"M{one.x + one.width + 1:.1f} {y:.1f}H{middle:.1f}V{aim:.1f}H{two.x - 2:.1f}")
    return paths


def wrapped(text: str, width: float, size: float, most: int) -> list[str]:
    """Lines that fit, at most so many, the last one cut with … where there is more. Letters that act on others, and
    those that XML doesn't have, are replaced: the text is a stranger's."""
    clean = visible(text[:READ], " ").translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})
    words, lines, line = re.split("[ \t]+", clean.strip(" ")), list[str](), ""
    while words:
        word = words.pop(0)
        if _width(longer := f"{line} {word}".strip(), size) <= width:
            line = longer
        elif line:
            lines, line, words = [*lines, line], "", [word, *words]
        else:  # a word that is longer than a line
            fits = next(n for n in range(len(word), 0, -1) if n == 1 or _width(word[:n], size) <= width)
            lines, words = [*lines, word[:fits]], [word[fits:], *words] if word[fits:] else words
        if len(lines) == most:
            break
    left = " ".join([line, *words]).strip()
    if len(lines) < most:
        return [*lines, line] if line else lines
    return [*lines[:-1], _cut(lines[-1], width, size)] if left else lines


def _cut(line: str, width: float, size: float) -> str:
    while line and _width(line + " …", size) > width:
        line = line[:-1]
    return line.rstrip() + " …"


def _width(text: str, size: float) -> float:
    """About as wide as in the widest of the usual fonts."""
    return size * sum(map(_share, text))


def _share(letter: str) -> float:
    if letter in _THIN:
        return 0.37
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    if letter in _BROAD:
        return 0.92
    return 0.68 if letter.isupper() else 0.0 if unicodedata.combining(letter) else 0.59
