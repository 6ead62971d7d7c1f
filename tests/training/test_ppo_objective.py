"""The loss of a minibatch by hand: five tokens with ratios 2, ½ | 5/4, 4, 1 and advantages 1, −1 | 2, −1, ½."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from plaudit.records.statistics import Max, Statistics, Sum, number
from plaudit.records.tensors import Experience
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import Coefficients, loss_of, loss_weights, wanted
from plaudit.training.policy.options import (
    AdaptiveKL,
    Clip,
    FixedKL,
    FixedLength,
    FixedTrust,
    PolicyGradient,
    Returns,
    SequenceMean,
    Surrogate,
)
from tests.kills import kills
from tests.training.scripted import config

NAN = math.nan
MASK = torch.tensor([[True, True, False], [True, True, True]])
RATIOS = torch.tensor([[2.0, 0.5, NAN], [1.25, 4.0, 1.0]])
LOGPROBS = RATIOS.log() - 2.0
REF_LOG_RATIOS = torch.tensor([[1.0, -1.0, NAN], [0.5, 0.0, 2.0]])
VALUES = torch.tensor([[1.0, 0.0, NAN], [0.0, 2.0, 0.0]])
ENTROPIES = torch.tensor([[1.0, 0.5, NAN], [0.0, 2.0, 1.5]])
KL_FULL = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.4, 0.5]])
BATCH = Experience(
    group_ids=torch.arange(2),
    prompt_ids=torch.ones(2, 1, dtype=torch.long),
    prompt_mask=torch.ones(2, 1, dtype=torch.bool),
    response_ids=torch.ones(2, 3, dtype=torch.long),
    response_mask=MASK,
    loss_mask=MASK,
    scores=torch.zeros(2),
    rewards=torch.zeros(2, 3),
    old_logprobs=torch.full((2, 3), -2.0),
    ref_logprobs=LOGPROBS - REF_LOG_RATIOS,
    old_values=torch.zeros(2, 3),
    advantages=torch.tensor([[1.0, -1.0, NAN], [2.0, -1.0, 0.5]]),
    returns=torch.tensor([[0.0, 1.0, NAN], [0.0, 0.0, 1.0]]),
    importance=torch.ones(2, 3),
)
WEIGHED = replace(BATCH, importance=torch.tensor([[0.5, 1.0, NAN], [1.0, 2.0, 1.0]]))


@pytest.fixture
def plain(tmp_path) -> PPOConfig:
    """The clip alone: no critic, no price of the KL in the loss."""
    return config(tmp_path, value_coef=0.0, kl=FixedKL(coef=0.1))


def asked(
    chosen: PPOConfig, batch: Experience = BATCH, coefficients: Coefficients | None = None
) -> tuple[float, Tensor, Statistics]:
    """Loss, its gradient by the log-probs, and the statistics. Padding holds NaN everywhere."""
    logprobs = LOGPROBS.clone().requires_grad_()
    out = {"logprobs": logprobs, "values": VALUES, "entropy": ENTROPIES, "kl_full": KL_FULL}
    loss, seen = loss_of(out, batch, loss_weights(MASK, chosen), chosen, coefficients or Coefficients.start(chosen))
    loss.backward()
    assert logprobs.grad[0, 2] == 0.0
    assert number(seen, "loss") == pytest.approx(loss.item(), rel=1e-6)
    return loss.item(), logprobs.grad, seen


@kills(
    "training/policy/objective.py",
    old="high = objective.clip_range_high or low",
    new="high = low",
    why="clip-higher is read and not used",
)
@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Clip(clip_range=0.2), (-1.2 + 0.8 - 2.4 + 4.0 - 0.5) / 5),
        (Clip(clip_range=0.2, clip_range_high=0.5), (-1.5 + 0.8 - 2.5 + 4.0 - 0.5) / 5),
        (Clip(clip_range=0.2, dual_clip=3.0), (-1.2 + 0.8 - 2.4 + 3.0 - 0.5) / 5),
        (Surrogate(), (-2.0 + 0.5 - 2.5 + 4.0 - 0.5) / 5),
        (PolicyGradient(), 2.553713 / 5),
    ],
    ids=["clip", "clip-higher", "dual", "surrogate", "policy-gradient"],
)
def test_objectives(plain, objective, expected):
    assert asked(replace(plain, objective=objective))[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("objective", "gradient"),
    [
        (Clip(clip_range=0.2), [[0, 0, 0], [0, 4 / 5, -0.5 / 5]]),
        (Clip(clip_range=0.2, dual_clip=3.0), [[0, 0, 0], [0, 0, -0.5 / 5]]),
        (Surrogate(), [[-2 / 5, 0.5 / 5, 0], [-2.5 / 5, 4 / 5, -0.5 / 5]]),
        (PolicyGradient(), [[-1 / 5, 1 / 5, 0], [-2 / 5, 1 / 5, -0.5 / 5]]),
    ],
    ids=["clip", "dual", "surrogate", "policy-gradient"],
)
def test_the_objectives_gradients(plain, objective, gradient):
    found = asked(replace(plain, objective=objective))[1]
    assert torch.allclose(found, torch.tensor(gradient), atol=1e-6)


def test_aggregations_weigh_tokens_differently(plain):
    assert asked(plain)[0] == pytest.approx(0.7 / 5, rel=1e-5)
    sequence = replace(plain, aggregation=SequenceMean())
    assert asked(sequence)[0] == pytest.approx((-0.4 / 2 + 1.1 / 3) / 2, rel=1e-5)
    fixed = replace(plain, aggregation=FixedLength(length=5))
    assert asked(fixed)[0] == pytest.approx(0.7 / (5 * 2), rel=1e-5)
    assert plain.sampling.max_new_tokens == 4
    assert asked(replace(plain, aggregation=FixedLength()))[0] == pytest.approx(0.7 / (4 * 2), rel=1e-5)


@kills(
    "training/policy/objective.py",
    old="loss = loss + coefficients.trust * weighted_sum(drift",
    new="loss = loss - coefficients.trust * weighted_sum(drift",
    why="the trust region pushes away",
)
def test_the_trust_region_is_added_to_the_clip_and_stands_alone(plain):
    """ρ − 1 − log ρ over the five tokens sums to 2.140563; its gradient by log π is ρ − 1."""
    with_clip = replace(plain, trust=FixedTrust(coef=0.5))
    assert asked(with_clip)[0] == pytest.approx(0.14 + 0.5 * 2.140563 / 5, rel=1e-5)
    alone = replace(with_clip, objective=Surrogate())
    loss, gradient, _ = asked(alone)
    assert loss == pytest.approx(-0.1 + 0.5 * 2.140563 / 5, rel=1e-5)
    expected = torch.tensor([[-2 + 0.5, 0.5 - 0.25, 0], [-2.5 + 0.125, 4 + 1.5, -0.5]]) / 5
    assert torch.allclose(gradient, expected, atol=1e-6)
    moved = asked(alone, coefficients=Coefficients(kl=0.1, trust=1.5))[0]
    assert moved == pytest.approx(-0.1 + 1.5 * 2.140563 / 5, rel=1e-5)


@kills(
    "training/policy/objective.py",
    old="weighted_sum(leaving, weights, mask)",
    new="weighted_sum(leaving, weights * batch.importance, mask)",
    why="the sampler's mismatch weighs what has nothing to do with it",
)
@kills(
    "training/policy/objective.py",
    old="loss = loss + coefficients.kl * weighted_sum(leaving",
    new="loss = loss - coefficients.kl * weighted_sum(leaving",
    why="leaving the reference lowers the loss",
)
@kills(
    "training/policy/objective.py",
    old='kl.kept_log_ratio(out["logprobs"], batch.ref_logprobs, batch.loss_mask)',
    new='kl.kept_log_ratio(out["logprobs"], batch.old_logprobs, batch.loss_mask)',
    why="the KL to the old policy under the name of the reference's",
)
@pytest.mark.parametrize(
    ("estimator", "total"), [("abs", 4.5), ("k2", 3.125), ("k3", 2.328027), ("full", 1.5)], ids=lambda x: str(x)
)
def test_the_kl_to_the_reference_as_a_loss(plain, estimator, total):
    chosen = replace(plain, kl=FixedKL(coef=0.3, estimator=estimator, into="loss"))
    loss, _, seen = asked(chosen)
    assert loss == pytest.approx(0.14 + 0.3 * total / 5, rel=1e-5)
    assert number(seen, "kl_loss") == pytest.approx(total, rel=1e-5)
    assert asked(chosen, WEIGHED)[0] - asked(plain, WEIGHED)[0] == pytest.approx(0.3 * total / 5, rel=1e-4)
    adaptive = replace(plain, kl=AdaptiveKL(coef=0.2, estimator=estimator, into="loss"))
    assert asked(adaptive, coefficients=Coefficients(kl=0.7, trust=0.0))[0] == pytest.approx(0.14 + 0.7 * total / 5)


def test_the_kl_in_the_reward_is_not_in_the_loss(plain):
    assert asked(replace(plain, kl=FixedKL(coef=9.0, estimator="k3")))[0] == asked(plain)[0]


@kills(
    "training/policy/objective.py",
    old="loss = loss + config.entropy_coef * weighted_sum",
    new="loss = loss - config.entropy_coef * weighted_sum",
    why="a price of entropy instead of a bonus",
)
def test_the_entropy_bonus_lowers_the_loss(plain):
    assert asked(replace(plain, entropy_coef=0.3))[0] == pytest.approx(0.14 - 0.3 * 5.0 / 5, rel=1e-5)
    change = asked(replace(plain, entropy_coef=0.3), WEIGHED)[0] - asked(plain, WEIGHED)[0]
    assert change == pytest.approx(-0.3 * 5.0 / 5, rel=1e-4)


def test_the_value_loss_has_its_half_and_its_weight(plain):
    """Errors 1, −1 | 0, 2, −1: ½ · (1 + 1 + 0 + 4 + 1) = 3.5. Held within ±½ of 0: 1, 1 | 0, 4 (not ¼), 1."""
    free = replace(plain, value_coef=2.0, value_clip_range=0.0)
    assert asked(free)[0] == pytest.approx(0.14 + 2 * 3.5 / 5, rel=1e-5)
    by_sequence = replace(free, aggregation=SequenceMean())
    assert asked(by_sequence)[0] == pytest.approx((-0.2 + 1.1 / 3) / 2 + 2 * (1 / 2 + 2.5 / 3) / 2, rel=1e-5)


@kills(
    "training/policy/objective.py",
    old="weighted_sum(losses, weights * batch.importance, mask)",
    new="weighted_sum(losses, weights, mask)",
    why="the sampler's mismatch measured and not corrected",
)
def test_importance_weighs_the_policys_losses_alone(plain):
    chosen = replace(plain, value_coef=2.0, value_clip_range=0.0, trust=FixedTrust(coef=0.5))
    both = 2 * 3.5 / 5 + 0.5 * 2.140563 / 5
    assert asked(chosen, WEIGHED)[0] == pytest.approx((-0.6 + 0.8 - 2.4 + 8.0 - 0.5) / 5 + both, rel=1e-5)


def test_what_has_no_weight_is_neither_asked_for_nor_added(plain):
    """NaN in all that must not be looked at."""
    zero = replace(
        plain, entropy_coef=0.0, trust=FixedTrust(coef=0.0), kl=FixedKL(coef=0.0, estimator="full", into="loss")
    )
    now = Coefficients.start(zero)
    assert wanted(zero, now) == {"logprobs", "values"}
    out = {"logprobs": LOGPROBS, "values": VALUES}
    weights = loss_weights(MASK, plain)
    loss, _ = loss_of(out, replace(BATCH, ref_logprobs=torch.full((2, 3), NAN)), weights, zero, now)
    bare, _ = loss_of(out, BATCH, weights, plain, Coefficients.start(plain))
    assert torch.equal(loss, bare)
    some = replace(zero, entropy_coef=0.1, kl=FixedKL(coef=0.1, estimator="full", into="loss"))
    assert wanted(some, Coefficients.start(some)) == {"logprobs", "values", "entropy", "kl_full"}


def test_a_minibatch_without_tokens_gives_nothing(plain):
    """0 and no gradient, not 0/0."""
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    empty = replace(BATCH, loss_mask=nothing)
    logprobs = LOGPROBS.clone().requires_grad_()
    out = {"logprobs": logprobs, "values": VALUES}
    loss, seen = loss_of(out, empty, loss_weights(nothing, plain), plain, Coefficients.start(plain))
    loss.backward()
    assert loss.item() == 0.0
    assert not logprobs.grad.any()
    assert not any(one.value for one in seen.values())


@kills(
    "training/policy/objective.py",
    old="held = mask & (losses != surrogate(",
    new="held = mask & (losses == surrogate(",
    why="every token is clipped but those that are",
)
@kills(
    "training/policy/objective.py",
    old='"ratio_max": Max(',
    new='"ratio_max": Sum(',
    why="the largest ratios of micro-batches added",
)
def test_what_a_minibatch_says_of_the_update(plain):
    """Ratios 2, ½ | 5/4, 4, 1 with Â + − | + − +: the clip at ± 0.2 holds the first three. Values 1, 0 | 0, 2, 0 leave
    the band of ± ½ twice, the second time where that makes the error smaller, which counts not at all."""
    _, _, seen = asked(replace(plain, value_clip_range=0.5))
    assert {name: one.value for name, one in seen.items()} == pytest.approx(
        {
            "loss": 0.7 / 5,
            "tokens": 5,
            "policy_loss": 0.7,
            "clipped_tokens": 3,
            "approx_kl_old": 2.140563,
            "ratio": 8.75,
            "ratio_max": 4.0,
            "value_loss": 3.5,
            "value_clipped_tokens": 0,
        },
        rel=1e-5,
    )
    assert (seen["ratio"], seen["ratio_max"]) == (Sum(seen["ratio"].value), Max(4.0))
    *_, held = asked(replace(plain, value_clip_range=0.5), replace(BATCH, returns=torch.full((2, 3), 3.0)))
    assert held["value_clipped_tokens"] == Sum(2.0)
    *_, free = asked(replace(plain, objective=PolicyGradient()))
    assert "clipped_tokens" not in free


def test_without_a_critic_its_terms_are_not_there(plain):
    none = replace(plain, critic=None, advantage=Returns(), value_coef=0.1)
    assert wanted(none, Coefficients.start(none)) == {"logprobs"}
    bare = replace(BATCH, old_values=None, returns=None)
    loss, gradient, seen = asked(none, bare)
    with_critic, same_gradient, _ = asked(plain)  # its weight is 0
    assert loss == with_critic
    assert torch.equal(gradient, same_gradient)
    assert not {name for name in seen if name.startswith("value")}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedKL(estimator="k1", into="loss"), "no gradient in expectation"),
        (lambda: AdaptiveKL(estimator="k1", into="loss"), "no gradient in expectation"),
        (lambda: FixedKL(coef=-1.0), "must not be negative"),
        (lambda: AdaptiveKL(coef=0.0), "must be positive"),
        (lambda: AdaptiveKL(target=0.0), "must be positive"),
        (lambda: Clip(clip_range=-0.1), "must not be negative"),
        (lambda: Clip(dual_clip=0.5), "must exceed 1"),
        (lambda: FixedTrust(coef=-1.0), "must not be negative"),
        (lambda: FixedLength(length=-1), "must not be negative"),
    ],
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
