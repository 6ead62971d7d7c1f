"""What a finished run leaves behind: results of declared measures, in a format that says its number."""

import json

import pytest

from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.telemetry.register import measure_of
from plaudit.telemetry.summary import read_results, summary

WON = Result(
    measure="win_rate_over_prompts", subject="ppo", against="sft", value=0.8, low=0.7, high=0.9, floor=0.5, count=300,
    ties=4, facts={"wins": 238},
)  # fmt: skip


def test_results_come_back_as_they_were() -> None:
    results = [WON, Result(measure="aspect/tone_rmse_over_labels", subject="bag of words", value=1.0, role="floor")]
    content = json.loads(json.dumps(summary(results, seed=3)))
    assert read_results(content) == results
    assert (content["format"], content["seed"]) == (2, 3)


def test_what_is_empty_is_left_out() -> None:
    (plain,) = summary([Result(measure="held_out_auc", subject="judge", value=0.0)])["results"]
    assert plain == {"measure": "held_out_auc", "subject": "judge", "value": 0.0}


def test_an_undeclared_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'win_rate_over_prompt' is not.*near: win_rate_over_prompts"):
        summary([Result(measure="win_rate_over_prompt", subject="ppo", value=0.5)])


@pytest.mark.parametrize("content", [{"stages": []}, {"format": 3, "results": []}])
def test_a_summary_of_another_version_is_refused_with_what_to_do(content) -> None:
    with pytest.raises(UserError, match=r"has format [13], and this version of plaudit reads format 2\. Run it again"):
        read_results(content)
    assert read_results({}) == [], "not finished yet"


@pytest.mark.parametrize(
    ("key", "unit", "better", "word"),
    [
        ("held_out_accuracy_over_rows", "share of answers", "up", "more frequent verdict"),
        ("held_out_accuracy_over_pairs", "share of pairs", "up", "coin"),
        ("held_out_auc", "share of pairs", "up", "accepted answer scores above"),
        ("aspect/tone_spearman_over_labels", "Spearman's ρ", "up", "by ranks alone"),
        ("aspect/tone_rmse_over_labels", "rating", "down", "Distance of scores from held-out ratings"),
        ("best_of_n_over_prompts", "score", "up", "likes best among n"),
        ("log_loss_over_pairs", "nats", "down", "always saying ½"),
    ],
)
def test_every_result_is_explained_as_what_it_is(key: str, unit: str, better: str, word: str) -> None:
    """Once a verdict model's accuracy was explained as a share of pairs, and less error as worse."""
    measure = measure_of(key)
    assert (measure.unit, measure.better) == (unit, better)
    assert word in measure.meaning and measure.formula
