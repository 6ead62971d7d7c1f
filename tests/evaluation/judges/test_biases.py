"""Hand numbers for what pairs tell of a judge beside its accuracy."""

import math

import pytest

from plaudit.evaluation.judges.biases import (
    calibration,
    length_bias,
    margins,
    order_flips,
    position_bias,
    reliability_bins,
)
from plaudit.evaluation.judges.pairs import JudgedPair, judged_pairs
from plaudit.records.text import Group, Prompt
from tests.kills import kills

LOG3 = math.log(3)


def pair(margin: float, *, longer: int = 1, better_first: bool = True, prompt: int = 0) -> JudgedPair:
    return JudgedPair(prompt=prompt, margin=margin, longer=longer, better_first=better_first)


def groups(*rows) -> list[Group]:
    return [Group(prompt=Prompt.of_text(str(i)), responses=tuple(row)) for i, row in enumerate(rows)]


def calibrated(pairs, num_bins: int = 10) -> dict[str, float]:
    return {result.measure: result.value for result in calibration("judge", pairs, num_bins, has_scale=True)}


@kills(
    "evaluation/judges/biases.py",
    old="pair_bce(margins.abs(), right)",
    new="pair_bce(margins, right)",
    why="the label in the probability: a judge that is wrong is calibrated",
)
@kills(
    "evaluation/judges/biases.py",
    old="brier_score(margins.sigmoid(), torch.ones_like(margins))",
    new="brier_score(margins.abs().sigmoid(), right)",
    why="a judge that finds all answers equal has a perfect Brier score",
)
def test_calibration_by_hand():
    # Confidence ¾ four times, right three times: calibrated. Then ½ (a draw) once.
    pairs = [pair(LOG3), pair(LOG3), pair(LOG3), pair(-LOG3), pair(0.0)]
    found = calibrated(pairs, num_bins=5)
    assert found["calibration_error_over_pairs"] == pytest.approx(0.0)
    assert found["brier_over_pairs"] == pytest.approx((3 / 16 + 9 / 16 + 1 / 4) / 5)
    assert found["log_loss_over_pairs"] == pytest.approx((3 * math.log(4 / 3) + math.log(4) + math.log(2)) / 5)
    assert [(one["pairs"], one["confidence"], one["accuracy"]) for one in reliability_bins(pairs, 5)] == [
        (1, 0.5, 0.5),
        (4, pytest.approx(0.75), 0.75),
    ]


def test_a_judge_that_says_nothing_is_calibrated_and_no_better_than_its_floors():
    results = calibration("judge", [pair(0.0), pair(0.0)], 10, has_scale=False)
    assert [(r.value, r.floor) for r in results] == [
        (pytest.approx(math.log(2)), pytest.approx(math.log(2))),
        (0.25, 0.25),
        (0.0, None),
    ]
    assert {r.facts["has_scale"] for r in results} == {0.0}


def test_certain_and_wrong_is_not_infinite():
    pairs = [pair(-1e4), pair(1e4)]
    found = calibrated(pairs)
    assert found["log_loss_over_pairs"] == pytest.approx(5e3)
    assert found["calibration_error_over_pairs"] == 0.5
    assert reliability_bins(pairs, 10) == [{"pairs": 2, "confidence": 1.0, "accuracy": 0.5}]


def test_margins_by_hand():
    found = margins([pair(-1.0), pair(0.0), pair(1.0), pair(4.0)])
    assert found["mean"] == 1.0
    assert found["std"] == pytest.approx((4 + 1 + 0 + 9) ** 0.5 / 2)
    assert found["quantiles"]["0.5"] == 0.5
    counts = found["histogram"]["counts"]
    assert (found["histogram"]["low"], found["histogram"]["width"], sum(counts)) == (-1.0, pytest.approx(5 / 30), 4)
    assert [i for i, count in enumerate(counts) if count] == [0, 6, 12, 29]


def test_margins_all_alike_have_a_histogram():
    assert margins([pair(2.0), pair(2.0)])["histogram"] == {"low": 2.0, "width": 1.0, "counts": [2] + [0] * 29}


def test_a_judge_that_counts_characters_is_right_where_the_better_is_longer_only():
    answers = groups(["aaaa", "b"], ["c", "ddd"], ["e", "f"])
    scores = [[float(len(text)) for text in row.responses] for row in answers]
    pairs = judged_pairs(scores, [[1, 2], [1, 2], [1, 2]], answers, [""] * 3).pairs
    longer, shorter, correlation = length_bias("judge", pairs, scores, answers)
    assert (longer.measure, longer.value, longer.count) == ("accuracy_where_longer_over_pairs", 1.0, 1)
    assert (shorter.measure, shorter.value, shorter.count) == ("accuracy_where_shorter_over_pairs", 0.0, 1)
    assert correlation.value == pytest.approx(1.0)
    assert correlation.facts == {"labels_prefer_longer": 0.5, "judge_prefers_longer": 1.0}


@kills(
    "evaluation/judges/biases.py",
    old="number - math.fsum(numbers) / len(numbers)",
    new="number",
    why="correlation with length between prompts for the one inside them",
)
def test_correlation_with_length_is_inside_prompts():
    """Prompts with long answers score low as a whole, yet in each the longer answer scores higher."""
    answers = groups(["a", "aa"], ["a" * 10, "a" * 12])
    *_, correlation = length_bias("judge", [pair(1.0)], [[10.0, 10.5], [0.0, 1.0]], answers)
    assert correlation.value == pytest.approx(1.0)
    *_, none = length_bias("judge", [pair(1.0)], [[None, 3.0]], groups(["a", "b"]))
    assert none.value == 0.0


def test_position_by_hand():
    pairs = [pair(1.0), pair(-1.0, better_first=False), pair(2.0, better_first=False), pair(0.0)]
    (found,) = position_bias("judge", pairs)
    assert found.value == (1 + 1 + 0 + 0.5) / 4
    assert found.facts == {"labels_prefer_first": 0.5}
    assert position_bias("judge", [pair(1.0), pair(-1.0)]) == [], "comparisons list the better one first"


@kills(
    "evaluation/judges/biases.py",
    old="zip(straight, reversed(other), strict=True)",
    new="zip(straight, other, strict=True)",
    why="scores of reversed answers compared without turning them back",
)
def test_flips_by_hand():
    # Reversed scores: (c, b, a). First row keeps all three orders; second turns round; third has a draw in one.
    scores = [[3.0, 2.0, 1.0], [1.0, 0.0], [1.0, 1.0], [None, 2.0]]
    turned = [[-1.0, 0.0, 1.0], [5.0, 1.0], [2.0, 1.0], [2.0, 0.0]]
    found = order_flips("judge", scores, turned, groups("abc", "de", "fg", "hi"))
    assert (found.value, found.count) == ((0 + 0 + 0 + 1 + 0.5) / 5, 5)
