"""The side of a row depends on its prompt and the seed, and on nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.data.clean import prompt_key
from plaudit.data.splits import split, split_files, uniform
from plaudit.errors import UserError
from plaudit.records.text import Demonstration, PromptRow
from tests.data.files import chat, plain
from tests.kills import kills

ROWS = [Demonstration(prompt=plain(f"question {i // 3}"), response=str(i), where=f"f:{i}") for i in range(600)]


@settings(max_examples=20)
@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_the_order_of_the_rows_changes_no_side(random, seed):
    train, held_out = split(ROWS, 0.3, seed)
    mixed = list(ROWS)
    random.shuffle(mixed)
    mixed_train, mixed_held_out = split(mixed, 0.3, seed)
    assert {row.where for row in mixed_train} == {row.where for row in train}
    assert {row.where for row in mixed_held_out} == {row.where for row in held_out}


@given(st.lists(st.text("aB1 ?", min_size=1, max_size=3), min_size=1, max_size=30), st.floats(0.1, 0.9), st.integers())
def test_no_prompt_is_on_both_sides_and_no_row_is_lost(texts, fraction, seed):
    rows = [PromptRow(prompt=plain(text), where=str(i)) for i, text in enumerate(texts)]
    try:
        train, held_out = split(rows, fraction, seed)
    except UserError:
        return
    assert not {prompt_key(row) for row in train} & {prompt_key(row) for row in held_out}
    assert sorted([*train, *held_out], key=lambda row: int(row.where)) == rows


def test_other_rows_change_no_side():
    _, alone = split(ROWS[:300], 0.3, 0)
    _, together = split(ROWS, 0.3, 0)
    assert set(alone) == {row for row in together if row in ROWS[:300]}


def test_each_side_keeps_the_order():
    for side in split(ROWS, 0.5, 1):
        places = [int(row.response) for row in side]
        assert places == sorted(places)


def test_the_fraction_is_met_on_average():
    rows = [PromptRow(prompt=plain(f"prompt number {i}")) for i in range(4000)]
    shares = [len(split(rows, 0.2, seed)[1]) / 4000 for seed in range(5)]
    assert all(abs(share - 0.2) < 0.02 for share in shares)  # three standard deviations of a fair draw
    assert len(set(shares)) > 1


def test_seeds_differ():
    assert split(ROWS, 0.3, 0)[1] != split(ROWS, 0.3, 1)[1]


def test_the_draw_is_the_same_on_every_machine():
    """`printf '0\\nwhatis22' | sha256sum` begins with 5fcdd8af4955e9."""
    assert uniform("whatis22", 0) == 0x5FCDD8AF4955E9 / 2**56


def test_the_turns_of_one_dialogue_stay_together():
    opening = [("user", "Hello there"), ("assistant", "Yes?"), ("user", "Tell me more")]
    for seed in range(20):
        rows = [PromptRow(prompt=chat(*opening[:n]), where=str(n)) for n in (1, 3)]
        others = [PromptRow(prompt=plain(f"other {i}")) for i in range(20)]
        train, held_out = split([*rows, *others], 0.5, seed)
        assert len([row for row in train if row.where]) in (0, 2)
        assert len([row for row in held_out if row.where]) in (0, 2)


def test_no_held_out_rows_when_none_are_asked_for():
    assert split(ROWS, 0.0, 0) == (tuple(ROWS), ())
    assert split([], 0.5, 0) == ((), ())


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(UserError, match="held_out_fraction must be at least 0 and below 1"):
        split(ROWS, fraction, 0)


def test_an_empty_side_is_an_error():
    with pytest.raises(UserError, match=r"one side empty: 3 rows with 1 different prompts"):
        split(ROWS[:3], 0.5, 0)


@kills(
    "data/splits.py",
    old="if count and held_out_fraction > 0 and not (any(train",
    new="if count and held_out_fraction > 0 and any(not held for _, held in parts) or not (any(train",
    why="sides are judged file by file again",
)
def test_sides_are_judged_over_all_files():
    large = [PromptRow(prompt=plain(f"question {i}")) for i in range(200)]
    small = [PromptRow(prompt=plain("Who are you?"))]
    (_, aside), (train, none) = split_files([large, small], 0.05, 0, ["large", "small"])
    assert aside
    assert (train, none) == (tuple(small), ())
    with pytest.raises(UserError, match=r"1 rows with 1 different prompts in small, .*`held_out_fraction: 0` trains"):
        split_files([small], 0.05, 0, ["small"])
