"""From measurements to tables of Markdown: medians, ratios to the peer, shares of the floor."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """All measurements of one case by one side."""

    case: dict[str, Any]
    side: str
    runs: tuple[dict[str, Any], ...]
    """Figures of each process that ended well, in the order of rounds."""
    peaks: tuple[dict[str, float], ...]
    failed: str

    def median(self, read: Callable[[dict[str, Any]], float | Iterable[float]]) -> float:
        """Over what `read` finds in the figures, one number or several a process; NaN without any."""
        values = [value for figures in self.runs for value in _flat(read(figures))]
        return statistics.median(values) if values else float("nan")

    def largest(self, name: str) -> float:
        return max((figures.get(name, 0) for figures in self.runs), default=float("nan"))

    @property
    def peak(self) -> float:
        """Operations a second in this machine's best precision: the best that any of its calls measured."""
        return max(max(one.values()) for one in self.peaks)


def groups(record: Record) -> list[Group]:
    """One for each case and side, in the order in which they were first measured."""
    keys = list({(json.dumps(m["case"]), m["side"]): None for m in record["measurements"]})
    found = []
    for case, side in keys:
        own = [m for m in record["measurements"] if json.dumps(m["case"]) == case and m["side"] == side]
        whole = sorted((m for m in own if not m["failed"]), key=lambda m: m["round"])
        failed = next((m["failed"] for m in own if m["failed"]), "")
        runs = tuple(m["figures"] for m in whole)
        found.append(Group(json.loads(case), side, runs, tuple(m["peaks"] for m in own), failed))
    return found


def beside(all_groups: Sequence[Group], group: Group, **same: Any) -> list[Group]:
    """Groups of other sides of the same case, where the values in `same` stand instead of the case's own."""
    case = {**group.case, **same}
    return [other for other in all_groups if other.case == case and other.side != group.side]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, columns aligned in the source as well; numbers to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    numeric = [len(lines) > 1 and all(line[i][:1].isdigit() or line[i] in ("", "–") for line in lines[1:])
               for i in range(len(header))]  # fmt: skip
    rule = ["-" * (w - 1) + ":" if right else "-" * w for w, right in zip(widths, numeric, strict=True)]

    def row(cells: Sequence[str]) -> str:
        padded = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join(row(cells) for cells in [lines[0], rule, *lines[1:]])


def told(value: float, digits: int = 3) -> str:
    """Three significant digits; – where nothing was measured."""
    if value != value:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def ratio(ours: float, other: float) -> str:
    """How many times as fast."""
    return "–" if ours != ours or other != other or not ours else f"{other / ours:.2f}×"


def share(part: float, whole: float) -> str:
    return "–" if part != part or whole != whole or not whole else f"{100 * part / whole:.0f} %"


def megabytes(value: float) -> str:
    return "–" if value != value else f"{value / 1e6:,.0f}"


def heading(record: Record) -> str:
    """On what machine, by which commit, at which peaks."""
    machine = record["machine"]
    names = {name: None for peaks in record["peaks"] for name in peaks}
    peaks = ", ".join(f"{n} {max(p.get(n, 0) for p in record['peaks']) / 1e9:,.0f} GFLOP/s" for n in names)
    loads = [m["load"] for m in record["measurements"]]
    load = f"load before each process {min(loads):.1f} to {max(loads):.1f}" if loads else "nothing measured"
    where = machine["cpu"] if machine["device"] == "cpu" else machine["device"]
    return (
        f"{where}, {machine['threads']} threads, torch {machine['torch']}, {machine['date']}, commit "
        f"{record['commit']}; matmul peak {peaks}; {load}."
    )


def _flat(value: float | Iterable[float]) -> list[float]:
    return list(value) if isinstance(value, Iterable) else [value]
