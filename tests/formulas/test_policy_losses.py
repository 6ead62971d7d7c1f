import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.policy_losses import clipped_surrogate, surrogate, trust_region_losses
from tests.formulas.cases import RAGGED, leaf, masks, numbers, wider
from tests.kills import kills

ALL = torch.ones(1, 5, dtype=torch.bool)
RATIOS = torch.tensor([[1.5, 1.5, 0.5, 0.5, 1.1]], dtype=torch.float64)
ADVANTAGES = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0]], dtype=torch.float64)


def loss_of(logprobs, old_logprobs, advantages, mask, num_tokens=None):
    num_tokens = mask.sum() if num_tokens is None else num_tokens
    losses = clipped_surrogate(logprobs, old_logprobs, advantages, mask, clip_low=0.2, clip_high=0.2)
    return losses.sum() / max(int(num_tokens), 1)


@kills(
    "formulas/policy_losses.py",
    old="losses = torch.maximum(unclipped, clipped)",
    new="losses = torch.minimum(unclipped, clipped)",
    why="min for max: the clip never holds anything back",
)
@kills(
    "formulas/policy_losses.py",
    old="unclipped = -advantages * ratio\n",
    new="unclipped = advantages * ratio\n",
    why="the objective minimised: good tokens become rarer",
)
@kills(
    "formulas/policy_losses.py",
    old="ratio.clamp(1.0 - clip_low, 1.0 + clip_high)",
    new="ratio.clamp(max=1.0 + clip_high)",
    why="clipped above only",
)
@kills(
    "formulas/kl.py",
    old="at_least_float32(logprobs) - other_logprobs.detach()",
    new="other_logprobs.detach() - at_least_float32(logprobs)",
    why="old minus new",
)
def test_the_four_corners_and_the_middle_by_hand():
    old = torch.full((1, 5), -2.0, dtype=torch.float64)
    logprobs = leaf(old + RATIOS.log())
    loss = loss_of(logprobs, old, ADVANTAGES, ALL)
    # Per token: −1.2 (clipped), +1.5, −0.5, +0.8 (clipped), −2.2.
    assert loss.item() == pytest.approx(-1.6 / 5)
    loss.backward()
    assert (5 * logprobs.grad).flatten().tolist() == pytest.approx([0.0, 1.5, -0.5, 0.0, -2.2])


def test_a_clip_holds_tokens_whose_clipped_term_is_the_larger():
    # Ratios 1.5 1.5 1.5 0.5 0.5 with Â + + − + −: the first two and the last.
    tensors = torch.tensor([[1.5, 1.5, 1.5, 0.5, 0.5]]).log(), torch.zeros(1, 5), torch.tensor([[1.0, 2, -1, 1, -1]])
    held = clipped_surrogate(*tensors, ALL, clip_low=0.2, clip_high=0.2) != surrogate(*tensors, ALL)
    assert held.tolist() == [[True, True, False, False, True]]


def test_a_clip_range_of_zero_keeps_only_what_makes_things_worse():
    losses = clipped_surrogate(RATIOS.log(), 0.0 * RATIOS, ADVANTAGES, ALL, clip_low=0.0, clip_high=0.0)
    assert losses.sum().item() == pytest.approx(-1.0 + 1.5 - 0.5 + 1.0 - 2.0)


def test_first_minibatch_has_ratio_one_and_the_policy_gradient():
    logprobs = leaf(numbers(0, 4, 5))
    advantages = numbers(1, 4, 5)
    loss = loss_of(logprobs, logprobs.detach(), advantages, RAGGED)
    loss.backward()
    assert not trust_region_losses(logprobs, logprobs.detach(), RAGGED).any()
    expected = torch.where(RAGGED, -advantages / 10.0, torch.zeros(()).double())  # ten kept tokens
    assert torch.allclose(logprobs.grad, expected)
    assert loss.item() == pytest.approx(expected.sum().item())


def test_minimising_the_loss_raises_good_tokens():
    logprobs = leaf(torch.zeros(1, 2))
    loss_of(logprobs, torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool)).backward()
    assert logprobs.grad[0, 0] < 0 < logprobs.grad[0, 1]


