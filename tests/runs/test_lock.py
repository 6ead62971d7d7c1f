"""The lock inside one process; two processes are in tests/faults."""

import errno
import os
import threading
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.runs import lock
from plaudit.runs.lock import FolderLock
from tests.kills import kills


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.05)


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

    monkeypatch.setattr("fcntl.flock", unsupported)
    FolderLock(tmp_path).release()
    assert "has no locks" in capsys.readouterr().err


def test_what_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match="cannot lock the run folder"):
        FolderLock(tmp_path)


def test_a_holder_that_could_not_write_its_pid_down_is_unknown(tmp_path: Path) -> None:
    held = FolderLock(tmp_path)
    (tmp_path / ".pid").unlink()
    with pytest.raises(UserError, match="in use by process unknown;"):
        FolderLock(tmp_path)
    held.release()


@kills(
    "runs/lock.py",
    old="thread_local=False",
    new="thread_local=True",
    why="a notebook's run, which ends in another thread, holds its folder for ever",
)
def test_another_thread_may_free_it(tmp_path: Path) -> None:
    """A notebook's run works, and ends, in a thread of its own."""
    held = FolderLock(tmp_path)
    thread = threading.Thread(target=held.release)
    thread.start()
    thread.join()
    FolderLock(tmp_path).release()
