"""Running moments and accuracies: what is counted over batches and reported with an interval."""

import math
from dataclasses import dataclass

from jaxtyping import Float, Float64, Int
from torch import Tensor

from plaudit.formulas.advantages import mean_and_variance
from plaudit.formulas.preference_losses import ranked_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMoments:
    """Count, mean and Σ(x − mean)² of all that was seen (N3.12, N4.6), plain floats: they survive JSON exactly."""

    count: float = 0.0
    mean: float = 0.0
    sum_squared_deviations: float = 0.0

    @property
    def std(self) -> float:
        """Population standard deviation √(Σ(x − mean)²/n), as `whiten` has it; 0 of none."""
        return math.sqrt(self.sum_squared_deviations / self.count) if self.count else 0.0

    @property
    def sample_std(self) -> float:
        """With divisor n − 1, for `mean_interval`; 0 where n < 2."""
        return math.sqrt(self.sum_squared_deviations / (self.count - 1.0)) if self.count >= 2.0 else 0.0


def running_moments(count_sum_sumsq: Float64[Tensor, "3"]) -> RunningMoments:
    """`moments` of a batch, already summed over ranks, as RunningMoments (N4.6)."""
    count = count_sum_sumsq[0].item()
    mean, variance = mean_and_variance(count_sum_sumsq)
    return RunningMoments(count=count, mean=mean.item(), sum_squared_deviations=variance.item() * count)


def merge(a: RunningMoments, b: RunningMoments) -> RunningMoments:
    """The moments of both samples together, in any order and grouping (N4.6; Chan, Golub and LeVeque 1979).

    mean = (n_a μ_a + n_b μ_b) / n        S = S_a + S_b + (μ_b − μ_a)² n_a n_b / n
    """
    count = a.count + b.count
    if count == 0.0:
        return RunningMoments()
    shift = b.mean - a.mean
    return RunningMoments(
        count=count,
        mean=a.mean + shift * b.count / count,
        sum_squared_deviations=a.sum_squared_deviations
        + b.sum_squared_deviations
        + shift * shift * a.count * b.count / count,
    )


def paired_wins(chosen: Float[Tensor, " N"], rejected: Float[Tensor, " N"]) -> tuple[float, int]:
    """(Σ [c > r] + ½ [c = r], N): accuracy is their ratio, `wilson_interval` takes them as they are   (N3.1, N5.1).

    A tie counts half, so a constant scorer has accuracy ½ and not 0. Raises ValueError on NaN.
    """
    if chosen.isnan().any() or rejected.isnan().any():
        raise ValueError("paired_wins: a score is NaN")
    wins = (chosen > rejected).sum() + 0.5 * (chosen == rejected).sum()
    return wins.item(), chosen.shape[0]


def ranking_wins(scores: Float[Tensor, " N"], ranks: Int[Tensor, " N"], groups: Int[Tensor, " N"]) -> tuple[float, int]:
    """`paired_wins` over all pairs that the rankings give: every prompt's answers of different rank   (N2.2, N3.3).

    Raises ValueError on NaN in an answer that is part of a pair.
    """
    better, worse = ranked_pairs(ranks, groups)
    return paired_wins(scores[better], scores[worse])
