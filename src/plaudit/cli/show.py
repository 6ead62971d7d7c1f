"""What is printed of a run that has ended, and of a mistake; the command `report`."""

import argparse
import re
import time
from pathlib import Path
from typing import Any

from plaudit.stages import Stage
from plaudit.telemetry.console import muted, say


def show(folder: Path, fail_on: str = "") -> int:
    """The table of a finished run, what it made, and where its report is; 3 where `fail_on` is met."""
    if muted():
        return 0
    from plaudit.launch import is_unwell
    from plaudit.report.html import write
    from plaudit.report.table import print_table
    from plaudit.runs.outcome import as_text
    from plaudit.runs.records import RunFiles

    began = time.monotonic()
    path = write([folder], folder / "report.html")
    print_table(folder)
    say(f"report written in {time.monotonic() - began:.1f} s")
    print(f"report: {path}")
    run = RunFiles(folder)
    for line in as_text(str(run.provenance.get("stage", "")), folder, run.summary):
        print(line)
    return 3 if fail_on and is_unwell(folder, fail_on) else 0


def add_report(commands: Any) -> None:
    command = commands.add_parser("report", help="write report.html for runs or pipelines, finished or not")
    command.add_argument("runs", nargs="+", help="run folders; several are laid over each other")
    command.add_argument("--out", default="", help="file (default: report.html, or flow.svg, in the first run folder)")
    drawn = "draw the flow of one run's steps: flow.svg, for phones flow-narrow.svg, and the report that they lead to"
    command.add_argument("--flow", action="store_true", help=drawn)
    command.set_defaults(call=_report)


def _report(known: argparse.Namespace) -> int:
    from plaudit.report.html import write, write_flow

    folders, out = [Path(run) for run in known.runs], Path(known.out) if known.out else None
    written = write_flow(folders, out) if known.flow else [write(folders, out or folders[0] / "report.html")]
    print(*written, sep="\n")
    return 0


def placed(message: str, known: argparse.Namespace) -> str:
    """Each line of a stage's message that begins with an option, behind the place where the option was written."""
    from plaudit.config.load import place_of

    stage = getattr(known, "stage", None)
    if not isinstance(stage, Stage) or not Path(getattr(known, "config", None) or "").is_file():
        return message

    def with_place(match: re.Match[str]) -> str:
        where = place_of(stage.config_class, Path(known.config), known.options, match[1])
        return match[0] if not where else f"{where}: " if where == f"--{match[1]}" else f"{where}: {match[0]}"

    return re.sub(r"^([a-z_][^\s:/]*): ", with_place, message, flags=re.MULTILINE)
