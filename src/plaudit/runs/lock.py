"""One process to a run folder."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from filelock import FileLock, Timeout

from plaudit.errors import UserError
from plaudit.telemetry.console import warn

_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
LOCK, PID = ".lock", ".pid"
PATIENCE = 1.0
"""Seconds for what a dead holder had just forked to let go; it takes milliseconds, also on a busy machine."""


class FolderLock:
    """The system's lock on `<folder>/.lock`, held until `release`, which the system also does when the process dies.

    A second holder (another process, or this one again) gets a UserError that names the first one's pid, which stands
    in `<folder>/.pid`. A forked child neither holds nor frees the lock.
    """

    def __init__(self, folder: Path) -> None:
        self._pid = folder / PID
        # Not for one thread alone: a notebook's run works in another thread than the one that opened it.
        self._lock = FileLock(folder / LOCK, timeout=PATIENCE, thread_local=False, fallback_to_soft=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            holder = ""
            with contextlib.suppress(OSError):
                holder = self._pid.read_text(encoding="ascii", errors="replace").strip()
            advice = "wait for it, stop it, or choose another folder"
            raise UserError(f"the run folder {folder} is in use by process {holder or 'unknown'}; {advice}") from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise UserError(f"cannot lock the run folder {folder}: {error.strerror}") from error
            warn(f"{folder}: this file system has no locks; make sure that only one process uses it")
            return
        with contextlib.suppress(OSError):  # the pid only serves the message; a full disk must not matter here
            self._pid.write_text(f"{os.getpid()}\n", encoding="ascii")

    def release(self) -> None:
        """Give the folder free. Harmless when repeated."""
        if self._lock.is_locked:
            self._lock.release()
