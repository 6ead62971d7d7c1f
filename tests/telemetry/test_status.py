"""Whether a run lives can be told from its folder."""

import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from plaudit.errors import StopRequested
from plaudit.runs.folder import Run
from plaudit.telemetry import status
from plaudit.telemetry.status import Heart, State, is_alive, read_status
from tests.telemetry.test_log import Clock


def write(folder: Path, **changes: object) -> None:
    known = read_status(folder)
    assert known is not None
    (folder / status.NAME).write_text(json.dumps(asdict(replace(known, **changes))))  # type: ignore[arg-type]


def test_a_run_says_who_works_on_it_and_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_status(tmp_path) is None and is_alive(tmp_path) is False
    monkeypatch.setattr(status, "INTERVAL", 0.0)
    with Run.create(tmp_path, "sft", {}) as run:
        with run.progress(40, start=3) as progress:
            progress.update(4)
        now = read_status(tmp_path)
        assert now is not None and is_alive(tmp_path) is True
        assert (now.pid, now.stage, now.step, now.of, now.state) == (os.getpid(), "sft", 4, 40, State.RUNNING)
        run.finish({})
    after = read_status(tmp_path)
    assert after is not None and after.state is State.FINISHED and after.step == 4 and is_alive(tmp_path) is False


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (StopRequested(signal.SIGINT), State.STOPPED),
        (KeyboardInterrupt(), State.STOPPED),
        (ZeroDivisionError(), State.FAILED),
    ],
)
def test_how_it_ended(error: BaseException, state: State, tmp_path: Path) -> None:
    with pytest.raises(type(error)), Run.create(tmp_path, "sft", {}):
        raise error
    ended = read_status(tmp_path)
    assert ended is not None and ended.state is state


def test_a_killed_process_is_dead_and_so_is_its_pids_next_owner(tmp_path: Path) -> None:
    Heart(tmp_path, "sft")
    assert is_alive(tmp_path) is True
    if os.path.isdir("/proc/self"):
        write(tmp_path, process="1")
        assert is_alive(tmp_path) is False
    pid = os.fork()
    if pid == 0:
        Heart(tmp_path, "sft")
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert is_alive(tmp_path) is False
    os.waitpid(pid, 0)
    assert is_alive(tmp_path) is False


def test_another_machines_run_is_judged_by_its_signs_of_life(tmp_path: Path) -> None:
    Heart(tmp_path, "sft", clock=lambda: 1000.0)
    write(tmp_path, host="elsewhere", pid=1)
    assert is_alive(tmp_path, now=lambda: 1000.0 + status.SILENCE - 1) is True
    assert is_alive(tmp_path, now=lambda: 1000.0 + status.SILENCE) is None


def test_signs_of_life_are_few(tmp_path: Path) -> None:
    clock = Clock()
    heart = Heart(tmp_path, "sft", clock=clock)
    seen = set()
    for step in range(1, 101):
        clock.now += 0.1
        heart.beat(step)
        seen.add((tmp_path / status.NAME).read_text())
    assert 2 <= len(seen) <= 4


def test_a_disk_that_refuses_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Heart(tmp_path, "sft")

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("os.replace", refuse)
    heart.stop(State.FINISHED)


@pytest.mark.parametrize("content", ["", "[]", '{"state": "running"}', '{"state": "odd"}'])
def test_a_broken_status_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / status.NAME).write_text(content)
    assert read_status(tmp_path) is None
