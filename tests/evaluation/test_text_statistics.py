"""Statistics of a set of responses, by hand."""

import math

import pytest

from plaudit.evaluation.compare import text_statistics
from plaudit.evaluation.frontier import best_of_n_kl
from plaudit.records.text import FinishReason


def statistics_of(responses):
    return text_statistics(responses, [FinishReason.EOS] * len(responses), [1] * len(responses))


def test_by_hand():
    ends = [FinishReason.EOS, FinishReason.LENGTH, FinishReason.EOS]
    statistics = text_statistics(["a b a b", "a b", " "], ends, [5, 2, 2])
    assert statistics == pytest.approx(
        {
            "count": 3,
            "mean_characters": 11 / 3,
            "mean_words": 2.0,
            "mean_tokens": 3.0,
            "empty_share": 1 / 3,
            "distinct_1": 2 / 6,  # a, b among six words
            "distinct_2": 2 / 4,  # ab, ba, ab | ab: none spans two responses
            "repetition": (1 / 3 + 0.0 + 0.0) / 3,
            "eos_rate": 2 / 3,
            "stop_rate": 0.0,
            "length_rate": 1 / 3,
        }
    )


def test_empty_responses_are_defined():
    statistics = statistics_of(["", ""])
    assert (statistics["distinct_1"], statistics["repetition"], statistics["empty_share"]) == (1.0, 0.0, 1.0)


def test_variety_over_the_set_sees_what_no_single_response_shows():
    same, varied = statistics_of(["the cat sat"] * 10), statistics_of([f"w{i} x{i} y{i}" for i in range(10)])
    assert same["repetition"] == varied["repetition"] == 0.0
    assert same["distinct_2"] == pytest.approx(2 / 20)
    assert varied["distinct_2"] == 1.0


def test_chinese_characters_are_words():
    statistics = statistics_of(["aaaa", "你好你好"])
    assert statistics["distinct_1"] == pytest.approx(3 / 5)
    assert statistics["repetition"] == pytest.approx((0 + 1 / 3) / 2)
    assert statistics["mean_words"] == 2.5


def test_best_of_n_costs_what_enumeration_says():
    assert best_of_n_kl(1) == 0.0
    # Best of 2 of a continuous score: density 2u on [0, 1], KL = ∫ 2u log 2u du = log 2 − 1/2.
    steps = 100_000
    integral = sum(2 * u * math.log(2 * u) for u in ((i + 0.5) / steps for i in range(steps))) / steps
    assert best_of_n_kl(2) == pytest.approx(integral, abs=1e-6)
    assert best_of_n_kl(16) == pytest.approx(1.8350887, abs=1e-6)
    with pytest.raises(ValueError, match="at least 1"):
        best_of_n_kl(0)


def test_best_of_n_costs_less_where_scores_tie():
    """Four equally likely answers, two scores: a tie is broken by chance, so nothing is known within a score."""
    n, better = 3, 1 - 0.5**3  # at least one of three answers has the better score
    kl = better * math.log(better / 0.5) + (1 - better) * math.log((1 - better) / 0.5)
    assert 0.0 < kl < best_of_n_kl(n) - 0.1


def test_best_of_n_is_a_bound_for_answers_that_can_be_listed():
    """Ten answers of different scores: P(best is the k-th) = (k/10)^n − ((k−1)/10)^n; they may be drawn twice."""
    for n in (2, 4, 16):
        chances = [(k / 10) ** n - ((k - 1) / 10) ** n for k in range(1, 11)]
        assert sum(p * math.log(10 * p) for p in chances) < best_of_n_kl(n)
