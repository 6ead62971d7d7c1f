import math

import pytest
import torch

from plaudit.formulas.pointwise_losses import (
    aspect_errors,
    log_odds,
    rating_scales,
    rmse,
    rmse_weight,
    squared_error,
    standardise,
    two_class,
)
from tests.formulas.cases import POISONS, RAGGED, leaf, numbers, poisoned
from tests.kills import kills

LOG3 = math.log(3)


def test_two_classes_by_hand():
    # Odds of acceptance 3 : 1, twice, accepted and rejected; then 1 : 1.
    logits = leaf(torch.tensor([[5.0, 5.0 + LOG3], [0.0, LOG3], [2.0, 2.0]], dtype=torch.float64))
    loss, count = two_class(logits, torch.tensor([True, False, True]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(4) + math.log(2))
    assert count.item() == 3
    # softmax − one-hot
    assert logits.grad.flatten().tolist() == pytest.approx([0.25, -0.25, -0.75, 0.75, 0.5, -0.5])


@kills(
    "formulas/pointwise_losses.py",
    old="logits[:, 1] - logits[:, 0]",
    new="logits[:, 0] - logits[:, 1]",
    why="the log-odds of rejection as the score",
)
def test_the_score_of_two_classes_is_acceptance_over_rejection():
    assert log_odds(torch.tensor([[1.0, 4.0], [1e4, -1e4]])).tolist() == [3.0, -2e4]


def test_two_classes_are_finite_at_great_logits():
    logits = leaf(torch.tensor([[1e4, -1e4], [1e4, -1e4]]))
    loss, _ = two_class(logits, torch.tensor([True, False]))
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.tolist() == [[1.0, -1.0], [0.0, 0.0]]


def test_two_classes_in_half_precision_are_computed_in_float32():
    logits = torch.tensor([[100.0, 0.0078125]], dtype=torch.bfloat16)
    assert two_class(logits, torch.tensor([True]))[0].item() == 99.9921875


def test_squared_error_by_hand():
    predictions, labels = leaf(torch.tensor([1.0, -2.0, 4.0])), leaf(torch.tensor([0.0, 1.0, 4.0]))
    error, count = squared_error(predictions, labels)
    error.backward()
    assert (error.item(), count.item()) == (10.0, 3)
    assert predictions.grad.tolist() == [2.0, -6.0, 0.0]
    assert labels.grad is None


@kills(
    "formulas/pointwise_losses.py",
    old="divisor = 2.0 * max(int(num_labels), 1)",
    new="divisor = max(int(num_labels), 1)",
    why="the root's derivative without its half",
)
def test_rmse_by_hand():
    assert rmse(torch.tensor(12.0), 3).item() == 2.0
    assert rmse_weight(torch.tensor(12.0), torch.tensor(3)).item() == pytest.approx(1 / 12)


@pytest.mark.parametrize("cuts", [[5], [2, 3], [1, 1, 1, 2]])
def test_micro_batches_back_propagate_the_whole_minibatchs_rmse(cuts):
    labels = numbers(1, 5)
    whole, parts = leaf(numbers(0, 5)), leaf(numbers(0, 5))
    ((whole - labels).square().mean() ** 0.5).backward()
    total, count = squared_error(parts.detach(), labels)
    weight = rmse_weight(total, count)
    for prediction, label in zip(parts.split(cuts), labels.split(cuts), strict=True):
        (weight * squared_error(prediction, label)[0]).backward()
    assert torch.allclose(parts.grad, whole.grad, rtol=1e-12)


def test_rmse_without_error_has_no_gradient_and_no_nan():
    predictions = leaf(torch.ones(3))
    error, count = squared_error(predictions, torch.ones(3))
    assert (rmse(error, count).item(), rmse_weight(error, count).item()) == (0.0, 0.0)
    (rmse_weight(error, count) * error).backward()
    assert predictions.grad.tolist() == [0.0, 0.0, 0.0]


def test_rmse_of_nothing_is_zero():
    assert (rmse(torch.zeros(()), 0).item(), rmse_weight(torch.zeros(()), 0).item()) == (0.0, 0.0)


def test_the_weight_carries_no_gradient():
    assert not rmse_weight(leaf(torch.tensor(12.0)), 3).requires_grad


@kills(
    "formulas/pointwise_losses.py",
    old="return masked_sum(errors.square(), present), present.sum()",
    new="return masked_sum(errors.square(), present), torch.ones_like(present).sum()",
    why="absent ratings count in the mean",
)
def test_aspects_by_hand():
    predictions = leaf(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    labels, present = torch.tensor([[0.0, 5.0], [9.0, 4.5]]), torch.tensor([[True, True], [False, True]])
    error, count = aspect_errors(predictions, labels, present)
    error.backward()
    assert (error.item(), count.item()) == (1.0 + 9.0 + 0.25, 3)
    assert predictions.grad.tolist() == [[2.0, -6.0], [0.0, -1.0]]


@kills(
    "formulas/pointwise_losses.py",
    old="select(at_least_float32(predictions), present)",
    new="at_least_float32(predictions)",
    why="predictions without a label enter the square: 0 · NaN in the gradient",
)
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("present", [RAGGED, torch.zeros_like(RAGGED)], ids=["some", "none"])
def test_poison_in_absent_aspects_changes_nothing(present, poison):
    clean = leaf(numbers(0, 4, 5))
    dirty = leaf(poisoned(numbers(0, 4, 5), present, poison))
    labels = numbers(1, 4, 5)
    expected, count = aspect_errors(clean, labels, present)
    found, found_count = aspect_errors(dirty, poisoned(labels, present, poison), present)
    expected.backward()
    found.backward()
    assert torch.equal(found, expected)
    assert count.item() == found_count.item() == int(present.sum())
    assert torch.equal(dirty.grad, clean.grad)
    assert clean.grad[~present].abs().sum() == 0.0


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda x: two_class(x.reshape(0, 2), torch.ones(0, dtype=torch.bool)),
        lambda x: squared_error(x, torch.ones(0)),
        lambda x: aspect_errors(x.reshape(0, 3), torch.ones(0, 3), torch.ones(0, 3, dtype=torch.bool)),
    ],
    ids=["two_class", "squared_error", "aspect_errors"],
)
def test_nothing_is_zero(loss_of):
    loss, count = loss_of(leaf(torch.ones(0)))
    loss.backward()
    assert (loss.item(), count.item()) == (0.0, 0)


