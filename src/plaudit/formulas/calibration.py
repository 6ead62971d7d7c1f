"""Whether probabilities mean what they say: Brier score, log loss, expected calibration error."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """A reliability diagram (N3.1, N5.1): bins of equal width over [0, 1]; empty ones have zeros."""

    counts: Float64[Tensor, " bins"]
    """Predictions in each bin."""
    mean_probability: Float64[Tensor, " bins"]
    """What was predicted there."""
    mean_outcome: Float64[Tensor, " bins"]
    """What happened there."""

    @property
    def expected_calibration_error(self) -> float:
        """Σ_b n_b/n |mean probability − mean outcome|: 0 is calibrated; 0 of nothing (Naeini et al. 2015)."""
        gaps = self.counts * (self.mean_probability - self.mean_outcome).abs()
        return (gaps.sum() / self.counts.sum().clamp(min=1.0)).item()


def reliability(probabilities: Float[Tensor, " N"], outcomes: Float[Tensor, " N"], *, num_bins: int) -> Reliability:
    """The bins [b/n, (b+1)/n) of the predictions, the last one closed   (N3.1, N5.1).

    `outcomes` are 0, 1, or ½ for a tie. Raises ValueError for a probability outside [0, 1], NaN, or no bin.
    """
    _check(probabilities, outcomes)
    if num_bins < 1:
        raise ValueError(f"reliability: there must be a bin, not {num_bins}")
    bins = (probabilities.double() * num_bins).long().clamp(max=num_bins - 1)
    empty = torch.zeros(num_bins, dtype=torch.float64, device=probabilities.device)
    counts = empty.index_add(0, bins, torch.ones_like(bins, dtype=torch.float64))
    divisor = counts.clamp(min=1.0)
    return Reliability(
        counts=counts,
        mean_probability=empty.index_add(0, bins, probabilities.double()) / divisor,
        mean_outcome=empty.index_add(0, bins, outcomes.double()) / divisor,
    )


def brier_score(probabilities: Float[Tensor, " N"], outcomes: Float[Tensor, " N"]) -> Float64[Tensor, ""]:
    """mean (p − y)² in [0, 1]: ¼ is what always saying ½ gets; 0 of nothing   (N3.1, N5.1; Brier 1950).

    Raises ValueError as `reliability`.
    """
    _check(probabilities, outcomes)
    return (probabilities.double() - outcomes.double()).square().sum() / max(probabilities.shape[0], 1)


def log_loss(probabilities: Float[Tensor, " N"], outcomes: Float[Tensor, " N"]) -> Float64[Tensor, ""]:
    """mean −y log p − (1 − y) log(1 − p), nats: log 2 is what always saying ½ gets; 0 of nothing   (N3.1, N5.1).

    Not clipped: certain and wrong costs ∞. Of logits use `pair_scores.pair_bce`, which rounds no probability to 1.
    Raises ValueError as `reliability`.
    """
    _check(probabilities, outcomes)
    p, y = probabilities.double(), outcomes.double()
    losses = -torch.xlogy(y, p) - torch.xlogy(1.0 - y, 1.0 - p)  # xlogy: 0 log 0 = 0
    return losses.sum() / max(p.shape[0], 1)


def _check(probabilities: Float[Tensor, " N"], outcomes: Float[Tensor, " N"]) -> None:
    for x in (probabilities, outcomes):
        if not ((x >= 0.0) & (x <= 1.0)).all():
            raise ValueError("a probability or an outcome is not in [0, 1]")
