"""Short measurements that decide what a machine's name doesn't tell: whether bf16 pays, how many threads do."""

import functools
import time
from collections.abc import Callable

import torch

from plaudit.runs.children import cores

SECONDS = 0.02
"""How long each thing is tried; once at least."""
PAYS = 1.2
"""bf16, and further threads, must be faster by this factor to be taken."""


def fastest(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """Seconds of the fastest of several calls, after one that warms up."""
    work()
    best, until = float("inf"), time.perf_counter() + seconds
    while True:
        began = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - began)
        if now > until:
            return best


@functools.cache
def matmul_speed(device: str, dtype: torch.dtype, rows: int = 0, width: int = 0) -> float:
    """Operations a second of [rows, width] × [width, width]; by default of a size that small models have on a CPU,
    large ones on a GPU."""
    rows, width = (rows, width) if rows else (128, 512) if device == "cpu" else (4096, 4096)
    a, b = (torch.ones(n, width, dtype=dtype, device=device) for n in (rows, width))

    def work() -> None:
        torch.mm(a, b)
        if device != "cpu":
            torch.cuda.synchronize(device)

    return 2 * rows * width * width / fastest(work)


def bf16_pays(device: str) -> bool:
    """Whether products in bf16 are faster by a margin: on a CPU without units for it they are fifty times slower."""
    return matmul_speed(device, torch.bfloat16) > PAYS * matmul_speed(device, torch.float32)


def best_threads(most: int | None = None) -> int:
    """One, half or all of the process's cores, whichever runs a small model's layer fastest; fewer where it is close.

    torch's own number is left as it was. On a machine that others use, one is often the fastest.
    """
    most = most or cores()
    x, up, down = torch.ones(1024, 256), torch.ones(256, 1024), torch.ones(1024, 256)

    def layer() -> None:
        x + torch.mm(torch.nn.functional.silu(torch.mm(x, up)), down)

    before, chosen, least = torch.get_num_threads(), 1, float("inf")
    try:
        for count in sorted({1, max(1, most // 2), most}):
            torch.set_num_threads(count)
            if (seconds := fastest(layer)) * (PAYS if count > 1 else 1) < least:
                chosen, least = count, seconds
    finally:
        torch.set_num_threads(before)
    return chosen
