"""What the benchmarks of reward models and of fine-tuning share: rows, steps, rates, the table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import rows, tables
from benchmarks.session import OURS
from benchmarks.shapes import Shape

WARM = 2
"""First steps that don't count."""
OPTIONS: dict[str, tuple[Any, str]] = {
    "rows": ("", "a .jsonl to take rows from; empty: made ones"),
    "precision": ("", "fp32 or bf16; empty: whichever matmuls run faster in"),
    "minibatch": (16, "rows of an optimiser step"),
    "steps": (6, "measured steps of a process, after two to warm up"),
    "rounds": (2, "processes of each side"),
}


def examples(options: Any, shape: Shape, answers: int, minibatch: int) -> list[tuple[str, list[str]]]:
    """As many as the steps take, the same for all sides."""
    count = minibatch * (options.steps + WARM)
    return rows.of_file(Path(options.rows), shape, count, answers) if options.rows else rows.made(shape, count, answers)


def lengths(found: list[tuple[str, list[str]]]) -> tuple[list[int], list[list[int]]]:
    return [len(prompt) for prompt, _ in found], [[len(text) for text in answers] for _, answers in found]


def rate(group: tables.Group, amount: float) -> float:
    """`amount` of a step, a second; the median step."""
    return group.median(lambda f: [amount / one["total"] for one in f["seconds"]])


def table(record: tables.Record, unit: str, needed: Callable[[dict[str, Any]], float]) -> str:
    """Rows and tokens a second. `needed` tells a step's operations."""
    every = tables.groups(record)
    header = ["model", "rows", "", f"{unit}/s", "tokens/s", "of floor", "peak MB", "plaudit is"]
    lines = []
    for group in every:
        case = group.case
        labels = [case["model"], case["rows"], group.side]
        if not group.runs:
            lines.append([*labels, *["–"] * 4, group.failed])
            continue
        ours = next((one for one in every if one.case == case and one.side == OURS), group)
        memory = group.largest("peak_device_bytes") or group.largest("peak_resident_bytes")
        value = rate(group, case["minibatch"])
        lines.append([
            *labels, tables.told(value), tables.told(rate(group, case["tokens"])),
            tables.share(rate(group, needed(case)), group.peak), tables.megabytes(memory),
            "" if group.side == OURS else tables.ratio(value, rate(ours, case["minibatch"])),
        ])  # fmt: skip
    return tables.markdown(header, lines)
