"""Sums and maxima add up the same however they were divided, survive JSON, and nothing else can be mixed in."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.records.statistics import Max, Sum, add, from_plain, number, ratio, to_plain
from tests.kills import kills

PARTS = [
    {"tokens": Sum(3.0), "largest": Max(1.5)},
    {"tokens": Sum(5.0), "largest": Max(4.0), "text": Sum(2.0)},
    {"largest": Max(-1.0)},
]


@kills(
    "records/statistics.py",
    old="Max(math.nan if math.isnan(a + b) else max(a, b))",
    new="Max(a + b)",
    why="the largest ratios of micro-batches added",
)
@kills(
    "records/statistics.py",
    old="Max(math.nan if math.isnan(a + b) else max(a, b))",
    new="Max(max(a, b))",
    why="a NaN that is forgotten when it comes second",
)
def test_by_hand():
    assert add(*PARTS) == {"tokens": Sum(8.0), "largest": Max(4.0), "text": Sum(2.0)}
    assert add() == {}
    assert add({}, PARTS[1]) == PARTS[1]
    for pair in ([math.nan, 1.0], [1.0, math.nan]):
        assert math.isnan(number(add(*({"x": Max(value)} for value in pair)), "x"))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1), st.integers(0, 9))
def test_how_they_were_divided_does_not_matter(numbers, at):
    parts = [{"sum": Sum(float(a)), "max": Max(float(b))} for a, b in numbers]
    assert add(add(*parts[:at]), add(*parts[at:])) == add(*parts)
    assert add(*parts) == {
        "sum": Sum(sum(float(a) for a, _ in numbers)),
        "max": Max(max(float(b) for _, b in numbers)),
    }


def test_a_sum_and_a_maximum_do_not_add_up():
    with pytest.raises(TypeError, match="tokens: "):
        add({"tokens": Sum(1.0)}, {"tokens": Max(1.0)})


def test_they_survive_json():
    statistics = {**add(*PARTS), "odd": Sum(0.1 + 0.2), "infinite": Max(math.inf)}
    assert from_plain(json.loads(json.dumps(to_plain(statistics)))) == statistics


def test_what_was_not_counted_is_nothing():
    assert number({}, "tokens") == 0.0
    assert ratio({}, "loss", "tokens") == 0.0
    assert ratio({"loss": Sum(3.0)}, "loss", "tokens") == 3.0  # a sum without a count would be a mistake to hide
    assert ratio({"loss": Sum(3.0), "tokens": Sum(2.0)}, "loss", "tokens") == 1.5
