"""events.jsonl: every notice and warning of a run, so that the report can show what the terminal has forgotten."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plaudit.telemetry.console import LOGGER

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
        if [handler for handler in LOGGER.handlers if isinstance(handler, EventLog)][-1] is not self:
            return
        event: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "level": "warning" if record.levelno >= logging.WARNING else "notice",
            "message": record.getMessage(),
        }
        if self.step is not None:
            event["step"] = self.step
        self._keep(event)


@contextlib.contextmanager
def listening(log: EventLog) -> Generator[None]:
    """While the block runs, its notices and warnings go to `log` too."""
    LOGGER.addHandler(log)
    try:
        yield
    finally:
        LOGGER.removeHandler(log)


def append_event(folder: Path, event: Mapping[str, Any]) -> None:
    """Add a line to the folder's events.jsonl. A full disk costs the line, nothing else."""
    line = json.dumps(event, ensure_ascii=False) + "\n"
    with contextlib.suppress(OSError), open(folder / NAME, "ab") as file:
        file.write(line.encode("utf-8", "backslashreplace"))


def read_events(folder: Path | str) -> list[dict[str, Any]]:
    """The events of a run folder in order; [] when there are none. Damaged or half-written lines are left out."""
    try:
        lines = (Path(folder) / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events
