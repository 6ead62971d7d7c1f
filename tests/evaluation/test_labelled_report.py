"""What the report says of ratings and verdicts, against numbers made by hand."""

import math

import pytest

from plaudit.evaluation.labelled_report import rating_report, verdict_report
from plaudit.records.tensors import Scores
from plaudit.records.text import Prompt, Rating, Verdict
from plaudit.scoring.protocol import scores_of
from tests.kills import kills

SAID = {"a": 1.0, "b": 2.0, "c": 4.0, "d": -1.0, "zero": 0.0, "silent": None}


class Judge:
    """Scores by name; `tone` is a part of its own, ten times the score."""

    name = "judge"

    def score(self, groups) -> Scores:
        values = [SAID[text] for group in groups for text in group.responses]
        said = scores_of("judge", values)
        tone = scores_of("tone", [None if v is None else 10 * v for v in values])
        return Scores(scores=said.scores, valid=said.valid, parts={"aspect/tone": tone.scores})


def rating(prompt: str, response: str, **scores: float) -> Rating:
    return Rating(prompt=Prompt.of_text(prompt), response=response, scores=scores)


def verdict(prompt: str, response: str, label: bool) -> Verdict:
    return Verdict(prompt=Prompt.of_text(prompt), response=response, label=label)


def test_each_aspect_by_its_part_or_by_the_score():
    rows = [
        rating("p", "a", care=3.0),
        rating("q", "b", care=5.0, tone=21.0),
        rating("r", "silent", care=99.0, tone=99.0),
        rating("s", "c", tone=38.0),
        rating("t", "d", care=-2.0, tone=-11.0),
    ]
    found = rating_report(Judge(), rows).aspects
    care, tone = found["care"], found["tone"]
    assert (care.answers, tone.answers) == (3, 3)
    assert care.rmse == pytest.approx(math.sqrt((2**2 + 3**2 + 1**2) / 3))  # 1, 2, −1 against 3, 5, −2
    assert tone.rmse == pytest.approx(math.sqrt((1 + 2**2 + 1) / 3))  # 20, 40, −10 against 21, 38, −11
    assert care.label_std == pytest.approx(math.sqrt((1 + 3**2 + 4**2) / 3))  # 3, 5, −2 against their mean of 2
    assert care.spearman.value == tone.spearman.value == pytest.approx(1.0)


def test_ratings_make_two_rows_an_aspect_with_an_interval():
    rows = [
        rating(f"{i}", name, care=x) for i, (name, x) in enumerate([("a", 1.0), ("b", 3.0), ("c", 2.0), ("d", 0.0)])
    ]
    order, error = rating_report(Judge(), rows).rows("mine")
    assert order["value"] == pytest.approx(0.8)  # places 2 3 4 1 against 2 4 3 1: 1 − 6 · 2 / 60
    assert order["low"] <= 0.8 <= order["high"] <= 1.0
    assert (error["value"], error["low"]) == (pytest.approx(math.sqrt((0 + 1 + 4 + 1) / 4)), None)


def test_verdicts_by_hand():
    rows = [
        verdict("p", "a", True),
        verdict("p", "b", False),
        verdict("q", "zero", True),
        verdict("r", "d", False),
        verdict("s", "c", True),
        verdict("t", "silent", False),
    ]
    report = verdict_report(Judge(), rows)
    found = report.measured
    assert found.answers == 5
    assert found.accuracy.value == pytest.approx((1 + 0 + 0.5 + 1 + 1) / 5)
    assert found.majority == pytest.approx(3 / 5)
    assert found.auc.value == pytest.approx(4 / 6)  # of 1, 0, 4 over 2, −1: a > d, zero > d, c > both
    accuracy, area = report.rows("mine")
    assert (accuracy["floor"], area["floor"]) == (found.majority, 0.5)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert area["low"] <= area["value"] <= area["high"]


def test_the_majority_may_be_rejected():
    report = verdict_report(Judge(), [verdict("p", "a", True), *(verdict(q, "b", False) for q in "qrs")])
    assert report.measured.majority == 0.75


def test_answers_of_one_prompt_tell_less_than_answers_of_many():
    def width(prompts) -> float:
        labels = [True] * 6 + [False] * 6
        rows = [verdict(f"{next(prompts)}", "a", label) for label in labels]
        accuracy = verdict_report(Judge(), rows).measured.accuracy
        return accuracy.high - accuracy.low

    assert width(iter([0] * 6 + [1] * 6)) > width(iter(range(12))) + 0.1


@kills(
    "evaluation/labelled_report.py",
    old="labels, [units[i] for i in there]",
    new="labels, [units[i] for i in range(len(there))]",
    why="unrated answers shift the prompts that intervals resample",
)
@pytest.mark.parametrize("silent", [0, 3])
def test_answers_that_the_judge_left_out_leave_their_prompts_too(silent):
    """Three prompts that the judge abstains on, before three that it rates: intervals are made of the latter."""
    rated = [rating(str(i % 3), "abcd"[i % 4], care=float(i)) for i in range(12)]
    rows = [rating(f"silent {i}", "silent", care=1.0) for i in range(silent)] + rated
    assert rating_report(Judge(), rows) == rating_report(Judge(), rated)


def test_one_label_has_no_area():
    report = verdict_report(Judge(), [verdict("p", "a", True), verdict("q", "b", True)])
    assert report.metrics() == {"held_out_accuracy_over_rows": 1.0}
    assert len(report.rows("mine")) == 1
