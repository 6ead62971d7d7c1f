"""Sampler against trainer: truncation, masks and what is measured."""

import math

import pytest
import torch

from plaudit.formulas.mismatch import truncated_weights, trusted_responses, trusted_tokens
from tests.formulas.cases import POISONS, RAGGED, leaf, numbers, poisoned
from tests.kills import kills

RATIO = torch.tensor([[1.0, 4.0, 0.25, 1.5], [1.0, 0.5, 2.0, 9.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, True], [True, True, True, False]])
SAMPLER = torch.full((2, 4), -3.0, dtype=torch.float64)
OLD = SAMPLER + RATIO.log()


@kills(
    "formulas/mismatch.py",
    old="return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()",
    new="return (-log_ratio).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()",
    why="sampler over trainer",
)
@kills(
    "formulas/mismatch.py",
    old=".clamp(max=cap), mask)",
    new=".clamp(min=cap), mask)",
    why="min for max: truncated from below",
)
def test_truncated_weights_by_hand():
    weights = truncated_weights(OLD, SAMPLER, MASK, cap=2.0)
    assert torch.allclose(weights, torch.tensor([[1.0, 2.0, 0.25, 1.5], [1.0, 0.5, 2.0, 0.0]]).double())


def test_weights_turn_the_samplers_expectation_into_the_trainers():
    sampler, trainer = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.2, 0.3, 0.5]])
    weights = truncated_weights(trainer.log(), sampler.log(), torch.ones(1, 3, dtype=torch.bool), cap=10.0)
    f = torch.tensor([[1.0, -2.0, 7.0]])
    assert (sampler * weights * f).sum().item() == pytest.approx((trainer * f).sum().item())


def test_trusted_tokens_by_hand():
    trusted = trusted_tokens(OLD, SAMPLER, MASK, low=0.4, high=3.0)
    assert trusted.tolist() == [[True, False, False, True], [True, True, True, False]]


def test_trusted_responses_by_hand():
    # Geometric means: (1·4·¼·1½)^¼ = 1.107, (1·½·2)^⅓ = 1: the product would be 1.5, and padding's 9 is not in it.
    trusted = trusted_responses(OLD, SAMPLER, MASK, low=0.9, high=1.1)
    assert trusted.tolist() == [[False] * 4, [True, True, True, False]]
    assert torch.equal(trusted_responses(OLD, SAMPLER, MASK, low=0.9, high=1.2), MASK)
    assert trusted_responses(-OLD, -SAMPLER, MASK, low=0.91, high=2.0).tolist()[0] == [False] * 4


@kills(
    "formulas/mismatch.py",
    old="/ mask.sum(dim=1, keepdim=True).clamp(min=1)",
    new="/ mask.shape[1]",
    why="a response's mean ratio diluted by padding",
)
def test_a_responses_mean_ratio_is_over_its_own_tokens():
    old, mask = torch.full((1, 10), 0.2), torch.arange(10).unsqueeze(0) < 2
    ratio = math.exp(0.2)  # of both tokens, however wide the row
    assert trusted_responses(old, torch.zeros(1, 10), mask, low=1.0, high=ratio - 0.01).sum().item() == 0
    assert trusted_responses(old, torch.zeros(1, 10), mask, low=1.0, high=ratio + 0.01).sum().item() == 2


def test_agreement_is_left_alone():
    logprobs = numbers(0, 4, 5)
    assert torch.equal(truncated_weights(logprobs, logprobs, RAGGED, cap=1.0), RAGGED.double())
    for choose in (trusted_tokens, trusted_responses):
        assert torch.equal(choose(logprobs, logprobs, RAGGED, low=1.0, high=1.0), RAGGED)


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("mask", [RAGGED, torch.zeros_like(RAGGED)], ids=["ragged", "all_masked"])
def test_poison_outside_the_mask_changes_nothing(mask, poison):
    clean = [0.3 * numbers(seed, 4, 5) for seed in range(2)]
    dirty = [poisoned(x, mask, poison) for x in clean]
    for correct in (
        lambda *a: truncated_weights(*a, cap=1.5),
        lambda *a: trusted_tokens(*a, low=0.8, high=1.2),
        lambda *a: trusted_responses(*a, low=0.9, high=1.1),
    ):
        assert torch.equal(correct(*dirty, mask), correct(*clean, mask))


def test_an_impossible_token_is_finite_and_weighs_nothing_much():
    old, sampler = torch.tensor([[-1e30, 0.0]]), torch.tensor([[0.0, -1e30]])
    weights = truncated_weights(old, sampler, torch.ones(1, 2, dtype=torch.bool), cap=2.0)
    assert weights.tolist() == [[pytest.approx(0.0, abs=1e-8), 2.0]]


def test_no_gradient_flows():
    assert not truncated_weights(leaf(OLD), SAMPLER, MASK, cap=2.0).requires_grad


@pytest.mark.parametrize("cap", [0.5, 0.0, math.nan])
def test_a_cap_below_one_is_refused(cap):
    with pytest.raises(ValueError, match="cap"):
        truncated_weights(OLD, SAMPLER, MASK, cap=cap)


@pytest.mark.parametrize("choose", [trusted_tokens, trusted_responses])
@pytest.mark.parametrize(("low", "high"), [(1.1, 2.0), (0.5, 0.9), (-0.1, 2.0), (math.nan, 2.0)])
def test_bounds_that_do_not_enclose_one_are_refused(choose, low, high):
    with pytest.raises(ValueError, match="enclose 1"):
        choose(OLD, SAMPLER, MASK, low=low, high=high)
