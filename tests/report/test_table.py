"""The table of results in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plaudit.records.results import Result
from plaudit.report.table import print_table
from tests.report.folders import summary, write_pipeline, write_run

LONG = Result(
    measure="expected_accuracy_over_pairs", subject="reward model (shuffled labels)", value=0.51349, floor=0.5,
    ceiling=0.777,
)  # fmt: skip


@pytest.mark.parametrize("columns", ["80", "", "120"])
def test_nothing_is_cut_at_any_usual_width(tmp_path: Path, capsys, monkeypatch, columns: str) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    rated = Result(measure="judge_score_over_prompts", subject="ppo", value=2.0, low=-1.9054, high=2.1)
    told = summary([LONG.to_plain(), rated.to_plain()], seconds=61.4, peak_memory_bytes=2**29, seed=3)
    print_table(write_run(tmp_path / "r", "reward", summary=told))
    out = capsys.readouterr().out
    assert {"(shuffled", "labels)", "51.3%", "50.0%", "→", "77.7%", "−1.91", "2.1"} <= set(out.split())
    assert max(len(line) for line in out.splitlines()[1:]) <= int(columns or 100)
    assert out.endswith("1 min 01 s, 512 MiB at most, seed 3\n")


def test_a_pipelines_table_says_what_it_came_to(tmp_path: Path, capsys) -> None:
    print_table(write_pipeline(tmp_path / "p"))
    out = capsys.readouterr().out
    text = " ".join(out.split())
    assert "ppo raised the mean score by the judge from 0.41 to 1.62, win rate 81 % against sft, for 6.50 nats." in text
    lines = [line.split() for line in out.splitlines()]
    for stage in ("sft", "reward", "compare"):
        assert [stage] in lines
    assert ["longer", "wins", "55.0%"] in lines  # beside the reward model's accuracy
    scores = [line for line in lines if (line and line[-1] == "0.46") or line[-1:] == ["1.69"]]
    assert scores[0][:5] == ["mean", "score", "by", "the", "judge"] or scores[0][-6:-5] == ["sft"]
    assert scores[1][0] == "ppo"  # the measure stands once


def test_a_run_without_results_prints_nothing(tmp_path: Path, capsys) -> None:
    print_table(write_run(tmp_path / "r", "ppo"))
    (tmp_path / "r" / "summary.json").write_text(json.dumps(summary()), encoding="utf-8")
    print_table(tmp_path / "r")
    assert capsys.readouterr().out == ""


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys) -> None:
    evil = Result(measure="win_rate_over_prompts", subject="\x1b[2J[red]x[/red]", value=0.5, against="\u202eb")
    print_table(write_run(tmp_path / "r", "compare", summary=summary([evil.to_plain()])))
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "␛[2J[red]x[/red]" in out
