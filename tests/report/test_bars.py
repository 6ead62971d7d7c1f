"""Results as rows and drawings, by hand numbers."""

from __future__ import annotations

import dataclasses

import pytest

from plaudit.records.results import Result
from plaudit.report import bars
from tests.kills import kills

UP = Result(
    measure="held_out_accuracy_over_pairs", subject="judge", value=0.8, low=0.7, high=0.9, floor=0.5, ceiling=0.9
)
DOWN = Result(measure="held_out_nll_over_answers", subject="SFT", value=2.0, low=1.8, high=2.2, floor=5.0, ceiling=1.0)


def bar(result: Result, *others: Result) -> bars.Bar | None:
    return bars.lines([result, *others])[0].bar


def test_the_bar_runs_from_floor_to_ceiling() -> None:
    made = bar(UP)
    assert made.dot == 230.0  # three quarters of 20 … 300
    assert [(mark.x, mark.label, mark.anchor) for mark in made.marks] == [
        (20.0, "floor 50.0%", "start"),
        (300.0, "ceiling 90.0%", "end"),
    ]
    assert made.done == (20.0, 210.0)
    assert made.interval == (160.0, 140.0)
    assert made.share == "75%"
    assert made.alt == "value 80.0%, floor 50.0%, ceiling 90.0%, 75% of the way"


@kills(
    "report/bars.py", old="1 - share if falling", new="share if falling", why="bars of losses run from better to worse"
)
def test_where_less_is_better_the_bar_runs_the_other_way() -> None:
    made = bar(DOWN)
    assert made.dot == 230.0
    assert {mark.label: mark.x for mark in made.marks} == {"floor 5": 20.0, "ceiling 1": 300.0}
    assert (made.share, made.interval) == ("75%", (216.0, 28.0))


@pytest.mark.parametrize(
    ("measure", "floor", "ceiling", "share"),
    [
        ("held_out_nll_over_answers", 5.0, 1.0, "75%"),
        ("held_out_nll_over_answers", 1.0, 5.0, "75%"),  # the measure knows which way is better
        ("something_new", 5.0, 1.0, "75%"),
        ("something_new", 1.0, 5.0, "25%"),
    ],
)
def test_which_way_is_better(measure: str, floor: float, ceiling: float, share: str) -> None:
    made = bar(dataclasses.replace(DOWN, measure=measure, floor=floor, ceiling=ceiling))
    assert (made.share, made.dot) == (share, 230.0 if share == "75%" else 90.0)


@kills(
    "report/bars.py",
    old="numbers.setdefault(measure(r.measure).unit, [])",
    new="numbers.setdefault(r.measure, [])",
    why="each measure has a scale of its own, so bars can't be compared",
)
def test_all_of_a_unit_stand_on_one_scale() -> None:
    """Pair accuracies of 0.5 … 0.9 and, with the same unit, of 0.1: one scale; nats have their own."""
    low = dataclasses.replace(UP, measure="expected_accuracy_over_pairs", value=0.1, low=None, high=None)
    high, lowest, nats = (line.bar for line in bars.lines([UP, low, DOWN]))
    assert (lowest.dot, high.dot) == (20.0, 265.0)
    assert [mark.x for mark in high.marks] == [mark.x for mark in lowest.marks] == [160.0, 300.0]
    assert nats.dot == 230.0


def test_floors_are_marks_on_the_bar_of_what_they_are_floors_of() -> None:
    bag = Result(measure=UP.measure, subject="bag of words", value=0.7, role="floor")
    other_part = dataclasses.replace(bag, part="easy")
    first, second = bars.lines([UP, bag, other_part])
    assert [(mark.label, mark.x) for mark in first.bar.marks] == [
        ("floor 50.0%", 20.0),
        ("bag of words 70.0%", 160.0),
        ("ceiling 90.0%", 300.0),
    ]
    assert first.beside[-1] == ("bag of words", 0.7)
    assert second.result is other_part  # beside nothing: a row of its own


def test_rows_of_a_measure_stand_together() -> None:
    a, b, c = (dataclasses.replace(UP, subject=name, stage="s") for name in "abc")
    kl = Result(measure="kl_baseline_over_prompts", subject="a", value=1.0, stage="s")
    assert [line.result.subject for line in bars.lines([a, kl, b, c])] == ["a", "b", "c", "a"]


@pytest.mark.parametrize(("value", "share", "dot"), [(1.3, "200%", 300.0), (0.3, "−50%", 20.0)])
def test_values_beyond_the_references_stay_in_the_drawing(value: float, share: str, dot: float) -> None:
    made = bar(dataclasses.replace(UP, value=value, low=None, high=None))
    assert (made.share, made.dot, made.interval) == (share, dot, None)
    assert all(20.0 <= mark.x <= 300.0 for mark in made.marks)


def test_one_reference_gives_a_place_but_no_share() -> None:
    made = bar(dataclasses.replace(UP, ceiling=None))
    assert (made.share, made.done) == ("", None)
    assert [mark.label for mark in made.marks] == ["floor 50.0%"]


@pytest.mark.parametrize(
    "gone",
    [{"low": None, "floor": None, "ceiling": None}, dict.fromkeys(("value", "low", "high", "floor", "ceiling"), 1.0)],
)
def test_no_bar_without_something_to_place(gone: dict) -> None:
    assert bar(dataclasses.replace(UP, **gone)) is None


def test_labels_never_overlap() -> None:
    crowd = [
        Result(measure=UP.measure, subject=f"floor number {i}", value=0.5 + i / 100, role="floor") for i in range(9)
    ]
    made = bar(UP, *crowd)
    by_line: dict[float, list[tuple[float, float]]] = {}
    for mark in made.marks:
        width = bars.LETTER * len(mark.label)
        left = {"start": mark.x, "middle": mark.x - width / 2, "end": mark.x - width}[mark.anchor]
        by_line.setdefault(mark.y, []).append((left, left + width))
    for spans in by_line.values():
        assert all(a[1] < b[0] for a, b in zip(sorted(spans), sorted(spans)[1:], strict=False))
    assert made.height > max(by_line)
    together = [mark.label for mark in bar(UP, dataclasses.replace(crowd[0], value=0.5)).marks]
    assert together[0] == "floor 50.0% · floor number 0 50.0%"


def test_a_scale_over_decades_is_logarithmic() -> None:
    made = bar(dataclasses.replace(DOWN, value=10.0, low=None, high=None, floor=1000.0, ceiling=1.0))
    assert made.dot == 206.7  # two thirds of the decades, though 99 % of the way
    assert made.share == "99%"
