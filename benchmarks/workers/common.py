"""What measuring processes share: the task comes as JSON on standard input (of several that compute together: in a
file), figures go out as the last line."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
TAG = "FIGURES "
LONG = 20.0
"""Seconds after which three calls are enough."""


WORLD = int(os.environ.get("WORLD_SIZE", "1"))
"""Processes that compute together."""


def task() -> dict[str, Any]:
    file = os.environ.get("PLAUDIT_BENCHMARK_TASK")
    return json.loads(Path(file).read_text(encoding="utf-8") if file else sys.stdin.read())


def answer(**figures: Any) -> None:
    """Figures of this process; peak memory is added: of several the first one's, as often as there are processes."""
    if os.environ.get("RANK", "0") == "0":
        peak = {name: WORLD * size for name, size in peak_memory().items()}
        print(TAG + json.dumps({**figures, **peak}), flush=True)


def peak_memory() -> dict[str, int]:
    """Resident memory at its highest; of a GPU that was used what torch allocated there."""
    peak = {"peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    return peak


def synchronise() -> None:
    """Wait until a GPU has done what it was given, so that a clock says the truth."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def calls_of(call: Callable[[int, int], int], new_tokens: int, repeats: int) -> list[dict[str, float]]:
    """Seconds and tokens of `call(number, tokens)`, which returns how many it wrote: a short one to warm up, then as
    many as asked, or three where that takes long."""
    call(0, min(8, new_tokens))
    calls: list[dict[str, float]] = []
    for number in range(1, 1 + repeats):
        synchronise()
        began = time.perf_counter()
        tokens = call(number, new_tokens)
        synchronise()
        calls.append({"seconds": time.perf_counter() - began, "tokens": tokens})
        if len(calls) >= 3 and sum(one["seconds"] for one in calls) > LONG:
            break
    return calls


def steps_of(ends: list[float], warm: int) -> list[dict[str, float]]:
    """Seconds of each step by when steps ended, without the first ones."""
    return [{"total": after - before} for before, after in zip(ends[warm - 1 :], ends[warm:], strict=False)]
