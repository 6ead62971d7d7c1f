"""The loss of a minibatch, put together from the formulas as the options say (N4.10; all signs as losses)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn.functional import pad

from plaudit.formulas import kl, policy_losses
from plaudit.formulas.aggregation import fixed_length_weights, sequence_mean_weights, token_mean_weights
from plaudit.formulas.logprobs import entropy_losses
from plaudit.formulas.masks import masked_sum, weighted_sum
from plaudit.formulas.policy_losses import importance_ratio, surrogate, trust_region_losses
from plaudit.formulas.value_losses import value_losses
from plaudit.records.statistics import Max, Statistic, Sum
from plaudit.records.tensors import Experience
from plaudit.training.policy import options as kinds
from plaudit.training.policy.config import PPOConfig

ESTIMATORS = {"k1": kl.k1, "abs": kl.abs_k1, "k2": kl.k2, "k3": kl.k3}
"""`options.Estimator` of the sampled token's log-ratio; all but `full`, which needs both models' distributions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """The β's that controllers move."""

    kl: float
    """Of the KL to the reference (N4.6)."""
    trust: float
    """Of KL(π_old ‖ π_θ) (N4.5); 0 where there is no such term."""

    @classmethod
    def start(cls, config: PPOConfig) -> "Coefficients":
        return cls(kl=config.kl.coef, trust=config.trust.coef if config.trust else 0.0)


def wanted(config: PPOConfig, coefficients: Coefficients) -> set[str]:
    """What the models must give for the loss; nothing is computed for a term whose coefficient is 0."""
    want = {"logprobs"}
    if config.critic:
        want.add("values")
    if config.entropy_coef:
        want.add("entropy")
    if _in_loss(config, coefficients) and config.kl.estimator == "full":
        want.add("kl_full")
    return want


def loss_weights(mask: Bool[Tensor, "b R"], config: PPOConfig) -> Float64[Tensor, "b R"]:
    """How much each token of a *whole* minibatch counts in its loss, over micro-batches and ranks."""
    num_tokens, num_responses = int(mask.sum()), int(mask.any(1).sum())
    match config.aggregation:
        case kinds.TokenMean():
            return token_mean_weights(mask, num_tokens=num_tokens)
        case kinds.SequenceMean():
            return sequence_mean_weights(mask, num_responses=num_responses)
        case kinds.FixedLength(length=length):
            length = length or config.sampling.max_new_tokens
            return fixed_length_weights(mask, num_responses=num_responses, fixed_length=length)
        case _ as never:
            assert_never(never)


def loss_of(
    out: Mapping[str, Tensor],
    batch: Experience,
    weights: Float64[Tensor, "b R"],
    config: PPOConfig,
    coefficients: Coefficients,
) -> tuple[Float[Tensor, ""], dict[str, Statistic]]:
    """L = L_policy + β_trust KL(π_old ‖ π_θ) + β KL(π_θ ‖ π_ref) − c2 H + c1 L_V, weighed token by token (N4.10).

    A term whose coefficient is 0 is absent, bit for bit; so is the critic's where there is none. With it come sums over
    the micro-batch `batch`, without gradient: `loss` with all weights and coefficients, the others without.
    """
    logprobs, mask = out["logprobs"], batch.loss_mask
    losses = _policy_losses(logprobs, batch, config.objective)
    loss = weighted_sum(losses, weights * batch.importance, mask)
    drift = trust_region_losses(logprobs, batch.old_logprobs, mask)
    if coefficients.trust:
        loss = loss + coefficients.trust * weighted_sum(drift, weights, mask)
    statistics = _statistics(logprobs.detach(), losses, drift, batch, config.objective)
    if _in_loss(config, coefficients):
        leaving = _kl_losses(out, batch, config.kl.estimator)
        loss = loss + coefficients.kl * weighted_sum(leaving, weights, mask)
        statistics["kl_loss"] = _sum(leaving, mask)
    if config.entropy_coef:
        loss = loss + config.entropy_coef * weighted_sum(entropy_losses(out["entropy"], mask), weights, mask)
    if batch.old_values is not None and batch.returns is not None:
        tensors = (out["values"], batch.old_values, batch.returns, mask)
        errors = value_losses(*tensors, value_clip_range=config.value_clip_range)
        loss = loss + config.value_coef * weighted_sum(errors, weights, mask)
        held = errors > value_losses(*tensors, value_clip_range=0.0)
        statistics |= {"value_loss": _sum(errors, mask), "value_clipped_tokens": Sum(float(held.sum()))}
    return loss, statistics | {"loss": Sum(float(loss.detach()))}


def _policy_losses(
    logprobs: Float[Tensor, "b R"], batch: Experience, objective: kinds.Objective
) -> Float[Tensor, "b R"]:
    tensors = (logprobs, batch.old_logprobs, batch.advantages, batch.loss_mask)
    match objective:
        case kinds.PolicyGradient():
            return policy_losses.policy_gradient(logprobs, batch.advantages, batch.loss_mask)
        case kinds.Surrogate():
            return surrogate(*tensors)
        case kinds.Clip(clip_range=low):
            high = objective.clip_range_high or low
            dual = {"dual_clip": objective.dual_clip} if objective.dual_clip else {}
            return policy_losses.clipped_surrogate(*tensors, clip_low=low, clip_high=high, **dual)
        case _ as never:
            assert_never(never)


def _kl_losses(out: Mapping[str, Tensor], batch: Experience, estimator: kinds.Estimator) -> Float[Tensor, "b R"]:
    if estimator == "full":
        return out["kl_full"]
    return ESTIMATORS[estimator](kl.kept_log_ratio(out["logprobs"], batch.ref_logprobs, batch.loss_mask))


def _in_loss(config: PPOConfig, coefficients: Coefficients) -> bool:
    return config.kl.into == "loss" and coefficients.kl != 0.0


def _statistics(
    logprobs: Float[Tensor, "b R"],
    losses: Float[Tensor, "b R"],
    approx_kl_old: Float[Tensor, "b R"],
    batch: Experience,
    objective: kinds.Objective,
) -> dict[str, Statistic]:
    """Of the policy: its loss, k3 of KL(π_old ‖ π_θ) in nats, ρ ≤ e^20, and how many tokens a clip holds, so that they
    give no gradient."""
    mask = batch.loss_mask
    ratio = importance_ratio(logprobs, batch.old_logprobs, mask)
    statistics: dict[str, Statistic] = {
        "tokens": Sum(float(mask.sum())),
        "policy_loss": _sum(losses, mask),
        "approx_kl_old": _sum(approx_kl_old, mask),
        "ratio": Sum(float(ratio.double().sum())),
        "ratio_max": Max(float(pad(ratio.flatten(), (0, 1)).amax())),  # 0 of none
    }
    if isinstance(objective, kinds.Clip):
        held = mask & (losses != surrogate(logprobs, batch.old_logprobs, batch.advantages, mask))
        statistics["clipped_tokens"] = Sum(float(held.sum()))
    return statistics


def _sum(x: Float[Tensor, "b R"], mask: Bool[Tensor, "b R"]) -> Sum:
    return Sum(float(masked_sum(x.detach(), mask)))
