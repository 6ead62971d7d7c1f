"""Figures of judges: what is drawn is what summary.json says; damaged numbers are left out."""

import json

import pytest

from plaudit.report import reward_figures
from plaudit.report.collect import collect
from plaudit.report.html import render
from tests.report.folders import HOSTILE, summary, write_run


def share(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "pairs": 10}


def pairs(ece: float = 0.125) -> dict:
    bins = [{"pairs": 1, "confidence": 0.55, "accuracy": 0.25}, {"pairs": 4, "confidence": 0.95, "accuracy": 0.75}]
    part = {"accuracy": 0.5, "low": 0.25, "high": 0.875}
    return {
        "accuracy": {"accuracy": 0.6, "subsets": {"easy": {**part, "accuracy": 0.75}, "hard": part}},
        "calibration": {"ece": ece, "bins": bins},
        "margins": {"mean": -1.5, "std": 2.0, "histogram": {"low": -2.0, "width": 1.0, "counts": [3, 0, 1]}},
        "length": {"accuracy_better_is_longer": share(0.8), "accuracy_better_is_shorter": share(0.3)},
    }


def figures(folder, judges: dict) -> dict:
    block = {"judges": {name: {"pairs": found} for name, found in judges.items()}, "floors": {}, "agreement": {}}
    write_run(folder, "reward_eval", summary=summary(reward_eval=block))
    return {figure.title: figure for figure in reward_figures.measured([collect(folder)])}


def test_what_is_drawn(tmp_path):
    drawn = figures(tmp_path / "run", {"one": pairs(), "two": pairs()})
    assert list(drawn) == ["Reliability", "Accuracy by subset", "Accuracy by length", "Margins · one", "Margins · two"]
    ideal, one, _ = drawn["Reliability"].plot["data"]
    assert ideal["x"] == ideal["y"] == [0.5, 1.0]
    assert (one["x"], one["y"], one["customdata"]) == ([0.55, 0.95], [0.25, 0.75], [1.0, 4.0])
    assert one["marker"]["size"] == [13.0, 20.0]
    assert one["name"] == "one: error 0.125"
    subset = drawn["Accuracy by subset"].plot
    assert subset["layout"]["yaxis"]["ticktext"] == ["easy", "hard"]
    first, second = subset["data"]
    assert (first["x"], second["y"][0] > first["y"][0]) == ([0.75, 0.5], True)
    assert first["error_x"]["array"] == [0.125, 0.375]
    assert first["error_x"]["arrayminus"] == [0.5, 0.25]
    assert drawn["Accuracy by length"].plot["data"][0]["x"] == [0.8, 0.3]
    (bars,) = drawn["Margins · one"].plot["data"]
    assert (bars["x"], bars["y"]) == ([-1.5, -0.5, 0.5], [0.75, 0.0, 0.25])
    assert "Mean −1.5" in drawn["Margins · one"].caption


def test_one_subset_is_no_figure(tmp_path):
    found = pairs()
    del found["accuracy"]["subsets"]["hard"]
    assert "Accuracy by subset" not in figures(tmp_path / "run", {"one": found})


@pytest.mark.parametrize("damage", [None, 3, "text", [], {"bins": [None, 7, {"confidence": "x"}]}])
def test_damaged_numbers_are_left_out(tmp_path, damage):
    whole = {"accuracy": damage, "calibration": damage, "margins": damage, "length": damage}
    assert figures(tmp_path / "run", {"one": whole}) == {}
    for block in (damage, {"judges": damage}, {"judges": {"one": damage}}):
        folder = write_run(tmp_path / str(len(json.dumps(block))), "reward_eval", summary=summary(reward_eval=block))
        assert reward_figures.measured([collect(folder)]) == []


def test_the_page_shows_them_and_escapes_names(tmp_path):
    folder = tmp_path / "run"
    figures(folder, {HOSTILE: pairs()})
    page = render([collect(folder)])
    assert "Judges measured" in page
    assert "Reliability" in page
    assert '<img src=x onerror="alert(1)">' not in page


def test_other_runs_have_none(tmp_path):
    assert reward_figures.measured([collect(write_run(tmp_path / "run", "sft", summary=summary()))]) == []
