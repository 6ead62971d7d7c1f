"""The objectives beside the plain clip: policy gradient, surrogate, clip-higher, dual clip, and the trust region."""

import math

import pytest
import torch

from plaudit.formulas.kl import full
from plaudit.formulas.policy_losses import (
    clipped_surrogate,
    importance_ratio,
    policy_gradient,
    surrogate,
    trust_region_losses,
)
from tests.formulas.cases import RAGGED, leaf, numbers
from tests.kills import kills

OLD = torch.tensor([0.5, 0.125, 0.25, 0.125], dtype=torch.float64)
NEW = torch.tensor([0.25, 0.25, 0.125, 0.375], dtype=torch.float64)
CORNERS = torch.tensor([[1.5, 1.5, 0.5, 0.5]], dtype=torch.float64)
SIGNS = torch.tensor([[2.0, -2.0, 2.0, -2.0]], dtype=torch.float64)
ALL = torch.ones(1, 4, dtype=torch.bool)
ONE = torch.ones(1, 1, dtype=torch.bool)


def clip(ratio, advantages, mask=ALL, **ranges):
    return clipped_surrogate(ratio.log(), torch.zeros_like(ratio), advantages, mask, **ranges)


@kills(
    "formulas/policy_losses.py",
    old="return -select(advantages.detach(), mask) * select(at_least_float32(logprobs), mask)",
    new="return select(advantages.detach(), mask) * select(at_least_float32(logprobs), mask)",
    why="REINFORCE with the wrong sign",
)
def test_policy_gradient_by_hand():
    logprobs = leaf(torch.tensor([[-1.0, -2.0, -4.0]]))
    losses = policy_gradient(logprobs, torch.tensor([[3.0, -0.5, 9.0]]), torch.tensor([[True, True, False]]))
    losses.sum().backward()
    assert losses.tolist() == [[3.0, -1.0, 0.0]]
    assert logprobs.grad.tolist() == [[-3.0, 0.5, 0.0]]


@kills(
    "formulas/policy_losses.py",
    old="return -select(advantages.detach(), mask) * log_ratio.exp()",
    new="return -select(advantages.detach(), mask) * log_ratio",
    why="the log-ratio for the ratio",
)
def test_surrogate_by_hand():
    logprobs = leaf(torch.tensor([[math.log(3.0), math.log(0.25), 5.0]], dtype=torch.float64))
    losses = surrogate(
        logprobs, 0 * logprobs, torch.tensor([[2.0, -4.0, 7.0]]).double(), torch.tensor([[True, True, False]])
    )
    losses.sum().backward()
    assert losses.flatten().tolist() == pytest.approx([-6.0, 1.0, 0.0])
    assert logprobs.grad.flatten().tolist() == pytest.approx([-6.0, 1.0, 0.0])


def test_surrogates_expected_gradient_is_the_policy_gradient_of_the_new_policy():
    """Σ_y π_old ∇(ρ Â) = Σ_y π_θ Â ∇ log π_θ: what importance sampling is for."""
    advantage, theta, direct = torch.tensor([1.0, -2.0, 0.5, 3.0]).double(), leaf(NEW.log()), leaf(NEW.log())
    logp = torch.log_softmax(theta, dim=0).unsqueeze(0)
    losses = surrogate(logp, OLD.log().unsqueeze(0), advantage.unsqueeze(0), ALL)
    (OLD * losses[0]).sum().backward()
    (-(torch.softmax(direct, dim=0) * advantage).sum()).backward()
    assert theta.grad.tolist() == pytest.approx(direct.grad.tolist())


def plain_gradient(logprobs, _, advantages, mask):
    return policy_gradient(logprobs, advantages, mask)


@pytest.mark.parametrize("objective", [plain_gradient, surrogate])
def test_at_ratio_one_all_have_the_same_gradient(objective):
    one, other = leaf(numbers(0, 4, 5)), leaf(numbers(0, 4, 5))
    advantages = numbers(1, 4, 5)
    objective(one, one.detach(), advantages, RAGGED).sum().backward()
    clipped_surrogate(other, other.detach(), advantages, RAGGED, clip_low=0.1, clip_high=0.3).sum().backward()
    assert torch.allclose(one.grad, other.grad)
    assert one.grad[RAGGED].tolist() == pytest.approx((-advantages[RAGGED]).tolist())


