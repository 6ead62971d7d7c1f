"""Faults 1, 3, 4, 9, 29, 30, 32: kills, full disks, locks, signals and lost terminals, in real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plaudit
from plaudit.errors import UserError
from plaudit.runs.checkpoints import latest_checkpoint
from plaudit.runs.folder import Run
from tests.kills import kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a POSIX system")

WORKER = Path(__file__).with_name("run_folder_worker.py")


@contextlib.contextmanager
def worker(what: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The worker as a process; killed in the end if it is still there."""
    env = {**os.environ, "PYTHONPATH": str(Path(plaudit.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(WORKER), what, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_worker(what: str, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """(what it told, its stderr); it must end well."""
    with worker(what, folder) as process:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def started(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_fifty_kills_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    *kills, end = run_worker("random_kills", tmp_path / "run")[0]
    assert len(kills) == 50
    assert all(kill["killed"] and kill["found"] and kill["forward"] and kill["logged"] for kill in kills)
    assert kills[-1]["step"] >= 3 + 5, "hardly any save was finished: the kills came too early to mean anything"
    assert end == {"left": [], "resumed": True}


@pytest.mark.parametrize("what", ["every_kill", "every_kill_again"])
def test_a_kill_before_any_operation_of_a_save_leaves_a_whole_checkpoint(what: str, tmp_path: Path) -> None:
    told = run_worker(what, tmp_path)[0]
    assert len(told) > 15, "a save has more steps than that: the hook counts too little"
    assert [kill["killed"] for kill in told] == [True] * (len(told) - 1) + [False]
    for number, kill in enumerate(told, start=1):
        assert kill["whole"] and kill["clean"] and kill["same"], number
        assert kill["step"] in ((3,) if what == "every_kill_again" else (2, 3)), number
        assert kill["after"] == ["000004", "latest"], number


def test_a_full_disk_keeps_the_checkpoint_and_the_log_and_says_where(tmp_path: Path) -> None:
    (failed, end), err = run_worker("disk_full", tmp_path / "run")
    assert str(tmp_path / "run" / "checkpoints" / "000002") in failed["error"]
    assert "File too large" in failed["error"] and "60,000 bytes" in failed["error"] and "are free" in failed["error"]
    assert end["names"] == ["000001", "latest"] and end["whole"] and end["left"] == 0
    assert end["steps"][0] == 1 and end["steps"][-1] == 6 and len(end["steps"]) < 6
    assert err.count("metrics.jsonl") == 1 and err.count("rollouts") == 2, "one warning each, rollouts naming its path"


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with worker("train", folder) as process:
        pid = started(process)["pid"]
        with pytest.raises(UserError, match=f"in use by process {pid};"):
            Run.open(folder)
        process.kill()
        process.wait(timeout=20)
        Run.open(folder).close()


@kills(
    "runs/lock.py",
    old="timeout=PATIENCE",
    new="timeout=0",
    why="what a killed run had just forked locks its folder",
)
@pytest.mark.parametrize("what", ["orphan", "slow_orphan"])
def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(what: str, tmp_path: Path) -> None:
    with worker(what, tmp_path / "run") as process:
        orphan = started(process)["worker"]
        try:
            process.wait(timeout=20)
            os.kill(orphan, 0)
            Run.open(tmp_path / "run").close()
        finally:
            os.kill(orphan, signal.SIGKILL)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_a_checkpoint_and_the_shells_code(signum: int, code: int, tmp_path: Path) -> None:
    with worker("train", tmp_path / "run") as process:
        started(process)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signum)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.count("\n") == 1 and "finishing this step" in err
    assert latest_checkpoint(tmp_path / "run") is not None


def test_a_second_signal_ends_a_stuck_save_at_once_without_harm(tmp_path: Path) -> None:
    with worker("stuck", tmp_path / "run") as process:
        started(process)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "SIGTERM" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
        assert "ending at once" in process.stderr.readline()
    with Run.open(tmp_path / "run") as run:
        assert run.latest() == tmp_path / "run" / "checkpoints" / "000001"


def test_closed_outputs_are_survived(tmp_path: Path) -> None:
    with worker("closed_output", tmp_path / "run") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(timeout=20) == 0
        process.stdout, process.stderr = None, None
    with Run.open(tmp_path / "run") as run:
        assert run.finished and run.latest() == tmp_path / "run" / "checkpoints" / "000003"


def test_a_read_only_folder_is_told_before_anything_else(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("readonly")
    for folder in (base, *base.parents[:2]):  # nobody must be able to get there, though not to write
        folder.chmod(folder.stat().st_mode | 0o055)
    base.chmod(0o555)
    told, _ = run_worker("as_nobody", base)
    assert [("cannot write to the folder" in line["error"], "Permission denied" in line["error"]) for line in told] == [
        (True, True),
        (True, True),
    ]
    assert list(base.iterdir()) == []
