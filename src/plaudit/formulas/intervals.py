"""Confidence intervals from counts (no torch here: data and report use them too)."""

import math


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
