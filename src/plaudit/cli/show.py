"""What is printed of a run that has ended, and of a mistake."""

import argparse
import re
import time
from pathlib import Path

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
