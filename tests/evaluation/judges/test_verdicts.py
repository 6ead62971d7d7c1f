"""How scores follow verdicts, against numbers made by hand."""

import math

import pytest
import torch

from plaudit.errors import UserError
from plaudit.evaluation.judges.agreement import auc, of_verdicts
from plaudit.evaluation.judges.rows import LabelledRows, score_rows
from plaudit.records.results import Result
from plaudit.records.text import Prompt, Verdict
from plaudit.scoring.protocol import scores_of
from tests.formulas.cases import numbers
from tests.kills import kills

LOG3 = math.log(3)
SAID = {"a": 1.0, "b": 2.0, "c": 4.0, "d": -1.0, "up": LOG3, "down": -LOG3, "zero": 0.0, "sure": 1e4, "silent": None}


class Judge:
    name = "judge"

    def score(self, groups):
        return scores_of("judge", [SAID[text] for group in groups for text in group.responses])


def verdict(prompt: str, response: str, label: bool) -> Verdict:
    return Verdict(prompt=Prompt.of_text(prompt), response=response, label=label)


def measured(rows) -> dict[str, Result]:
    return {result.measure: result for result in of_verdicts(score_rows("mine", Judge(), LabelledRows.of(rows)), 0)}


def test_by_hand():
    rows = [
        verdict("p", "a", True),
        verdict("p", "b", False),
        verdict("q", "zero", True),
        verdict("r", "d", False),
        verdict("s", "c", True),
        verdict("t", "silent", False),
    ]
    found = measured(rows)
    accuracy, area = found["held_out_accuracy_over_rows"], found["held_out_auc"]
    assert (accuracy.count, accuracy.ties, accuracy.facts["abstained"]) == (5, 1, 1)
    assert accuracy.value == pytest.approx((1 + 0 + 0.5 + 1 + 1) / 5)
    assert accuracy.floor == pytest.approx(3 / 5)
    assert area.value == pytest.approx(4 / 6)  # of 1, 0, 4 over 2, −1: a > d, zero > d, c > both
    assert area.floor == 0.5
    assert accuracy.low < accuracy.value < accuracy.high
    assert area.low <= area.value <= area.high


@kills(
    "evaluation/judges/agreement.py",
    old="floor=max(frequency, 1.0 - frequency)",
    new="floor=frequency",
    why="a constant that rejects everything is taken for worse than it is",
)
def test_probabilities_and_their_floors():
    rows = [
        verdict(str(i), name, label) for i, (name, label) in enumerate([("up", True), ("down", True), ("zero", False)])
    ]
    found = measured([*rows, verdict("x", "sure", True)])
    assert found["held_out_accuracy_over_rows"].value == (1 + 0 + 0.5 + 1) / 4
    brier = found["brier_over_rows"]
    assert (brier.value, brier.floor) == (pytest.approx((1 / 16 + 9 / 16 + 1 / 4 + 0) / 4), pytest.approx(3 / 16))
    assert found["held_out_auc"].value == pytest.approx(2 / 3)
    rejected = measured([verdict("p", "a", True), *(verdict(q, "b", False) for q in "qrs")])
    assert rejected["held_out_accuracy_over_rows"].floor == 0.75


def test_one_label_has_no_area():
    assert set(measured([verdict("p", "a", True), verdict("q", "b", True)])) == {
        "held_out_accuracy_over_rows",
        "brier_over_rows",
    }


def test_a_judge_without_a_fault_has_no_other_area_however_few_answers():
    area = measured([verdict("p", "a", True), verdict("q", "b", True), verdict("r", "d", False)])["held_out_auc"]
    assert (area.value, area.low, area.high) == (1.0, 1.0, 1.0)


def test_the_area_is_the_share_of_pairs_in_order():
    scores, accepted = numbers(0, 40).round(), numbers(1, 40) > 0
    above = [(a > b) + 0.5 * (a == b) for a in scores[accepted].tolist() for b in scores[~accepted].tolist()]
    assert auc(scores, accepted.double()) == pytest.approx(sum(above) / len(above))
    assert auc(scores, torch.ones(40)) == 0.5


def test_answers_of_one_prompt_tell_less_than_answers_of_many():
    def width(prompts) -> float:
        labels = [True] * 6 + [False] * 6
        rows = [verdict(f"{next(prompts)}", "a", label) for label in labels]
        accuracy = measured(rows)["held_out_accuracy_over_rows"]
        return accuracy.high - accuracy.low

    assert width(iter([0] * 6 + [1] * 6)) > width(iter(range(12))) + 0.1


def test_a_judge_that_says_nothing_is_named():
    with pytest.raises(UserError, match="mine: abstained on every verdict"):
        measured([verdict("p", "silent", True)])
