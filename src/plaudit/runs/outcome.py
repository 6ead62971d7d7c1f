"""What a finished run tells whoever started it: where its model is, how far its numbers went, what may come next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from plaudit.runs.records import RunFiles
from plaudit.stages import PIPELINE, RUNS
from plaudit.telemetry.health import HEALTHY, Level
from plaudit.telemetry.numbers import number
from plaudit.telemetry.register import measure_of
from plaudit.telemetry.summary import read_results


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
    """The same, a line each; before them what the run's health forbids to rely on."""
    lines = _caution(summary.get("health", {}))
    if stage == PIPELINE.name:  # of each stage the model
        models = sorted(folder.glob("[0-9][0-9]-*/model"))
        lines += [f"model: {path}" for path in models] if len(models) < 10 else [f"models: {folder}/*/model"]
        return [*lines, *_of_sweep(folder, summary)]
    lines += [f"{name}: {folder / summary[name]}" for name in ("model", "best") if name in summary]
    counts = RUNS[stage].counts if stage in RUNS else "step"
    if (best := summary.get("best_policy")) and best["objective"] is not None:
        early = "; nothing better came, and the run ended" if best["stopped_early"] else ""
        facts = f"{counts} {best['iteration']}, objective {number(best['objective'])}"
        lines.append(f"best on held-out prompts: {facts}{early}")
    for key, ends in summary.get("first_to_last", {}).items():
        steps = f"{counts} {ends['first_step']} to {ends['last_step']}"
        lines.append(f"{measure_of(key).title}: {number(ends['first'])} → {number(ends['last'])} ({steps})")
    return [*lines, *([f"next: {summary['next'].replace('RUN', str(folder))}"] if "next" in summary else [])]


def _caution(health: Mapping[str, Any]) -> list[str]:
    """What isn't to be relied on, from a warning on; nothing of a healthy run."""
    level = Level(health["level"]) if health.get("level", HEALTHY) != HEALTHY else Level.NOTICE
    if level is Level.NOTICE:
        return []
    rules = [one["rule"] for one in health.get("findings", ()) if one["level"] == level and one["until"] is None]
    rules += [name for name, reached in health.get("stages", {}).items() if reached == level]
    words = "not to be relied on before this is mended" if level is Level.ALARM else "read this before what follows"
    return [f"{words}: {level} ({', '.join(dict.fromkeys(rules))})"]


def _of_sweep(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Of a sweep's runs the best one and what may come next with it. PPO's runs differ in score and KL, so that none
    is the best by a number of its own: they are compared."""
    if "sweep" not in summary:
        return []
    kinds = {name: str(RunFiles(Path(path)).provenance.get("stage", "")) for name, path in summary["sweep"].items()}
    kind = next(iter(kinds.values()))
    if kind not in RUNS or RUNS[kind].leaves != "model" or RUNS[kind].counts == "iteration":
        return ["next: plaudit init compare, and name the runs' models in its `policies`"] if kind == "ppo" else []
    results = [result for result in read_results(summary) if not result.role and not result.part]
    lead = next((one.measure for one in results if measure_of(one.measure).better), "")
    values = {result.stage: result.value for result in results if result.measure == lead}
    if not values:
        return []
    best = (max if measure_of(lead).better == "up" else min)(values, key=values.__getitem__)
    command = RUNS[kind].next.replace("RUN", summary["sweep"][best])
    return [f"best by {measure_of(lead).title}: {best} ({number(values[best])})", f"next: {command}"]
