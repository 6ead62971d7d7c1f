"""What names mean: each is looked up, none is guessed from words."""

from __future__ import annotations

import pytest

from plaudit.report import measures
from plaudit.report.measures import OWN_TERMS, glossary, measure, shown, spoken
from plaudit.telemetry.register import MEASURES, PANELS


def test_measures_are_looked_up() -> None:
    assert measure("held_out_accuracy_over_rows").unit == "share of answers"
    assert measure("aspect/tone_spearman_over_labels").title == "rank correlation with the ratings: tone"
    assert measure("aspect/tone_spearman_over_labels").curve == "aspect/tone_spearman_over_labels"
    unknown = measure("of_another_version")
    assert (unknown.title, unknown.unit, unknown.meaning) == ("of another version", "", measures.UNKNOWN)


@pytest.mark.parametrize(
    ("key", "words", "better"),
    [
        # Once told by sentences, and told wrongly: a share of answers as one of pairs, an error as an accuracy.
        ("held_out_accuracy_over_rows", "answers", "up"),
        ("aspect/x_spearman_over_labels", "Spearman", "up"),
        ("aspect/x_rmse_over_labels", "Distance", "down"),
        ("held_out_auc", "accepted answer scores above", "up"),
        ("best_of_n_over_prompts", "best among n", "up"),
    ],
)
def test_each_is_explained_as_what_it_is(key: str, words: str, better: str) -> None:
    assert words in measure(key).meaning + measure(key).formula or words in measure(key).meaning
    assert measure(key).better == better


def test_panels_come_in_the_registers_order_and_hold_all_that_is_drawn() -> None:
    keys = [key for key in MEASURES if MEASURES[key].panel and "{" not in key]
    arranged = measures.arrange(keys)
    titles = [panel.title for panel, _ in arranged]
    assert titles == [panel.title for panel in PANELS if panel.title in titles]
    assert sorted(key for _, taken in arranged for key in taken) == sorted(keys)


def test_numbers_with_their_units() -> None:
    assert [shown(x, "share of pairs") for x in (0.7629, -0.05, None)] == ["76.3%", "−5.0%", "–"]
    assert shown(0.7629, "nats") == "0.7629"
    assert spoken(0.8683, "share of prompts") == "87 %"
    assert spoken(0.6527, "nats/response") == "0.65 nats"
    assert [spoken(x, "score") for x in (1.9813, 0.0, 123.4, 0.00136)] == ["1.98", "0.00", "123", "0.00136"]


def test_the_glossary_has_every_key_and_the_reports_own_words() -> None:
    terms = glossary(["score_over_responses", "new_thing", "score_over_responses"])
    assert set(terms) == {*OWN_TERMS, "score_over_responses", "new_thing"}
    assert all(term.meaning and term.title for term in terms.values())
    assert terms["score_over_responses"].key == "score_over_responses"
