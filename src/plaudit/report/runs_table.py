"""Several runs as one table: what differs between their configurations, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plaudit.report.collect import PipelineData, RunData, RunStatus, flatten
from plaudit.report.measures import arrange, measure, shown

OPTIONS, NUMBERS = 6, 6
"""Columns at most; all options that differ are listed under Configuration."""


Difference = tuple[str, tuple[str | None, ...]]
"""An option in which runs differ, and its value in each of them; None where a run doesn't have the option."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    name: str
    status: RunStatus
    step: int | None
    options: tuple[str, ...]
    numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsTable:
    title: str
    options: tuple[str, ...]
    numbers: tuple[tuple[str, str], ...]
    """Column heads: (measure's key, whose number it is; "" where that is said by the row)."""
    lines: tuple[RunLine, ...]
    left_out: int
    """Options that differ and have no column."""


def differences(configs: Sequence[Mapping[str, object]]) -> tuple[Difference, ...]:
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    options = ((key, tuple(config.get(key) for config in flat)) for key in keys)
    return tuple((key, values) for key, values in options if len(set(values)) > 1)


def runs_tables(collected: Sequence[RunData | PipelineData]) -> tuple[RunsTable, ...]:
    """A table of the pipelines, and one of each kind of run, where there are at least two."""
    kinds: dict[str, list[RunData | PipelineData]] = {}
    for item in collected:
        kinds.setdefault("pipelines" if isinstance(item, PipelineData) else f"runs of {item.stage}", []).append(item)
    return tuple(_table(title, items) for title, items in kinds.items() if len(items) > 1)


def _table(title: str, items: Sequence[RunData | PipelineData]) -> RunsTable:
    owns = [item.own if isinstance(item, PipelineData) else item for item in items]
    differing = differences([own.config for own in owns])
    options = differing[:OPTIONS]
    numbers = [_numbers(item) for item in items]
    heads = list(dict.fromkeys(head for each in numbers for head in each))[:NUMBERS]
    subjects = {subject for _, subject in heads}
    lines = []
    for index, (item, own) in enumerate(zip(items, owns, strict=True)):
        chosen = tuple(values[index] or "–" for _, values in options)
        reached = tuple(numbers[index].get(head, "–") for head in heads)
        lines.append(RunLine(name=item.name, status=item.status, step=own.last_step, options=chosen, numbers=reached))
    return RunsTable(
        title=f"{len(items)} {title}",
        options=tuple(key for key, _ in options),
        numbers=tuple((key, subject if len(subjects) > 1 else "") for key, subject in heads),
        lines=tuple(lines),
        left_out=len(differing) - len(options),
    )


def _numbers(item: RunData | PipelineData) -> dict[tuple[str, str], str]:
    """(measure, subject) -> the number: results, those of compared subjects first, then where its curves ended."""
    mains = [result for result in item.results if not result.role and not result.part]
    compared = {result.subject for result in mains if result.against}
    ordered = sorted(mains, key=lambda result: result.subject not in compared)
    numbers = {(r.measure, r.subject): shown(r.value, measure(r.measure).unit) for r in ordered}
    if isinstance(item, RunData):
        ends = {key: item.series[key].last for panel, keys in arrange(item.series) if not panel.folded for key in keys}
        numbers |= {(key, ""): shown(value, measure(key).unit) for key, value in ends.items() if value is not None}
    return numbers
