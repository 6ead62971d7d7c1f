"""Sampler against trainer: truncation, masks and what is measured."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.mismatch import MismatchStats, truncated_weights, trusted_responses, trusted_tokens
from tests.formulas.cases import POISONS, RAGGED, leaf, masks, numbers, poisoned
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
    old="ratio.clamp(max=cap)",
    new="ratio.clamp(min=cap)",
    why="min for max: truncated from below",
)
@kills(
    "formulas/mismatch.py",
    old="k3(-log_ratio.clamp(max=LOG_RATIO_LIMIT))",
    new="k3(log_ratio.clamp(max=LOG_RATIO_LIMIT))",
    why="the mismatch's KL in the other direction",
)
@kills(
    "formulas/mismatch.py",
    old="gap_sum=log_ratio.abs().double().sum()",
    new="gap_sum=log_ratio.double().sum()",
    why="gaps that cancel",
)
def test_truncated_weights_by_hand():
    weights, stats = truncated_weights(OLD, SAMPLER, MASK, cap=2.0)
    assert torch.allclose(weights, torch.tensor([[1.0, 2.0, 0.25, 1.5], [1.0, 0.5, 2.0, 0.0]]).double())
    assert stats.num_tokens.item() == 7.0
    assert stats.gap_sum.item() == pytest.approx(math.log(4) * 2 + math.log(1.5) + math.log(2) * 2)
    assert stats.gap_max.item() == pytest.approx(math.log(4))
    # ρ − 1 − log ρ of 4, ¼, 1½, ½ and 2; the others are 0.
    assert stats.kl_sampler_sum.item() == pytest.approx(3 - 0.75 + 0.5 - math.log(1.5) - 0.5 + 1)
    assert stats.kl_sampler == pytest.approx(stats.kl_sampler_sum.item() / 7)


def test_only_what_is_above_the_cap_is_counted():
    assert truncated_weights(OLD, SAMPLER, MASK, cap=2.0 + 1e-9)[1].corrected_fraction == pytest.approx(1 / 7)
    assert truncated_weights(OLD, SAMPLER, MASK, cap=1.2)[1].corrected_tokens.item() == 3.0
    assert truncated_weights(OLD, SAMPLER, MASK, cap=math.inf)[1].corrected_tokens.item() == 0.0


def test_weights_turn_the_samplers_expectation_into_the_trainers():
    sampler, trainer = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.2, 0.3, 0.5]])
    weights, _ = truncated_weights(trainer.log(), sampler.log(), torch.ones(1, 3, dtype=torch.bool), cap=10.0)
    f = torch.tensor([[1.0, -2.0, 7.0]])
    assert (sampler * weights * f).sum().item() == pytest.approx((trainer * f).sum().item())


def test_kl_sampler_is_unbiased_for_kl_of_sampler_to_trainer():
    sampler, trainer = torch.tensor([0.5, 0.25, 0.25]).double(), torch.tensor([0.25, 0.25, 0.5]).double()
    expected = 0.0
    for token in range(3):
        one = torch.ones(1, 1, dtype=torch.bool)
        _, stats = truncated_weights(trainer[token].log().view(1, 1), sampler[token].log().view(1, 1), one, cap=9.0)
        expected += sampler[token].item() * stats.kl_sampler
    assert expected == pytest.approx(0.25 * math.log(2))


def test_trusted_tokens_by_hand():
    trusted, stats = trusted_tokens(OLD, SAMPLER, MASK, low=0.4, high=3.0)
    assert trusted.tolist() == [[True, False, False, True], [True, True, True, False]]
    assert stats.corrected_tokens.item() == 2.0
    assert stats.corrected_fraction == pytest.approx(2 / 7)
    assert stats.num_tokens.item() == 7.0


def test_trusted_responses_by_hand():
    # Geometric means: (1·4·¼·1½)^¼ = 1.107, (1·½·2)^⅓ = 1: the product would be 1.5, and padding's 9 is not in it.
    trusted, stats = trusted_responses(OLD, SAMPLER, MASK, low=0.9, high=1.1)
    assert trusted.tolist() == [[False] * 4, [True, True, True, False]]
    assert stats.corrected_tokens.item() == 4.0
    assert torch.equal(trusted_responses(OLD, SAMPLER, MASK, low=0.9, high=1.2)[0], MASK)
    assert trusted_responses(-OLD, -SAMPLER, MASK, low=0.91, high=2.0)[0].tolist()[0] == [False] * 4


@kills(
    "formulas/mismatch.py",
    old="/ mask.sum(dim=1, keepdim=True).clamp(min=1)",
    new="/ mask.shape[1]",
    why="a response's mean ratio diluted by padding",
)
def test_a_responses_mean_ratio_is_over_its_own_tokens():
    old, mask = torch.full((1, 10), 0.2), torch.arange(10).unsqueeze(0) < 2
    ratio = math.exp(0.2)  # of both tokens, however wide the row
    assert trusted_responses(old, torch.zeros(1, 10), mask, low=1.0, high=ratio - 0.01)[0].sum().item() == 0
    assert trusted_responses(old, torch.zeros(1, 10), mask, low=1.0, high=ratio + 0.01)[0].sum().item() == 2


def test_agreement_is_left_alone():
    logprobs = numbers(0, 4, 5)
    weights, stats = truncated_weights(logprobs, logprobs, RAGGED, cap=1.0)
    assert torch.equal(weights, RAGGED.double())
    numbers_of = (stats.gap_sum.item(), stats.gap_max.item(), stats.kl_sampler, stats.corrected_fraction)
    assert numbers_of == (0.0, 0.0, 0.0, 0.0)
    for choose in (trusted_tokens, trusted_responses):
        assert torch.equal(choose(logprobs, logprobs, RAGGED, low=1.0, high=1.0)[0], RAGGED)


@given(mask=masks, cut=st.integers(0, 4))
def test_parts_add_up_to_the_whole(mask, cut):
    old, sampler = numbers(0, *mask.shape), numbers(1, *mask.shape)
    for correct in (
        lambda *a: truncated_weights(*a, cap=1.5),
        lambda *a: trusted_tokens(*a, low=0.5, high=2.0),
        lambda *a: trusted_responses(*a, low=0.5, high=2.0),
    ):
        whole, stats = correct(old, sampler, mask)
        parts = [correct(old[part], sampler[part], mask[part]) for part in (slice(0, cut), slice(cut, None))]
        assert torch.equal(torch.cat([values for values, _ in parts]), whole)
        for field in MismatchStats.__dataclass_fields__:
            one, other = (getattr(part, field).item() for _, part in parts)
            merged = max(one, other) if field == "gap_max" else one + other
            assert merged == pytest.approx(getattr(stats, field).item(), abs=1e-12)


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
        (values, stats), (found, found_stats) = correct(*clean, mask), correct(*dirty, mask)
        assert torch.equal(found, values)
        for field in MismatchStats.__dataclass_fields__:
            assert getattr(found_stats, field).item() == getattr(stats, field).item()


def test_an_impossible_token_is_finite_and_weighs_nothing_much():
    old, sampler = torch.tensor([[-1e30, 0.0]]), torch.tensor([[0.0, -1e30]])
    weights, stats = truncated_weights(old, sampler, torch.ones(1, 2, dtype=torch.bool), cap=2.0)
    assert weights.tolist() == [[pytest.approx(0.0, abs=1e-8), 2.0]]
    assert math.isfinite(stats.kl_sampler)


def test_no_gradient_flows():
    weights, stats = truncated_weights(leaf(OLD), SAMPLER, MASK, cap=2.0)
    assert not weights.requires_grad
    assert not stats.gap_sum.requires_grad


@pytest.mark.parametrize("cap", [0.5, 0.0, math.nan])
def test_a_cap_below_one_is_refused(cap):
    with pytest.raises(ValueError, match="cap"):
        truncated_weights(OLD, SAMPLER, MASK, cap=cap)


@pytest.mark.parametrize("choose", [trusted_tokens, trusted_responses])
@pytest.mark.parametrize(("low", "high"), [(1.1, 2.0), (0.5, 0.9), (-0.1, 2.0), (math.nan, 2.0)])
def test_bounds_that_do_not_enclose_one_are_refused(choose, low, high):
    with pytest.raises(ValueError, match="enclose 1"):
        choose(OLD, SAMPLER, MASK, low=low, high=high)
