"""The sentences that results come to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from plaudit.records.results import Result
from plaudit.report.headline import headline, so_far
from tests.kills import kills
from tests.report.folders import ppo_lines
from tests.report.test_curves import run_of


def scored(subject: str, value: float) -> Result:
    return Result(stage="compare", measure="judge_score_over_prompts", subject=subject, value=value)


def won(subject: str, value: float, low: float, high: float) -> Result:
    return Result(
        stage="compare", measure="win_rate_over_prompts", subject=subject, against="sft", value=value, low=low,
        high=high, floor=0.5, ceiling=1.0,
    )  # fmt: skip


def spent(subject: str, nats: float) -> Result:
    return Result(stage="compare", measure="kl_baseline_over_prompts", subject=subject, against="sft", value=nats)


DEMO = [
    scored("sft", 0.6977), scored("ppo", 1.9813), scored("control", 0.6243), spent("ppo", 0.6527),
    spent("control", 0.0014), won("control", 0.4767, 0.42, 0.53), won("ppo", 0.8683, 0.83, 0.9),
]  # fmt: skip


@kills(
    "report/headline.py",
    old="return True if low > even else",
    new="return True if high > even else",
    why="a gain that chance explains is told as one",
)
def test_what_was_gained_at_which_price_and_that_the_control_gained_nothing() -> None:
    assert headline(DEMO, {"control"}) == (
        "ppo raised the mean score by the judge from 0.70 to 1.98, win rate 87 % against sft, for 0.65 nats; "
        "the control gained nothing (48 %).",
    )


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [
        (0.6, 0.55, 0.65, "the control gained too (60 %), which it should not"),
        (0.3, 0.25, 0.35, "the control lost (30 %)"),
    ],
)
def test_a_control_that_moves_is_told(value: float, low: float, high: float, words: str) -> None:
    assert words in headline([*DEMO[:5], won("control", value, low, high)], {"control"})[0]


@pytest.mark.parametrize(
    ("after", "wins", "verb"),
    [(1.9, (0.8, 0.7, 0.9), "raised"), (0.1, (0.2, 0.1, 0.3), "lowered"), (0.75, (0.52, 0.47, 0.57), "hardly moved")],
)
def test_verbs_say_which_way_it_went(after: float, wins: tuple[float, float, float], verb: str) -> None:
    (sentence,) = headline([scored("sft", 0.7), scored("new", after), won("new", *wins)])
    assert sentence.startswith(f"new {verb} the mean score by the judge from 0.70 to {after:.2f}")


def test_without_a_comparison_each_stage_says_what_it_reached() -> None:
    found = [
        Result(stage="sft", measure="held_out_nll_over_answers", subject="SFT", value=7.37, floor=29.1, ceiling=6.92),
        Result(stage="reward", measure="held_out_accuracy_over_pairs", subject="longer wins", value=0.5, role="floor"),
        Result(stage="reward", measure="held_out_accuracy_over_pairs", subject="reward model", value=0.763, floor=0.5),
    ]
    assert headline(found) == (
        "SFT: held-out loss per answer 7.37 nats (floor 29.10 nats, ceiling 6.92 nats).",
        "reward model: held-out pair accuracy 76 % (floor 50 %).",
    )
    rival = dataclasses.replace(found[1], value=0.71)
    named = "reward model: held-out pair accuracy 76 % (floor 50 %, longer wins 71 %)."
    assert headline([*found[1:], rival]) == (named,) and headline([rival, found[2]]) == (named,)
    assert headline([]) == ()


def test_a_comparison_without_a_common_measure_says_who_won() -> None:
    (sentence,) = headline([dataclasses.replace(DEMO[-1], stage="")])
    assert sentence == "ppo: win rate 87 % against sft."


def test_a_run_without_results_says_where_it_is(tmp_path: Path) -> None:
    lines = [{"step": 1, "ppo/score_over_responses": 0.1}, {"step": 9, "ppo/score_over_responses": 1.25}]
    assert so_far(run_of(tmp_path / "a", "ppo", lines)) == ("score: from 0.10 to 1.25, step 1 to step 9.",)
    assert so_far(run_of(tmp_path / "b", "ppo", lines[:1])) == ()
    assert so_far(run_of(tmp_path / "c", "ppo", ppo_lines(3)))[0].startswith("score: from ")
