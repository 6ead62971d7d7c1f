"""The file that metrics are logged to."""

import json
import os
from pathlib import Path

import pytest

from plaudit.telemetry.log import MetricsLog, read_metrics

SCORE, KL = "ppo/score_over_responses", "ppo/kl_ref_over_responses"


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_undeclared_keys_are_refused_with_the_nearest(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    with pytest.raises(ValueError, match=r"'ppo/score_over_response' is not declared.*near: score_over_responses"):
        log.write(1, {"ppo/score_over_response": 1.0})
    log.close()
    assert read_metrics(tmp_path) == []


def test_each_line_is_in_the_file_at_once_with_step_and_time(tmp_path: Path) -> None:
    clock = Clock()
    log = MetricsLog(tmp_path, clock=clock)
    clock.now += 2.5
    assert log.write(1, {SCORE: 0.25}) == {SCORE: 0.25}
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "time": 2.5, "ppo/score_over_responses": 0.25}\n'
    clock.now += 1
    log.write(2, {SCORE: 1, KL: 1e-7})
    assert read_metrics(tmp_path)[1] == {"step": 2, "time": 3.5, SCORE: 1, KL: 1e-7}
    assert log.line_count == 2
    log.close()


def test_values_that_are_not_finite_are_null_and_named(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    values = {SCORE: float("nan"), KL: float("-inf"), "ppo/ratio_max": float("inf"), "ppo/kl_coef": 0.1}
    assert log.write(1, values) == {"ppo/kl_coef": 0.1}
    log.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert line[SCORE] is None and line[KL] is None and line["ppo/ratio_max"] is None
    assert line["non_finite"] == {SCORE: "nan", KL: "-inf", "ppo/ratio_max": "inf"}


def test_reopening_continues_count_and_time_and_drops_a_half_line(tmp_path: Path) -> None:
    clock = Clock()
    log = MetricsLog(tmp_path, clock=clock)
    clock.now += 10
    log.write(1, {SCORE: 1.0})
    log.close()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 2, "ti')
    clock.now = 5.0
    log = MetricsLog(tmp_path, clock=clock)
    assert log.line_count == 1
    clock.now += 3
    log.write(2, {SCORE: 2.0})
    log.close()
    assert [(line["step"], line["time"]) for line in read_metrics(tmp_path)] == [(1, 10.0), (2, 13.0)]


def test_truncate_forgets_later_lines_and_goes_on(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for step in range(5):
        log.write(step, {})
    log.truncate(3)
    log.write(10, {})
    log.truncate(4)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 10]
    log.truncate(0)
    assert read_metrics(tmp_path) == [] and log.line_count == 0
    log.close()


def test_truncate_with_too_few_lines_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = MetricsLog(tmp_path)
    log.write(1, {})
    log.truncate(3)
    assert "has 1 lines where the checkpoint counted 3" in capsys.readouterr().err
    assert log.line_count == 1
    log.close()


def test_the_reader_forgives_a_half_line_and_names_a_broken_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    path.write_bytes(b'{"step": 1}\n{"step": 2}')  # complete JSON, but the writer may not be done with the number
    assert read_metrics(tmp_path) == [{"step": 1}]
    assert capsys.readouterr().err == ""
    path.write_bytes(b'{"step": 1}\n{"st\xff\n[1]\n{"step": 4}\n')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 4}]
    warned = capsys.readouterr().err
    assert "metrics.jsonl:2: " in warned and "metrics.jsonl:3: " in warned
    assert read_metrics(tmp_path / "absent") == []


def test_a_full_disk_warns_once_and_loses_only_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = MetricsLog(tmp_path)
    log.write(1, {SCORE: 1.0})
    real_write, room = os.write, 20

    def almost_full(handle: int, raw: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(28, "No space left on device")
        written = real_write(handle, raw[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", almost_full)
    log.write(2, {SCORE: 2.0})
    log.write(3, {SCORE: 3.0})
    monkeypatch.undo()
    log.write(4, {SCORE: 4.0})
    log.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 4]
    assert log.line_count == 2
    warned = capsys.readouterr().err
    assert warned.count("warning") == 1 and "No space left on device" in warned and "training goes on" in warned
