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


def measured(rows, judge=None, log_odds=True, threshold=None) -> dict[str, Result]:
    scored = score_rows("mine", judge or Judge(), LabelledRows.of(rows))
    results = of_verdicts(scored, 0, log_odds=log_odds, threshold=threshold)
    return {result.measure: result for result in results}


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
    assert accuracy.value == pytest.approx((1 + 0 + 0 + 1 + 1) / 5)  # a score of 0 doesn't accept
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
    assert found["held_out_accuracy_over_rows"].value == (1 + 0 + 1 + 1) / 4
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


class Rule:
    """Says what stands in the answer."""

    name = "rule"

    def score(self, groups):
        return scores_of("rule", [float(text) for group in groups for text in group.responses])


def ruled(*rows, **options) -> Result:
    verdicts = [verdict(f"p{i}", text, label) for i, (text, label) in enumerate(rows)]
    return measured(verdicts, Rule(), log_odds=False, **options)["held_out_accuracy_over_rows"]


@kills(
    "evaluation/judges/agreement.py",
    old="step = torch.zeros_like(values).index_add(0, where, 1.0 - 2.0 * accepted)",
    new="step = torch.zeros_like(values).index_add(0, where, 2.0 * accepted - 1.0)",
    why="the threshold is learnt for the opposite verdicts",
)
@pytest.mark.parametrize(("low", "high"), [("0", "1"), ("-1", "1"), ("0.2", "0.9"), ("-7", "-5"), ("3", "40")])
def test_a_rule_of_two_values_can_be_right_wherever_they_lie(low, high):
    result = ruled((high, True), (low, False), (high, True), (low, False), (high, True))
    assert (result.value, result.ties, result.facts["threshold_learnt"]) == (1.0, 0, 1.0)
    assert float(low) < result.facts["threshold"] < float(high)
    assert ruled((high, False), (low, True), (high, False), (low, True), (low, True)).value < 1.0


@kills(
    "evaluation/judges/agreement.py",
    old="others = ~here if (~here).any() else here",
    new="others = torch.ones_like(here)",
    why="a threshold that has seen the verdict it is measured on",
)
def test_a_threshold_is_learnt_on_other_prompts():
    """Each verdict contradicts the others: what is learnt from them is always wrong."""
    assert ruled(("1", True), ("2", False)).value == 0.0
    rows = [(str(i), i % 3 == 0) for i in range(60)]  # scores that say nothing of the verdicts
    assert ruled(*rows).value <= 40 / 60


def test_a_judge_of_one_score_is_no_better_than_the_more_frequent_verdict():
    result = ruled(*(("0.5", True),) * 7, *(("0.5", False),) * 3)
    assert (result.value, result.floor) == (0.7, 0.7)


def test_a_threshold_may_be_told_and_what_lies_on_it_is_not_accepted():
    result = ruled(("3", True), ("2", False), ("1", False), ("2", True), threshold=2.0)
    assert (result.value, result.ties) == (0.75, 2)
    assert (result.facts["threshold"], result.facts["threshold_learnt"]) == (2.0, 0.0)
    scored = score_rows("mine", Rule(), LabelledRows.of([verdict("p", "1", True)]))
    assert "brier_over_rows" not in {r.measure for r in of_verdicts(scored, 0)}, "no probability was said"
