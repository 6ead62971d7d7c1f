"""Machine and disk: precision, memory, room for checkpoints, time; and whether an interruption costs anything."""

from collections.abc import Iterator

from plaudit.doctor.checks.policy import need_steps
from plaudit.doctor.examined import Examined
from plaudit.doctor.findings import Finding, note, warning
from plaudit.files import free_bytes
from plaudit.hardware.machine import computes_bf16, total_memory_bytes
from plaudit.telemetry.numbers import duration, size

CHECKPOINTS = 3
"""That a run folder holds at once: two, and the one that is being written."""
FULL = 0.9
"""Share of the machine's memory."""


def precision(examined: Examined) -> Iterator[Finding]:
    """bf16 only where the machine computes in it."""
    device = getattr(examined.config, "device", None)
    if device is not None and device.precision == "bf16" and not computes_bf16(examined.machine):
        yield warning(
            "device.precision",
            f"bf16 is emulated on this {examined.machine.device.type}: slower than fp32, and coarser",
            "set device.precision to fp32",
        )


def disk(examined: Examined) -> Iterator[Finding]:
    """Room for the checkpoints and models that the run will write."""
    need_steps(examined)
    rehearsal = examined.rehearsal
    models = rehearsal.model_bytes * (2 if examined.kind == "sft" else 1)
    needed, free = CHECKPOINTS * rehearsal.checkpoint_bytes + models, free_bytes(examined.out)
    yield note(
        "save_every", f"a checkpoint takes {size(rehearsal.checkpoint_bytes)}; the run {size(needed)} of {size(free)}"
    )
    if free < needed:
        yield warning(
            "save_every",
            f"{examined.out}: checkpoints and models take {size(needed)}, and {size(free)} are free",
            "choose another folder by --out, or make room; model.train: lora has small checkpoints",
        )


def memory(examined: Examined) -> Iterator[Finding]:
    """A micro-step fits into memory."""
    need_steps(examined)
    peak, total = examined.rehearsal.peak_bytes, total_memory_bytes(examined.machine)
    yield note("microbatch_tokens", f"two steps took {size(peak)} of {size(total)} at most")
    if total and peak > FULL * total:
        yield warning(
            "microbatch_tokens",
            f"a step takes {size(peak)} of {size(total)}",
            "lower microbatch_tokens (results stay), or set model.activation_checkpointing, or model.train: lora",
        )


def time(examined: Examined) -> Iterator[Finding]:
    """How long a step or iteration takes, and the run."""
    need_steps(examined)
    examined.need_own_rows()
    rehearsal = examined.rehearsal
    one = "an iteration" if examined.kind == "ppo" else "a step"
    yield note(
        "iterations" if examined.kind == "ppo" else "epochs",
        f"about {duration(rehearsal.seconds_each)} {one}, "
        f"{duration(rehearsal.seconds)} for the run, measuring left out",
    )


def resume(examined: Examined) -> Iterator[Finding]:
    """A run that is killed after a checkpoint goes on as if it hadn't been, bit for bit."""
    need_steps(examined)
    if different := examined.rehearsal.different:
        yield warning(
            "save_every",
            f"two steps, and the second again from the first one's checkpoint, differ in {len(different)} numbers: "
            f"{', '.join(different[:3])}",
            "something draws anew or remembers: dropout, a judge with a memory; set device.threads to a fixed number",
        )
