"""A sweep as one table: a row for each setting, of the runs that differ only in their seed mean and spread."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

from plaudit.report.collect import PipelineData, RunData, RunStatus
from plaudit.report.measures import measure, shown
from plaudit.report.runs_table import NUMBERS, RunLine, RunsTable
from plaudit.runs.lineage import stage_name

SEED = "seed"


def sweep_table(item: RunData | PipelineData) -> RunsTable | None:
    """Of a pipeline whose stages are the runs of a sweep; None for any other."""
    if isinstance(item, RunData):
        return None
    grid = item.own.config.get("sweep")
    names = item.own.config.get("stages")
    if not isinstance(grid, dict) or not grid or not isinstance(names, dict):
        return None
    options = tuple(name for name in grid if name != SEED)
    chosen = itertools.product(*([(name, str(value)) for value in values] for name, values in grid.items()))
    settings = {name: dict(values) for name, values in zip(names, chosen, strict=False)}
    runs = {stage_name(run.name): run for run in item.stages}
    groups: dict[tuple[str, ...], list[RunData | None]] = {}
    for name, values in settings.items():
        groups.setdefault(tuple(values[option] for option in options), []).append(runs.get(name))
    numbers_of = {setting: [_numbers(run) for run in group if run] for setting, group in groups.items()}
    heads = list(dict.fromkeys(head for each in numbers_of.values() for numbers in each for head in numbers))[:NUMBERS]
    many = len({subject for _, subject in heads}) > 1
    seeds = len(grid.get(SEED, ("",)))
    return RunsTable(
        title=f"{len(groups)} settings" + (f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""),
        options=options,
        numbers=tuple((key, subject if many else "") for key, subject in heads),
        lines=tuple(
            RunLine(
                name=", ".join(setting) or "all",
                status=_status(groups[setting]),
                step=None,
                options=setting,
                numbers=tuple(_spread(numbers_of[setting], head, len(groups[setting])) for head in heads),
            )
            for setting in groups
        ),
        left_out=0,
    )


def _numbers(run: RunData) -> dict[tuple[str, str], float]:
    """(measure, subject) → what a run found out, floors and parts left out."""
    return {(r.measure, r.subject): r.value for r in run.results if not r.role and not r.part}


def _spread(group: Sequence[Mapping[tuple[str, str], float]], head: tuple[str, str], planned: int) -> str:
    """`1.20 ± 0.05`, and of how many runs where some have no number."""
    values = [numbers[head] for numbers in group if math.isfinite(numbers.get(head, math.nan))]
    if not values:
        return "–"
    unit = measure(head[0]).unit
    text = shown(statistics.fmean(values), unit)
    text += f" ± {shown(statistics.stdev(values), unit)}" if len(values) > 1 else ""
    return text + (f" ({len(values)} of {planned})" if len(values) < planned else "")


def _status(group: Sequence[RunData | None]) -> RunStatus:
    statuses = {run.status if run else RunStatus.NEVER_STARTED for run in group}
    if RunStatus.RUNNING in statuses:
        return RunStatus.RUNNING
    return statuses.pop() if len(statuses) == 1 else RunStatus.INTERRUPTED
