"""status.json: which process works on a run, how far it is, and its last sign of life."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from plaudit.errors import SaveFailed
from plaudit.files import atomic_write

NAME = "status.json"
INTERVAL = 5.0
"""Seconds between two signs of life; a step may take longer, but every long loop gives them (`Run.check_stop`)."""
SILENCE = 900.0
"""Seconds without a sign after which nobody can say of another machine's run that it lives."""


class State(StrEnum):
    """What became of the process that worked on the run last."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    """By a signal or by Ctrl-C: it can be gone on with."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The content of status.json."""

    pid: int
    host: str
    process: str
    """What tells the process from a later one with the same pid: the kernel's start time; empty where it says none."""
    started: float
    """When this process took the run up, Unix time in seconds."""
    heartbeat: float
    """Its last sign of life, Unix time in seconds."""
    stage: str
    step: int = 0
    """Steps or iterations done."""
    of: int = 0
    """So many will be done; 0: not known."""
    state: State = State.RUNNING


class Heart:
    """Writes status.json while a process works on a run. A disk that refuses costs the sign, never the run."""

    def __init__(self, folder: Path, stage: str, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = folder / NAME, clock
        now, pid, host = clock(), os.getpid(), socket.gethostname()
        self._status = Status(pid=pid, host=host, process=_start_of(pid), started=now, heartbeat=now, stage=stage)
        self._write()

    def beat(self, step: int | None = None, of: int | None = None) -> None:
        """A sign of life, with how far the run is where that is known; on disk at most every `INTERVAL` seconds."""
        if step is not None:
            self._status = replace(self._status, step=step)
        if of is not None:
            self._status = replace(self._status, of=of)
        if not 0 <= self._clock() - self._status.heartbeat < INTERVAL:
            self._write()

    def stop(self, state: State) -> None:
        """The last word of this process."""
        self._status = replace(self._status, state=state)
        self._write()

    def _write(self) -> None:
        self._status = replace(self._status, heartbeat=self._clock())
        with contextlib.suppress(SaveFailed, OSError):
            atomic_write(self._path, json.dumps(asdict(self._status), indent=1) + "\n", durable=False)


def read_status(folder: Path | str) -> Status | None:
    """The status of a run folder; None where there is none that can be read."""
    try:
        plain: dict[str, Any] = json.loads((Path(folder) / NAME).read_text(encoding="utf-8"))
        plain["state"] = State(plain["state"])
        return Status(**plain)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_alive(folder: Path | str, *, now: Callable[[], float] = time.time) -> bool | None:
    """Whether a process works on the run. None: it can't be told, on another machine that gives no sign any more."""
    status = read_status(folder)
    if status is None or status.state is not State.RUNNING:
        return False
    if status.host == socket.gethostname():
        return _runs(status.pid) and _start_of(status.pid) == status.process
    return True if now() - status.heartbeat < SILENCE else None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return _stat(pid)[:1] != ["Z"]  # a zombie has ended


def _start_of(pid: int) -> str:
    return "".join(_stat(pid)[19:20])


def _stat(pid: int) -> list[str]:
    """Linux's facts about a process from its state on (proc(5): state is field 3, the start time field 22)."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return []
