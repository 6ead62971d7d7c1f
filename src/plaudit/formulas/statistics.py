"""Running moments and accuracies: what is counted over batches and reported with an interval."""

import math
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from plaudit.formulas.advantages import mean_and_variance


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
