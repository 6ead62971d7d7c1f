import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.correlation import mean_ranks, pearson, spearman
from tests.formulas.cases import numbers
from tests.kills import kills

ALL = pytest.mark.parametrize("measure", [pearson, spearman])


def f(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_pearson_by_hand():
    # Deviations (−1, 0, 1) and (−2, −1, 3): 5 / √(2 · 14).
    assert pearson(f(1, 2, 3), f(0, 1, 5)) == pytest.approx(5 / 28**0.5)
    assert pearson(f(1, 2, 3), f(0, -1, -5)) == pytest.approx(-5 / 28**0.5)


def test_spearman_sees_ranks_only_and_shares_them_in_ties():
    assert spearman(f(1, 10, 100), f(2, 3, 3.5)) == pytest.approx(1.0)
    # Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): deviations (−1.5, 0, 0, 1.5), (−1.5, −.5, .5, 1.5).
    assert spearman(f(1, 7, 7, 9), f(0, 1, 2, 3)) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


@kills(
    "formulas/correlation.py",
    old="last - 0.5 * (counts.double() - 1.0)",
    new="last",
    why="ties at the last of their places: Spearman with ties is wrong",
)
def test_mean_ranks_by_hand():
    assert mean_ranks(f(5, 1, 5, 5, -2)).tolist() == [4.0, 2.0, 4.0, 4.0, 1.0]


@ALL
def test_the_ends_of_the_scale(measure):
    x = numbers(0, 20)
    assert measure(x, 3.0 * x - 5.0) == pytest.approx(1.0)
    assert measure(x, -x) == pytest.approx(-1.0)


@ALL
def test_a_constant_follows_nothing(measure):
    constant, x = torch.full((3,), 0.1), f(1, 2, 3)
    assert measure(constant, x) == measure(x, constant) == measure(constant, constant) == 0.0
    assert measure(f(1), f(2)) == measure(f(), f()) == 0.0


@ALL
@given(values=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=8))
def test_symmetric_and_within_bounds(measure, values):
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*values, strict=True))
    assert measure(x, y) == pytest.approx(measure(y, x))
    assert -1.0 <= measure(x, y) <= 1.0
    assert measure(-x, y) == pytest.approx(-measure(x, y))


def test_pearson_of_tiny_and_of_huge_numbers():
    assert pearson(f(1e-200, 2e-200, 3e-200), f(0, 1, 5)) == pytest.approx(5 / 28**0.5)
    assert pearson(f(1e200, 2e200, 3e200), f(0, 1, 5)) == pytest.approx(5 / 28**0.5)
    assert pearson(f(1e8 + 1, 1e8 + 2, 1e8 + 3), f(0, 1, 5)) == pytest.approx(5 / 28**0.5)


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_nan_is_refused(measure):
    for pair in ((f(1, math.nan), f(1, 2)), (f(1, 2), f(math.nan, 2)), (f(1, 1), f(math.nan, 2))):
        with pytest.raises(ValueError, match="NaN"):
            measure(*pair)
    with pytest.raises(ValueError, match="infinite"):
        pearson(f(1, math.inf), f(1, 2))
