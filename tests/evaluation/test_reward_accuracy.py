"""Accuracy over pairs: ties on either side, abstentions, subsets, and the expectation under known labels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import UserError
from plaudit.evaluation.reward_accuracy import (
    expected_accuracy,
    expected_accuracy_of_rankings,
    group_of,
    pair_accuracy,
    reward_accuracy,
    score_groups,
)
from plaudit.records.text import Comparison, Prompt, Ranking
from plaudit.scoring.functions import FunctionScorer


def test_three_answers_by_hand():
    # Labels b > a > c. Pairs: (b, a) right 5 > 4; (a, c) wrong 4 < 4.5; (b, c) right.
    result = pair_accuracy([[4.0, 5.0, 4.5]], [[2, 1, 3]])
    assert result.accuracy == pytest.approx(2 / 3)
    assert (result.pairs, result.prompts, result.score_ties, result.label_ties, result.abstained) == (3, 1, 0, 0, 0)


def test_a_sign_flip_turns_the_accuracy_round():
    ranks = [[1, 2, 3], [2, 1]]
    right, wrong = (
        pair_accuracy([[3.0, 2.0, 1.0], [0.0, 9.0]], ranks),
        pair_accuracy([[-3.0, -2.0, -1.0], [0.0, -9.0]], ranks),
    )
    assert (right.accuracy, wrong.accuracy) == (1.0, 0.0)
    assert right.low == pytest.approx(1.0 - wrong.high)


def test_equal_scores_count_half():
    result = pair_accuracy([[1.0, 1.0], [2.0, 1.0], [1.0, 2.0], [0.0, 0.0]], [[1, 2]] * 4)
    assert result.accuracy == 0.5
    assert (result.score_ties, result.pairs) == (2, 4)
    assert pair_accuracy([[1.0, 1.0], [2.0, 1.0]], [[1, 2]] * 2).accuracy == 0.75


def test_ties_in_the_labels_are_left_out_and_counted():
    # Ranks 1, 1, 2: the pair of the two firsts says nothing; both others are judged, one of them wrongly.
    result = pair_accuracy([[3.0, 1.0, 2.0]], [[1, 1, 2]])
    assert (result.pairs, result.label_ties, result.accuracy) == (2, 1, 0.5)


def test_abstentions_are_left_out_and_counted():
    result = pair_accuracy([[3.0, None, 2.0]], [[1, 2, 3]])
    assert (result.pairs, result.abstained, result.accuracy) == (1, 2, 1.0)


def test_pairs_count_alike_overall_and_prompts_count_alike_by_prompt():
    # One prompt with 3 pairs, all right; one with 1 pair, wrong.
    result = pair_accuracy([[3.0, 2.0, 1.0], [1.0, 2.0]], [[1, 2, 3], [1, 2]])
    assert result.accuracy == 0.75
    assert result.accuracy_by_prompt == 0.5


def test_rankings_of_one_prompt_are_one_prompt():
    scores, ranks = [[2.0, 1.0], [1.0, 2.0], [2.0, 1.0]], [[1, 2]] * 3
    result = pair_accuracy(scores, ranks, prompts=["p", "p", "q"])
    assert result.prompts == 2
    assert result.accuracy_by_prompt == pytest.approx((0.5 + 1.0) / 2)
    apart = pair_accuracy(scores, ranks)
    assert apart.prompts == 3
    assert apart.accuracy == result.accuracy


def test_the_same_pairs_said_again_do_not_narrow_the_interval():
    scores, ranks = [[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [2.0, 1.0]], [[1, 2]] * 4
    once = pair_accuracy(scores, ranks, prompts=list("abcd"))
    often = pair_accuracy(scores * 9, ranks * 9, prompts=list("abcd") * 9)
    assert often.accuracy == once.accuracy
    # C / (C − 1) = 4/3 of the binomial variance either way.
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_subsets_are_measured_apart_and_an_empty_one_is_absent():
    result = pair_accuracy(
        [[2.0, 1.0], [1.0, 2.0], [1.0, 1.0]], [[1, 2], [1, 2], [1, 1]], subsets=["easy", "hard", "tied"]
    )
    assert {name: part.accuracy for name, part in result.subsets.items()} == {"easy": 1.0, "hard": 0.0}
    assert result.accuracy == 0.5
    assert result.label_ties == 1


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 3)), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_answers_is_indifferent(answers, random):
    def measured(rows):
        try:
            result = pair_accuracy([[float(score) for score, _ in rows]], [[rank for _, rank in rows]])
        except UserError:
            return None
        return result.accuracy, result.pairs, result.label_ties

    shuffled = list(answers)
    random.shuffle(shuffled)
    assert measured(answers) == measured(shuffled)


@pytest.mark.parametrize("ranks", [[[1, 1]], [[1]], []])
def test_without_a_pair_there_is_no_accuracy(ranks):
    with pytest.raises(UserError, match="no pair"):
        pair_accuracy([[1.0] * len(row) for row in ranks], ranks)


def test_scores_must_be_numbers_and_fit_the_ranks():
    with pytest.raises(ValueError, match="finite"):
        pair_accuracy([[math.nan, 1.0]], [[1, 2]])
    with pytest.raises(ValueError, match="zip"):
        pair_accuracy([[1.0, 2.0, 3.0]], [[1, 2]])
    with pytest.raises(ValueError, match="zip"):
        pair_accuracy([[1.0, 2.0]], [[1, 2], [1, 2]])


# --- with a scorer --------------------------------------------------------------------------------------------------


def ranking(prompt: str, responses: tuple[str, ...], ranks: tuple[int, ...], **columns) -> Ranking:
    return Ranking(prompt=Prompt.of_text(prompt), responses=responses, ranks=ranks, columns=columns)


LENGTH = FunctionScorer(function=lambda completions: [None if c == "?" else len(c) for c in completions], name="length")


def test_a_scorer_on_rankings_and_comparisons():
    rows = [
        ranking("p", ("aaa", "a", "aa"), (1, 2, 3), topic="x"),
        Comparison(prompt=Prompt.of_text("q"), chosen="b", rejected="bbb"),
        ranking("r", ("?", "cc", "c"), (1, 2, 3), topic="y"),
    ]
    result = reward_accuracy(LENGTH, rows, subset_column="topic")
    # p: right, right, wrong; q: wrong; r: one pair right, two abstained on.
    assert result.accuracy == pytest.approx(3 / 5)
    assert (result.pairs, result.abstained, result.prompts) == (5, 2, 3)
    assert result.subsets["x"].accuracy == pytest.approx(2 / 3)
    assert result.subsets["y"].accuracy == 1.0


def test_rows_with_the_same_prompt_are_one_prompt():
    rows = [Comparison(prompt=Prompt.of_text("q"), chosen="bb", rejected="b") for _ in range(5)]
    result = reward_accuracy(LENGTH, rows)
    assert (result.prompts, result.pairs) == (1, 5)
    # Five times the same prompt: the interval of one trial.
    assert result.low == pytest.approx(1 / (1 + 1.96**2))


def test_columns_reach_the_scorer_and_batches_keep_the_order():
    seen = []

    def score(completions, key):
        seen.append(len(completions))
        return [float(k) for k in key]

    rows = [ranking(f"p{i}", ("a", "b"), (1, 2), key=i) for i in range(300)]
    scores = score_groups(FunctionScorer(function=score, name="key"), [group_of(row) for row in rows])
    assert scores == [[float(i), float(i)] for i in range(300)]
    assert sum(seen) == 600
    assert len(seen) == 3
    assert max(seen) <= 256


def test_nothing_to_measure_and_a_missing_column_are_told():
    with pytest.raises(UserError, match="no rankings"):
        reward_accuracy(LENGTH, [])
    with pytest.raises(UserError, match="'topic'"):
        reward_accuracy(LENGTH, [ranking("p", ("a", "b"), (1, 2))], subset_column="topic")


# --- known label probabilities --------------------------------------------------------------------------------------


def test_expected_accuracy_by_hand():
    # right way 0.9, wrong way 1 − 0.8, tie 0.5; the best judge reaches (0.9 + 0.8 + 0.6) / 3.
    result = expected_accuracy([2.0, -1.0, 0.0], [0.9, 0.8, 0.4])
    assert result.accuracy == pytest.approx((0.9 + 0.2 + 0.5) / 3)
    assert result.ceiling == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert result.pairs == 3


def test_the_truth_itself_reaches_the_ceiling_and_its_opposite_the_rest():
    true = [[0.0, math.log(3.0)], [2.0, 2.0]]
    best = expected_accuracy_of_rankings(true, true)
    # σ(log 3) = 3/4; a true tie is a coin whatever the judge says.
    assert best.accuracy == best.ceiling == pytest.approx((0.75 + 0.5) / 2)
    worst = expected_accuracy_of_rankings([[-r for r in row] for row in true], true)
    assert worst.accuracy == pytest.approx((0.25 + 0.5) / 2)


def test_louder_noise_lowers_the_ceiling():
    true = [[0.0, 2.0 * math.log(3.0)]]
    assert expected_accuracy_of_rankings(true, true, noise_scale=2.0).ceiling == pytest.approx(0.75)
    assert expected_accuracy_of_rankings(true, true, noise_scale=1.0).ceiling == pytest.approx(0.9)
    with pytest.raises(ValueError, match="noise_scale"):
        expected_accuracy_of_rankings(true, true, noise_scale=0.0)


def test_it_is_what_the_measured_accuracy_tends_to():
    # Two prompts of two answers, the labels of each enumerated: four label sets with their probabilities.
    true, scores = [[0.0, 1.0], [0.5, 0.0]], [[0.0, 3.0], [0.0, 3.0]]
    p, q = 1 / (1 + math.exp(1.0)), 1 / (1 + math.exp(-0.5))  # that the first answer is preferred
    mean = 0.0
    for first, weight_first in (([1, 2], p), ([2, 1], 1 - p)):
        for second, weight_second in (([1, 2], q), ([2, 1], 1 - q)):
            mean += weight_first * weight_second * pair_accuracy(scores, [first, second]).accuracy
    assert expected_accuracy_of_rankings(scores, true).accuracy == pytest.approx(mean)


def test_extreme_rewards_do_not_overflow_and_abstentions_are_left_out():
    result = expected_accuracy_of_rankings([[1.0, 0.0, None]], [[1e4, -1e4, 0.0]])
    assert (result.accuracy, result.ceiling, result.pairs) == (1.0, 1.0, 1)
    assert expected_accuracy_of_rankings([[0.0, 1.0]], [[1e4, -1e4]]).accuracy == 0.0


@pytest.mark.parametrize(
    ("differences", "probabilities"), [([], []), ([1.0], [1.1]), ([1.0], [math.nan]), ([math.nan], [0.5])]
)
def test_what_is_no_probability_is_refused(differences, probabilities):
    with pytest.raises(ValueError, match="expected_accuracy"):
        expected_accuracy(differences, probabilities)
