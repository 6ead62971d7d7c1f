"""What is said is kept with the run that it was said in."""

import logging
from pathlib import Path

import pytest

from plaudit.runs.folder import Run
from plaudit.telemetry.console import LOGGER, say, show, warn
from plaudit.telemetry.events import NAME, read_events


def test_notices_and_warnings_are_kept_with_level_step_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAUDIT_QUIET", "1")  # hides it on the terminal, not from the file
    say("before")
    with Run.create(tmp_path, "sft", {}) as run:
        say("é\nline")
        run.log(7, {"loss_over_tokens": 1.0})
        warn("50 %s")
    say("after")
    events = read_events(tmp_path)
    assert [(e["level"], e["message"], e.get("step")) for e in events] == [
        ("notice", "é\nline", None),
        ("warning", "50 %s", 7),
    ]
    assert all(event["time"].endswith("+00:00") for event in events)
    assert capsys.readouterr().err == "warning: 50 %s\n"


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}):
        say("one")
    with Run.open(tmp_path):
        say("two")
    assert [event["message"] for event in read_events(tmp_path)] == ["one", "two"]


def test_a_pipelines_stage_keeps_its_own(tmp_path: Path) -> None:
    with Run.create(tmp_path, "pipeline", {}):
        say("outer")
        with Run.create(tmp_path / "01-sft", "sft", {}):
            say("inner")
        say("outer again")
    assert [event["message"] for event in read_events(tmp_path)] == ["outer", "outer again"]
    assert [event["message"] for event in read_events(tmp_path / "01-sft")] == ["inner"]


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"message": "a"}\n[1]\nnonsense\n{"message": "b"}\n{"mess')
    assert [event["message"] for event in read_events(tmp_path)] == ["a", "b"]
    assert read_events(tmp_path / "absent") == []


def test_it_is_an_ordinary_logger(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    mine = Mine()
    LOGGER.addHandler(mine)
    logging.getLogger("plaudit").warning("%d rows", 3)
    LOGGER.removeHandler(mine)
    assert heard == ["3 rows"] and capsys.readouterr().err == "warning: 3 rows\n"


def test_a_models_own_words_act_on_nothing_and_are_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Run.create(tmp_path / "run", "sft", {}):
        show("sft: \x1b[2J\x1b]0;yours\x07 → a\u202eb")
        say("said")
    assert capsys.readouterr().err == "sft: ␛[2J␛]0;yours␇ → a\\u202eb\nsaid\n"
    assert [event["message"] for event in read_events(tmp_path / "run")] == ["said"]
