"""The stages of a run as a table in the terminal: each value between its floor and its ceiling."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from plaudit.telemetry.console import print_width


def print_table(folder: Path) -> None:
    """Print summary.json's stages; nothing where there are none."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = summary.get("stages", [])
    if not rows:
        return
    table = Table(title=str(folder), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("stage", overflow="fold")
    table.add_column("metric", overflow="fold")
    for heading in ("value", "95 % interval", "floor", "ceiling"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", overflow="fold", min_width=5, max_width=8)
    for row in rows:
        table.add_row(*_cells(row))
    console = Console(width=print_width())
    console.print(table)
    if "seconds" in summary:
        memory = summary["peak_memory_bytes"] / 2**30
        console.print(f"{summary['seconds']:.0f} s, {memory:.2f} GiB at most, seed {summary['seed']}", highlight=False)


def _cells(row: Mapping[str, Any]) -> list[str]:
    interval = "" if row.get("low") is None else f"{_number(row['low'])} … {_number(row['high'])}"
    values = [_number(row.get(key)) for key in ("floor", "ceiling")]
    return [row["name"], row["metric"], _number(row["value"]), interval, *values, row["unit"]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
