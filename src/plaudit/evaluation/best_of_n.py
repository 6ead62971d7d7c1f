"""Best of n: sample n answers, keep the one that the judge likes best."""

import itertools
import math
from collections.abc import Sequence


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1)/n nats: KL(best-of-n policy ‖ policy)   (Stiennon et al. 2020, appendix G; Gao et al. 2023).

    Exact where no two answers ever score the same or occur twice; else an upper bound (Beirami et al. 2024).
    n = 1: 0. ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"best_of_n_kl: n must be at least 1, not {n}")
    return math.log(n) - (n - 1) / n


def best_of_n_mean(scores: Sequence[float], measured: Sequence[float], n: int) -> float:
    """What is measured on the best of n answers by the judge, in expectation over the n-subsets of a pool of N.

        Σ_i C(i − 1, n − 1) / C(N, n) · measured_(i)      answers sorted by the judge, i = 1 the worst

    The i-th is a subset's best where the n − 1 others are worse. So no answer of the pool is wasted, and the mean is
    unbiased for fresh samples, for every n up to N at once (Nakano et al. 2021, appendix I). Answers that the judge
    scores alike share what was measured on them: among them the choice is by chance.
    ValueError for unequal lengths, a score that is no number, or n outside 1 … N.
    """
    size = len(scores)
    if len(measured) != size or not 1 <= n <= size:
        raise ValueError(f"best_of_n_mean: n = {n} of {size} scored and {len(measured)} measured answers")
    if not all(map(math.isfinite, itertools.chain(scores, measured))):
        raise ValueError("best_of_n_mean: scores must be finite")
    order = sorted(range(size), key=lambda i: scores[i])
    values: list[float] = []
    for _, alike in itertools.groupby(order, key=lambda i: scores[i]):
        shared = [measured[i] for i in alike]
        values += [math.fsum(shared) / len(shared)] * len(shared)
    weight = n / size
    total: list[float] = []
    for i in range(size, n - 1, -1):  # C(i − 1, n − 1) / C(N, n), from the best downwards
        total.append(weight * values[i - 1])
        weight *= (i - n) / (i - 1) if i > 1 else 0.0
    return math.fsum(total)
