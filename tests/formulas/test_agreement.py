"""How far labellers agree: by hand, against another implementation, and what must change nothing."""

import random

import pytest
from krippendorff import alpha as other_alpha

from plaudit.formulas.agreement import (
    accuracy,
    against_others,
    alike,
    coincidences,
    nominal_alpha,
    pair_verdicts,
    units_of,
    verdict_alpha,
)
from tests.kills import kills

VOTES = {
    "x": {"ann": (1, 2, 3), "bob": (1, 3, 2), "cy": (1, 1, 1)},
    "y": {"ann": (2, 1), "bob": (2, 1)},
    "z": {"ann": (1, 2)},
}


@kills("formulas/agreement.py", old="(a < b) - (a > b)", new="(a > b) - (a < b)", why="a low rank taken for a bad one")
def test_verdicts_of_ranks():
    assert pair_verdicts((1, 2, 2)) == (1, 1, 0)
    assert pair_verdicts((3, 1, 2)) == (-1, -1, 1)


@kills("formulas/agreement.py", old="if not preferred or (a and b):", new="if not preferred or (a or b):",
       why="a tie counted as a preference")  # fmt: skip
def test_two_labellers_by_hand():
    """x: (a,b) ann 1 bob 1 cy 0; (a,c) 1 1 0; (b,c) 1 −1 0. y: −1 −1."""
    units = units_of(VOTES)
    value, low, high, count = alike(units)
    assert (value, count) == (pytest.approx(3 / 10), 10)
    assert low < value < high
    value, _, _, count = alike(units, preferred=True)
    assert (value, count) == (pytest.approx(3 / 4), 4)
    assert alike(units_of({"z": VOTES["z"]})) is None


@kills("formulas/agreement.py", old="float(own * rest > 0)", new="float(own * rest < 0)", why="against is with")
def test_one_against_the_others_by_hand():
    """ann: x (a,b) with bob: right, (a,c) right, (b,c) others say −1: wrong; y right. cy: two ties of three: ½ each;
    (b,c) others cancel: left out."""
    units = units_of(VOTES)
    assert against_others(units, "ann")[0::3] == (pytest.approx(3 / 4), 4)
    assert against_others(units, "cy")[0::3] == (pytest.approx(0.5), 2)
    assert against_others(units, "eve") is None


def test_accuracy_by_hand():
    gold = {"x": (1, 2, 2), "y": (1, 2)}
    value, low, high, count = accuracy({"x": (1, 1, 2), "y": (2, 1)}, gold)
    assert (value, count) == (pytest.approx((0.5 + 1 + 0) / 3), 3)
    assert 0 <= low < value < high <= 1
    assert accuracy({"x": (1, 2, 3)}, {"x": (1, 1, 1)}) is None


@kills("formulas/agreement.py", old="return 1.0 - (n - 1.0) * observed", new="return 1.0 - n * observed",
       why="Scott's π in place of α: no correction for few labels")  # fmt: skip
def test_alpha_is_that_of_another_implementation():
    draw = random.Random(3)
    for labellers in (2, 3, 5):
        table = [[draw.choice((-1, 0, 1, 1, None)) for _ in range(30)] for _ in range(labellers)]
        columns = [[v for v in column if v is not None] for column in zip(*table, strict=True)]
        total: dict[tuple[int, int], float] = {}
        for column in columns:
            for key, count in coincidences(column).items():
                total[key] = total.get(key, 0.0) + count
        own = nominal_alpha(total)
        numbers = [[float("nan") if v is None else v for v in row] for row in table]
        assert own == pytest.approx(other_alpha(numbers, level_of_measurement="nominal"))


def test_alpha_of_verdicts_takes_each_pair_both_ways_round():
    draw = random.Random(5)
    votes = {
        str(task): {name: tuple(draw.choice((1, 2, 3)) for _ in range(3)) for name in "abc"[: draw.choice((2, 3))]}
        for task in range(40)
    }
    units = units_of(votes)
    rows = {name: [u.verdicts.get(name) for u in units] for name in "abc"}
    both = [[*row, *(None if v is None else -v for v in row)] for row in rows.values()]
    numbers = [[float("nan") if v is None else v for v in row] for row in both]
    value, low, high, count = verdict_alpha(units)
    assert value == pytest.approx(other_alpha(numbers, level_of_measurement="nominal"))
    assert low < value < high
    assert count == sum(len(u.verdicts) * (len(u.verdicts) - 1) // 2 for u in units)
    turned = {task: {name: ranks[::-1] for name, ranks in own.items()} for task, own in votes.items()}
    assert verdict_alpha(units_of(turned))[:3] == pytest.approx((value, low, high))


def test_alpha_at_its_ends():
    same = {str(i): {"a": (1, 2, 3), "b": (1, 2, 3)} for i in range(9)}
    assert verdict_alpha(units_of(same))[0] == pytest.approx(1.0)
    draw = random.Random(0)
    chance = {str(i): {n: draw.choice(((1, 2), (2, 1), (1, 1))) for n in "ab"} for i in range(3000)}
    _, low, high, _ = verdict_alpha(units_of(chance))
    assert low < 0.0 < high
    assert high - low < 0.12
    assert verdict_alpha(units_of({"x": {"a": (1, 2)}})) is None


@kills("formulas/agreement.py", old="math.sqrt((n - 1) / n *", new="math.sqrt(1 / n *",
       why="the variance of the values in place of the jackknife's")  # fmt: skip
def test_the_interval_covers_as_often_as_it_says():
    """Labellers of the same world, α known by a long run: 95 % intervals of short ones cover it about so often."""
    draw = random.Random(1)

    def world(tasks: int) -> dict:
        votes = {}
        for task in range(tasks):
            truth = draw.choice(((1, 2, 3), (3, 1, 2), (1, 1, 2)))
            votes[str(task)] = {n: truth if draw.random() < 0.6 else draw.choice(((1, 2, 3), (2, 1, 1))) for n in "ab"}
        return votes

    known = verdict_alpha(units_of(world(3000)))[0]
    covered = sum(low <= known <= high for _, low, high, _ in (verdict_alpha(units_of(world(40))) for _ in range(60)))
    assert covered >= 0.85 * 60
