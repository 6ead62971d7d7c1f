"""Weights of tokens: by hand, and the same loss and gradient however the minibatch is cut."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.aggregation import fixed_length_weights, sequence_mean_weights, token_mean_weights
from plaudit.formulas.masks import weighted_sum
from tests.formulas.cases import POISONS, RAGGED, leaf, masks, numbers, poisoned
from tests.kills import kills

# Rows of RAGGED have 3, 3, 0 and 4 kept tokens.


def count(mask):
    return int(mask.sum()), int(mask.any(dim=1).sum())


WAYS = {
    "token_mean": lambda mask, whole: token_mean_weights(mask, num_tokens=count(whole)[0]),
    "sequence_mean": lambda mask, whole: sequence_mean_weights(mask, num_responses=count(whole)[1]),
    "fixed_length": lambda mask, whole: fixed_length_weights(mask, num_responses=count(whole)[1], fixed_length=8),
}


def test_token_mean_by_hand():
    weights = token_mean_weights(RAGGED, num_tokens=10)
    assert weights.tolist() == [[0.1 * kept for kept in row] for row in RAGGED.tolist()]


@kills(
    "formulas/aggregation.py",
    old="mask.sum(dim=1, keepdim=True)",
    new="mask.sum(dim=0, keepdim=True)",
    why="a response's length counted across the responses",
)
def test_sequence_mean_by_hand():
    weights = sequence_mean_weights(RAGGED, num_responses=3)
    assert weights[0].tolist() == pytest.approx([1 / 9, 1 / 9, 1 / 9, 0.0, 0.0])
    assert weights[1].tolist() == pytest.approx([1 / 9, 0.0, 1 / 9, 1 / 9, 0.0])
    assert weights[2].tolist() == [0.0] * 5
    assert weights[3].tolist() == pytest.approx([0.0, 1 / 12, 1 / 12, 1 / 12, 1 / 12])


def test_fixed_length_by_hand():
    weights = fixed_length_weights(RAGGED, num_responses=3, fixed_length=5)
    assert torch.allclose(weights, torch.where(RAGGED, 1 / 15, 0.0).double())


@kills(
    "formulas/aggregation.py",
    old="mask.double() / fixed_length",
    new="mask.double() / mask.shape[1]",
    why="the width of the padding for the fixed length",
)
def test_the_three_means_of_one_loss():
    # Row means 1 and 4, token mean (1 + 4 + 4 + 4) / 4, fixed length 4: 13 / 8.
    x = torch.tensor([[1.0, 99.0, 99.0], [4.0, 4.0, 4.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    assert weighted_sum(x, token_mean_weights(mask, num_tokens=4), mask).item() == pytest.approx(3.25)
    assert weighted_sum(x, sequence_mean_weights(mask, num_responses=2), mask).item() == pytest.approx(2.5)
    assert weighted_sum(x, fixed_length_weights(mask, num_responses=2, fixed_length=4), mask).item() == 1.625


def test_token_mean_weights_are_over_tokens():
    x = numbers(0, 4, 5)
    expected = x[RAGGED].sum() / 10
    assert weighted_sum(x, token_mean_weights(RAGGED, num_tokens=10), RAGGED).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("way", WAYS)
def test_weights_of_means_sum_to_one_and_stand_on_kept_tokens_only(way):
    weights = WAYS[way](RAGGED, RAGGED)
    assert (weights > 0).tolist() == RAGGED.tolist()
    if way != "fixed_length":
        assert weights.sum().item() == pytest.approx(1.0)


@kills(
    "formulas/aggregation.py",
    old="return mask.double() / _at_least_one(num_tokens)",
    new="return mask.double() / _at_least_one(mask.sum())",
    why="a micro-batch's own tokens for the minibatch's",
)
@kills(
    "formulas/aggregation.py",
    old="mask.double() / lengths / _at_least_one(num_responses)",
    new="mask.double() / lengths / _at_least_one(mask.any(dim=1).sum())",
    why="a micro-batch's own responses for the minibatch's",
)
@pytest.mark.parametrize("way", WAYS)
@given(mask=masks, cut=st.integers(0, 4))
def test_microbatches_add_up_to_the_minibatch(way, mask, cut):
    start = numbers(0, *mask.shape)
    whole, split = leaf(start), leaf(start)
    loss = weighted_sum(whole.square(), WAYS[way](mask, mask), mask)
    loss.backward()
    total = 0.0
    for part in (slice(0, cut), slice(cut, None)):
        part_loss = weighted_sum(split[part].square(), WAYS[way](mask[part], mask), mask[part])
        part_loss.backward()
        total += part_loss.item()
    assert total == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(split.grad, whole.grad, atol=1e-14)


@pytest.mark.parametrize("way", WAYS)
def test_counts_may_be_tensors_as_ranks_sum_them(way):
    as_tensors = {
        "token_mean": token_mean_weights(RAGGED, num_tokens=RAGGED.sum()),
        "sequence_mean": sequence_mean_weights(RAGGED, num_responses=RAGGED.any(dim=1).sum()),
        "fixed_length": fixed_length_weights(RAGGED, num_responses=RAGGED.any(dim=1).sum(), fixed_length=8),
    }
    assert torch.equal(as_tensors[way], WAYS[way](RAGGED, RAGGED))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("poison", POISONS)
def test_all_masked_is_zero_and_poison_stays_outside(way, poison):
    x = leaf(torch.full((4, 5), poison, dtype=torch.float64))
    nothing = torch.zeros_like(RAGGED)
    loss = weighted_sum(x, WAYS[way](nothing, nothing), nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad.abs().max().item() == 0.0
    for count_of in (0, torch.tensor(0)):
        assert token_mean_weights(nothing, num_tokens=count_of).tolist() == [[0.0] * 5] * 4
        assert sequence_mean_weights(nothing, num_responses=count_of).tolist() == [[0.0] * 5] * 4
    weights = WAYS[way](RAGGED, RAGGED)
    clean, dirty = leaf(numbers(0, 4, 5)), leaf(poisoned(numbers(0, 4, 5), RAGGED, poison))
    losses = [weighted_sum(x, poisoned(weights, RAGGED, poison), RAGGED) for x in (clean, dirty)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == losses[1].item() == pytest.approx((weights * clean).sum().item())
    assert torch.equal(clean.grad, weights)
    assert torch.equal(dirty.grad, weights)


def test_no_gradient_flows_into_the_weights_and_the_loss_keeps_its_precision():
    x, weights = leaf(torch.ones(1, 2)), leaf(torch.ones(1, 2, dtype=torch.float64))
    loss = weighted_sum(x, weights, torch.tensor([[True, True]]))
    loss.backward()
    assert weights.grad is None
    assert loss.dtype == torch.float32


def test_a_length_below_one_is_refused():
    with pytest.raises(ValueError, match="fixed_length"):
        fixed_length_weights(RAGGED, num_responses=1, fixed_length=0)
