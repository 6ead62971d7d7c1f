"""What stands on the page, in the order of the page: run records in, frozen records for the template out."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.records.results import Measure
from plaudit.report import measures, reward_figures, samples
from plaudit.report.bars import ResultLine, lines
from plaudit.report.clocks import Clock, clocks
from plaudit.report.collect import PipelineData, RunData, RunStatus, flatten
from plaudit.report.curves import curves
from plaudit.report.figures import Figure
from plaudit.report.flow import Flow, flow
from plaudit.report.frontier import frontier
from plaudit.report.heads import Head, head
from plaudit.report.runs_table import RunsTable, differences, runs_tables
from plaudit.report.spread import distributions
from plaudit.report.sweep import sweep_table
from plaudit.report.token_cards import Side, TokenRun, token_runs
from plaudit.runs.lineage import stage_name
from plaudit.stages import RUNS
from plaudit.telemetry.console import HEALTH
from plaudit.telemetry.numbers import duration

CONTROL_NOTE = "Trained on permuted labels: there is nothing to learn, so what rises here rises without a reason."
OPEN_FIGURES = 6
"""Of a stage; the others are shown on demand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A titled part of a section. `lines` are of the kind that the section shows; `names` head its columns."""

    id: str = ""
    title: str
    note: str = ""
    text: str = ""
    names: tuple[str, ...] = ()
    lines: tuple[Any, ...] = ()
    folded: tuple[Any, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    title: str
    kind: str
    heads: tuple[Head, ...]
    problems: tuple[str, ...]
    flow: Flow | None
    side_by_side: tuple[RunsTable, ...]
    tables: tuple[Block, ...]
    """Lines: (stage, rows: bars.ResultLine)."""
    stage_lists: tuple[Block, ...]
    """Lines: (folder, status, last step, how long it took)."""
    groups: tuple[Block, ...]
    """Lines and folded: Figure."""
    samples: tuple[Block, ...]
    """Lines and folded: Cards, a block for each run."""
    search: tuple[samples.Entry, ...]
    anchors: Mapping[Side, str]
    clocks: tuple[Clock, ...]
    """What else the figures' steps can be counted by, a clock for each `meta` of a trace."""
    tokens: tuple[TokenRun, ...]
    numbers: tuple[Block, ...]
    """Lines: (key, first, last, lowest and highest number, how many numbers)."""
    summaries: tuple[Block, ...]
    """Lines: (key, value), as summary.json has them."""
    differences: tuple[Block, ...]
    """Lines: runs_table.Difference."""
    configs: tuple[Block, ...]
    provenances: tuple[Block, ...]
    """Lines: (key, value)."""
    terms: Mapping[str, Measure]

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """(id, title) of every section that has something to show."""
        sections = (
            ("problems", "To know before reading", self.problems),
            ("flow", "The flow", self.flow),
            ("side-by-side", "Side by side", self.side_by_side),
            *((block.id, block.title, True) for block in (*self.tables, *self.groups)),
            ("samples", "Samples", self.samples),
            ("tokens", "Token by token", self.tokens),
            ("stages", "Stages", self.stage_lists),
            ("numbers", "Every measure in numbers", self.numbers or self.summaries),
            ("config", "Configuration", self.configs),
            ("provenance", "Provenance", self.provenances),
            ("glossary", "Definitions", True),
        )
        return tuple((name, title) for name, title, present in sections if present)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(figure for group in self.groups for figure in (*group.lines, *group.folded))


