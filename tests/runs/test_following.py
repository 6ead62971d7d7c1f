"""A run as the ranks other than the first see it: they read its folder and write nothing."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plaudit.errors import FirstFailed, StopRequested, UserError
from plaudit.runs.folder import Run
from plaudit.telemetry import console


class Second:
    """A rank that only hears what the first does; `called` is all that it took part in."""

    is_first = False

    def __init__(self, failure: str = "", signum: int = 0):
        self.called: list[str] = []
        self.failure, self.signum = failure, signum

    def first(self, work: Callable[[], Any]) -> None:
        self.called.append("first")
        if self.failure:
            raise FirstFailed(self.failure)

    def largest(self, number: int) -> int:
        self.called.append("largest")
        return max(number, self.signum)

    def check_same(self, what: str, value: Any) -> None:
        self.called.append(f"{what}: {value}")

    def wait(self) -> None:
        self.called.append("wait")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of the first rank's, with a checkpoint, at which one may look."""
    with Run.create(tmp_path / "run", "sft", {"a": 1}) as run:
        run.log(1, {"loss_over_tokens": 1.0})
        with run.checkpoint(1) as place:
            (place / "weights").write_text("w", encoding="utf-8")
    return tmp_path / "run"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_follower_writes_nothing_and_takes_no_lock(folder: Path) -> None:
    before = contents(folder)
    ranks = Second()
    with Run.open(folder) as first, Run.open(folder, ranks=ranks) as run:
        assert not run.saves
        assert first.saves
        run.log(2, {"loss_over_tokens": 1.0})
        run.add_provenance({"a": 1})
        run.replace_config({"a": 2})
        run.check_data({"x": "1"})
        run.truncate_metrics(0)
        assert run.metrics_lines == 0
        run.write_rollouts(3, [{"a": 1}])
        run.write_rows("rows.jsonl", [{"a": 1}])
        for saved in (run.checkpoint(5), run.save_model()):
            with saved as place:
                (place / "weights").write_text("other", encoding="utf-8")
            assert not place.exists()
        run.attach(["no such sink"])
        run.finish({})
        assert run.stage == "sft"
        latest = run.latest()
        assert latest is not None
        assert latest.name == "000001"
    after = contents(folder)
    own = {"status.json", ".pid"}  # the first rank's signs of life
    assert {k: v for k, v in after.items() if k not in own} == {k: v for k, v in before.items() if k not in own}
    assert "the data: {'x': '1'}" in ranks.called


def test_a_follower_of_a_new_run_makes_no_folder(tmp_path: Path) -> None:
    with Run.create(tmp_path / "new", "sft", {}, ranks=Second()) as run:
        assert not run.saves
    assert not (tmp_path / "new").exists()


def test_what_the_first_could_not_do_is_everybodys_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="disk is full"):
        Run.create(tmp_path / "new", "sft", {}, ranks=Second(failure="the disk is full"))


def test_a_stop_of_any_rank_is_a_stop(folder: Path) -> None:
    ranks = Second(signum=signal.SIGTERM)
    with pytest.raises(StopRequested) as stop, Run.open(folder, ranks=ranks) as run:
        run.check_stop()
    assert stop.value.signum == signal.SIGTERM
    assert ranks.called == ["first", "largest", "wait"]  # nobody leaves before the first has saved


def test_nobody_waits_for_the_others_after_an_error(folder: Path) -> None:
    ranks = Second()
    with pytest.raises(ValueError), Run.open(folder, ranks=ranks):
        raise ValueError
    assert ranks.called == ["first"]


def test_the_console_is_the_firsts(capsys, monkeypatch) -> None:
    monkeypatch.setattr(console.LOGGER, "level", console.LOGGER.level)
    assert not console.muted()
    console.mute()
    console.say("a")
    console.warn("b")
    assert console.muted()
    assert console.quiet()
    assert capsys.readouterr().err == ""
    monkeypatch.undo()
    console.LOGGER.setLevel(console.LOGGER.level)  # the level's cache
