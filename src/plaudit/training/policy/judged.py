"""A rollout and all that was said of it: what is shaped and estimated from."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from plaudit.records.tensors import Rollout, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What the models say of a rollout before any update, on the CPU; 0 outside the rollout's mask."""

    old_logprobs: Float[Tensor, "B R"]
    old_values: Float[Tensor, "B R"]
    entropy: Float[Tensor, "B R"]
    ref_logprobs: Float[Tensor, "B R"]
    ref_kl: Float[Tensor, "B R"]
    """What each token says of KL(π_old ‖ π_ref) by the estimator that the options name, nats."""
    trunk_scores: Float[Tensor, " B"]
    """Raw scores of a reward head on one of their trunks; zeros where there is none (N3.13)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A rollout and all that was said of it."""

    rollout: Rollout
    scores: Scores
    opinions: Opinions
