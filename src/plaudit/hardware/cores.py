"""How many cores there are to compute on. No torch."""

import os


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
