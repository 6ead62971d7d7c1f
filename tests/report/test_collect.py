"""Run folders as they are found: whole, cut off anywhere, empty, not runs at all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.report.collect import PipelineData, RunData, RunStatus, collect, flatten
from plaudit.report.reading import clean_text, read_json_lines
from plaudit.report.views import page
from plaudit.telemetry.events import append_event
from plaudit.telemetry.status import Heart, State
from tests.report.folders import ppo_lines, rollout_rows, summary, write_pipeline, write_run


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    lines = [{"step": 1, "time": 2.0, "ppo/kl_coef": 0.1}, {"step": 2, "time": 4.5, "ppo/kl_coef": 0.2, "ppo/x": 7}]
    run = collect(write_run(tmp_path / "r", "ppo", lines=lines, summary=summary()))
    assert isinstance(run, RunData)
    assert (run.name, run.stage, run.status, run.last_step, run.seconds) == ("r", "ppo", RunStatus.FINISHED, 2, 4.5)
    assert run.series["kl_coef"].steps == (1, 2)
    assert run.series["kl_coef"].values == (0.1, 0.2)
    assert run.series["x"].steps == (2,)
    assert set(run.series) == {"kl_coef", "x"}
    assert run.problems == ()


def test_a_killed_run_keeps_what_it_wrote(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "ppo", lines=[{"step": 1, "time": 1.0, "ppo/kl_coef": 0.5}])
    half = json.dumps({"step": 2, "ppo/kl_coef": 0.6, "note": "好"}, ensure_ascii=False).encode()[:-3]  # inside 好
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(half)
    run = collect(folder)
    assert run.status is RunStatus.INTERRUPTED
    assert run.series["kl_coef"].values == (0.5,)
    assert run.problems == ("metrics.jsonl: line 2 is half-written; left out",)


def test_what_the_file_system_left_after_a_power_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n\x00\x00\x00\n[1, 2]\n\xff\xfe\n' + b"nonsense\n" * 5 + b'{"step": 2}\n')
    problems: list[str] = []
    assert read_json_lines(path, problems) == [{"step": 1}, {"step": 2}]
    assert problems == [
        "metrics.jsonl: line 2 is not JSON; left out",
        "metrics.jsonl: line 3 is not an object; left out",
        "metrics.jsonl: line 4 is not JSON; left out",
        "metrics.jsonl: 5 more like these",
    ]


def test_a_step_logged_twice_counts_once_and_the_later_line_wins(tmp_path: Path) -> None:
    lines = [{"step": 1, "a/x": 1.0, "a/y": 1.0}, {"step": 2, "a/x": 2.0}, {"step": 1, "a/x": 9.0}]
    series = collect(write_run(tmp_path / "r", "a", lines=lines)).series
    assert (series["x"].steps, series["x"].values) == ((1, 2), (9.0, 2.0))
    assert series["y"].values == (1.0,)


def test_nulls_are_gaps_and_what_was_not_finite_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "sft", lines=[{"step": 1, "a/x": 1.0, "a/y": None, "a/flag": True, "a/t": "no"}])
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "a/x": null, "non_finite": {"a/x": "nan"}}\n{"step": 3, "a/x": Infinity}\n')
    run = collect(folder)
    assert set(run.series) == {"x", "y"}
    assert run.series["x"].values == (1.0, None, None)
    assert run.series["x"].not_finite == (2, 3)
    assert run.series["x"].last == 1.0
    assert run.series["y"].last is None
    assert run.problems == ("a/x was NaN or infinite at 2 of 3 steps, first at 2",)


def test_a_run_that_never_began(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    for name in (".lock", ".pid", "metrics.jsonl"):  # of a start that failed
        (folder / name).touch()
    with pytest.raises(UserError, match=r"r is no run: no run has begun in it"):
        collect(folder)
    (folder / "config.yaml").write_text("seed: 3\n", encoding="utf-8")
    run = collect(folder)
    assert (run.status, run.last_step, run.seconds, dict(run.series)) == (RunStatus.NEVER_STARTED, None, None, {})


def test_a_run_that_is_going_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "sft", lines=[{"step": 1, "sft/loss_over_tokens": 1.0}])
    assert collect(folder).status is RunStatus.INTERRUPTED
    heart = Heart(folder, "sft")
    assert collect(folder).status is RunStatus.RUNNING
    heart.stop(State.STOPPED)
    assert collect(folder).status is RunStatus.INTERRUPTED
    write_run(tmp_path / "p" / "01-sft", "sft", lines=[{"step": 1, "sft/loss_over_tokens": 1.0}])
    Heart(tmp_path / "p" / "01-sft", "sft")
    assert collect(tmp_path / "p").status is RunStatus.RUNNING


def test_warnings_of_the_run_are_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "sft")
    for level, message in (("notice", "hello"), ("warning", "a judge abstained"), ("warning", "a judge abstained")):
        append_event(folder, {"level": level, "message": message})
    run = collect(folder)
    assert run.warnings == ("a judge abstained",) * 2
    assert page([run]).problems == ("a judge abstained (2 times)",)


def test_damaged_side_files_are_told_and_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", "sft", lines=[{"step": 1, "sft/epoch": 1}])
    (folder / "config.yaml").write_text("a: [1, 2\nb: }", encoding="utf-8")
    (folder / "provenance.json").write_text("[1]", encoding="utf-8")
    run = collect(folder)
    assert run.config == {} and run.provenance == {}
    assert run.config_text == "a: [1, 2\nb: }"
    assert len(run.problems) == 2
    assert run.problems[0].startswith("config.yaml can't be read")
    assert run.problems[1] == "provenance.json holds list, not a mapping; left out"
    assert run.stage == "run"  # nothing tells what it was


def test_the_outermost_readable_rollouts_are_taken(tmp_path: Path) -> None:
    rows = {n: rollout_rows(3, mean=n, seed=n) for n in (1, 5, 9)}
    folder = write_run(tmp_path / "r", "ppo", rollouts=rows)
    whole = (folder / "rollouts" / "000009.jsonl.gz").read_bytes()
    (folder / "rollouts" / "000009.jsonl.gz").write_bytes(whole[:20])
    (folder / "rollouts" / ".tmp-1-0").write_bytes(b"")
    run = collect(folder)
    assert (run.first.number, run.last.number) == (1, 5)
    assert run.first.rollouts[0].answer.score == rows[1][0]["score"]
    assert run.first.rollouts[0].answer.finish_reason == "length"
    assert any("000009.jsonl.gz" in problem and "cut off" in problem for problem in run.problems)


def test_a_single_rollout_file_is_first_and_not_last(tmp_path: Path) -> None:
    run = collect(write_run(tmp_path / "r", "ppo", rollouts={4: rollout_rows(2)}))
    assert run.first.number == 4 and run.last is None
    assert run.status is RunStatus.INTERRUPTED


def test_rows_of_a_cut_off_gzip_that_come_before_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n') + gzip.compress(b'{"a": 2}\n' * 500)[:-12])
    problems: list[str] = []
    rows = read_json_lines(path, problems)
    assert rows[:2] == [{"a": 1}, {"a": 2}]
    assert problems[-1] == "x.jsonl.gz: the file is cut off; read as far as it goes"


def test_samples_have_two_sides(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "before": "b", "after": "a", "score_before": 1, "score_after": 3.5, "kl": 4.0,
         "finish_before": "eos", "finish_after": "length", "length_after": 16, "policy": "ppo"},
        {"prompt": [{"role": "user", "content": "hi"}], "before": None, "after": "a", "score_after": None},
    ]  # fmt: skip
    first, second = collect(write_run(tmp_path / "r", "compare", samples=rows)).samples
    assert (first.gain, first.policy) == (2.5, "ppo")
    assert (first.before.ended, first.after.ended) == ("eos", "cut by the limit")
    assert (first.before.kl, first.after.kl) == (None, 4.0)
    assert (first.before.length, first.after.length) == (None, 16)
    assert (second.prompt, second.before.text, second.gain) == ("user: hi", "", None)


def test_a_pipeline_in_order_with_what_its_stages_know(tmp_path: Path) -> None:
    pipeline = collect(write_pipeline(tmp_path / "p"))
    assert isinstance(pipeline, PipelineData)
    assert [stage.stage for stage in pipeline.stages] == ["world", "sft", "reward", "ppo", "compare"]
    assert pipeline.status is RunStatus.FINISHED
    (nll,) = pipeline.stages[1].results
    assert (nll.measure, nll.stage, nll.ceiling) == ("held_out_nll_over_answers", "", 6.92)
    assert [result.stage for result in pipeline.results][:2] == ["sft", "reward"]


def test_a_pipeline_killed_half_way_shows_the_rows_that_exist(tmp_path: Path) -> None:
    pipeline = collect(write_pipeline(tmp_path / "p", finished=False))
    assert pipeline.status is RunStatus.INTERRUPTED
    assert [(result.stage, result.subject) for result in pipeline.results] == [
        ("sft", "SFT"), ("reward", "reward model"), ("reward", "reward model"), ("reward", "longer wins"),
    ]  # fmt: skip
    assert [stage.status for stage in pipeline.stages][-2:] == [RunStatus.FINISHED, RunStatus.INTERRUPTED]


def test_folders_that_are_no_runs_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        collect(tmp_path / "absent")
    write_run(tmp_path / "runs" / "one", "sft")
    with pytest.raises(UserError, match=r"holds 1 of them.*runs/one"):
        collect(tmp_path / "runs")


@pytest.mark.parametrize(("written", "said"), [({"stages": []}, "1"), ({"format": 3, "results": []}, "3")])
def test_summaries_of_another_format_are_refused(tmp_path: Path, written: dict, said: str) -> None:
    folder = write_run(tmp_path / "r", "sft", summary=written)
    with pytest.raises(
        UserError, match=rf"r/summary\.json has format {said}, and this version of plaudit reads format 2"
    ):
        collect(folder)


def test_damaged_results_are_told_and_left_out(tmp_path: Path) -> None:
    whole = {
        "measure": "win_rate_over_prompts",
        "subject": "ppo",
        "value": 0.75,
        "low": "?",
        "facts": {"n": 1, "x": "y"},
    }
    rows = [whole, {**whole, "value": None}, {"subject": "no measure", "value": 1.0}, 7]
    run = collect(write_run(tmp_path / "r", "compare", summary=summary(rows)))
    (result,) = run.results
    assert (result.value, result.low, dict(result.facts)) == (0.75, None, {"n": 1.0})
    assert run.problems == ("summary.json: 3 of 4 results can't be read; left out",)


def test_the_pipeline_folders_number_is_not_the_stages_name(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "07-own-stage", "")
    assert collect(folder).stage == "own-stage"


def test_flatten() -> None:
    config = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": True}, {"f": None}], "g": 1e-5, "h": []}
    assert flatten(config) == {
        "a.b": "1", "a.c": "{}", "d": "1, 2", "e.0.f": "true", "e.1.f": "null", "g": "1e-05", "h": "[]",
    }  # fmt: skip


def test_text_that_neither_utf8_nor_html_can_carry() -> None:
    assert clean_text("a\ud800b\x00\x1b\x7f\x85\n\tz") == "a\ufffdb␀␛␡\ufffd\n\tz"
    assert clean_text(None) == ""
    clean_text("好🎉\ud83d").encode("utf-8")


def test_the_helpers_speak_of_declared_measures() -> None:
    from plaudit.telemetry.register import measure_of
    from tests.report.folders import results

    keys = {key for line in ppo_lines(11) for key in line} - {"step", "time"}
    for key in keys | {result["measure"] for result in results()}:
        assert measure_of(key)
