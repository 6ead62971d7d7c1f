"""The lock inside one process; two processes are in tests/faults."""

import errno
import os
import time
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.runs import lock
from plaudit.runs.lock import FolderLock
from tests.kills import kills


def test_a_second_holder_is_refused_by_pid_and_the_next_one_is_not(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(UserError, match=rf"in use by process {os.getpid()};"):
        FolderLock(tmp_path)
    first.release()
    first.release()
    second = FolderLock(tmp_path)
    with pytest.raises(UserError, match="in use"):
        FolderLock(tmp_path)
    second.release()


def test_a_file_system_without_locks_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    FolderLock(tmp_path).release()
    assert "has no locks" in capsys.readouterr().err


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot lock"):
        FolderLock(tmp_path / "absent")


def test_a_lock_left_to_nobody_is_waited_for_a_while_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    held = FolderLock(tmp_path)
    (tmp_path / ".lock").write_text(f"{pid}\n")  # its holder is dead, yet somebody has the file open
    naps: list[float] = []
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    monkeypatch.setattr(lock, "_nap", lambda: naps.append(1.0) or time.sleep(0.02))
    with pytest.raises(UserError, match=f"in use by process {pid};"):
        FolderLock(tmp_path)
    assert naps
    held.release()


@kills(
    "runs/lock.py",
    old="if _is_alive(self._holder()) or time.monotonic() > until:",
    new="if time.monotonic() > until:",
    why="a folder in use is waited for in silence",
)
@pytest.mark.parametrize("written", ["", "who knows", f"{10**30}", "its own"])
def test_a_holder_that_lives_or_is_unknown_is_not_waited_for(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = FolderLock(tmp_path)
    written = written.replace("its own", str(os.getpid()))  # a pid in a test's name would differ among the workers
    (tmp_path / ".lock").write_text(written)
    monkeypatch.setattr(lock, "_nap", lambda: pytest.fail("it waits"))
    with pytest.raises(UserError, match=f"in use by process {written or 'unknown'};"):
        FolderLock(tmp_path)
    held.release()


@kills(
    "runs/lock.py",
    old="return not _is_zombie(pid)",
    new="return True",
    why="a dead holder that nobody waited for holds on",
)
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="only Linux tells")
def test_a_dead_holder_whom_nobody_waited_for_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    held = FolderLock(tmp_path)
    (tmp_path / ".lock").write_text(f"{pid}\n")
    monkeypatch.setattr(lock, "_nap", held.release)
    FolderLock(tmp_path).release()
    os.waitpid(pid, 0)