def test_the_two_sides_of_the_clip_are_independent():
    assert clip(CORNERS, SIGNS, clip_low=0.2, clip_high=0.4).tolist()[0] == pytest.approx([-2.8, 3.0, -1.0, 1.6])
    assert clip(CORNERS, SIGNS, clip_low=0.4, clip_high=0.2).tolist()[0] == pytest.approx([-2.4, 3.0, -1.0, 1.2])
    assert torch.equal(clip(CORNERS, SIGNS, clip_low=0.6, clip_high=0.6), -SIGNS * CORNERS.log().exp())


@kills(
    "formulas/policy_losses.py",
    old="ratio.clamp(1.0 - clip_low, 1.0 + clip_high)",
    new="ratio.clamp(1.0 - clip_high, 1.0 + clip_low)",
    why="clip-higher that clips lower",
)
def test_a_clip_that_never_holds_is_the_surrogate():
    logprobs, old, advantages = (numbers(seed, 4, 5) for seed in range(3))
    wide = clipped_surrogate(logprobs, old, advantages, RAGGED, clip_low=1.0, clip_high=1e9)
    assert torch.equal(wide, surrogate(logprobs, old, advantages, RAGGED))


@kills(
    "formulas/policy_losses.py",
    old="torch.minimum(losses, -dual_clip * advantages)",
    new="torch.maximum(losses, -dual_clip * advantages)",
    why="min for max: the dual clip as the least loss",
)
@kills(
    "formulas/policy_losses.py",
    old="torch.where(advantages < 0.0, torch.minimum",
    new="torch.where(advantages > 0.0, torch.minimum",
    why="the dual clip on good tokens",
)
def test_dual_clip_by_hand():
    # ρ = 5: bad tokens lose 3·|Â| instead of 5·|Â|; good ones, and bad ones below 3, are not touched.
    ratio = torch.tensor([[5.0, 5.0, 2.0, 0.5]], dtype=torch.float64)
    advantages = torch.tensor([[-2.0, 2.0, -2.0, -2.0]], dtype=torch.float64)
    logprobs = leaf(ratio.log())
    losses = clipped_surrogate(logprobs, 0 * ratio, advantages, ALL, clip_low=0.2, clip_high=0.2, dual_clip=3.0)
    losses.sum().backward()
    assert losses.tolist()[0] == pytest.approx([6.0, -2.4, 4.0, 1.6])
    assert logprobs.grad.tolist()[0] == pytest.approx([0.0, 0.0, 4.0, 0.0])


def test_no_dual_clip_is_the_default_bit_for_bit():
    logprobs, old, advantages = (numbers(seed, 4, 5) for seed in range(3))
    advantages[0, 0] = 0.0
    plain = clipped_surrogate(logprobs, old, advantages, RAGGED, clip_low=0.2, clip_high=0.2)
    out_of_reach = clipped_surrogate(logprobs, old, advantages, RAGGED, clip_low=0.2, clip_high=0.2, dual_clip=1e30)
    assert torch.equal(plain, out_of_reach)
    assert plain.isfinite().all()


def test_dual_clip_bounds_the_loss_of_an_overflowing_ratio():
    losses = clip(torch.tensor([[1e38]]), torch.tensor([[-1.0]]), ONE, clip_low=0.2, clip_high=0.2, dual_clip=3.0)
    assert losses.item() == 3.0


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"clip_low": -0.1, "clip_high": 0.2}, "clip_range"),
        ({"clip_low": 0.2, "clip_high": -0.1}, "clip_range"),
        ({"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 1.0}, "dual_clip"),
        ({"clip_low": 0.2, "clip_high": 0.2, "dual_clip": math.nan}, "dual_clip"),
    ],
)
def test_impossible_ranges_are_refused(wrong, name):
    with pytest.raises(ValueError, match=name):
        clip(CORNERS, SIGNS, **wrong)


