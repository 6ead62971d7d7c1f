"""What stands outside the mask (NaN, ±inf, 1e30) changes neither a value nor a gradient, of any masked formula."""

import pytest
import torch

from plaudit.formulas.advantages import decoupled_gae, gae, moments, reward_to_go, scale, whiten
from plaudit.formulas.kl import abs_k1, k1, k2, k3, kept_log_ratio
from plaudit.formulas.logprobs import entropy_losses, nll_losses
from plaudit.formulas.masks import masked_mean, masked_sum, select, weighted_sum
from plaudit.formulas.policy_losses import (
    clipped_surrogate,
    importance_ratio,
    policy_gradient,
    surrogate,
    trust_region_losses,
)
from plaudit.formulas.rewards import dense_token_rewards, token_rewards
from plaudit.formulas.value_losses import value_losses
from tests.formulas.cases import POISONS, RAGGED, leaf, numbers, poisoned
from tests.kills import kills

# Moments of the clean numbers; a function that whitens by its own input's moments is in `whiten_by_own_moments`.
MOMENTS = moments(numbers(0, 4, 5), RAGGED)


def losses(function, **options):
    return lambda *inputs: (function(*inputs, **options),)


def kl_losses(logprobs, ref_logprobs, mask):
    return tuple(k(kept_log_ratio(logprobs, ref_logprobs, mask)) for k in (k1, k2, k3, abs_k1))


def decoupled(rewards, values, mask):
    ends = torch.tensor([1.0, 0.0, 2.0, 3.0]).double()
    return decoupled_gae(rewards, values, mask, gamma=0.9, policy_lambda=0.8, critic_lambda=1.0, final_values=ends)


FORMULAS = {
    "select_exp": (1, lambda x, mask: (select(x, mask).exp(),)),
    "masked_sum": (1, lambda x, mask: (masked_sum(x, mask),)),
    "masked_mean": (1, lambda x, mask: (masked_mean(x, mask),)),
    "moments": (1, lambda x, mask: (moments(x, mask),)),
    "whiten": (1, lambda x, mask: (whiten(x, mask, MOMENTS, std_floor=1e-3),)),
    "whiten_by_own_moments": (1, lambda x, mask: (whiten(x, mask, moments(x, mask), std_floor=1e-3),)),
    "scale": (1, lambda x, mask: (scale(x, mask, moments(x, mask), std_floor=1e-3),)),
    "gae": (2, lambda rewards, values, mask: gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8)),
    "decoupled_gae": (2, decoupled),
    "dense_token_rewards": (2, lambda scores, kl, mask: (dense_token_rewards(scores, kl, mask, kl_coef=0.5),)),
    "weighted_sum": (2, lambda x, weights, mask: (weighted_sum(x, weights, mask),)),
    "kl_losses": (2, kl_losses),
    "trust_region_losses": (2, lambda *inputs: (trust_region_losses(*inputs),)),
    "importance_ratio": (2, losses(importance_ratio)),
    "entropy_losses": (1, lambda *inputs: (entropy_losses(*inputs),)),
    "nll_losses": (1, lambda *inputs: (nll_losses(*inputs),)),
    "policy_gradient": (2, losses(policy_gradient)),
    "surrogate": (3, losses(surrogate)),
    "clipped_surrogate": (3, losses(clipped_surrogate, clip_low=0.2, clip_high=0.3, dual_clip=2.0)),
    "value_losses": (3, losses(value_losses, value_clip_range=0.2)),
    "unclipped_value_losses": (3, losses(value_losses, value_clip_range=0.0)),
    "reward_to_go": (1, losses(reward_to_go, gamma=0.9)),
}


def values_and_gradients(function, inputs, mask):
    inputs = [leaf(x) for x in inputs]
    outputs = function(*inputs, mask)
    differentiable = [(i + 1) * y.sum() for i, y in enumerate(outputs) if y.requires_grad]
    sum(differentiable, torch.zeros(())).backward()
    return outputs, [torch.zeros_like(x) if x.grad is None else x.grad for x in inputs]


@kills(
    "formulas/masks.py",
    old="return torch.where(mask, x, torch.full_like(x, fill))",
    new="return x * mask + fill * ~mask",
    why="multiplying instead of selecting: NaN * 0 is NaN, in the value and in the gradient",
)
@kills(
    "formulas/kl.py",
    old="return select(at_least_float32(logprobs) - other_logprobs.detach(), mask)",
    new="return at_least_float32(logprobs) - other_logprobs.detach()",
    why="log-ratios of padding in every KL",
)
@kills(
    "formulas/advantages.py",
    old="rewards, values = select(rewards, mask), select(values, mask)",
    new="rewards, values = rewards, values",
    why="GAE over padding",
)
@kills(
    "formulas/value_losses.py",
    old="values = select(at_least_float32(values), mask)\n    old",
    new="values = at_least_float32(values)\n    old",
    why="the critic fitted to padding",
)
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("mask", [RAGGED, torch.zeros_like(RAGGED)], ids=["ragged", "all_masked"])
@pytest.mark.parametrize("name", FORMULAS)
def test_poison_outside_the_mask_changes_nothing(name, mask, poison):
    count, function = FORMULAS[name]
    clean = [numbers(seed, 4, 5) for seed in range(count)]
    dirty = [poisoned(x, mask, poison) for x in clean]
    outputs, gradients = values_and_gradients(function, clean, mask)
    dirty_outputs, dirty_gradients = values_and_gradients(function, dirty, mask)
    for found, expected in zip([*dirty_outputs, *dirty_gradients], [*outputs, *gradients], strict=True):
        assert expected.isfinite().all()
        assert torch.equal(found, expected)
    for gradient in dirty_gradients:
        assert gradient[~mask].abs().sum().item() == 0.0


@pytest.mark.parametrize("poison", POISONS)
def test_poison_in_the_kl_and_in_the_score_of_an_empty_row(poison):
    scores, log_ratio = numbers(0, 4), numbers(1, 4, 5)
    nonempty = RAGGED.any(dim=1)
    dirty = leaf(poisoned(scores, nonempty, poison)), leaf(poisoned(log_ratio, RAGGED, poison))
    found = token_rewards(*dirty, RAGGED, kl_coef=0.1)
    found.sum().backward()
    assert torch.equal(found, token_rewards(scores, log_ratio, RAGGED, kl_coef=0.1))
    assert dirty[0].grad.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert dirty[1].grad[~RAGGED].tolist() == [0.0] * 10
