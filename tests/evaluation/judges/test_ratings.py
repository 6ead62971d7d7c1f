"""How scores follow ratings, against numbers made by hand."""

import math

import pytest

from plaudit.evaluation.judges.agreement import labellers_correlation, of_ratings
from plaudit.evaluation.judges.rows import LabelledRows, score_rows
from plaudit.records.results import Result
from plaudit.records.tensors import Scores
from plaudit.records.text import Prompt, Rating
from plaudit.scoring.protocol import scores_of
from tests.kills import kills

SAID = {"a": 1.0, "b": 2.0, "c": 4.0, "d": -1.0, "e": 3.0, "silent": None}


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


def measured(rows, seed: int = 0) -> dict[str, Result]:
    results = of_ratings(score_rows("mine", Judge(), LabelledRows.of(rows)), seed)
    return {result.measure: result for result in results}


def test_each_aspect_by_its_part_or_by_the_score():
    rows = [
        rating("p", "a", care=3.0),
        rating("q", "b", care=5.0, tone=21.0),
        rating("r", "silent", care=99.0, tone=99.0),
        rating("s", "c", tone=38.0),
        rating("t", "d", care=-2.0, tone=-11.0),
    ]
    found = measured(rows)
    care, tone = found["aspect/care_rmse_over_labels"], found["aspect/tone_rmse_over_labels"]
    assert (care.count, tone.count, care.part, tone.part) == (3, 3, "care", "tone")
    assert care.value == pytest.approx(math.sqrt((2**2 + 3**2 + 1**2) / 3))  # 1, 2, −1 against 3, 5, −2
    assert tone.value == pytest.approx(math.sqrt((1 + 2**2 + 1) / 3))  # 20, 40, −10 against 21, 38, −11
    assert care.floor == pytest.approx(math.sqrt((1 + 3**2 + 4**2) / 3))  # 3, 5, −2 against their mean of 2
    order = [found[f"aspect/{name}_spearman_over_labels"].value for name in ("care", "tone")]
    assert order == [pytest.approx(1.0)] * 2
    assert not any("accuracy" in measure for measure in found), "no prompt has two answers to compare"


def test_numbers_of_one_aspect_by_hand():
    rows = [rating(f"{i}", name, score=x) for i, (name, x) in enumerate([("a", 0.0), ("b", 1.0), ("e", 5.0)])]
    found = measured(rows)
    linear, error = found["aspect/score_pearson_over_labels"], found["aspect/score_rmse_over_labels"]
    assert linear.value == pytest.approx(5 / 28**0.5)
    assert found["aspect/score_spearman_over_labels"].value == pytest.approx(1.0)
    assert error.value == pytest.approx((6 / 3) ** 0.5)
    assert error.floor == pytest.approx((14 / 3) ** 0.5)
    # The best line is 2.5 x − 3: errors ½, −1, ½.
    assert error.facts["rmse_of_best_line"] == pytest.approx(0.5**0.5)
    assert {result.part for result in found.values()} == {""}, "a rating without a name is of the whole answer"


def test_order_has_an_interval():
    rows = [
        rating(f"{i}", name, care=x) for i, (name, x) in enumerate([("a", 1.0), ("b", 3.0), ("c", 2.0), ("d", 0.0)])
    ]
    order = measured(rows)["aspect/care_spearman_over_labels"]
    assert order.value == pytest.approx(0.8)  # places 2 3 4 1 against 2 4 3 1: 1 − 6 · 2 / 60
    assert order.low <= 0.8 <= order.high <= 1.0
    assert (order.floor, order.ceiling) == (0.0, 1.0)


def test_constant_ratings_have_no_interval():
    found = measured([rating(f"{i}", name, care=5.0) for i, name in enumerate("abc")])
    linear = found["aspect/care_pearson_over_labels"]
    assert (linear.low, linear.high) == (None, None)


def test_pairs_of_a_prompt_that_nobody_rated_are_left_out():
    """a < b and b < c as rated; d has no rating of care."""
    rows = [rating("p", "a", care=1.0), rating("p", "b", care=2.0), rating("p", "c", care=1.5), rating("p", "d", x=9.0)]
    found = measured(rows)["aspect/care_accuracy_over_pairs"]
    assert (found.value, found.count, found.facts["label_ties"]) == (pytest.approx(2 / 3), 3, 0)


def test_several_labellers_count_as_their_mean():
    rows = [
        rating("p", "a", care=0.0),
        rating("p", "a", care=2.0),
        rating("q", "b", care=4.0),
        rating("r", "d", care=0.0),
    ]
    found = measured(rows)
    assert found["aspect/care_rmse_over_labels"].count == 3
    assert found["aspect/care_rmse_over_labels"].value == pytest.approx(math.sqrt((0 + 4 + 1) / 3))  # 1, 4, 0
    assert found["aspect/care_pearson_over_labels"].ceiling == pytest.approx(-1.0)


@kills(
    "evaluation/judges/agreement.py",
    old="own_units = [unit for _, _, unit in answers]\n    linear",
    new="own_units = [unit for row in units for unit in row][: len(answers)]\n    linear",
    why="unrated answers shift the prompts that intervals resample",
)
@pytest.mark.parametrize("silent", [0, 3])
def test_answers_that_the_judge_left_out_leave_their_prompts_too(silent):
    """Three prompts that the judge abstains on, before three that it rates: intervals are made of the latter."""
    rated = [rating(str(i % 3), "abcde"[i % 5], care=float(i)) for i in range(15)]
    rows = [rating(f"silent {i}", "silent", care=1.0) for i in range(silent)] + rated
    for measure, result in measured(rated).items():
        assert measured(rows)[measure].low == result.low


def test_labellers_correlation_by_hand():
    assert labellers_correlation([(1.0,), (2.0,)]) is None
    assert labellers_correlation([(1.0, 1.0), (2.0, 2.0), (9.0,)]) == pytest.approx(1.0)
    # (0 | 2), (2 | 0), (4 | 4), (4 | 4): deviations −2.5, −.5, 1.5, 1.5 against −.5, −2.5, 1.5, 1.5.
    assert labellers_correlation([(0.0, 2.0), (4.0, 4.0)]) == pytest.approx((1.25 + 1.25 + 4.5) / 11)
