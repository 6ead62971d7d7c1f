"""What was run and what came of it: the top of the page, for each run or pipeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plaudit.report.collect import PipelineData, RunData, RunStatus
from plaudit.report.headline import headline, so_far
from plaudit.report.reading import finite
from plaudit.report.sweep import sweep_table
from plaudit.telemetry.health import HEALTHY, Level, Symptom
from plaudit.telemetry.numbers import duration, size

VERSIONS = ("plaudit", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    name: str
    status: RunStatus
    step: int | None
    sentences: tuple[str, ...]
    health: tuple[tuple[Level, str], ...]
    """What isn't as it should be, the worst first; what was over again is left out."""
    facts: Mapping[str, str]
    more: Mapping[str, str]
    """Shown on demand."""


def head(item: RunData | PipelineData) -> Head:
    own = item.own if isinstance(item, PipelineData) else item
    sweep = sweep_table(item)
    provenance, summary = own.provenance, own.summary
    seconds = finite(summary.get("seconds")) or own.seconds
    if isinstance(item, PipelineData) and seconds is None:
        seconds = sum(stage.seconds or 0.0 for stage in item.stages) or None
    stages = item.stages if isinstance(item, PipelineData) else (item,)
    present = [
        (f"{run.name}: " * (run is not item), one) for run in stages for one in run.health or () if one.until is None
    ]
    health = sorted(((one.level, whose + one.text) for whose, one in present), key=lambda each: -each[0].rank)
    facts = {
        "Started": str(provenance.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        "Took": duration(seconds),
        "Seed": "" if sweep else str(own.config.get("seed", summary.get("seed", ""))),
        "Peak memory": size(finite(summary.get("peak_memory_bytes"))),
        "Health": HEALTHY if not health and any(run.health is not None for run in stages) else "",
    }
    versions = provenance.get("versions") or summary.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    known = [f"{name} {versions[name]}" for name in VERSIONS if name in versions]
    known += [f"Python {provenance['python']}"] if provenance.get("python") else []
    cpus = f", {provenance['cpus']} CPU cores" if provenance.get("cpus") else ""
    machine, commit = f"{provenance.get('platform', '')}{cpus}", str(provenance.get("commit", ""))
    own_commit = str(provenance.get("plaudit_commit", ""))
    more = {"Versions": ", ".join(known), "Machine": machine, "Commit": commit, "Command": own.command}
    more["plaudit's commit"] = own_commit if own_commit != commit else ""
    if sweep:
        step, sentences = None, (f"Sweep: {sweep.title}.",)
    elif isinstance(item, PipelineData):
        step, sentences = None, headline(item.results, _controls(item.stages)) if item.results else ()
    else:
        step, sentences = item.last_step, headline(item.results) if item.results else so_far(item)
    if health and health[0][0] is not Level.NOTICE and sentences and not sweep:
        sentences = (_caution(health[0][0], present), *sentences)
    facts, more = ({name: fact for name, fact in each.items() if fact} for each in (facts, more))
    return Head(
        name=item.name,
        status=item.status,
        step=step,
        sentences=sentences,
        health=tuple(health),
        facts=facts,
        more=more,
    )


def _caution(level: Level, present: Sequence[tuple[str, Symptom]]) -> str:
    """In front of what was found, so that a sick run doesn't begin with its success."""
    named = " and ".join(dict.fromkeys(f"{whose}{one.rule}" for whose, one in present if one.level is level))
    if level is Level.ALARM:
        return f"Not to be relied on (alarm: {named}). What was measured all the same:"
    return f"To be read with its warning ({named}):"


def _controls(stages: Sequence[RunData]) -> set[str]:
    trained = {stage.folder.name for stage in stages if stage.control}
    compared = [policies for stage in stages if isinstance(policies := stage.config.get("policies"), dict)]
    return {name for each in compared for name, path in each.items() if trained & set(str(path).split("/"))}
