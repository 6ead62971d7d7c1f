"""A run's results as a table in the terminal, with the sentence that they come to."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from plaudit.records.results import Result
from plaudit.report.bars import lines
from plaudit.report.collect import PipelineData, collect
from plaudit.report.heads import head
from plaudit.report.measures import measure, shown
from plaudit.report.reading import finite
from plaudit.report.runs_table import RunsTable
from plaudit.report.sweep import sweep_table
from plaudit.telemetry.console import print_width
from plaudit.telemetry.numbers import duration, size
from plaudit.telemetry.visible import visible

DIGITS = 3


def print_table(folder: Path) -> None:
    """Print what the run or pipeline found; nothing where it has no results."""
    item = collect(folder)
    if not item.results:
        return
    sweep = sweep_table(item)
    table = _settings_table(sweep) if sweep else results_table(item.results)
    console = Console(width=print_width(), highlight=False)
    if not sys.stdout.isatty():  # a file has no edge at which words would have to break
        wide = console.options.update(width=10_000)
        console.width = max(console.width, Measurement.get(console, wide, table).minimum)
    console.print(Text(str(folder), style="bold"))
    for sentence in (sweep.title,) if sweep else head(item).sentences:
        console.print(Text(visible(sentence, " ")))
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()))
    summary = (item.own if isinstance(item, PipelineData) else item).summary
    if finite(summary.get("seconds")) is not None:
        took, memory = duration(finite(summary["seconds"])), size(finite(summary.get("peak_memory_bytes")))
        facts = [took, f"{memory} at most" if memory else "", "" if sweep else f"seed {summary.get('seed')}"]
        console.print(", ".join(part for part in facts if part))


def _settings_table(sweep: RunsTable) -> Table:
    """One row a setting of a sweep."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for option in sweep.options:
        table.add_column(option, overflow="fold")
    for key, subject in sweep.numbers:
        table.add_column(" · ".join(filter(None, (measure(key).title, subject))), justify="right")
    for line in sweep.lines:
        table.add_row(*(Text(visible(cell, " ")) for cell in (*line.options, *line.numbers)))
    return table


def results_table(results: Sequence[Result]) -> Table:
    """One row a result, stages apart, what several were measured on named once."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("what", overflow="fold")
    table.add_column("who", overflow="fold", max_width=16)
    for heading in ("value", "95 % interval", "floor → ceiling"):
        table.add_column(heading, justify="right", no_wrap=True)
    stage = about = None
    for row in lines(results):
        if row.result.stage != stage and row.result.stage:
            table.add_section()
            table.add_row(Text(visible(row.result.stage, " "), style="bold"))
        what, *cells = _cells(row.result, row.beside)
        same = (row.result.stage, what) == (stage, about)
        stage, about = row.result.stage, what
        table.add_row(*(Text(visible(cell, "\n")) for cell in ("" if same else what, *cells)))
    return table


def _cells(result: Result, beside: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    about = measure(result.measure)
    what = about.title + (f", {result.part}" if result.part else "")
    what += f" against {result.against}" if result.against else ""
    interval = ""
    if result.low is not None and result.high is not None:
        interval = f"{shown(result.low, about.unit, DIGITS)} … {shown(result.high, about.unit, DIGITS)}"
    ends = [shown(value, about.unit, DIGITS) if value is not None else "" for value in (result.floor, result.ceiling)]
    marks = [f"{name} {shown(value, about.unit, DIGITS)}" for name, value in beside if name not in ("floor", "ceiling")]
    references = "\n".join(([" → ".join(ends).strip()] if any(ends) else []) + marks)
    return what, result.subject, shown(result.value, about.unit, DIGITS), interval, references
