"""Confidence intervals from counts (no torch here: data and report use them too)."""

import math
from collections.abc import Hashable, Sequence


def wilson_interval(successes: float | int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion, in [0, 1]   (N5.1; Wilson 1927).

        (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n),    p̂ = successes / n

    A tie counts half: `successes` may be 7.5. z = 1.96 is 95 %. No trial: (0, 1).
    Raises ValueError where `successes` is not in [0, n] or n is negative.
    """
    if n < 0 or not 0.0 <= successes <= n:
        raise ValueError(f"wilson_interval: {successes} successes of {n} trials")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    half_width = z * math.sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    width = 1.0 + z * z / n
    # The bounds enclose p̂, and are exactly 0 and 1 at 0 and n successes; rounding must not say otherwise.
    return min(share, max(0.0, (centre - half_width) / width)), max(share, min(1.0, (centre + half_width) / width))


def mean_interval(mean: float, std: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """x̄ ± z · s / √n, the normal interval of a mean, in x's units   (N5.1).

    `std` s is the sample's (divisor n − 1). One value says nothing of its spread: n < 2 gives (−inf, inf).
    Raises ValueError for a negative n or std.
    """
    if n < 0 or std < 0.0:
        raise ValueError(f"mean_interval: std {std} of {n} values")
    if n < 2:
        return -math.inf, math.inf
    half_width = z * std / math.sqrt(n)
    return mean - half_width, mean + half_width


def clustered_interval(
    outcomes: Sequence[float], clusters: Sequence[Hashable], *, z: float = 1.96
) -> tuple[float, float]:
    """Interval of the mean of outcomes in [0, 1] that come in clusters (prompts), as pairs of a ranking do   (N5.1).

    Pairs of one prompt share answers, so n pairs tell less than n trials would. The variance of the mean is taken from
    the spread *between* clusters (linearised ratio, C clusters, e_c the sum of a cluster's outcomes less the mean):

        V = C / (C − 1) · Σ_c e_c² / n²,        n_eff = p̂ (1 − p̂) / V,  at most n

    and Wilson's interval is made for n_eff trials. Where the spread says nothing (all right, all wrong, one cluster)
    each cluster counts as one trial. One outcome a cluster gives Wilson's own interval, within C / (C − 1).
    No outcome: (0, 1). (Effective sample size with a score interval: Korn & Graubard 1998, Franco et al. 2019.)
    """
    n = len(outcomes)
    if n == 0:
        return 0.0, 1.0
    mean = sum(outcomes) / n
    excess: dict[Hashable, float] = {}
    for outcome, cluster in zip(outcomes, clusters, strict=True):
        excess[cluster] = excess.get(cluster, 0.0) + outcome - mean
    trials = min(float(n), _effective_trials(mean, n, list(excess.values())))
    # Wilson depends on z² / n alone: fewer trials are a wider z.
    return wilson_interval(float(sum(outcomes)), n, z * math.sqrt(n / trials))


def _effective_trials(mean: float, n: int, excess: Sequence[float]) -> float:
    count = len(excess)
    binomial = mean * (1.0 - mean)
    if count == 1 or binomial <= 0.0:
        return float(count)
    variance = count / (count - 1) * sum(e * e for e in excess) / n**2
    return binomial / variance if variance > 0.0 else math.inf
