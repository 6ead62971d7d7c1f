"""Win rates: ties half, abstentions out, both orders for pairwise judges, and the identities."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import UserError
from plaudit.evaluation.win_rate import judged_win_rate, rate_of, win_rate, win_rates_against
from plaudit.formulas.intervals import wilson_interval


def test_by_hand():
    result = win_rate([3.0, 1.0, 2.0, 5.0, None], [1.0, 1.0, 4.0, 0.0, 1.0])
    assert (result.wins, result.ties, result.losses, result.n, result.abstained) == (2, 1, 1, 4, 1)
    assert result.rate == 0.625


def test_the_interval_is_wilsons():
    result = win_rate([1.0] * 60 + [0.0] * 40, [0.5] * 100)
    assert (result.low, result.high) == pytest.approx(wilson_interval(60.0, 100), abs=1e-3)


def test_several_answers_to_one_prompt_are_one_trial():
    scores = [1.0, 0.0, 1.0, 1.0]
    once = win_rate(scores, [0.5] * 4, prompts=list("abcd"))
    often = win_rate(scores * 5, [0.5] * 20, prompts=list("abcd") * 5)
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


scores = st.one_of(st.none(), st.integers(-2, 2).map(float))


@given(st.lists(st.tuples(scores, scores), max_size=12))
def test_exchanging_the_sides_gives_one_minus_the_rate(pairs):
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    try:
        forward = win_rate(a, b)
    except UserError:
        with pytest.raises(UserError):
            win_rate(b, a)
        return
    backward = win_rate(b, a)
    assert forward.rate == pytest.approx(1.0 - backward.rate)
    assert forward.low == pytest.approx(1.0 - backward.high)
    assert (forward.wins, forward.ties, forward.abstained) == (backward.losses, backward.ties, backward.abstained)


def test_a_model_against_itself_is_even():
    result = win_rate([1.0, -2.0, 3.5], [1.0, -2.0, 3.5])
    assert (result.rate, result.ties) == (0.5, 3)
    assert result.low < 0.5 < result.high


def test_a_margin_makes_near_scores_ties():
    result = win_rate([1.0, 1.0, 1.0], [0.5, 0.4, 1.6], tie_margin=0.5)
    assert (result.wins, result.ties, result.losses) == (1, 1, 1)
    with pytest.raises(ValueError, match="tie_margin"):
        win_rate([1.0], [1.0], tie_margin=-0.1)


def test_many_against_one():
    scores = {"base": [0.0, 0.0, 0.0, 0.0], "sft": [1.0, 1.0, 1.0, 1.0], "ppo": [2.0, 2.0, 1.0, 0.0]}
    rates = win_rates_against(scores, "sft")
    assert {name: rate.rate for name, rate in rates.items()} == {"base": 0.0, "sft": 0.5, "ppo": 0.625}
    with pytest.raises(UserError, match=r"'dpo'.*base, sft, ppo"):
        win_rates_against(scores, "dpo")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="zip"):
        win_rate([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite"):
        win_rate([math.nan], [1.0])
    with pytest.raises(UserError, match="nothing to compare"):
        win_rate([None, 1.0], [1.0, None])
    with pytest.raises(UserError, match="nothing to compare"):
        rate_of([])


# --- pairwise judges ------------------------------------------------------------------------------------------------

PROMPTS = ["p", "q", "r", "s"]
LONG, SHORT = ["aaa", "bbb", "cc", "d"], ["a", "b", "ccc", "e"]


def longer(prompt: str, first: str, second: str) -> float:
    return 0.9 if len(first) > len(second) else 0.1 if len(first) < len(second) else 0.5


def test_a_fair_judge_by_hand():
    result = judged_win_rate(longer, PROMPTS, LONG, SHORT)
    assert (result.wins, result.losses, result.ties, result.disagreements) == (2, 1, 1, 0)
    assert result.rate == 0.625
    assert judged_win_rate(longer, PROMPTS, SHORT, LONG).rate == 0.375


def test_a_judge_who_favours_a_place_says_nothing():
    for favour in (0.99, 0.01):
        result = judged_win_rate(lambda prompt, first, second, p=favour: p, PROMPTS, LONG, SHORT)
        assert (result.rate, result.ties, result.disagreements) == (0.5, 4, 4)


def test_a_bias_for_the_first_place_turns_weak_preferences_into_ties_only():
    def biased(prompt: str, first: str, second: str) -> float:
        return min(1.0, longer(prompt, first, second) + 0.3)

    result = judged_win_rate(biased, PROMPTS, LONG, SHORT)
    # 0.9 → 1 and 0.1 → 0.4 keep their sides; the real tie, 0.5 → 0.8 twice, becomes a disagreement.
    assert (result.wins, result.losses, result.ties, result.disagreements) == (2, 1, 1, 1)


def test_preferring_once_and_shrugging_once_is_a_tie_without_disagreement():
    answers = iter([0.9, 0.5])
    result = judged_win_rate(lambda *_: next(answers), ["p"], ["a"], ["b"])
    assert (result.ties, result.disagreements) == (1, 0)


def test_a_judge_sees_the_prompt_and_both_orders():
    calls = []

    def judge(prompt, first, second):
        calls.append((prompt, first, second))
        return 0.5

    judged_win_rate(judge, ["p"], ["a"], ["b"])
    assert calls == [("p", "a", "b"), ("p", "b", "a")]


@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4))
def test_identities_hold_for_any_judge(forward, backward):
    table = {(a, b): p for a, b, p in zip(LONG, SHORT, forward, strict=True)}
    table |= {(b, a): p for a, b, p in zip(LONG, SHORT, backward, strict=True)}
    table |= {(a, a): p for a, p in zip(LONG, forward, strict=True)}

    def judge(prompt: str, first: str, second: str) -> float:
        return table[first, second]

    there, back = judged_win_rate(judge, PROMPTS, LONG, SHORT), judged_win_rate(judge, PROMPTS, SHORT, LONG)
    assert there.rate == 1.0 - back.rate
    assert judged_win_rate(judge, PROMPTS, LONG, LONG).rate == 0.5


def test_abstaining_in_one_order_is_abstaining():
    result = judged_win_rate(
        lambda prompt, first, second: None if first == "b" else 0.9, ["p", "q"], ["a", "c"], ["b", "d"]
    )
    assert (result.n, result.abstained) == (1, 1)


@pytest.mark.parametrize("probability", [1.5, -0.1, math.nan])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(UserError, match="probability"):
        judged_win_rate(lambda *_: probability, ["p"], ["a"], ["b"])
