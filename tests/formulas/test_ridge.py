import pytest
import torch

from plaudit.formulas.ridge import ridge
from tests.formulas.cases import POISONS, numbers
from tests.kills import kills

ALL = torch.ones(3, dtype=torch.bool)


@kills(
    "formulas/ridge.py",
    old="level - weights @ mean",
    new="level",
    why="the intercept of centred features for the features themselves",
)
def test_one_feature_by_hand():
    # Centred x (−1, 0, 1), y (−1, 0, 1): w = 2 / (2 + 2), b = 11 − ½ · 6.
    weights, intercept = ridge(torch.tensor([[5.0], [6.0], [7.0]]), torch.tensor([10.0, 11.0, 12.0]), ALL, alpha=2.0)
    assert weights.tolist() == [0.5]
    assert intercept.item() == 8.0
    assert weights.dtype == intercept.dtype == torch.float64


def test_two_features_by_hand():
    # XᵀX of the centred rows is 2I, Xᵀy is (4, −2); α = 2 halves the slopes (2, −1).
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    labels = 3.0 + 2.0 * features[:, 0] - features[:, 1]
    weights, intercept = ridge(features, labels, torch.ones(4, dtype=torch.bool), alpha=2.0)
    assert weights.tolist() == pytest.approx([1.0, -0.5])
    assert intercept.item() == pytest.approx(3.0)


def test_little_penalty_recovers_a_linear_rule():
    features, truth = numbers(0, 50, 4), numbers(1, 4)
    weights, intercept = ridge(features, features @ truth - 7.0, torch.ones(50, dtype=torch.bool), alpha=1e-9)
    assert torch.allclose(weights, truth)
    assert intercept.item() == pytest.approx(-7.0)


@kills(
    "formulas/ridge.py",
    old="features.detach()[present].double(), labels",
    new="features.detach().double(), labels",
    why="absent rows are fitted",
)
def test_it_is_the_minimum():
    features, labels, present = numbers(0, 20, 3), numbers(1, 20), numbers(2, 20) > -0.5
    weights, intercept = ridge(features, labels, present, alpha=0.7)

    def objective(w, b):
        return ((labels - features @ w - b)[present].square().sum() + 0.7 * w.square().sum()).item()

    least = objective(weights, intercept)
    for seed in range(5):
        step = 1e-3 * numbers(10 + seed, 4)
        assert objective(weights + step[:3], intercept + step[3]) > least


def test_great_penalty_leaves_the_unpenalised_mean():
    weights, intercept = ridge(numbers(0, 3, 2), torch.tensor([100.0, 101.0, 105.0]), ALL, alpha=1e12)
    assert weights.abs().max().item() < 1e-9
    assert intercept.item() == pytest.approx(102.0)


@pytest.mark.parametrize("poison", POISONS)
def test_absent_rows_are_not_read(poison):
    features, labels, present = numbers(0, 4, 2), numbers(1, 4), torch.tensor([True, False, True, True])
    expected = ridge(features[present], labels[present], ALL, alpha=1.0)
    features[1], labels[1] = poison, poison
    found = ridge(features, labels, present, alpha=1.0)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_more_features_than_rows_are_fine_and_no_rows_are_zero():
    features, labels = numbers(0, 3, 10), numbers(1, 3)
    assert ridge(features, labels, ALL, alpha=0.1)[0].isfinite().all()
    weights, intercept = ridge(features, labels, ~ALL, alpha=0.1)
    assert (weights.tolist(), intercept.item()) == ([0.0] * 10, 0.0)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha"):
        ridge(numbers(0, 3, 1), numbers(1, 3), ALL, alpha=alpha)
