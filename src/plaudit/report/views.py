"""What stands on the page, in the order of the page: run records in, frozen records for the template out."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.report import figures, panels, reward_figures, samples, terms
from plaudit.report.bars import Bar, bar
from plaudit.report.collect import PipelineData, RunData, StageRow, Status, flatten, stage_name
from plaudit.report.figures import Figure
from plaudit.report.reading import finite
from plaudit.report.samples import Cards
from plaudit.report.terms import Term
from plaudit.report.token_cards import TokenRun, token_runs

HEADLINE_VERSIONS = ("plaudit", "torch", "transformers")
CONTROL_NOTE = "Trained on permuted labels: there is nothing to learn, so what rises here rises without a reason."


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    name: str
    value: str
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was run, when and with what."""

    name: str
    status: Status
    step: int | None
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLine:
    name: str
    stage: str
    """"" where the name says it already."""
    metric: str
    value: float | None
    unit: str
    interval: str
    bar: Bar | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    folder: str
    status: Status
    step: int | None
    took: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLine:
    key: str
    first: float | None
    last: float | None
    low: float | None
    high: float | None
    points: int
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An option in which runs differ; a value is None where a run doesn't have the option."""

    key: str
    values: tuple[str | None, ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    title: str
    kind: str
    heads: tuple[Head, ...]
    problems: tuple[str, ...]
    tables: tuple[Block, ...]
    """Lines: TableLine."""
    stage_lists: tuple[Block, ...]
    """Lines: StageLine."""
    groups: tuple[Block, ...]
    """Lines and folded: Figure."""
    samples: tuple[Block, ...]
    """Lines: Cards, a block for each run."""
    tokens: tuple[TokenRun, ...]
    numbers: tuple[Block, ...]
    """Lines: NumberLine."""
    summaries: tuple[Block, ...]
    """Lines: (key, value), as summary.json has them."""
    differences: tuple[Block, ...]
    """Lines: Difference."""
    configs: tuple[Block, ...]
    """Text: config.yaml."""
    provenances: tuple[Block, ...]
    """Lines: (key, value)."""
    terms: Mapping[str, Term]

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """(id, title) of every section that has something to show."""
        sections = [("problems", "To know before reading")] if self.problems else []
        sections += [(block.id, block.title) for block in (*self.tables, *self.stage_lists, *self.groups)]
        for name, title, present in (
            ("samples", "Samples", self.samples),
            ("tokens", "Token by token", self.tokens),
            ("numbers", "Every metric in numbers", self.numbers or self.summaries),
            ("config", "Configuration", self.configs),
            ("provenance", "Provenance", self.provenances),
            ("glossary", "Definitions", True),
        ):
            sections += [(name, title)] if present else []
        return tuple(sections)

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(figure for group in self.groups for figure in (*group.lines, *group.folded))


def page(collected: Sequence[RunData | PipelineData]) -> Page:
    """The whole report. Runs of the same stage are laid over each other under names that tell them apart."""
    runs = name_apart(collected)
    owns = [item.own for item in collected if isinstance(item, PipelineData)]
    everything = [*owns, *runs]
    tables = _tables(collected)
    compared = _with_answers(collected, runs)
    groups = _figure_groups(runs, compared)
    keys = {key for run in everything for key in run.series}
    keys |= {line.metric for table in tables for line in table.lines}
    return Page(
        title=_title(collected),
        kind=_kind(collected),
        heads=tuple(_head(item) for item in collected),
        problems=tuple(_problems(everything)),
        tables=tables,
        stage_lists=_stage_lists([item for item in collected if isinstance(item, PipelineData)]),
        groups=groups,
        samples=_samples(compared),
        tokens=token_runs(runs),
        numbers=_blocks(everything, _number_lines),
        summaries=_blocks(everything, _summary_lines),
        differences=_differences(owns, runs),
        configs=tuple(Block(title=run.name, text=run.config_text) for run in everything if run.config_text),
        provenances=_blocks(everything, _provenance_lines),
        terms=terms.glossary(keys, {line.metric: line.unit for table in tables for line in table.lines}),
    )


def name_apart(collected: Sequence[RunData | PipelineData]) -> list[RunData]:
    """All runs, pipelines' stages among them, renamed so that no two of a stage bear the same name."""
    entries: list[tuple[str, RunData]] = []
    for item in collected:
        if isinstance(item, RunData):
            entries.append((item.name, item))
        else:
            short = (lambda stage: stage.name) if len(collected) == 1 else (lambda stage, name=item.name: name)
            entries += [(short(stage), stage) for stage in item.stages]
    named: list[RunData] = []
    for name, run in entries:
        rivals = [other for other, peer in entries if peer.stage == run.stage and other == name]
        unique = name if len(rivals) == 1 else f"{run.folder.resolve().parent.name}/{run.name}"
        taken = {peer.name for peer in named if peer.stage == run.stage}
        number = next(n for n in range(1, len(entries) + 2) if (unique if n == 1 else f"{unique} ({n})") not in taken)
        named.append(dataclasses.replace(run, name=unique if number == 1 else f"{unique} ({number})"))
    return named


def duration(seconds: float | None) -> str:
    """12 s, 3 min 20 s, 2 h 05 min; "" for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(count: float | None) -> str:
    """Bytes in binary units; "" for None."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _title(collected: Sequence[RunData | PipelineData]) -> str:
    names = [item.name for item in collected]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _kind(collected: Sequence[RunData | PipelineData]) -> str:
    if len(collected) > 1:
        return f"{len(collected)} side by side"
    (only,) = collected
    return "pipeline" if isinstance(only, PipelineData) else f"run · {panels.stage_title(only.stage)}"


def _head(item: RunData | PipelineData) -> Head:
    own = item.own if isinstance(item, PipelineData) else item
    provenance, summary = own.provenance, own.summary
    seconds = finite(summary.get("seconds"))
    if seconds is None and isinstance(item, PipelineData):
        seconds = sum(stage.seconds or 0.0 for stage in item.stages) or None
    versions = provenance.get("versions") or summary.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    told = [f"{name} {versions[name]}" for name in HEADLINE_VERSIONS if name in versions]
    told += [f"Python {provenance['python']}"] if provenance.get("python") else []
    cpus = f", {provenance['cpus']} CPU cores" if provenance.get("cpus") else ""
    command = provenance.get("command")
    facts = (
        Fact(name="Started", value=str(provenance.get("started", "")).replace("T", " ").replace("+00:00", " UTC")),
        Fact(name="Took", value=duration(own.seconds if seconds is None else seconds)),
        Fact(name="Seed", value=_seed(own)),
        Fact(name="Peak memory", value=size(finite(summary.get("peak_memory_bytes")))),
        Fact(name="Versions", value=", ".join(told)),
        Fact(name="Machine", value=f"{provenance.get('platform', '')}{cpus}"),
        Fact(name="Commit", value=str(provenance.get("commit", ""))),
        Fact(name="Command", value=shlex.join(map(str, command)) if isinstance(command, list) else "", wide=True),
    )
    step = None if isinstance(item, PipelineData) else item.last_step
    return Head(name=item.name, status=item.status, step=step, facts=tuple(fact for fact in facts if fact.value))


def _seed(run: RunData) -> str:
    """The seed at the top of the config, else the summary's, else the one seed that stands deeper in the config."""
    for place in (run.config, run.summary):
        if place.get("seed") is not None:
            return str(place["seed"])
    deeper = {value for key, value in flatten(run.config).items() if key.endswith(".seed")}
    return deeper.pop() if len(deeper) == 1 else ""


def _problems(runs: Sequence[RunData]) -> list[str]:
    told = []
    for run in runs:
        name = f"{run.name}: " if len(runs) > 1 else ""
        if run.status is Status.INTERRUPTED:
            at = "" if run.last_step is None else f" Its last logged step is {run.last_step}."
            told.append(f"{name}no summary was written: stopped, or still going.{at} What it left is shown.")
        told += [f"{name}{problem}" for problem in run.problems]
    return told


def _tables(collected: Sequence[RunData | PipelineData]) -> tuple[Block, ...]:
    sources = [item for item in collected if item.table]
    return tuple(
        Block(
            id=f"results-{index}",
            title=f"Results of {item.name}" if len(sources) > 1 else "Results",
            lines=tuple(_table_line(row) for row in item.table),
        )
        for index, item in enumerate(sources)
    )


def _table_line(row: StageRow) -> TableLine:
    known = row.low is not None and row.high is not None
    return TableLine(
        name=row.name or row.stage,
        stage=row.stage if row.name and row.stage.lower() != row.name.lower() else "",
        metric=row.metric or row.name or "(unnamed)",
        value=row.value,
        unit=row.unit or terms.unit(row.metric),
        interval=f"{row.low:.4g} … {row.high:.4g}".replace("-", "−") if known else "",
        bar=bar(row),
    )


def _stage_lists(pipelines: Sequence[PipelineData]) -> tuple[Block, ...]:
    return tuple(
        Block(
            id=f"stages-{index}",
            title=f"Stages of {item.name}" if len(pipelines) > 1 else "Stages",
            lines=(*map(_stage_line, item.stages), *_not_begun(item)),
        )
        for index, item in enumerate(pipelines)
    )


def _not_begun(pipeline: PipelineData) -> list[StageLine]:
    """The stages that the pipeline's config names and that have no folder yet."""
    planned = pipeline.own.config.get("stages")
    begun = {stage_name(stage.name) for stage in pipeline.stages}
    return [
        StageLine(folder=name, status=Status.NEVER_STARTED, step=None, took="")
        for name in (planned if isinstance(planned, dict) else ())
        if name not in begun
    ]


def _stage_line(run: RunData) -> StageLine:
    return StageLine(folder=run.name, status=run.status, step=run.last_step, took=duration(run.seconds))


def _figure_groups(runs: Sequence[RunData], compared: Sequence[RunData]) -> tuple[Block, ...]:
    groups = []
    kinds = dict.fromkeys((run.control, run.stage) for run in runs)
    for control, stage in sorted(kinds, key=lambda kind: kind[0]):
        made = figures.curves(stage, [run for run in runs if (run.control, run.stage) == (control, stage)])
        shown, folded = [f for f in made if not f.folded], [f for f in made if f.folded]
        title = panels.stage_title(stage) + (", control" if control else "")
        if made:
            note = CONTROL_NOTE if control else ""
            groups.append(Block(title=title, note=note, lines=tuple(shown), folded=tuple(folded)))
    bought = figures.frontier(runs)
    if bought:
        note = "How much score each unit of distance from the reference bought."
        groups.append(Block(title="Score against distance", note=note, lines=(bought,)))
    spread = figures.distributions(compared)
    if spread:
        groups.append(Block(title="Scores before and after", lines=tuple(spread)))
    judges = reward_figures.measured([run for run in runs if "reward_eval" in run.summary])
    if judges:
        groups.append(Block(title=panels.stage_title("reward_eval"), lines=tuple(judges)))
    return tuple(dataclasses.replace(group, id=f"figures-{index}") for index, group in enumerate(groups))


def _with_answers(collected: Sequence[RunData | PipelineData], runs: Sequence[RunData]) -> list[RunData]:
    """Of each pipeline the stages that compared before and after on purpose, or else those that kept rollouts."""
    folders = set()
    for item in collected:
        stages = item.stages if isinstance(item, PipelineData) else (item,)
        chosen = [stage for stage in stages if stage.samples] or [stage for stage in stages if stage.first]
        folders |= {stage.folder for stage in chosen}
    return [run for run in runs if run.folder in folders]


def _samples(runs: Sequence[RunData]) -> tuple[Block, ...]:
    count = samples.SHOWN if len(runs) == 1 else samples.SHOWN_OF_EACH_RUN
    made: list[tuple[str, list[Cards]]] = [(run.name, samples.choose(run, count)) for run in runs]
    return tuple(Block(title=name if len(runs) > 1 else "", lines=tuple(cards)) for name, cards in made if cards)


def _blocks(runs: Sequence[RunData], lines_of: Callable[[RunData], Iterable[Any]]) -> tuple[Block, ...]:
    made = ((run.name, tuple(lines_of(run))) for run in runs)
    return tuple(Block(title=name, lines=lines) for name, lines in made if lines)


def _number_lines(run: RunData) -> list[NumberLine]:
    lines = []
    for _, keys in panels.arrange(run.series):
        for key in keys:
            known = [value for value in run.series[key].values if value is not None]
            ends = (known[0], known[-1], min(known), max(known)) if known else (None,) * 4
            first, last, low, high = ends
            unit = terms.unit(key)
            lines.append(NumberLine(key=key, first=first, last=last, low=low, high=high, points=len(known), unit=unit))
    return lines


def _summary_lines(run: RunData) -> list[tuple[str, str]]:
    return list(
        flatten({key: value for key, value in run.summary.items() if key not in ("stages", "reward_eval")}).items()
    )


def _provenance_lines(run: RunData) -> list[tuple[str, str]]:
    command = run.provenance.get("command")
    shown = {"command": shlex.join(map(str, command))} if isinstance(command, list) else {}
    return list(flatten({**run.provenance, **shown}).items())


def _differences(owns: Sequence[RunData], runs: Sequence[RunData]) -> tuple[Block, ...]:
    """For pipelines, and for each stage with several runs, the options in which they differ."""
    stages = dict.fromkeys(run.stage for run in runs)
    peers = [("Pipelines", list(owns))] + [
        (panels.stage_title(stage), [run for run in runs if run.stage == stage]) for stage in stages
    ]
    made = []
    for title, group in peers:
        configs = [flatten(run.config) for run in group if run.config]
        names = tuple(run.name for run in group if run.config)
        if len(configs) < 2:
            continue
        keys = dict.fromkeys(key for config in configs for key in config)
        lines = [Difference(key=key, values=tuple(config.get(key) for config in configs)) for key in keys]
        lines = [line for line in lines if len(set(line.values)) > 1]
        note = "" if lines else "Their configurations are the same."
        made.append(Block(title=f"{title}: what differs", note=note, names=names, lines=tuple(lines)))
    return tuple(made)
