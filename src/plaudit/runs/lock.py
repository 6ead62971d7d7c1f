"""One process to a run folder."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from pathlib import Path

from plaudit.errors import UserError
from plaudit.telemetry.console import warn

try:
    import fcntl
except ImportError:  # a system without flock: no lock, and the user is told
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_PATIENCE = 2.0  # seconds for what a dead holder had just forked to let go; it takes milliseconds on a busy machine


class FolderLock:
    """An flock on `<folder>/.lock`, held until `release`, which the system also does when the process dies.

    A second holder (another process, or this one again) gets a UserError that names the first one's pid.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder) / ".lock"
        self._owner = os.getpid()
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(f"cannot lock the run folder {folder}: {error.strerror}") from error
        try:
            self._acquire()
        except BaseException:
            os.close(self._handle)
            raise
        _held.add(self)

    def _acquire(self) -> None:
        if fcntl is None:
            warn(f"this system has no file locks; make sure that only one process uses {self.path.parent}")
            return
        try:
            self._wait_for_the_dead()
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                warn(f"{self.path.parent}: this file system has no locks; make sure that only one process uses it")
                return
            raise UserError(
                f"the run folder {self.path.parent} is in use by process {self._holder() or 'unknown'}; "
                "wait for it, stop it, or choose another folder"
            ) from error
        with contextlib.suppress(OSError):  # the pid only serves the message; a full disk must not matter here
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode("ascii"), 0)

    def _wait_for_the_dead(self) -> None:
        """Take the lock, at once or not at all, but give the children of a killed holder the time to let go.

        A worker forked just before the kill shares the open file until it has run `_drop_in_child`. Raises OSError.
        """
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if _is_alive(self._holder()) or time.monotonic() > until:
                    raise
            _nap()

    def _holder(self) -> str:
        """The pid that the holder wrote down; empty when it could not."""
        return os.pread(self._handle, 32, 0).decode("ascii", "replace").strip()

    def release(self) -> None:
        """Give the folder free. Harmless when called twice, or in a forked child (which never owned it)."""
        if self._handle < 0:
            return
        if fcntl is not None and os.getpid() == self._owner:
            with contextlib.suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)
        self._handle = -1


def _nap() -> None:
    time.sleep(0.02)


def _is_alive(pid: str) -> bool:
    """Whether such a process runs; unknown counts as alive. One that is dead and not yet waited for doesn't run."""
    try:
        os.kill(int(pid), 0)
        return not _is_zombie(pid)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):  # no pid, or another user's process
        return True


def _is_zombie(pid: str) -> bool:
    """As far as Linux tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return state[:1] == ["Z"]


_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


def _drop_in_child() -> None:
    """A forked worker shares the parent's open file; while it lives, a killed parent would seem to hold the lock."""
    for lock in list(_held):
        if lock._handle >= 0:
            lock._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_in_child)
