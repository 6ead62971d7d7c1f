"""Every estimator against the exact expectation, by enumerating a categorical of four tokens."""

import math

import pytest
import torch

from plaudit.formulas.kl import (
    LOG_RATIO_LIMIT,
    abs_k1,
    full,
    k1,
    k2,
    k3,
    kept_log_ratio,
)
from tests.formulas.cases import leaf, numbers
from tests.kills import kills

POLICY = torch.tensor([0.5, 0.125, 0.25, 0.125], dtype=torch.float64)
OTHER = torch.tensor([0.25, 0.25, 0.125, 0.375], dtype=torch.float64)
# 0.5 log 2 − 0.125 log 2 + 0.25 log 2 − 0.125 log 3
KL = 0.625 * math.log(2) - 0.125 * math.log(3)
# −0.25 log 2 + 0.25 log 2 − 0.125 log 2 + 0.375 log 3
REVERSE_KL = -0.125 * math.log(2) + 0.375 * math.log(3)


def on_policy_gradient(estimator):
    """Σ_y π_y ∇_θ estimator(log π_θ(y) − log other(y)): the expected gradient of the estimator used as a loss."""
    theta = leaf(POLICY.log())
    log_ratio = torch.log_softmax(theta, dim=0) - OTHER.log()
    (POLICY * estimator(log_ratio)).sum().backward()
    return theta.grad


def exact_gradient(objective):
    theta = leaf(POLICY.log())
    objective(torch.softmax(theta, dim=0)).backward()
    return theta.grad


@kills(
    "formulas/kl.py",
    old="torch.expm1(-bounded) + bounded",
    new="torch.expm1(bounded) - bounded",
    why="k3 of the other direction",
)
@kills(
    "formulas/kl.py",
    old="    return log_ratio\n",
    new="    return -log_ratio\n",
    why="KL with a flipped sign: a bonus for leaving the reference",
)
@kills(
    "formulas/kl.py", old="return 0.5 * log_ratio.square()", new="return log_ratio.square()", why="k2 without its half"
)
def test_values_by_hand():
    log_ratio = torch.tensor([math.log(2), -math.log(2), 0.0], dtype=torch.float64)
    assert k1(log_ratio).tolist() == pytest.approx([math.log(2), -math.log(2), 0.0])
    assert k2(log_ratio).tolist() == pytest.approx([0.2402265, 0.2402265, 0.0], abs=1e-7)
    assert k3(log_ratio).tolist() == pytest.approx([math.log(2) - 0.5, 1 - math.log(2), 0.0])


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_are_unbiased_for_kl_of_policy_to_other(estimator):
    log_ratio = POLICY.log() - OTHER.log()
    assert (POLICY * estimator(log_ratio)).sum().item() == pytest.approx(KL)


@kills(
    "formulas/kl.py",
    old="difference = logp.masked_fill(impossible, 0.0) - other_logp.masked_fill(impossible, 0.0)",
    new="difference = other_logp.masked_fill(impossible, 0.0) - logp.masked_fill(impossible, 0.0)",
    why="the full KL with a flipped sign",
)
def test_full_is_the_sum_over_the_vocabulary():
    assert full(POLICY.log() + 3.0, OTHER.log() - 2.0).item() == pytest.approx(KL)
    assert full(OTHER.log(), POLICY.log()).item() == pytest.approx(REVERSE_KL)
    both = full(torch.stack([POLICY, OTHER]).log(), torch.stack([OTHER, POLICY]).log())
    assert both.tolist() == pytest.approx([KL, REVERSE_KL])
    assert full(POLICY.log(), POLICY.log()).item() == pytest.approx(0.0, abs=1e-15)


def test_full_at_a_temperature_takes_it_on_both_sides():
    # τ = 2 turns odds 1 9 into 1 3, and 9 1 into 3 1: KL = ¾ log 3 − ¼ log 3.
    odds = torch.tensor([1.0, 9.0], dtype=torch.float64)
    assert full(odds.log(), odds.flip(0).log(), temperature=2.0).item() == pytest.approx(0.5 * math.log(3))


def test_k1_as_a_loss_has_no_gradient_on_policy():
    assert on_policy_gradient(k1).tolist() == pytest.approx([0.0] * 4, abs=1e-15)


