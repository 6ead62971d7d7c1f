"""Hand numbers for scores beside ratings and verdicts, and what their intervals draw."""

import math
from dataclasses import asdict
from itertools import product

import pytest
import torch

from plaudit.evaluation.label_measures import (
    Estimate,
    auc,
    estimate,
    labellers_correlation,
    rating_measures,
    verdict_measures,
)
from plaudit.formulas.correlation import pearson
from tests.formulas.cases import numbers
from tests.kills import kills

LOG3 = math.log(3)


def test_labellers_correlation_by_hand():
    assert labellers_correlation([(1.0,), (2.0,)]) is None
    assert labellers_correlation([(1.0, 1.0), (2.0, 2.0), (9.0,)]) == pytest.approx(1.0)
    # (0 | 2), (2 | 0), (4 | 4), (4 | 4): deviations −2.5, −.5, 1.5, 1.5 against −.5, −2.5, 1.5, 1.5.
    assert labellers_correlation([(0.0, 2.0), (4.0, 4.0)]) == pytest.approx((1.25 + 1.25 + 4.5) / 11)


@kills(
    "evaluation/label_measures.py",
    old="(starts[draw] - before)",
    new="starts[draw]",
    why="the bootstrap draws members of the next unit",
)
def test_ratings_by_hand():
    found = rating_measures([1.0, 2.0, 3.0], [0.0, 1.0, 5.0], ["a", "b", "c"], seed=0)
    assert found.pearson.value == pytest.approx(5 / 28**0.5)
    assert found.spearman.value == pytest.approx(1.0)
    assert found.rmse == pytest.approx((6 / 3) ** 0.5)
    assert found.label_std == pytest.approx((14 / 3) ** 0.5)
    # The best line is 2.5 x − 3: errors ½, −1, ½.
    assert found.rmse_fitted == pytest.approx(0.5**0.5)


def test_verdicts_by_hand():
    found = verdict_measures([LOG3, -LOG3, 0.0, 1e4], [True, True, False, True], list("abcd"), seed=0)
    assert found.accuracy.value == (1 + 0 + 0.5 + 1) / 4
    assert found.brier == pytest.approx((1 / 16 + 9 / 16 + 1 / 4 + 0) / 4)
    assert found.auc.value == pytest.approx(2 / 3)
    assert found.accepted == 0.75
    assert found.majority == 0.75
    assert verdict_measures([1.0, 2.0], [True, True], list("ab"), seed=0).auc is None


def test_the_area_is_the_share_of_pairs_in_order():
    scores, accepted = numbers(0, 40).round(), (numbers(1, 40) > 0).double()
    better, worse = scores[accepted == 1.0].unsqueeze(1), scores[accepted == 0.0]
    assert auc(scores, accepted) == pytest.approx(((better > worse) + 0.5 * (better == worse)).double().mean().item())
    assert auc(scores, torch.ones(40)) == 0.5


def test_intervals_draw_whole_units_and_come_back_the_same():
    x = numbers(0, 60)
    y = x + numbers(1, 60)
    alone = estimate(pearson, x, y, range(60), seed=3)
    assert alone == estimate(pearson, x, y, range(60), seed=3)
    assert alone != estimate(pearson, x, y, range(60), seed=4)
    assert alone.low < alone.value == pearson(x, y) < alone.high
    # Every row ten times over says no more than once, where the ten are one unit.
    tenfold = estimate(pearson, x.repeat(10), y.repeat(10), list(range(60)) * 10, seed=3)
    assert asdict(tenfold) == pytest.approx(asdict(alone))
    assert estimate(pearson, x[:2], y[:2], [0, 1], seed=0) == Estimate(value=pearson(x[:2], y[:2]), low=None, high=None)


def test_draws_of_one_label_are_left_out():
    """A judge without a fault has no other area under its curve, however few answers there are: [1, 1]."""
    found = verdict_measures([1.0, 2.0, -1.0], [True, True, False], "abc", seed=0)
    assert found.auc == Estimate(value=1.0, low=1.0, high=1.0)
    constant = rating_measures([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], "abc", seed=0)
    assert (constant.pearson.low, constant.pearson.high) == (None, None)


@kills(
    "evaluation/label_measures.py",
    old=" for index in taken if y[index].min() < y[index].max()]",
    new=" for index in taken]",
    why="draws of one label pull the interval towards chance",
)
def test_a_drawn_unit_brings_all_its_members_and_no_others():
    """Units of 1, 2 and 3 rows, out of order: each resample holds a unit's rows as often as the unit was drawn."""
    units = ["c", "a", "c", "b", "c", "b"]
    members = {"a": [1], "b": [3, 5], "c": [0, 2, 4]}
    seen = []

    def notes(x, y) -> float:
        seen.append(sorted(x.tolist()))
        return float(len(x))

    estimate(notes, torch.arange(6.0), torch.arange(6.0), units, seed=0)
    possible = [sorted(row for unit in draw for row in members[unit]) for draw in product("abc", repeat=3)]
    assert all(rows in possible for rows in seen[1:])
    assert (
        len({tuple(rows) for rows in seen[1:]}) == 9
    )  # 3 units drawn 3 times, order aside, but for a, a, a: one label
