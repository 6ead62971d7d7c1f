"""Best of n: sample n answers, keep the one that the judge likes best."""

import math


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1)/n nats: KL(best-of-n policy ‖ policy)   (Stiennon et al. 2020, appendix G; Gao et al. 2023).

    Exact where no two answers ever score the same or occur twice; else an upper bound (Beirami et al. 2024).
    n = 1: 0. ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"best_of_n_kl: n must be at least 1, not {n}")
    return math.log(n) - (n - 1) / n
