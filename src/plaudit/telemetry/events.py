"""events.jsonl: every notice and warning of a run, so that the report can show what the terminal has forgotten."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plaudit.telemetry.console import LOGGER
from plaudit.telemetry.lines import read_lines

NAME = "events.jsonl"
Keep = Callable[[Mapping[str, Any]], None]
"""What is done with one event."""


class EventLog(logging.Handler):
    """Hands each record of the logger to the run that is open: {time, level, message, step}.

    `step` is the last step that was logged by then; absent before the first. Of several open runs, as of a pipeline and
    its stage, the innermost one keeps the event.
    """

    def __init__(self, keep: Keep) -> None:
        super().__init__(logging.INFO)
        self._keep = keep
        self.step: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "passing", False):
            return
        if [handler for handler in LOGGER.handlers if isinstance(handler, EventLog)][-1] is not self:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        level = "warning" if record.levelno >= logging.WARNING else "notice"
        at = {} if self.step is None else {"step": self.step}
        self._keep({"time": now, "level": level, "message": record.getMessage(), **at})


def append_event(folder: Path, event: Mapping[str, Any]) -> None:
    """Add a line to the folder's events.jsonl. A full disk costs the line, nothing else."""
    line = json.dumps(event, ensure_ascii=False) + "\n"
    with contextlib.suppress(OSError), open(folder / NAME, "ab") as file:
        file.write(line.encode("utf-8", "backslashreplace"))


def read_events(folder: Path | str) -> list[dict[str, Any]]:
    """The events of a run folder in order; [] when there are none. Damaged or half-written lines are left out."""
    return [event for _, event in read_lines(Path(folder) / NAME, [])]
