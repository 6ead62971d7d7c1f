"""Fragments for notebooks: whole, without scripts, escaped."""

from __future__ import annotations

from plaudit.records.results import Result
from plaudit.report.notebook import results_html
from tests.report.folders import HOSTILE, results
from tests.report.test_html import LOADERS, Page


def test_results_as_a_fragment() -> None:
    page = Page(results_html([Result.from_plain(row) for row in results()]))
    for words in ("ppo raised the mean score", "held-out pair accuracy", "73.5%", "longer wins 55.0%", "7.25 … 7.49"):
        assert words in page.text, words
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint(LOADERS | {"script", "html", "body"}) and "svg" in tags


def test_a_run_as_a_fragment() -> None:
    page = Page(results_html([], title="first try", facts=("finished", "", "step 27")))
    assert "first try finished · step 27" in " ".join(page.text.split())
    assert "table" not in {tag for tag, _ in page.elements}


def test_hostile_text_is_text() -> None:
    def page(text: str) -> Page:
        result = Result(measure=text, subject=text, value=0.5, floor=0.0, part=text, against=text, stage=text)
        return Page(results_html([result], title=text, facts=(text, text)))

    assert page(HOSTILE).shape == page("harmless words").shape
    assert HOSTILE in page(HOSTILE).text
