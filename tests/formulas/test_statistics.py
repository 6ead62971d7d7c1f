import json
import statistics
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.advantages import moments
from plaudit.formulas.statistics import RunningMoments, merge, running_moments
from tests.kills import kills

samples = st.lists(st.floats(-100.0, 100.0), max_size=20)


def of(values: list[float]) -> RunningMoments:
    x = torch.tensor(values, dtype=torch.float64)
    return running_moments(moments(x, torch.ones(len(values), dtype=torch.bool)))


def test_running_moments_by_hand():
    found = of([0.0, 2.0, 2.0, 4.0])
    assert (found.count, found.mean, found.sum_squared_deviations) == (4.0, 2.0, 8.0)
    assert found.std == pytest.approx(2**0.5)


@kills(
    "formulas/statistics.py",
    old="shift * shift * a.count * b.count / count",
    new="shift * shift * a.count * b.count",
    why="moments merged wrongly",
)
def test_merge_by_hand():
    merged = merge(of([0.0, 2.0]), of([5.0, 5.0, 8.0]))
    assert merged.mean == pytest.approx(4.0)
    assert merged.sum_squared_deviations == pytest.approx(16 + 4 + 1 + 1 + 16)
    assert merged.count == 5.0


@given(samples, samples, samples)
def test_merging_in_any_grouping_is_the_whole_sample(a, b, c):
    left, right = merge(merge(of(a), of(b)), of(c)), merge(of(a), merge(of(c), of(b)))
    whole = a + b + c
    for found in (left, right):
        assert found.count == len(whole)
        if whole:
            assert found.mean == pytest.approx(statistics.fmean(whole), abs=1e-9)
            assert found.std == pytest.approx(statistics.pstdev(whole), abs=1e-4)


def test_merging_keeps_digits_far_from_zero():
    # Σx² − n·mean² would have lost all of them.
    far = merge(
        RunningMoments(count=1.0, mean=1e9, sum_squared_deviations=0.0),
        RunningMoments(count=1.0, mean=1e9 + 2.0, sum_squared_deviations=0.0),
    )
    assert far.std == 1.0


def test_nothing_and_one():
    nothing = RunningMoments()
    assert merge(nothing, nothing) == nothing == of([])
    assert nothing.std == 0.0
    assert (of([3.0]).mean, of([3.0]).std) == (3.0, 0.0)
    assert merge(nothing, of([3.0])) == of([3.0])


def test_running_moments_survive_json():
    found = merge(of([0.1, 0.2, 0.7]), of([1 / 3]))
    assert RunningMoments(**json.loads(json.dumps(asdict(found)))) == found
