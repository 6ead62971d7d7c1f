"""The most floating-point operations a second that this machine's matrix product reaches, in fp32 and in bf16.

Task: device. Figures: flops a second by precision, and of each size tried.
"""

import time

import torch
from common import answer, synchronise, task

SECONDS = 0.5
"""How long each size is repeated."""


def speed(size: int, dtype: torch.dtype, device: str) -> float:
    """Operations a second of the fastest product of two squares; one product at least, after one to warm up."""
    a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
    torch.mm(a, b)
    synchronise()
    best, began = float("inf"), time.perf_counter()
    while True:
        at = time.perf_counter()
        torch.mm(a, b)
        synchronise()
        now = time.perf_counter()
        best = min(best, now - at)
        if now - began > SECONDS:
            return 2 * size**3 / best


def main() -> None:
    device = task()["device"]
    sizes = (512, 1024, 2048) if device == "cpu" else (4096, 8192)
    measured = {"fp32": {size: speed(size, torch.float32, device) for size in sizes}}
    # Where no unit computes bf16, a large product would take a minute: a small one tells.
    small = speed(256 if device == "cpu" else 4096, torch.bfloat16, device)
    slow = small < max(measured["fp32"].values()) / 4
    measured["bf16"] = {256: small} if slow else {size: speed(size, torch.bfloat16, device) for size in sizes}
    answer(
        peaks={name: max(by_size.values()) for name, by_size in measured.items()},
        by_size=measured,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
    )


main()
