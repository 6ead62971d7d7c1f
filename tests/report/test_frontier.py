"""Score against distance by hand numbers."""

from __future__ import annotations

from pathlib import Path

from plaudit.report.frontier import frontier
from tests.report.folders import ppo_lines, sft_lines
from tests.report.test_curves import run_of


def test_the_frontier_is_score_against_the_root_of_kl(tmp_path: Path) -> None:
    kls = {1: -0.01, 2: 4.0, 3: 9.0, 4: None}
    score, distance = "ppo/score_over_responses", "ppo/kl_ref_over_responses"
    lines = [{"step": step, distance: kl, score: step / 2} for step, kl in kls.items()]
    figure = frontier([run_of(tmp_path / "r", "ppo", [*lines, {"step": 5, score: 9.0}])])
    (trace,) = figure.plot["data"]
    assert trace["x"] == [0.0, 2.0, 3.0]
    assert trace["y"] == [0.5, 1.0, 1.5]
    assert trace["marker"]["color"] == trace["customdata"] == [1, 2, 3]
    axis = figure.plot["layout"]["coloraxis"]
    assert (axis["cmin"], axis["cmax"]) == (1, 3)


def test_runs_are_told_apart_and_others_left_out(tmp_path: Path) -> None:
    a, b = (run_of(tmp_path / name, "ppo", ppo_lines(5)) for name in "ab")
    sft = run_of(tmp_path / "s", "sft", sft_lines(5))
    assert len(frontier([sft, a]).plot["data"]) == 1
    both = frontier([a, b]).plot["data"]
    assert [trace["name"] for trace in both] == ["a", "b", "a", "b"]
    assert len({trace["marker"]["symbol"] for trace in both[:2]}) == 2
    assert frontier([sft]) is None


def test_a_frontier_of_many_points_is_thinned(tmp_path: Path) -> None:
    lines = ppo_lines(5001)
    lines[1234]["ppo/score_over_responses"] = 99.0
    trace = frontier([run_of(tmp_path / "r", "ppo", lines)]).plot["data"][0]
    assert len(trace["x"]) <= 2000
    assert max(trace["y"]) == 99.0 and trace["customdata"][-1] == 5001