def test_k2_as_a_loss_has_the_gradient_of_kl_to_other():
    expected = exact_gradient(lambda p: (p * (p / OTHER).log()).sum())
    assert expected.abs().max().item() > 0.1
    assert on_policy_gradient(k2).tolist() == pytest.approx(expected.tolist())


def test_k3_as_a_loss_has_the_gradient_of_kl_from_other():
    expected = exact_gradient(lambda p: (OTHER * (OTHER / p).log()).sum())
    assert expected.abs().max().item() > 0.1
    assert on_policy_gradient(k3).tolist() == pytest.approx(expected.tolist())


def test_full_as_a_loss_has_the_gradient_of_kl_to_other():
    theta = leaf(POLICY.log())
    full(theta, OTHER.log()).backward()
    expected = exact_gradient(lambda p: (p * (p / OTHER).log()).sum())
    assert theta.grad.tolist() == pytest.approx(expected.tolist())


def test_k3_keeps_its_digits_near_zero_and_its_sign():
    assert k3(torch.tensor(1e-6, dtype=torch.float64)).item() == pytest.approx(5e-13, rel=1e-3)
    assert k3(numbers(0, 2000).float() * 1e-4).min().item() >= 0.0


@kills(
    "formulas/kl.py",
    old="bounded = log_ratio.clamp(min=-LOG_RATIO_LIMIT)",
    new="bounded = log_ratio",
    why="k3 that overflows",
)
def test_k3_is_exact_inside_the_limit_and_flat_beyond():
    log_ratio = leaf(torch.tensor([-19.5, -1e4, -torch.inf, 1e4]))
    value = k3(log_ratio)
    value.sum().backward()
    at_limit = math.exp(20) - 21
    assert LOG_RATIO_LIMIT == 20.0
    assert value.tolist() == pytest.approx([math.exp(19.5) - 20.5, at_limit, at_limit, 9999.0])
    assert log_ratio.grad.tolist() == pytest.approx([1 - math.exp(19.5), 0.0, 0.0, 1.0])


def test_full_of_impossible_tokens():
    p = leaf(torch.tensor([0.0, 0.0, -torch.inf]))
    q = torch.tensor([0.0, 0.0, 0.0])
    value = full(p, q)
    value.backward()
    assert value.item() == pytest.approx(math.log(1.5))
    assert p.grad.isfinite().all()
    assert full(q, p.detach()).item() == math.inf
    assert full(p.detach(), p.detach()).item() == pytest.approx(0.0, abs=1e-7)


@kills(
    "formulas/kl.py",
    old="return log_ratio.abs()",
    new="return log_ratio",
    why="abs_k1 without its bars: a loss of no gradient",
)
def test_abs_k1_by_hand():
    log_ratio = leaf(torch.tensor([2.0, -3.0, 0.0]))
    value = abs_k1(log_ratio)
    value.sum().backward()
    assert value.tolist() == [2.0, 3.0, 0.0]
    assert log_ratio.grad.tolist() == [1.0, -1.0, 0.0]


@kills(
    "formulas/kl.py",
    old="at_least_float32(logprobs) - other_logprobs.detach()",
    new="at_least_float32(logprobs) - other_logprobs",
    why="a gradient into the other policy",
)
def test_kept_log_ratio_by_hand():
    logprobs, other = leaf(torch.tensor([[-1.0, -2.0, torch.nan]])), leaf(torch.tensor([[-3.0, -1.5, 0.0]]))
    log_ratio = kept_log_ratio(logprobs, other, torch.tensor([[True, True, False]]))
    log_ratio.sum().backward()
    assert log_ratio.tolist() == [[2.0, -0.5, 0.0]]
    assert logprobs.grad.tolist() == [[1.0, 1.0, 0.0]]
    assert other.grad is None
    assert kept_log_ratio(logprobs.bfloat16(), other, torch.ones(1, 3, dtype=torch.bool)).dtype == torch.float32


def kept_for_backward(function):
    """How many numbers autograd keeps beside the logits themselves."""
    logits, kept = [leaf(numbers(seed, 8, 100)) for seed in (0, 1)], []
    given = {x.untyped_storage().data_ptr() for x in logits}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        function(*logits)
    own = {x.untyped_storage().data_ptr(): x.numel() for x in kept}
    return sum(size for place, size in own.items() if place not in given)
