"""The lock inside one process; two processes are in tests/faults."""

import errno
import os
from pathlib import Path

import pytest

from plaudit.runs import lock
from plaudit.runs.errors import UserError
from plaudit.runs.lock import FolderLock


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
