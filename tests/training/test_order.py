"""Which rows a step sees: weights count rows exactly, passes are whole, a place in a stream is one number."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import UserError
from plaudit.training.order import endless, minibatch, steps_per_epoch, weighted
from tests.kills import kills


def test_a_weight_says_how_often_a_row_is_seen():
    seen = Counter(weighted([3, 4], [2.0, 0.5], seed=1, epoch=0))
    assert {row: seen[row] for row in (0, 1, 2)} == {0: 2, 1: 2, 2: 2}
    assert sum(seen[row] for row in (3, 4, 5, 6)) == 2
    assert max(seen[row] for row in (3, 4, 5, 6)) == 1


@kills(
    "training/order.py",
    old='"weight", source, epoch)[:rest]',
    new='"weight", source)[:rest]',
    why="every epoch draws the same half of a source",
)
def test_a_fraction_is_drawn_anew_in_every_epoch_and_fairly():
    seen = Counter(row for epoch in range(400) for row in weighted([4], [0.5], seed=0, epoch=epoch))
    assert sum(seen.values()) == 800
    assert all(150 < seen[row] < 250 for row in range(4))  # 200 ± 5 standard deviations of √(400/4)


def test_a_weight_between_whole_numbers_repeats_everything_and_draws_the_rest():
    seen = Counter(weighted([10], [2.3], seed=0, epoch=0))
    assert sorted(seen.values()) == [2] * 7 + [3] * 3


def test_sources_are_mixed_and_epochs_differ():
    first, second = (weighted([50, 50], [1.0, 1.0], seed=0, epoch=epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert 10 < sum(row < 50 for row in first[:50]) < 40  # unmixed: 0 or 50
    assert first == weighted([50, 50], [1.0, 1.0], seed=0, epoch=0)
    assert first != weighted([50, 50], [1.0, 1.0], seed=1, epoch=0)


sizes_and_weights = st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0])), min_size=1)


@given(sizes_and_weights, st.integers(1, 9), st.integers(0, 3))
def test_minibatches_cover_an_epoch_exactly(parts, size, epoch):
    sizes, weights = [n for n, _ in parts], [w for _, w in parts]
    rows = weighted(sizes, weights, seed=3, epoch=epoch)
    if not rows:
        with pytest.raises(UserError, match="leave no row"):
            steps_per_epoch(sizes, weights, size)
        return
    steps = steps_per_epoch(sizes, weights, size)
    cut = [minibatch(rows, size, index) for index in range(steps)]
    assert [row for part in cut for row in part] == rows
    assert all(len(part) == size for part in cut[:-1])
    assert all(len(part) > 0 for part in cut)


def test_a_stream_is_whole_passes_and_says_which():
    items = endless(5, 0, 15, seed=2)
    passes = [[row for row, number in items if number == n] for n in range(3)]
    assert [sorted(rows) for rows in passes] == [[0, 1, 2, 3, 4]] * 3
    assert len({tuple(rows) for rows in passes}) > 1
    assert [number for _, number in items] == [0] * 5 + [1] * 5 + [2] * 5


@given(st.integers(1, 7), st.integers(0, 40), st.integers(0, 20), st.integers(0, 20))
def test_a_stream_goes_on_wherever_it_was_left(n, position, first, second):
    whole = endless(n, position, first + second, seed=5)
    assert whole == endless(n, position, first, seed=5) + endless(n, position + first, second, seed=5)
    assert len(whole) == first + second
