"""What the report says of a reward model: right pairs, K-wise loss, and its distance from the labels' own noise."""

import math

import pytest

from plaudit.errors import UserError
from plaudit.evaluation.options import TruthConfig
from plaudit.evaluation.reward_report import reward_report
from plaudit.records.text import Prompt, Ranking
from plaudit.scoring.functions import FunctionScorer

SCORES = {"good": 1.0, "fair": 0.0, "poor": -1.0, "same": 0.0}
ROWS = [
    Ranking(prompt=Prompt.of_text("p"), responses=("good", "fair", "poor"), ranks=(1, 2, 3)),
    Ranking(prompt=Prompt.of_text("q"), responses=("fair", "same"), ranks=(2, 1)),
    Ranking(prompt=Prompt.of_text("r"), responses=("poor", "good"), ranks=(1, 1)),
]


def judge(abstains: tuple[str, ...] = ()) -> FunctionScorer:
    def score(completions, **columns):
        return [None if text in abstains else SCORES[text] for text in completions]

    return FunctionScorer(function=score, name="judge")


def test_accuracy_and_loss_by_hand():
    """Three pairs right, one even; (0.313262 + 0.126928 + 0.313262) / 3 and log 2, mean over two prompts."""
    report = reward_report(judge(), ROWS)
    assert report.accuracy == pytest.approx(3.5 / 4)
    assert report.loss == pytest.approx((0.251151 + 0.693147) / 2, abs=1e-6)
    facts = report.facts()
    assert (facts["pairs"], facts["prompts"], facts["score_ties"], facts["label_ties"]) == (4, 2, 1, 1)
    (row,) = report.rows("mine")
    assert (row["name"], row["value"], row["floor"], row["ceiling"]) == ("mine", 3.5 / 4, 0.5, None)
    assert row["low"] < row["value"] < row["high"]


def test_an_answer_without_a_score_leaves_its_pairs():
    report = reward_report(judge(abstains=("fair",)), ROWS)
    assert report.accuracy == 1.0
    assert report.facts()["pairs"] == 1
    assert report.loss == pytest.approx(0.126928, abs=1e-6)


def test_a_known_truth_gives_the_expected_accuracy_and_its_ceiling(tmp_path):
    """Utilities good 2, poor 0, fair 1, same 3, noise 2: pairs of p by σ(½), σ(1), σ(½), all as the judge has them;
    of q σ(1) where the judge is even; of r the judge is right by σ(1), whatever the label."""
    (tmp_path / "truth.py").write_text(
        "WORTH = {'good': 2.0, 'fair': 1.0, 'poor': 0.0, 'same': 3.0}\n"
        "def utility(completions, **columns):\n    return [WORTH[text] for text in completions]\n",
        encoding="utf-8",
    )
    half, one = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-1.0))
    report = reward_report(judge(), ROWS, truth=TruthConfig(function=f"{tmp_path / 'truth.py'}:utility", noise=2.0))
    expected, drawn = report.rows("mine")
    assert expected["value"] == pytest.approx((half + one + half + 0.5 + one) / 5)
    assert expected["ceiling"] == pytest.approx((half + one + half + one + one) / 5)
    assert expected["low"] is expected["high"] is None
    assert drawn["value"] == pytest.approx(3.5 / 4)
    assert report.facts()["attainable"] == expected["ceiling"]


def test_nothing_to_measure_on_is_told():
    with pytest.raises(UserError, match="held_out: no ranking"):
        reward_report(judge(), [])
    with pytest.raises(UserError, match="no pair to judge"):
        reward_report(judge(), ROWS[2:])
