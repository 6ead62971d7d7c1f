"""The optimum of KL-regularised policy search over answers that can be listed (no torch here)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best that any policy can do against one reference (N4.6); the mean of several prompts' optima is one too."""

    objective: float
    """J* = beta log E_ref exp(r / beta) = score - beta kl, in score units."""
    reference: float
    """J_ref = E_ref r: the objective of the reference itself, whose KL is 0."""
    score: float
    """E* r: the optimal policy's expected score."""
    kl: float
    """KL(pi* || pi_ref), nats per answer."""
    mass: float
    """Probability of the listed answers under the reference before renormalising; what is below 1 was left out."""

    @property
    def gain(self) -> float:
        """J* - J_ref, never negative."""
        return self.objective - self.reference

    def progress(self, objective: float) -> float:
        """Where a policy with J = E r - beta KL stands: 0 = the reference, 1 = the optimum. NaN if nothing can be
        gained."""
        return (objective - self.reference) / self.gain if self.gain > 0 else math.nan


def kl_regularised_optimum(logprobs_ref: Sequence[float], rewards: Sequence[float], kl_coef: float) -> Optimum:
    """The optimum of E r - beta KL(pi || pi_ref) over the listed answers to one prompt (N4.2, Gibbs variational form).

    logprobs_ref: [answers] log pi_ref(y|x) of whole answers in nats; renormalised over those listed, -inf allowed.
    rewards: [answers] finite. kl_coef: beta, score units per nat, above 0.
    ValueError for no answers, unequal lengths, beta <= 0, rewards that aren't finite, or probabilities that sum to 0
    or beyond 1.001.
    """
    if len(logprobs_ref) != len(rewards) or not len(rewards):
        raise ValueError(f"needs as many rewards as log-probs, at least one: {len(rewards)} and {len(logprobs_ref)}")
    if not kl_coef > 0:
        raise ValueError(f"the optimum is only defined for kl_coef > 0, not {kl_coef}")
    if not all(math.isfinite(reward) for reward in rewards):
        raise ValueError("rewards must be finite")
    log_mass = _logsumexp(logprobs_ref)
    if not -math.inf < log_mass < math.log(1.001):
        raise ValueError(f"the answers' probabilities sum to e^{log_mass}; they must be different answers")
    listed = [(lp - log_mass, float(r)) for lp, r in zip(logprobs_ref, rewards, strict=True) if lp > -math.inf]
    tilted = [lp + r / kl_coef for lp, r in listed]
    log_partition = _logsumexp(tilted)
    score = math.fsum(math.exp(t - log_partition) * r for t, (_, r) in zip(tilted, listed, strict=True))
    return Optimum(
        objective=kl_coef * log_partition,
        reference=math.fsum(math.exp(lp) * r for lp, r in listed),
        score=score,
        kl=score / kl_coef - log_partition,
        mass=math.exp(log_mass),
    )


def mean_optimum(optima: Sequence[Optimum]) -> Optimum:
    """The mean over prompts, field by field: J* and J_ref are expectations (N4.6). ValueError without any."""
    if not optima:
        raise ValueError("mean_optimum needs at least one prompt's optimum")
    fields = [asdict(optimum) for optimum in optima]
    return Optimum(**{name: math.fsum(f[name] for f in fields) / len(fields) for name in fields[0]})


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
