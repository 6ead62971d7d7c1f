"""Progress on a terminal, in a log file, and not at all."""

import io
import sys
from types import SimpleNamespace

import pytest

from plaudit.telemetry.console import say, warn
from plaudit.telemetry.progress import Progress, Stopwatch
from tests.telemetry.test_log import Clock


@pytest.fixture(autouse=True)
def not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAUDIT_QUIET", raising=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A terminal that went away."""

    def isatty(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_plain_lines_come_every_interval_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("ppo", 30, interval=10, clock=clock) as progress:
        for step in range(1, 31):
            clock.now += 1
            progress.update(step, {"score": step / 3, "n": step})
    assert capsys.readouterr().err.splitlines() == [
        "ppo 1/30  score 0.3333  n 1",
        "ppo 11/30  19 s to go  score 3.667  n 11",
        "ppo 21/30  9 s to go  score 7  n 21",
        "ppo 30/30  score 10  n 30",
    ]


def test_the_last_line_is_said_when_stopping_early(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with pytest.raises(RuntimeError), Progress("sft", 0, clock=clock) as progress:
        progress.update(1)
        progress.update(2)
        raise RuntimeError
    assert capsys.readouterr().err == "sft 1\nsft 2\n"


def test_a_resumed_run_judges_by_its_own_steps(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Progress("sft", 100, start=90, clock=clock) as progress:
        clock.now += 60  # the rest of a step, and what is made ready once
        progress.update(91)
        clock.now += 30
        progress.update(92)
    assert capsys.readouterr().err == "sft 91/100\nsft 92/100  4 min 00 s to go\n"


def test_quiet_says_nothing_but_warnings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PLAUDIT_QUIET", "1")
    with Progress("sft", 1) as progress:
        progress.update(1, {"a": 1.0})
    say("hello")
    warn("mind")
    assert capsys.readouterr().err == "warning: mind\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("ppo [x]", 4) as progress:
        progress.update(4, {"score": 0.123456})
    shown = terminal.getvalue()
    assert "ppo [x]" in shown and "4/4" in shown and "score 0.1235" in shown
    assert "\x1b[" in shown


@pytest.mark.parametrize("stream", [None, Broken()])
def test_a_terminal_that_goes_away_ends_only_the_display(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("ppo", 2) as progress:
        progress.update(1)
        progress.update(2)
    say("x")
    warn("x")


def test_the_stopwatch_is_never_zero() -> None:
    with Stopwatch() as watch:
        pass
    assert 0 < watch.seconds < 1


def test_a_notebook_gets_one_line_that_is_written_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[tuple[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(("update", data["text/plain"]))

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(("display", data["text/plain"]))
        return Handle()

    shell = SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    clock = Clock()
    with Progress("ppo", 3, clock=clock) as progress:
        for step in (1, 2, 3):
            clock.now += 1
            progress.update(step, {"score": step})
    say("hello")
    assert shown == [
        ("display", "ppo 1/3  score 1"),
        ("update", "ppo 2/3  1 s to go  score 2"),
        ("update", "ppo 3/3  score 3"),
    ]
    told = capsys.readouterr()
    assert told.out == "hello\n" and told.err == ""


def test_every_step_is_told_whether_shown_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAUDIT_QUIET", "1")
    beats: list[tuple[int, int]] = []
    with Progress("sft", 2, beat=lambda step, of: beats.append((step, of))) as progress:
        progress.update(1)
        progress.update(2)
    assert beats == [(1, 2), (2, 2)]
