"""Known heights across curves: a result's floor and ceiling, drawn where they belong to the curve and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.records.results import Result
from plaudit.report.collect import RunData
from plaudit.report.measures import measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A height to draw across the curve of a measure."""

    key: str
    label: str
    value: float


def levels_of(run: RunData, runs: Sequence[RunData]) -> tuple[Level, ...]:
    """The levels of a run's curves: from its own results, and from those of its pipeline's other stages that measured
    the very objective that it optimises.

    A result hangs on the curve that its measure names. A stage with such a curve keeps its levels to itself.
    """
    beside = [other for other in runs if other.folder.parent == run.folder.parent and _same_objective(other, run)]
    found: dict[Level, None] = {}
    for source in (run, *beside):
        for result in source.results:
            key = measure(result.measure).curve
            if key in run.series and (source is run or key not in source.series):
                found |= dict.fromkeys(_levels(result, key))
    return tuple(found)


def _levels(result: Result, key: str) -> Iterator[Level]:
    if result.role:
        yield Level(key=key, label=result.subject, value=result.value)
        return
    for label, value in (("floor", result.floor), ("ceiling", result.ceiling)):
        if value is not None:
            yield Level(key=key, label=label, value=value)


def _same_objective(measuring: RunData, trained: RunData) -> bool:
    """Whether a stage measured E[r] − β·KL with the rewards, β and temperature that a run was trained with."""
    objective, kl = _mapping(measuring.config.get("objective")), _mapping(trained.config.get("kl"))
    sampling = _mapping(measuring.config.get("sampling")), _mapping(trained.config.get("sampling"))
    return (
        measuring is not trained
        and bool(objective.get("rewards"))
        and objective.get("rewards") == trained.config.get("rewards")
        and objective.get("kl_coef") == kl.get("coef")
        and kl.get("kind", "fixed") == "fixed"
        and sampling[0].get("temperature") == sampling[1].get("temperature")
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
