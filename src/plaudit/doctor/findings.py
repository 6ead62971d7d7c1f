"""What a check is, and what it says. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plaudit.doctor.examined import Examined


class Severity(StrEnum):
    """How much a finding matters. From WARNING on the exit code is 1."""

    NOTE = "note"
    """A number that was measured."""
    WARNING = "warning"
    """The run would end well and teach something else than was meant, or nothing."""
    ERROR = "error"
    """The run would fail."""

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Cost(StrEnum):
    """What a check takes."""

    STATIC = "static"
    """Files and options alone, no torch: seconds."""
    CHEAP = "cheap"
    """Tokenizers too."""
    RUNNING = "running"
    """Models: they write, judge and train two steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check has to say; its runner fills in check and stage."""

    level: Severity
    where: str
    """The option, or file and line, that it is about."""
    message: str
    remedy: str = ""
    """What to change."""
    check: str = ""
    stage: str = ""


def note(where: str, message: str) -> Finding:
    return Finding(level=Severity.NOTE, where=where, message=message)


def warning(where: str, message: str, remedy: str) -> Finding:
    return Finding(level=Severity.WARNING, where=where, message=message, remedy=remedy)


def error(where: str, message: str, remedy: str = "") -> Finding:
    return Finding(level=Severity.ERROR, where=where, message=message, remedy=remedy)


class NotRunError(Exception):
    """A check can't be made; the message follows "not run: "."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table."""

    name: str
    run: str
    """`module:function` of this room's checks, which takes an `Examined` and gives findings."""
    cost: Cost
    stages: frozenset[str]
    """The kinds of stage that it is for."""
    proves: str
    """What holds where it finds nothing."""
    at_start: bool = False
    """Whether every start of a stage makes it too."""

    @property
    def function(self) -> Callable[[Examined], Iterator[Finding]]:
        """Takes torch for all but the static ones."""
        return resolve_name(f"plaudit.doctor.checks.{self.run}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """A row as the model sees it: pieces of text, each with whether the loss counts it."""

    where: str
    pieces: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All that was said of one stage."""

    stage: str
    kind: str
    findings: tuple[Finding, ...]
    not_run: tuple[tuple[str, str], ...]
    """(check, why)."""
    checks: tuple[str, ...]
    """Those that were made."""
    rows: tuple[ShownRow, ...]
    seconds: float

    @property
    def faults(self) -> list[Finding]:
        """What is more than a note."""
        return [finding for finding in self.findings if finding.level is not Severity.NOTE]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stage": self.stage,
            "kind": self.kind,
            "findings": [asdict(finding) for finding in self.findings],
            "not_run": [{"check": check, "why": why} for check, why in self.not_run],
            "checks": list(self.checks),
            "rows": [{"where": row.where, "pieces": [list(piece) for piece in row.pieces]} for row in self.rows],
            "seconds": round(self.seconds, 2),
        }
