"""Hand numbers for what pairs tell of a judge beside its accuracy."""

import math

import pytest

from plaudit.evaluation.pair_measures import (
    JudgedPair,
    calibration,
    judged_pairs,
    labellers_agreement,
    length_bias,
    margins,
    order_flips,
    position_bias,
    share,
)
from tests.kills import kills

LOG3 = math.log(3)


def pair(margin: float, *, longer: int = 1, better_first: bool = True, prompt: int = 0) -> JudgedPair:
    return JudgedPair(prompt=prompt, margin=margin, longer=longer, better_first=better_first)


@kills(
    "evaluation/pair_measures.py",
    old="better - worse, longer",
    new="worse - better, longer",
    why="margins with the wrong sign",
)
def test_pairs_by_hand():
    pairs = judged_pairs(
        [[1.0, 3.0, None], [2.0, 2.0]], [[2, 1, 3], [1, 1]], [["abc", "a", "b"], ["x", "y"]], ["p", "q"]
    )
    # The second answer is better by 2, shorter by 2 and listed second; the abstained and the tied are left out.
    assert pairs == [JudgedPair(prompt="p", margin=2.0, longer=-2, better_first=False)]


@kills(
    "evaluation/pair_measures.py",
    old="pair_bce(margins.abs(), right)",
    new="pair_bce(margins, right)",
    why="the label in the probability: a judge that is wrong is calibrated",
)
@kills(
    "evaluation/pair_measures.py",
    old="brier_score(margins.sigmoid(), torch.ones_like(margins))",
    new="brier_score(confidence, right)",
    why="a judge that finds all answers equal has a perfect Brier score",
)
def test_calibration_by_hand():
    # Confidence ¾ four times, right three times: calibrated. Then ½ (a draw) once.
    pairs = [pair(LOG3), pair(LOG3), pair(LOG3), pair(-LOG3), pair(0.0)]
    found = calibration(pairs, num_bins=5)
    assert found["ece"] == pytest.approx(0.0)
    assert found["brier"] == pytest.approx((3 / 16 + 9 / 16 + 1 / 4) / 5)
    assert found["log_loss"] == pytest.approx((3 * math.log(4 / 3) + math.log(4) + math.log(2)) / 5)
    assert [(one["pairs"], one["confidence"], one["accuracy"]) for one in found["bins"]] == [
        (1, 0.5, 0.5),
        (4, pytest.approx(0.75), 0.75),
    ]


def test_a_judge_that_says_nothing_is_calibrated_and_no_better_than_that():
    found = calibration([pair(0.0), pair(0.0)], num_bins=10)
    assert found["ece"] == 0.0
    assert found["brier"] == 0.25
    assert found["log_loss"] == pytest.approx(math.log(2))


def test_certain_and_wrong_is_not_infinite():
    found = calibration([pair(-1e4), pair(1e4)], num_bins=10)
    assert found["log_loss"] == pytest.approx(5e3)
    assert found["ece"] == 0.5
    assert found["bins"] == [{"pairs": 2, "confidence": 1.0, "accuracy": 0.5}]


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
    responses = [["aaaa", "b"], ["c", "ddd"], ["e", "f"]]
    scores = [[float(len(text)) for text in row] for row in responses]
    pairs = judged_pairs(scores, [[1, 2], [1, 2], [1, 2]], responses, [0, 1, 2])
    found = length_bias(pairs, scores, responses)
    assert found["accuracy_better_is_longer"]["value"] == 1.0
    assert found["accuracy_better_is_shorter"]["value"] == 0.0
    assert (found["accuracy_better_is_longer"]["pairs"], found["accuracy_better_is_shorter"]["pairs"]) == (1, 1)
    assert found["labels_prefer_longer"] == 0.5
    assert found["judge_prefers_longer"] == 1.0
    assert found["correlation_within_prompts"] == pytest.approx(1.0)


@kills(
    "evaluation/pair_measures.py",
    old="number - math.fsum(numbers) / len(numbers)",
    new="number",
    why="correlation with length between prompts for the one inside them",
)
def test_correlation_with_length_is_inside_prompts():
    """Prompts with long answers score low as a whole, yet in each the longer answer scores higher."""
    responses = [["a", "aa"], ["a" * 10, "a" * 12]]
    found = length_bias([pair(1.0)], [[10.0, 10.5], [0.0, 1.0]], responses)
    assert found["correlation_within_prompts"] == pytest.approx(1.0)
    assert length_bias([pair(1.0)], [[None, 3.0]], [["a", "b"]])["correlation_within_prompts"] == 0.0


def test_position_by_hand():
    pairs = [pair(1.0), pair(-1.0, better_first=False), pair(2.0, better_first=False), pair(0.0)]
    found = position_bias(pairs)
    assert found["labels_prefer_first"] == 0.5
    assert found["judge_prefers_first"]["value"] == (1 + 1 + 0 + 0.5) / 4


@kills(
    "evaluation/pair_measures.py",
    old="zip(straight, reversed(other), strict=True)",
    new="zip(straight, other, strict=True)",
    why="scores of reversed answers compared without turning them back",
)
def test_flips_by_hand():
    # Reversed scores: (c, b, a). First row keeps all three orders; second turns round; third has a draw in one.
    scores = [[3.0, 2.0, 1.0], [1.0, 0.0], [1.0, 1.0], [None, 2.0]]
    turned = [[-1.0, 0.0, 1.0], [5.0, 1.0], [2.0, 1.0], [2.0, 0.0]]
    found = order_flips(scores, turned, ["a", "b", "c", "d"])
    assert (found["value"], found["pairs"]) == ((0 + 0 + 0 + 1 + 0.5) / 5, 5)


@kills(
    "evaluation/pair_measures.py",
    old="(sign, _sign(sum(signs) - sign))",
    new="(sign, _sign(sum(signs)))",
    why="a labeller measured against a majority that he is part of",
)
def test_agreement_by_hand():
    a, b, tie = (1, 2), (2, 1), (1, 1)
    found = labellers_agreement([[a, a, b], [a, tie], [], [a]], ["p", "q", "r", "s"])
    # Row one: aa alike, ab and ab not. Row two: nobody to agree with.
    assert (found["two_labellers"]["value"], found["two_labellers"]["pairs"]) == (pytest.approx(1 / 3), 3)
    # The first two have no majority against them (a and b cancel), the third disagrees with aa; in row two the tie
    # against a counts half, and a has no majority to meet.
    assert (found["one_against_others"]["value"], found["one_against_others"]["pairs"]) == (0.25, 2)
    assert labellers_agreement([[a], []], ["p", "q"]) == {}


def test_shares_of_one_prompt_are_one_cluster():
    apart = share([1.0, 0.0] * 10, range(20))
    together = share([1.0, 0.0] * 10, [i // 10 * (i % 2) for i in range(20)])
    assert apart["value"] == together["value"] == 0.5
    assert together["high"] - together["low"] > apart["high"] - apart["low"]
