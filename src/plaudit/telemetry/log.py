"""metrics.jsonl: one line a step, in the file before the next step starts."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.files import atomic_write
from plaudit.telemetry.console import warn
from plaudit.telemetry.lines import HALF, read_lines
from plaudit.telemetry.register import measure_of

NAME = "metrics.jsonl"


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """All logged lines of a run folder, in order; [] when there are none yet.

    Safe while the run is writing: a half-written last line is left out. A damaged line in the middle is left out
    with a warning.
    """
    path = Path(folder) / NAME
    bad: list[tuple[int, str]] = []
    lines = [line for raw, line in read_lines(path, bad) if raw.endswith(b"\n")]
    for number, what in bad:
        if what != HALF:
            warn(f"{path}:{number}: {what}; left out")
    return lines


def metrics_line(step: int, seconds: float, values: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, float]]:
    """A line of metrics, and its finite values. ValueError for an undeclared key.

    A value that is not finite is logged as null and named under `non_finite`, since JSON has no NaN.
    """
    finite: dict[str, float] = {}
    line: dict[str, Any] = {"step": step, "time": round(seconds, 3)}
    strange: dict[str, str] = {}
    for key, value in values.items():
        measure_of(key)
        number = value if isinstance(value, int) else float(value)
        if math.isfinite(number):
            line[key] = finite[key] = number
        else:
            line[key] = None
            strange[key] = str(number)
    if strange:
        line["non_finite"] = strange
    return line, finite


class MetricsLog:
    """Appends to metrics.jsonl. A full disk costs lines and one warning, never the training."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = Path(folder) / NAME
        self._clock = clock
        self._warned = False
        self._open()

    def _open(self) -> None:
        try:
            self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            raw = self.path.read_bytes()
            whole = raw[: raw.rfind(b"\n") + 1]
            if whole != raw:  # what a killed process left unfinished would swallow the next line
                os.ftruncate(self._handle, len(whole))
        except OSError as error:
            raise UserError(f"cannot open {self.path}: {error.strerror}") from error
        self.line_count, self._size = whole.count(b"\n"), len(whole)
        self._start = self._clock()
        with contextlib.suppress(IndexError, KeyError, TypeError, ValueError):
            self._start -= float(json.loads(whole.splitlines()[-1])["time"])  # a resumed run's time goes on

    def write(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Add a line and return the finite values. ValueError for an undeclared key."""
        line, finite = metrics_line(step, self._clock() - self._start, values)
        raw = json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        try:
            written = os.write(self._handle, raw)
            if written < len(raw):
                os.write(self._handle, raw[written:])
            self._size += len(raw)
            self.line_count += 1
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, self._size)
            if not self._warned:
                warn(f"cannot write {self.path}: {error.strerror}; training goes on, this and later lines may be lost")
            self._warned = True
        return finite

    def truncate(self, line_count: int) -> None:
        """Keep the first `line_count` lines: what was logged after the checkpoint that a run resumes from."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        if len(lines) < line_count:
            warn(f"{self.path} has {len(lines)} lines where the checkpoint counted {line_count}; some are lost")
        if len(lines) > line_count:
            atomic_write(self.path, b"".join(lines[:line_count]))
        self.close()
        self._open()

    def sync(self) -> None:
        """Bring the lines to the disk, so that no checkpoint knows of lines which a power cut took away."""
        with contextlib.suppress(OSError):
            os.fsync(self._handle)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
