"""What a finished run tells whoever started it: where its model is, how far its numbers went, what may come next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plaudit.stages import PIPELINE, RUNS
from plaudit.telemetry.numbers import number
from plaudit.telemetry.register import measure_of


def outcome(stage: str, folder: Path | None, metrics: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """For summary.json: `model` and `best`, folders of the run's; `first_to_last` of the stage's main measures; `next`,
    a command in which RUN stands for the run's folder. What there isn't is left out.

    `folder`: None where the run is in memory.
    """
    left: dict[str, Any] = {}
    if stage not in RUNS:
        return left
    leaves = RUNS[stage].leaves
    if folder is not None and leaves and (folder / leaves).exists():
        left = {"model": leaves, "next": RUNS[stage].next} if leaves == "model" else {"next": RUNS[stage].next}
        left |= {"best": "best"} if (folder / "best").is_dir() else {}
    rows = list(metrics)
    ends: dict[str, dict[str, float]] = {}
    for key in RUNS[stage].main_measures:
        known = [(row["step"], row[f"{stage}/{key}"]) for row in rows if row.get(f"{stage}/{key}") is not None]
        if len(known) > 1:
            (first_step, first), (last_step, last) = known[0], known[-1]
            ends[key] = {"first": first, "last": last, "first_step": first_step, "last_step": last_step}
    return {**left, "first_to_last": ends} if ends else left


def as_text(stage: str, folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """The same, a line each."""
    if stage == PIPELINE.name:  # of each stage the model
        models = sorted(folder.glob("[0-9][0-9]-*/model"))
        return [f"model: {path}" for path in models] if len(models) < 10 else [f"models: {folder}/*/model"]
    lines = [f"{name}: {folder / summary[name]}" for name in ("model", "best") if name in summary]
    counts = RUNS[stage].counts if stage in RUNS else "step"
    if (best := summary.get("best_policy")) and best["objective"] is not None:
        early = "; nothing better came, and the run ended" if best["stopped_early"] else ""
        facts = f"{counts} {best['iteration']}, objective {number(best['objective'])}"
        lines.append(f"best on held-out prompts: {facts}{early}")
    for key, ends in summary.get("first_to_last", {}).items():
        steps = f"{counts} {ends['first_step']} to {ends['last_step']}"
        lines.append(f"{measure_of(key).title}: {number(ends['first'])} → {number(ends['last'])} ({steps})")
    return [*lines, *([f"next: {summary['next'].replace('RUN', str(folder))}"] if "next" in summary else [])]