def page(
    collected: Sequence[RunData | PipelineData],
    *,
    searchable: bool = True,
    follow: bool = True,
    with_flow: bool = False,
) -> Page:
    """The whole report. Runs of the same stage are laid over each other under names that tell them apart.

    `searchable`: whether every answer goes with it, for the page's own search. A pipeline's flow of steps stands on
    top, a run's `with_flow`; `follow`: into runs and files that lie elsewhere.
    """
    runs = name_apart(collected)
    apart = {run.folder: run for run in runs} if len({run.folder for run in runs}) == len(runs) else {}
    named = [apart.get(item.folder, item) if isinstance(item, RunData) else item for item in collected]
    owns = [item.own for item in collected if isinstance(item, PipelineData)]
    everything = [*owns, *runs]
    compared = _with_answers(collected, runs)
    shown = _samples(compared)
    cards = [card for block in shown for group in (*block.lines, *block.folded) for card in group.cards]
    tokens = token_runs([run for run in runs if not run.control], {side for card in cards for side in card.sides})
    keys = {key for run in everything for key in run.series}
    keys |= {result.measure for item in collected for result in item.results}
    return Page(
        title=" and ".join(filter(None, (", ".join(item.name for item in named[:-1]), named[-1].name))),
        kind=_kind(collected),
        heads=tuple(map(head, named)),
        problems=tuple(_problems(everything)),
        flow=_flow(collected, follow=follow, with_flow=with_flow),
        side_by_side=(*filter(None, map(sweep_table, collected)), *runs_tables(named)),
        tables=_for_each("Results", [(item.name, _by_stage(item)) for item in collected if item.results]),
        stage_lists=_for_each("Stages", [(i.name, _stage_lines(i)) for i in collected if isinstance(i, PipelineData)]),
        groups=_figure_groups(runs, compared),
        samples=shown,
        search=tuple(entry for run in compared * searchable for entry in samples.entries(run, named=len(compared) > 1)),
        anchors={(f"iteration {card.iteration}", card.rollout.answer): card.id for run in tokens for card in run.cards},
        clocks=tuple(clocks(runs)),
        tokens=tokens,
        numbers=_blocks(everything, _number_lines),
        summaries=_blocks(everything, _summary_lines),
        differences=_differences(owns, runs),
        configs=tuple(Block(title=run.name, text=run.config_text) for run in everything if run.config_text),
        provenances=_blocks(everything, _provenance_lines),
        terms=measures.glossary(keys),
    )


def _flow(collected: Sequence[RunData | PipelineData], *, follow: bool, with_flow: bool) -> Flow | None:
    is_wanted = len(collected) == 1 and (with_flow or isinstance(collected[0], PipelineData))
    return flow(collected[0], follow=follow) if is_wanted else None


def name_apart(collected: Sequence[RunData | PipelineData]) -> list[RunData]:
    """All runs, pipelines' stages among them, renamed so that no two of a stage bear the same name."""
    entries = [
        (item.name if isinstance(item, RunData) or len(collected) > 1 else run.name, run)
        for item in collected
        for run in ((item,) if isinstance(item, RunData) else item.stages)
    ]
    named: list[RunData] = []
    for name, run in entries:
        rivals = [other for other, peer in entries if peer.stage == run.stage and other == name]
        unique = name if len(rivals) == 1 else f"{run.folder.resolve().parent.name}/{run.name}"
        names = {peer.name for peer in named if peer.stage == run.stage}
        number = next(n for n in range(1, len(entries) + 2) if (unique if n == 1 else f"{unique} ({n})") not in names)
        named.append(dataclasses.replace(run, name=unique if number == 1 else f"{unique} ({number})"))
    return named


def _kind(collected: Sequence[RunData | PipelineData]) -> str:
    if len(collected) > 1:
        return f"{len(collected)} side by side"
    (only,) = collected
    return "pipeline" if isinstance(only, PipelineData) else f"run · {_stage_title(only.stage)}"


def _stage_title(stage: str) -> str:
    return RUNS[stage].title if stage in RUNS else stage


def _problems(runs: Sequence[RunData]) -> list[str]:
    problems: list[str] = []
    for run in runs:
        name = f"{run.name}: " if len(runs) > 1 else ""
        if run.status is RunStatus.INTERRUPTED:
            at = "" if run.last_step is None else f" Its last logged step is {run.last_step}."
            problems.append(f"{name}no summary was written: it was stopped.{at} What it left is shown.")
        problems += [f"{name}{problem}" for problem in run.problems]
        counts = Counter(text for text in run.warnings if not text.startswith(HEALTH))  # those stand on top
        problems += [f"{name}{text}" + (f" ({count} times)" if count > 1 else "") for text, count in counts.items()]
    return problems


def _for_each(title: str, items: Sequence[tuple[str, Iterable[Any]]]) -> tuple[Block, ...]:
    """A block of lines for each named item; a single one needs no name."""
    titles = [f"{title} of {name}" if len(items) > 1 else title for name, _ in items]
    return tuple(
        Block(id=f"{title.lower()}-{index}", title=titles[index], lines=tuple(lines))
        for index, (_, lines) in enumerate(items)
    )


def _by_stage(item: RunData | PipelineData) -> Iterable[tuple[str, list[ResultLine]]]:
    """Its results; all of an item are drawn on the same scales."""
    stages: dict[str, list[ResultLine]] = {}
    for row in lines(item.results):
        stages.setdefault(row.result.stage, []).append(row)
    return stages.items()