@kills(
    "formulas/policy_losses.py",
    old="advantages = select(advantages.detach(), mask)",
    new="advantages = select(advantages, mask)",
    why="a gradient into the advantages",
)
def test_gradient_flows_into_logprobs_only():
    tensors = [leaf(numbers(seed, 4, 5)) for seed in range(3)]
    loss_of(*tensors, RAGGED).backward()
    assert tensors[0].grad.abs().max().item() > 0.0
    assert tensors[1].grad is None
    assert tensors[2].grad is None


@given(mask=masks, cut=st.integers(0, 4))
def test_microbatches_add_up_to_the_minibatch(mask, cut):
    old, advantages = numbers(1, *mask.shape), numbers(2, *mask.shape)
    start = old + 0.3 * numbers(0, *mask.shape)
    num_tokens = int(mask.sum())
    whole = leaf(start)
    loss = loss_of(whole, old, advantages, mask, num_tokens)
    loss.backward()
    split, total = leaf(start), 0.0
    for part in (slice(0, cut), slice(cut, None)):
        part_loss = loss_of(split[part], old[part], advantages[part], mask[part], num_tokens)
        part_loss.backward()
        total += part_loss.item()
    assert total == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(split.grad, whole.grad, atol=1e-12)


@given(mask=masks, at=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_padding_and_the_order_of_rows_change_nothing(mask, at, order):
    tensors = [0.3 * numbers(seed, *mask.shape) for seed in range(3)]
    at = min(at, mask.shape[1])
    loss = loss_of(*tensors, mask)
    padded = loss_of(*(wider(x, at, torch.nan) for x in tensors), wider(mask, at, False))
    permutation = order.sample(range(mask.shape[0]), mask.shape[0])
    permuted = loss_of(*(x[permutation] for x in tensors), mask[permutation])
    assert padded.item() == pytest.approx(loss.item(), abs=1e-12)
    assert permuted.item() == pytest.approx(loss.item(), abs=1e-12)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("log_ratio", [-1e30, -1000.0, 1000.0, 1e30])
def test_overflowing_ratios_are_held_and_finite(advantage, log_ratio):
    logprobs = leaf(torch.tensor([[log_ratio]]))
    loss = loss_of(logprobs, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    worst = math.exp(20.0)
    expected = {(1, 1): -1.2, (1, -1): worst, (-1, 1): -1 / worst, (-1, -1): 0.8}
    assert loss.item() == pytest.approx(expected[(math.copysign(1, log_ratio), advantage)], rel=1e-5)
    assert logprobs.grad.item() == 0.0


def test_the_gradient_is_exact_right_up_to_the_limit():
    logprobs = leaf(torch.tensor([[19.9, -19.9]], dtype=torch.float64))
    advantages = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    loss = loss_of(logprobs, torch.zeros_like(advantages), advantages, torch.ones(1, 2, dtype=torch.bool), 1)
    loss.backward()
    assert logprobs.grad.flatten().tolist() == pytest.approx([math.exp(19.9), -math.exp(-19.9)])


def test_half_precision_log_probs_are_raised():
    logprobs = torch.tensor([[-1.0, -2.0]], dtype=torch.bfloat16)
    old_logprobs = torch.tensor([[-1.0078125, -2.0]], dtype=torch.bfloat16)
    loss = loss_of(logprobs, old_logprobs, torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-(math.exp(0.0078125) + 1.0) / 2, rel=1e-6)  # bfloat16 would say 1.0078125


def test_an_empty_batch_is_zero_everywhere():
    nothing = torch.zeros(4, 5, dtype=torch.bool)
    logprobs = leaf(numbers(0, 4, 5))
    loss = loss_of(logprobs, numbers(1, 4, 5), numbers(2, 4, 5), nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert logprobs.grad.abs().max().item() == 0.0


def test_a_negative_clip_range_is_refused():
    with pytest.raises(ValueError, match="clip_range"):
        clipped_surrogate(RATIOS, RATIOS, ADVANTAGES, ALL, clip_low=-0.1, clip_high=0.1)
