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
from plaudit.telemetry.register import measure_of

NAME = "metrics.jsonl"


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """All logged lines of a run folder, in order; [] when there are none yet.

    Safe while the run is writing: a half-written last line is left out. A damaged line in the middle is left out
    with a warning.
    """
    path = Path(folder) / NAME
    try:
        pieces = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    lines = []
    for number, piece in enumerate(pieces, start=1):
        try:
            line = json.loads(piece)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and number < len(pieces):
            lines.append(line)
        elif number < len(pieces):
            warn(f"{path}:{number}: not a line of metrics; left out")
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
            self._read_and_append()
        except OSError as error:
            raise UserError(f"cannot open {self.path}: {error.strerror}") from error

    def _read_and_append(self) -> None:
        whole = self._drop_half_line()
        self.line_count = whole.count(b"\n")
        self._size = len(whole)
        self._start = self._clock() - self._last_time(whole)
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def _drop_half_line(self) -> bytes:
        """What a killed process left unfinished would swallow the next line."""
        if not self.path.exists():
            return b""
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            os.truncate(self.path, len(whole))
        return whole

    @staticmethod
    def _last_time(whole: bytes) -> float:
        """Seconds at the last line, so that a resumed run's time goes on instead of starting again."""
        try:
            return float(json.loads(whole.splitlines()[-1])["time"])
        except (IndexError, KeyError, TypeError, ValueError):
            return 0.0

    def write(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        """Add a line and return the finite values. ValueError for an undeclared key."""
        line, finite = metrics_line(step, self._clock() - self._start, values)
        self._append(json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")
        return finite

    def _append(self, raw: bytes) -> None:
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