def _stage_lines(pipeline: PipelineData) -> list[tuple[str, RunStatus, int | None, str]]:
    """Last, those that the pipeline's config names and that have no folder yet."""
    lines = [(run.name, run.status, run.last_step, duration(run.seconds)) for run in pipeline.stages]
    planned = pipeline.own.config.get("stages")
    begun = {stage_name(stage.name) for stage in pipeline.stages}
    left = [name for name in (planned if isinstance(planned, dict) else ()) if name not in begun]
    return [*lines, *((name, RunStatus.NEVER_STARTED, None, "") for name in left)]


def _figure_groups(runs: Sequence[RunData], compared: Sequence[RunData]) -> tuple[Block, ...]:
    groups = []
    kinds = dict.fromkeys((run.control, run.stage) for run in runs)
    for control, stage in sorted(kinds, key=lambda kind: kind[0]):
        drawn = curves([run for run in runs if (run.control, run.stage) == (control, stage)], runs)
        shown = [figure for figure in drawn if not figure.folded][:OPEN_FIGURES]
        folded = [figure for figure in drawn if figure not in shown]
        title = _stage_title(stage) + (", control" if control else "")
        note = CONTROL_NOTE if control else ""
        groups.append(Block(title=title, note=note, lines=tuple(shown), folded=tuple(folded), closed=control))
    bought = frontier([run for run in runs if not run.control])
    note = "How much score each unit of distance from the reference bought."
    groups.append(Block(title="Score against distance", note=note, lines=(bought,) if bought else ()))
    groups.append(Block(title="Before and after", lines=tuple(distributions(compared))))
    groups.append(Block(title="Judges measured", lines=tuple(reward_figures.measured(runs))))
    shown_groups = (group for group in groups if group.lines or group.folded)
    return tuple(dataclasses.replace(group, id=f"figures-{index}") for index, group in enumerate(shown_groups))


def _with_answers(collected: Sequence[RunData | PipelineData], runs: Sequence[RunData]) -> list[RunData]:
    """Of each pipeline the stages that compared before and after on purpose, or else those that kept rollouts."""
    folders = set()
    for item in collected:
        stages = item.stages if isinstance(item, PipelineData) else (item,)
        chosen = [stage for stage in stages if stage.samples] or [stage for stage in stages if stage.first]
        folders |= {stage.folder for stage in chosen}
    return [run for run in runs if run.folder in folders]


def _samples(runs: Sequence[RunData]) -> tuple[Block, ...]:
    """A block for each run; policies after the first one are folded."""
    count = samples.SHOWN if len(runs) == 1 else samples.SHOWN_OF_EACH_RUN
    blocks = []
    for run in runs:
        if cards := samples.choose(run, count):
            first = tuple(each for each in cards if each.policy == cards[0].policy)
            title = run.name if len(runs) > 1 else ""
            blocks.append(Block(title=title, lines=first, folded=tuple(cards[len(first) :])))
    return tuple(blocks)


def _blocks(runs: Sequence[RunData], lines_of: Callable[[RunData], Iterable[Any]]) -> tuple[Block, ...]:
    named = ((run.name, tuple(lines_of(run))) for run in runs)
    return tuple(Block(title=name, lines=lines) for name, lines in named if lines)


def _number_lines(run: RunData) -> list[tuple[str, tuple[float | None, ...], int]]:
    known = {key: [x for _, x in run.series[key].known] for _, keys in measures.arrange(run.series) for key in keys}
    counts = {key: len(xs) + run.series[key].left_out for key, xs in known.items()}
    return [(key, (xs[0], xs[-1], min(xs), max(xs)) if xs else (None,) * 4, counts[key]) for key, xs in known.items()]


def _summary_lines(run: RunData) -> list[tuple[str, str]]:
    shown_elsewhere = ("format", "results", reward_figures.BLOCK)
    return list(flatten({key: value for key, value in run.summary.items() if key not in shown_elsewhere}).items())


def _provenance_lines(run: RunData) -> list[tuple[str, str]]:
    shown = {"command": run.command} if run.command else {}
    return list(flatten({**run.provenance, **shown}).items())


def _differences(owns: Sequence[RunData], runs: Sequence[RunData]) -> tuple[Block, ...]:
    """For pipelines, and for each stage with several runs, the options in which they differ."""
    peers = {"Pipelines": [run for run in owns if run.config]}
    for run in runs:
        if run.config:
            peers.setdefault(_stage_title(run.stage), []).append(run)
    blocks = []
    for title, group in peers.items():
        if len(group) > 1:
            lines = differences([run.config for run in group])
            note = "" if lines else "Their configurations are the same."
            names = tuple(run.name for run in group)
            blocks.append(Block(title=f"{title}: what differs", note=note, names=names, lines=lines))
    return tuple(blocks)
