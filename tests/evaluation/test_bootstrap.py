"""Intervals that draw whole units with replacement."""

from dataclasses import asdict
from itertools import product

import pytest
import torch

from plaudit.evaluation.intervals import Estimate, bootstrap
from plaudit.formulas.correlation import pearson
from tests.formulas.cases import numbers
from tests.kills import kills


def test_intervals_draw_whole_units_and_come_back_the_same():
    x = numbers(0, 60)
    y = x + numbers(1, 60)
    alone = bootstrap(pearson, x, y, range(60), seed=3)
    assert alone == bootstrap(pearson, x, y, range(60), seed=3)
    assert alone != bootstrap(pearson, x, y, range(60), seed=4)
    assert alone.low < alone.value == pearson(x, y) < alone.high
    # Every row ten times over says no more than once, where the ten are one unit.
    tenfold = bootstrap(pearson, x.repeat(10), y.repeat(10), list(range(60)) * 10, seed=3)
    assert asdict(tenfold) == pytest.approx(asdict(alone))
    assert bootstrap(pearson, x[:2], y[:2], [0, 1], seed=0) == Estimate(
        value=pearson(x[:2], y[:2]), low=None, high=None
    )


@kills(
    "evaluation/intervals.py",
    old="(starts[draw] - before)",
    new="starts[draw]",
    why="the bootstrap draws members of the next unit",
)
@kills(
    "evaluation/intervals.py",
    old=" for index in resampled if y[index].min() < y[index].max()]",
    new=" for index in resampled]",
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

    bootstrap(notes, torch.arange(6.0), torch.arange(6.0), units, seed=0)
    possible = [sorted(row for unit in draw for row in members[unit]) for draw in product("abc", repeat=3)]
    assert all(rows in possible for rows in seen[1:])
    # 3 units drawn 3 times, order aside, but for a, a, a: one label
    assert len({tuple(rows) for rows in seen[1:]}) == 9
