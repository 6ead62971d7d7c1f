"""A diagnosis for people, and for machines."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from plaudit.doctor.findings import Diagnosis, Severity
from plaudit.telemetry.console import print_width, with_marks
from plaudit.telemetry.numbers import counted, duration

STYLES = {Severity.NOTE: "dim", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """One stage: its first rows (what the loss counts in green, between ‹ ›), numbers, findings, what wasn't run."""
    if not (diagnosis.checks or diagnosis.findings or diagnosis.not_run):
        return
    console = _console()
    console.print(Text(f"── {diagnosis.stage} ──", "bold"))
    for row in diagnosis.rows:
        console.print(Text.from_ansi(f"{row.where}  {with_marks(row.pieces, colour=True)}"))
    for finding in sorted(diagnosis.findings, key=lambda one: list(Severity).index(one.level)):
        where = f"{finding.where}: " if finding.where and not finding.message.startswith(finding.where) else ""
        line = Text.assemble((f"{finding.level.value:<9}", STYLES[finding.level]), f"{finding.check}  ", f"{where}")
        line.append(finding.message)
        console.print(line)
        if finding.remedy:
            console.print(Text(f"         → {finding.remedy}"))
    for why in dict.fromkeys(why for _, why in diagnosis.not_run):
        names = ", ".join(check for check, reason in diagnosis.not_run if reason == why)
        console.print(Text(f"not run: {names}: {why}", "dim"))
    console.print(Text(f"{len(diagnosis.checks)} checks in {duration(diagnosis.seconds)}", "dim"))


def print_end(diagnoses: Sequence[Diagnosis]) -> None:
    """The last line."""
    faults = [fault for one in diagnoses for fault in one.faults]
    errors = sum(fault.level is Severity.ERROR for fault in faults)
    checks, seconds = sum(len(one.checks) for one in diagnoses), sum(one.seconds for one in diagnoses)
    word = f"{counted(errors, 'error')}, {counted(len(faults) - errors, 'warning')}" if faults else "nothing wrong"
    _console().print(Text(f"{word} in {checks} checks, {duration(seconds)}", "bold"))


def as_json(diagnoses: Sequence[Diagnosis]) -> str:
    """All that the terminal shows, and more."""
    plain = {
        "format": 1,
        "ok": not any(one.faults for one in diagnoses),
        "stages": [one.to_plain() for one in diagnoses],
    }
    return json.dumps(plain, ensure_ascii=False, indent=2) + "\n"


def _console() -> Console:
    return Console(width=print_width(), highlight=False, soft_wrap=True)
