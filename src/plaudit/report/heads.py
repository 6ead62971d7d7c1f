"""What was run and what came of it: the top of the page, for each run or pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.report.collect import PipelineData, RunData, RunStatus
from plaudit.report.headline import headline, so_far
from plaudit.report.reading import finite
from plaudit.telemetry.numbers import duration, size

VERSIONS = ("plaudit", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    name: str
    value: str
    wide: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was run, when and with what, and what came of it in a sentence or two."""

    name: str
    status: RunStatus
    step: int | None
    sentences: tuple[str, ...]
    facts: tuple[Fact, ...]


def head(item: RunData | PipelineData) -> Head:
    own = item.own if isinstance(item, PipelineData) else item
    provenance, summary = own.provenance, own.summary
    seconds = finite(summary.get("seconds")) or own.seconds
    if isinstance(item, PipelineData) and seconds is None:
        seconds = sum(stage.seconds or 0.0 for stage in item.stages) or None
    versions = provenance.get("versions") or summary.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    known = [f"{name} {versions[name]}" for name in VERSIONS if name in versions]
    known += [f"Python {provenance['python']}"] if provenance.get("python") else []
    cpus = f", {provenance['cpus']} CPU cores" if provenance.get("cpus") else ""
    started = str(provenance.get("started", "")).replace("T", " ").replace("+00:00", " UTC")
    facts = (
        Fact(name="Started", value=started),
        Fact(name="Took", value=duration(seconds)),
        Fact(name="Seed", value=str(own.config.get("seed", summary.get("seed", "")))),
        Fact(name="Peak memory", value=size(finite(summary.get("peak_memory_bytes")))),
        Fact(name="Versions", value=", ".join(known), folded=True),
        Fact(name="Machine", value=f"{provenance.get('platform', '')}{cpus}", folded=True),
        Fact(name="Commit", value=str(provenance.get("commit", "")), folded=True),
        Fact(name="Command", value=own.command, wide=True, folded=True),
    )
    return Head(
        name=item.name,
        status=item.status,
        step=None if isinstance(item, PipelineData) else item.last_step,
        sentences=_sentences(item),
        facts=tuple(fact for fact in facts if fact.value),
    )


def _sentences(item: RunData | PipelineData) -> tuple[str, ...]:
    if item.results:
        return headline(item.results, _controls(item.stages if isinstance(item, PipelineData) else ()))
    return so_far(item) if isinstance(item, RunData) else ()


def _controls(stages: Sequence[RunData]) -> set[str]:
    """The compared policies that a control stage trained."""
    trained = {stage.folder.name for stage in stages if stage.control}
    compared = [stage.config.get("policies") for stage in stages]
    named = {name: str(path) for policies in compared if isinstance(policies, dict) for name, path in policies.items()}
    return {name for name, path in named.items() if trained & set(path.split("/"))}
