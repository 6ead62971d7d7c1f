import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.intervals import mean_interval, wilson_interval
from tests.kills import kills


@kills(
    "formulas/intervals.py",
    old="centre = share + z * z / (2 * n)",
    new="centre = share",
    why="Wald's interval with Wilson's name",
)
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_against_published_numbers(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)  # 81/263: Newcombe 1998, table I


@given(st.integers(1, 500), st.floats(0.0, 1.0), st.floats(0.5, 4.0))
def test_wilsons_ends_are_where_the_score_test_just_fails(n, share, z):
    successes = share * n
    low, high = wilson_interval(successes, n, z)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    for end in (low, high):
        assert abs(successes / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-7)


@given(st.integers(1, 500), st.floats(0.0, 1.0))
def test_wilson_of_wins_mirrors_that_of_losses(n, share):
    low, high = wilson_interval(share * n, n)
    assert wilson_interval(n - share * n, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_wilson_takes_half_wins_and_no_trials():
    assert wilson_interval(0.5, 1) == pytest.approx((0.0546, 0.9454), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_is_exact_at_the_ends():
    for n in range(1, 60):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1), (math.nan, 5), (1, 0)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="wilson_interval"):
        wilson_interval(successes, n)


def test_mean_interval_by_hand():
    assert mean_interval(3.0, 2.0, 16, z=2.0) == (2.0, 4.0)
    assert mean_interval(0.0, 1.0, 4) == pytest.approx((-0.98, 0.98))


def test_mean_interval_of_too_little_is_everything():
    for n in (0, 1):
        assert mean_interval(3.0, 0.0, n) == (-math.inf, math.inf)
    assert mean_interval(3.0, 0.0, 2) == (3.0, 3.0)


@pytest.mark.parametrize(("std", "n"), [(-1.0, 3), (1.0, -1)])
def test_mean_interval_refuses_negative_input(std, n):
    with pytest.raises(ValueError, match="mean_interval"):
        mean_interval(0.0, std, n)