@kills(
    "formulas/policy_losses.py",
    old="return k3(-_limited(kept_log_ratio(logprobs, old_logprobs, mask)))",
    new="return k3(_limited(kept_log_ratio(logprobs, old_logprobs, mask)))",
    why="the trust region's KL in the other direction",
)
def test_trust_region_by_hand():
    logprobs = torch.tensor([[math.log(2), -math.log(2), 0.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False]])
    losses = trust_region_losses(logprobs, torch.zeros_like(logprobs), mask)
    assert losses.tolist()[0] == pytest.approx([1 - math.log(2), math.log(2) - 0.5, 0.0, 0.0])


def test_trust_region_is_kl_of_old_to_new_in_value_and_gradient_away_from_old_too():
    sampled, exact, by_logits = leaf(NEW.log()), leaf(NEW.log()), leaf(NEW.log())
    expected = (OLD * (OLD.log() - torch.log_softmax(exact, dim=0))).sum()
    logp = torch.log_softmax(sampled, dim=0).unsqueeze(0)
    found = (OLD * trust_region_losses(logp, OLD.log().unsqueeze(0), ALL)[0]).sum()
    from_logits = full(OLD.log(), by_logits)
    for value in (expected, found, from_logits):
        value.backward()
    assert found.item() == pytest.approx(expected.item())
    assert from_logits.item() == pytest.approx(expected.item())
    assert exact.grad.abs().max().item() > 0.1
    assert sampled.grad.tolist() == pytest.approx(exact.grad.tolist())
    assert by_logits.grad.tolist() == pytest.approx(exact.grad.tolist())


def test_importance_ratio_by_hand_and_with_its_gradient():
    logprobs = leaf(torch.tensor([[math.log(2), -1.0, 1e30]], dtype=torch.float64))
    old = leaf(torch.tensor([[0.0, -1.0, 0.0]], dtype=torch.float64))
    mask = torch.tensor([[True, True, False]])
    ratio = importance_ratio(logprobs, old, mask)
    ratio.sum().backward()
    assert ratio.tolist()[0] == pytest.approx([2.0, 1.0, 0.0])
    assert logprobs.grad.tolist()[0] == pytest.approx([2.0, 1.0, 0.0])
    assert old.grad is None


def asymmetric(*tensors):
    return clipped_surrogate(*tensors, clip_low=0.2, clip_high=0.3, dual_clip=3.0)


OBJECTIVES = [plain_gradient, surrogate, asymmetric]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_flows_into_logprobs_only(objective):
    tensors = [leaf(numbers(seed, 4, 5)) for seed in range(3)]
    losses = objective(*tensors, RAGGED)
    losses.sum().backward()
    assert tensors[0].grad.abs().max().item() > 0.0
    assert tensors[1].grad is None
    assert tensors[2].grad is None


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_half_precision_log_probs_are_raised(objective):
    logprobs, old = torch.tensor([[-1.0]], dtype=torch.bfloat16), torch.tensor([[-1.0078125]], dtype=torch.bfloat16)
    assert objective(logprobs, old, torch.ones(1, 1), ONE).dtype == torch.float32
    assert importance_ratio(logprobs, old, ONE).item() == pytest.approx(math.exp(0.0078125), rel=1e-6)


@pytest.mark.parametrize("log_ratio", [-1e30, 1e30, -torch.inf])
def test_overflowing_ratios_are_finite(log_ratio):
    logprobs, old = leaf(torch.tensor([[log_ratio]])), torch.zeros(1, 1)
    losses = surrogate(logprobs, old, torch.tensor([[-1.0]]), ONE)
    penalty, ratio = trust_region_losses(logprobs, old, ONE), importance_ratio(logprobs, old, ONE)
    (losses + penalty + ratio).sum().backward()
    for number in (losses, penalty, ratio, logprobs.grad):
        assert number.isfinite().all()
    assert ratio.item() == pytest.approx(math.exp(math.copysign(20.0, log_ratio)), rel=1e-5)
