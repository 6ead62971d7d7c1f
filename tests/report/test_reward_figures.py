"""Figures of judges: what is drawn is what summary.json says; damaged numbers are left out."""

import pytest

from plaudit.report import reward_figures
from plaudit.report.collect import collect
from plaudit.report.html import render
from tests.report.folders import HOSTILE, summary, write_run


def judge() -> dict:
    bins = [{"pairs": 1, "confidence": 0.55, "accuracy": 0.25}, {"pairs": 4, "confidence": 0.95, "accuracy": 0.75}]
    margins = {"mean": -1.5, "std": 2.0, "histogram": {"low": -2.0, "width": 1.0, "counts": [3, 0, 1]}}
    return {"reliability": bins, "margins": margins}


def figures(folder, judges: dict) -> dict:
    write_run(folder, "reward_eval", summary=summary(judges=judges))
    return {figure.title: figure for figure in reward_figures.measured([collect(folder)])}


def test_what_is_drawn(tmp_path):
    drawn = figures(tmp_path / "run", {"one": judge(), "two": judge()})
    assert list(drawn) == ["Reliability", "Margins · one", "Margins · two"]
    one, _ = drawn["Reliability"].plot["data"]
    (ideal,) = drawn["Reliability"].plot["layout"]["shapes"]
    assert (ideal["x0"], ideal["y0"], ideal["x1"], ideal["y1"]) == (0.5, 0.5, 1.0, 1.0)
    assert (one["x"], one["y"], one["customdata"]) == ([0.55, 0.95], [0.25, 0.75], [1.0, 4.0])
    assert one["marker"]["size"] == [13.0, 20.0]
    assert one["name"] == "one"
    (bars,) = drawn["Margins · one"].plot["data"]
    assert (bars["x"], bars["y"]) == ([-1.5, -0.5, 0.5], [0.75, 0.0, 0.25])
    assert "Mean −1.5" in drawn["Margins · one"].caption


@pytest.mark.parametrize("damage", [None, 3, "text", [], [None, 7, {"confidence": "x"}]])
def test_damaged_numbers_are_left_out(tmp_path, damage):
    assert figures(tmp_path / "run", {"one": {"reliability": damage, "margins": damage}}) == {}
    for index, block in enumerate((damage, {"one": damage}, {"one": {"margins": {"histogram": damage}}})):
        folder = write_run(tmp_path / str(index), "reward_eval", summary=summary(judges=block))
        assert reward_figures.measured([collect(folder)]) == []


def test_the_page_shows_them_and_escapes_names(tmp_path):
    folder = tmp_path / "run"
    figures(folder, {HOSTILE: judge()})
    page = render([collect(folder)])
    assert "Judges measured" in page
    assert "Reliability" in page
    assert '<img src=x onerror="alert(1)">' not in page


def test_other_runs_have_none(tmp_path):
    assert reward_figures.measured([collect(write_run(tmp_path / "run", "sft", summary=summary()))]) == []
