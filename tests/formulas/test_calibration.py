import math

import pytest
import torch

from plaudit.formulas.calibration import brier_score, log_loss, reliability
from tests.kills import kills

P = torch.tensor([0.05, 0.15, 0.15, 1.0, 0.5])
Y = torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0])


@kills(
    "formulas/calibration.py",
    old="(probabilities.double() * num_bins).long()",
    new="(probabilities.double() * num_bins).round().long()",
    why="bins shifted by half",
)
@kills(
    "formulas/calibration.py",
    old="gaps = self.counts * ",
    new="gaps = ",
    why="a bin of one prediction weighs as much as one of a thousand",
)
def test_bins_by_hand():
    found = reliability(P, Y, num_bins=10)
    assert found.counts.tolist() == [1, 2, 0, 0, 0, 1, 0, 0, 0, 1]
    assert found.mean_probability[[0, 1, 5, 9]].tolist() == pytest.approx([0.05, 0.15, 0.5, 1.0])
    assert found.mean_outcome.tolist() == [0, 0.75, 0, 0, 0, 0, 0, 0, 0, 1.0]
    # (1 · 0.05 + 2 · 0.6 + 1 · 0.5 + 1 · 0) / 5
    assert found.expected_calibration_error == pytest.approx(1.75 / 5)


def test_a_bins_error_is_of_means_not_of_single_predictions():
    """Always ½, right every second time: perfectly calibrated."""
    half, outcomes = torch.full((4,), 0.5), torch.tensor([0.0, 1.0, 1.0, 0.0])
    assert reliability(half, outcomes, num_bins=10).expected_calibration_error == 0.0
    assert brier_score(half, outcomes).item() == 0.25


def test_over_confidence_is_the_gap():
    found = reliability(torch.full((4,), 0.95), torch.tensor([1.0, 1.0, 0.0, 0.0]), num_bins=5)
    assert found.expected_calibration_error == pytest.approx(0.45)


def test_brier_by_hand():
    assert brier_score(P, Y).item() == pytest.approx((0.05**2 + 0.85**2 + 0.35**2 + 0.25) / 5)


@kills(
    "formulas/calibration.py",
    old="torch.xlogy(1.0 - y, 1.0 - p)",
    new="torch.xlogy(1.0 - y, p)",
    why="log loss of another outcome",
)
def test_log_loss_by_hand():
    expected = -math.log(0.95) - math.log(0.15) - 0.5 * (math.log(0.15) + math.log(0.85)) - 0.0 + math.log(2)
    assert log_loss(P.double(), Y).item() == pytest.approx(expected / 5, rel=1e-6)


def test_certain_and_wrong_is_infinite_certain_and_right_is_free():
    assert log_loss(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])).item() == 0.0
    assert log_loss(torch.tensor([1.0]), torch.tensor([0.0])).item() == math.inf


def test_nothing_is_zero():
    nothing = torch.ones(0)
    assert brier_score(nothing, nothing).item() == log_loss(nothing, nothing).item() == 0.0
    assert reliability(nothing, nothing, num_bins=3).expected_calibration_error == 0.0


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(bad):
    fine, wrong = torch.tensor([0.5]), torch.tensor([bad])
    for measure in (brier_score, log_loss, lambda p, y: reliability(p, y, num_bins=2)):
        for pair in ((wrong, fine), (fine, wrong)):
            with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
                measure(*pair)
    with pytest.raises(ValueError, match="bin"):
        reliability(fine, fine, num_bins=0)
