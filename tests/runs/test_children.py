"""Work in processes of its own, side by side: values, mistakes, stops, and ends that nobody announced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plaudit.errors import StopRequested, UserError
from plaudit.runs.children import Children
from plaudit.runs.signals import StopSignals
from tests.kills import kills

PATIENCE = 60.0


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def meet(own: Path, other: Path) -> str:
    """Goes on when the other one has come too."""
    own.touch()
    until(other.exists)
    return own.name


def rank(folder: Path) -> str:
    meet(folder / os.environ["RANK"], folder / str(1 - int(os.environ["RANK"])))
    return os.environ["RANK"] + os.environ["WORLD_SIZE"]


def fail(after: Path) -> None:
    until(after.exists)
    raise UserError("nothing can come of it")


def wait_for_stop(folder: Path) -> None:
    with StopSignals() as signals:
        (folder / "waits").write_text(str(os.getpid()), encoding="utf-8")
        until(lambda: signals.requested)
        (folder / "saved").touch()
        raise StopRequested(signals.requested)


def vanish() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def all_of(children: Children, count: int) -> dict[str, str]:
    ended: dict[str, str] = {}
    while len(ended) < count:
        ended |= dict(children.wait(PATIENCE))
    return ended


def test_they_run_at_the_same_time_and_each_says_what_came_of_it(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    with Children([]) as children:
        children.start("one", meet, a, b)
        children.start("two", meet, b, a)
        assert all_of(children, 2) == {"one": "a", "two": "b"}


@kills(
    "runs/children.py",
    old="        over = sorted(silent - {name for name, _ in self._running.values()})",
    new="        over = sorted(silent & self._values.keys())",
    why="a stage counts as done while another of its ranks still runs",
)
def test_ranks_know_who_they_are_and_the_first_one_s_value_counts(tmp_path):
    with Children([]) as children:
        children.start("both", rank, tmp_path, ranks=2)
        assert all_of(children, 1) == {"both": "02"}
        assert not children._running


@kills("runs/children.py", old="os.kill(process.pid, signal.SIGTERM)", new="process.kill()", why="nothing is saved")
def test_a_mistake_of_one_comes_up_when_the_others_have_saved_and_stopped(tmp_path):
    with pytest.raises(UserError, match=r"^nothing can come of it$"), Children([]) as children:
        children.start("one", wait_for_stop, tmp_path)
        children.start("two", fail, tmp_path / "waits")
        all_of(children, 2)
    assert (tmp_path / "saved").exists()


def test_who_is_told_to_stop_alone_stops_all(tmp_path):
    with pytest.raises(StopRequested) as stop, Children([]) as children:
        children.start("one", wait_for_stop, tmp_path)
        until(lambda: (tmp_path / "waits").exists() and (tmp_path / "waits").read_text("utf-8"))
        os.kill(int((tmp_path / "waits").read_text("utf-8")), signal.SIGTERM)
        all_of(children, 1)
    assert stop.value.exit_code == 143


def test_an_end_without_a_word_is_told_by_its_signal():
    with pytest.raises(UserError, match=r"^one: its process was killed by signal 9\. "), Children([]) as children:
        children.start("one", vanish)
        all_of(children, 1)


SCRIPT = """
import pathlib, sys, time
from plaudit.runs.children import Children
from tests.runs.test_children import wait_for_stop
if __name__ == "__main__":
    with Children([]) as children:
        children.start("one", wait_for_stop, pathlib.Path(sys.argv[1]))
        time.sleep(600)
"""


@kills("runs/children.py", old="target=_end_with_parent", new="target=int", why="a killed pipeline's stages run on")
def test_they_end_with_the_process_that_started_them(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, tmp_path / "script.py", str(tmp_path)], env=here)
    try:
        waits = tmp_path / "waits"
        until(lambda: waits.exists() and waits.read_text("utf-8"))
        child = int(waits.read_text("utf-8"))
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not Path(f"/proc/{child}").exists())
    assert not (tmp_path / "saved").exists()
