"""Win rates: ties half, abstentions out, and the identities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import UserError
from plaudit.evaluation import compare as module
from plaudit.formulas.intervals import wilson_interval
from plaudit.records.results import Result


def win_rate(a, b, *, prompts=None) -> Result:
    return module.win_rate("new", a, "old", b, prompts=list(range(len(a))) if prompts is None else prompts)


def test_by_hand():
    result = win_rate([3.0, 1.0, 2.0, 5.0, None], [1.0, 1.0, 4.0, 0.0, 1.0])
    assert (result.facts, result.ties, result.count) == ({"wins": 2, "losses": 1, "abstained": 1}, 1, 4)
    assert (result.value, result.subject, result.against, result.floor) == (0.625, "new", "old", 0.5)


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
    assert forward.value == pytest.approx(1.0 - backward.value)
    assert forward.low == pytest.approx(1.0 - backward.high)
    assert (forward.facts["wins"], forward.ties) == (backward.facts["losses"], backward.ties)


def test_a_model_against_itself_is_even():
    result = win_rate([1.0, -2.0, 3.5], [1.0, -2.0, 3.5])
    assert (result.value, result.ties) == (0.5, 3)
    assert result.low < 0.5 < result.high


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="zip"):
        win_rate([1.0, 2.0], [1.0])
    with pytest.raises(UserError, match="new against old: nothing to compare"):
        win_rate([None, 1.0], [1.0, None])
