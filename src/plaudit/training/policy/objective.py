"""The loss of a minibatch, put together from the formulas as the options say (N4.10; all signs as losses)."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Float64
from torch import Tensor

from plaudit.formulas import kl
from plaudit.formulas.aggregation import fixed_length_weights, sequence_mean_weights, token_mean_weights
from plaudit.formulas.logprobs import entropy_losses
from plaudit.formulas.masks import masked_sum, weighted_sum
from plaudit.formulas.policy_losses import (
    PolicyStats,
    clipped_surrogate,
    policy_gradient,
    surrogate,
    trust_region_losses,
)
from plaudit.formulas.value_losses import ValueStats, value_losses
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.options import Estimator

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of the *whole* minibatch, over micro-batches and ranks: the losses' denominators."""

    tokens: int
    responses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a micro-batch's rows of an experience say, [b R] each."""

    mask: Bool[Tensor, "b R"]
    old_logprobs: Float[Tensor, "b R"]
    ref_logprobs: Float[Tensor, "b R"]
    old_values: Float[Tensor, "b R"]
    advantages: Float[Tensor, "b R"]
    returns: Float[Tensor, "b R"]
    importance: Float[Tensor, "b R"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TermStats:
    """Sums that add up over micro-batches and ranks, without gradient."""

    loss: Float64[Tensor, ""]
    """The whole loss, weights and coefficients included."""
    kl_ref_sum: Float64[Tensor, ""]
    """Nats: Σ of the estimator that stands in the loss; 0 where none does."""

    def __add__(self, other: "TermStats") -> "TermStats":
        return TermStats(loss=self.loss + other.loss, kl_ref_sum=self.kl_ref_sum + other.kl_ref_sum)


def wanted(config: PPOConfig, coefficients: Coefficients) -> set[str]:
    """What the models must give for the loss; nothing is computed for a term whose coefficient is 0."""
    want = {"logprobs", "values"}
    if config.entropy_coef:
        want.add("entropy")
    if _in_loss(config, coefficients) and config.kl.estimator == "full":
        want.add("kl_full")
    return want


def loss_of(
    out: dict[str, Tensor], targets: Targets, config: PPOConfig, coefficients: Coefficients, counts: Counts
) -> tuple[Float[Tensor, ""], PolicyStats, ValueStats, TermStats]:
    """L = L_policy + β_trust KL(π_old ‖ π_θ) + β KL(π_θ ‖ π_ref) − c2 H + c1 L_V, weighed token by token (N4.10).

    A term whose coefficient is 0 is absent, bit for bit.
    """
    mask = targets.mask
    weights = _weights(mask, config, counts)
    losses, policy = _policy_losses(out["logprobs"], targets, config)
    loss = weighted_sum(losses, weights * targets.importance, mask)
    if coefficients.trust:
        drift = trust_region_losses(out["logprobs"], targets.old_logprobs, mask)
        loss = loss + coefficients.trust * weighted_sum(drift, weights, mask)
    kl_ref_sum = policy.num_tokens * 0.0
    if _in_loss(config, coefficients):
        leaving = _kl_losses(out, targets, config.kl.estimator)
        loss = loss + coefficients.kl * weighted_sum(leaving, weights, mask)
        kl_ref_sum = masked_sum(leaving.detach(), mask).double()
    if config.entropy_coef:
        loss = loss + config.entropy_coef * weighted_sum(entropy_losses(out["entropy"], mask), weights, mask)
    errors, value = value_losses(
        out["values"], targets.old_values, targets.returns, mask, value_clip_range=config.value_clip_range
    )
    loss = loss + config.value_coef * weighted_sum(errors, weights, mask)
    return loss, policy, value, TermStats(loss=loss.detach().double(), kl_ref_sum=kl_ref_sum)


def _policy_losses(
    logprobs: Float[Tensor, "b R"], targets: Targets, config: PPOConfig
) -> tuple[Float[Tensor, "b R"], PolicyStats]:
    told = (logprobs, targets.old_logprobs, targets.advantages, targets.mask)
    objective = config.objective
    if objective.kind == "policy_gradient":
        return policy_gradient(*told)
    if objective.kind == "surrogate":
        return surrogate(*told)
    high = objective.clip_range_high or objective.clip_range
    dual = {"dual_clip": objective.dual_clip} if objective.dual_clip else {}
    return clipped_surrogate(*told, clip_low=objective.clip_range, clip_high=high, **dual)


def _kl_losses(out: dict[str, Tensor], targets: Targets, estimator: Estimator) -> Float[Tensor, "b R"]:
    if estimator == "full":
        return out["kl_full"]
    return ESTIMATORS[estimator](kl.kept_log_ratio(out["logprobs"], targets.ref_logprobs, targets.mask))


def _in_loss(config: PPOConfig, coefficients: Coefficients) -> bool:
    return config.kl.place == "loss" and coefficients.kl != 0.0


def _weights(mask: Bool[Tensor, "b R"], config: PPOConfig, counts: Counts) -> Float64[Tensor, "b R"]:
    how = config.aggregation
    if how.kind == "token_mean":
        return token_mean_weights(mask, num_tokens=counts.tokens)
    if how.kind == "sequence_mean":
        return sequence_mean_weights(mask, num_responses=counts.responses)
    length = how.length or config.sampling.max_new_tokens
    return fixed_length_weights(mask, num_responses=counts.responses, fixed_length=length)
