"""Histograms by hand numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from plaudit.report.spread import distributions
from tests.report.folders import rollout_rows, sample_rows
from tests.report.test_curves import run_of


def test_the_distribution_counts_shares_in_common_bins(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "before": "b", "after": "a", "score_before": before, "score_after": after}
        for before, after in [(0.0, 3.0), (0.0, 3.0), (0.0, 0.0), (1.5, None)]
    ]
    figure, _ = distributions([run_of(tmp_path / "r", "compare", [], samples=rows)])
    before, after = figure.plot["data"]
    assert before["name"] == "before: mean 0.375, n = 4"
    assert after["name"] == "after: mean 2, n = 3"
    assert before["x"] == after["x"]
    assert (before["y"][0], before["y"][15], sum(before["y"])) == (0.75, 0.25, 1.0)
    assert (after["y"][0], after["y"][-1]) == pytest.approx((1 / 3, 2 / 3))


def test_distributions_by_policy_and_from_rollouts(tmp_path: Path) -> None:
    samples = [*sample_rows(20), *({**row, "policy": "control"} for row in sample_rows(20))]
    made = distributions([run_of(tmp_path / "c", "compare", [], samples=samples)])
    assert [figure.title for figure in made] == [
        f"{kind} before and after · {policy}" for policy in ("ppo", "control") for kind in ("Scores", "Lengths")
    ]
    rollouts = {1: rollout_rows(9), 8: rollout_rows(9)}
    figure, _ = distributions([run_of(tmp_path / "r", "ppo", [], rollouts=rollouts)])
    assert figure.plot["data"][1]["name"].startswith("iteration 8: mean")
    assert distributions([run_of(tmp_path / "one", "ppo", [], rollouts={1: rollout_rows(9)})]) == []


def test_equal_scores_and_huge_ones_make_a_figure(tmp_path: Path) -> None:
    for name, score in (("equal", 1.0), ("huge", 1.7e308)):
        words = {"prompt": "p", "before": "b", "after": "a"}
        rows = [{**words, "score_before": x, "score_after": score} for x in (-score, score)]
        figure, _ = distributions([run_of(tmp_path / name, "compare", [], samples=rows)])
        assert sum(figure.plot["data"][0]["y"]) == 1.0


def test_lengths_in_tokens_with_what_the_limit_cut(tmp_path: Path) -> None:
    def rows(lengths: list[int]) -> list[dict]:
        ends = ["length" if length == 16 else "eos" for length in lengths]
        return [{"response": "r", "length": n, "finish_reason": end} for n, end in zip(lengths, ends, strict=True)]

    rollouts = {1: rows([2, 2, 16, 3]), 5: rows([4, 4, 4, 4])}
    (figure,) = distributions([run_of(tmp_path / "r", "ppo", [], rollouts=rollouts)])
    assert figure.title == "Lengths before and after"
    assert figure.caption == "Cut by the limit: iteration 1 25 %, iteration 5 0 %."
    early, late = figure.plot["data"]
    assert early["x"][:3] == [2.0, 3.0, 4.0]  # a bin for each whole number
    assert (early["y"][:3], early["y"][14], late["y"][2]) == ([0.5, 0.25, 0.0], 0.25, 1.0)
    assert figure.plot["layout"]["xaxis"]["title"]["text"] == "length, tokens"


def test_lengths_in_characters_where_no_tokens_are_known(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "before": "four", "after": "sixteen letters."}]
    (figure,) = distributions([run_of(tmp_path / "r", "compare", [], samples=rows)])
    assert figure.plot["layout"]["xaxis"]["title"]["text"] == "length, characters"
    assert [trace["name"] for trace in figure.plot["data"]] == ["before: mean 4, n = 1", "after: mean 16, n = 1"]