def test_errors_at_great_scores_are_finite():
    predictions = leaf(torch.tensor([1e4, -1e4]))
    error, _ = squared_error(predictions, torch.tensor([-1e4, 1e4]))
    error.backward()
    assert error.item() == 8e8
    assert predictions.grad.tolist() == [4e4, -4e4]


@kills(
    "formulas/pointwise_losses.py",
    old="own = labels[labellers == labeller].double()",
    new="own = labels.double()",
    why="every labeller on everybody's scale",
)
def test_labels_are_standardised_by_labeller():
    """The note's two people: 0.8 against 0.7, and 0.6 against 0.5, say the same."""
    labels = torch.tensor([0.8, 0.6, 0.7, 0.5], dtype=torch.float64)
    people = torch.tensor([0, 1, 0, 1])
    scales = rating_scales(labels, people)
    assert [scale.count for scale in scales] == [2.0, 2.0]
    assert [scale.mean for scale in scales] == pytest.approx([0.75, 0.55])
    assert [scale.std for scale in scales] == pytest.approx([0.05, 0.05])
    standard = standardise(labels, people, scales, std_floor=1e-6)
    assert standard.tolist() == pytest.approx([1.0, 1.0, -1.0, -1.0])


def test_one_scale_for_all():
    labels, everybody = torch.tensor([1.0, 3.0, 3.0, 5.0]), torch.zeros(4, dtype=torch.long)
    standard = standardise(labels, everybody, rating_scales(labels, everybody), std_floor=1e-6)
    assert standard.tolist() == pytest.approx([-(2**0.5), 0.0, 0.0, 2**0.5])  # σ² = (4 + 0 + 0 + 4) / 4


def test_a_labeller_who_always_says_the_same_says_nothing():
    labels, people = torch.tensor([4.0, 4.0, 1.0, 2.0, 9.0]), torch.tensor([0, 0, 1, 1, 3])
    scales = rating_scales(labels, people)
    assert [scale.count for scale in scales] == [2.0, 2.0, 0.0, 1.0]
    standard = standardise(labels, people, scales, std_floor=1e-6)
    assert standard.tolist() == pytest.approx([0.0, 0.0, -1.0, 1.0, 0.0])


def test_the_floor_holds_where_ratings_hardly_differ():
    labels, people = torch.tensor([1.0, 1.002], dtype=torch.float64), torch.tensor([0, 0])
    standard = standardise(labels, people, rating_scales(labels, people), std_floor=0.1)
    assert standard.tolist() == pytest.approx([-0.01, 0.01])
    with pytest.raises(ValueError, match="std_floor"):
        standardise(labels, people, (), std_floor=0.0)


def test_no_ratings_have_no_scales():
    nothing, nobody = torch.ones(0), torch.ones(0, dtype=torch.long)
    assert rating_scales(nothing, nobody) == ()
    assert standardise(nothing, nobody, (), std_floor=1.0).shape == (0,)
