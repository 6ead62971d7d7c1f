"""A run folder, or a pipeline's folder of run folders, as frozen records. Works on a run that was killed half-way."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.report import terms
from plaudit.report.reading import clean_text, finite, number, read_json_lines, read_mapping, read_text
from plaudit.report.rollouts import Answer, Iteration, first_middle_last, words

RUN_FILES = ("config.yaml", "provenance.json", "metrics.jsonl", "summary.json", "samples.jsonl")
RUN_FOLDERS = ("checkpoints", "rollouts", "model")
NOT_METRICS = frozenset({"step", "time", "non_finite"})

_STAGE_FOLDER = re.compile(r"^(\d\d)-(.+)$")


class Status(StrEnum):
    """How far a run came. A run that is still going can't be told from one that was killed: both are INTERRUPTED."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    NEVER_STARTED = "never started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one run, by ascending step. `values[i]` is None where the number was missing or not finite."""

    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    seconds: tuple[float | None, ...]
    """Seconds since the run's start."""
    not_finite: tuple[int, ...] = ()
    """The steps at which NaN or an infinity was logged (as null, named under `non_finite`)."""

    @property
    def last(self) -> float | None:
        """The newest value that is a number."""
        return next((value for value in reversed(self.values) if value is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The same prompt answered before and after training."""

    prompt: str
    before: Answer
    after: Answer
    policy: str = ""
    """Who wrote `after`, where several policies are compared with the same one before."""

    @property
    def gain(self) -> float | None:
        """Score after minus score before, in score units."""
        return _difference(self.after.score, self.before.score)

    @property
    def true_gain(self) -> float | None:
        """The same with the known true reward."""
        return _difference(self.after.true_score, self.before.true_score)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One line of the table of results: a number, its interval, and the references it lies between."""

    name: str
    metric: str
    """A declared key, or a phrase."""
    value: float | None
    low: float | None
    high: float | None
    floor: float | None
    ceiling: float | None
    unit: str
    stage: str = ""
    """The pipeline's stage that it comes from."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """Whatever other numbers the row brings, such as J_star."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A level to draw across the curves of a metric."""

    metric: str
    """A declared key; its held-out twin shares the level."""
    label: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """All that the report shows of one run folder."""

    name: str
    folder: Path
    stage: str
    status: Status
    last_step: int | None
    seconds: float | None
    """From the run's start to its last line of metrics."""
    config: Mapping[str, Any]
    config_text: str
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]
    series: Mapping[str, Series]
    first: Iteration | None
    """The oldest kept rollouts that can be read."""
    middle: Iteration | None
    """Those half-way between the other two."""
    last: Iteration | None
    """The newest ones; None where there is only one iteration."""
    samples: tuple[Sample, ...]
    table: tuple[StageRow, ...]
    world: Mapping[str, Any]
    """What is known of a made-up world (world.json)."""
    problems: tuple[str, ...]
    """What couldn't be read, in sentences."""
    references: tuple[Reference, ...] = ()
    """From its own table; in a pipeline, from the whole pipeline's."""
    control: bool = False
    """Trained on permuted labels, or on a stage that was: it must learn nothing, and stands apart from the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineData:
    """A folder of stages. `own` is the folder read as a run: the pipeline's config, provenance and table."""

    own: RunData
    stages: tuple[RunData, ...]

    @property
    def name(self) -> str:
        return self.own.name

    @property
    def table(self) -> tuple[StageRow, ...]:
        """The pipeline's table; while it has none, what the finished stages have put together so far."""
        so_far = [(stage_name(stage.name), row) for stage in self.stages for row in stage.table]
        return self.own.table or tuple(dataclasses.replace(row, stage=name) for name, row in so_far)

    @property
    def status(self) -> Status:
        """Finished once the pipeline's own summary is written; never started while no stage has anything to show."""
        if self.own.status is Status.FINISHED:
            return Status.FINISHED
        started = any(stage.status is not Status.NEVER_STARTED for stage in self.stages)
        return Status.INTERRUPTED if started else self.own.status


def collect(folder: Path) -> RunData | PipelineData:
    """Read one folder. Raises UserError where it isn't a folder, or holds runs without being a pipeline or a run."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Give a run's folder, such as runs/<name>.")
    stages = _stage_folders(folder)
    if stages:
        runs = _with_controls(tuple(map(_collect_run, stages)))
        return _with_references(PipelineData(own=_collect_run(folder), stages=runs))
    if not _looks_like_run(folder):
        _refuse_parent(folder)
    run = _collect_run(folder)
    return dataclasses.replace(run, references=_references_of(run.table))


def stage_name(folder_name: str) -> str:
    """`02-sft` -> `sft`; other names as they are."""
    inside = _STAGE_FOLDER.match(folder_name)
    return inside[2] if inside else folder_name


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings and lists as dotted keys with values in text: {"kl": {"coef": 0.1}} -> {"kl.coef": "0.1"}."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = _plain(value)
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) if value else "[]"
    if value is None or isinstance(value, (bool, dict)):
        return json.dumps(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _with_references(pipeline: PipelineData) -> PipelineData:
    common = _references_of(pipeline.table)
    stages = [
        dataclasses.replace(stage, references=(*common, *_references_of_world(stage, pipeline.stages)))
        for stage in pipeline.stages
    ]
    return dataclasses.replace(pipeline, stages=tuple(stages))


def _with_controls(stages: Sequence[RunData]) -> tuple[RunData, ...]:
    """Stages that train on a control's output are controls too; those that measure it are not."""
    marked: list[RunData] = []
    for stage in stages:
        values = [value.split("/") for value in flatten(stage.config).values()]
        heirs = [other for other in marked if other.control and any(other.name in parts for parts in values)]
        trains = "model" in stage.config
        marked.append(dataclasses.replace(stage, control=stage.control or (trains and bool(heirs))))
    return tuple(marked)


def _references_of(table: Iterable[StageRow]) -> tuple[Reference, ...]:
    """Floors and ceilings of the rows whose metric has a curve, and the optimum J* of PPO's objective."""
    found: dict[Reference, None] = {}
    for row in table:
        curve = terms.curve(row.metric)
        for side, value in (("floor", row.floor), ("ceiling", row.ceiling)):
            if curve and value is not None:
                found[Reference(metric=curve, label=side, value=value)] = None
        for name, label in (("J_ref", "J_ref"), ("J_star", "J*")):
            if name in row.facts:
                found[Reference(metric="ppo/objective_over_responses", label=label, value=row.facts[name])] = None
    return tuple(found)


def _references_of_world(run: RunData, stages: Iterable[RunData]) -> tuple[Reference, ...]:
    """The demonstrator's own loss is the floor of SFT's, for runs that are measured on that world's file."""
    found = []
    for world in stages:
        floor = finite(world.world.get("demonstrator_nll"))
        file = f"{world.name}/held_out_demonstrations.jsonl"
        if floor is not None and any(value.endswith(file) for value in flatten(run.config).values()):
            found.append(Reference(metric="sft/held_out_nll_over_answers", label="the demonstrator's own", value=floor))
    return tuple(found)


def _stage_folders(folder: Path) -> list[Path]:
    found = [child for child in folder.iterdir() if child.is_dir() and _STAGE_FOLDER.match(child.name)]
    return sorted(found, key=lambda child: child.name)


def _looks_like_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (*RUN_FILES, *RUN_FOLDERS))


def _refuse_parent(folder: Path) -> None:
    """A folder without run files may be a run killed at birth, but not where its children are runs."""
    children = sorted(child.name for child in folder.iterdir() if child.is_dir() and _looks_like_run(child))
    if children:
        some = " ".join(str(folder / clean_text(name)) for name in children[:3])
        raise UserError(f"{folder} is no run, but it holds {len(children)} of them. Name those you want: {some}")


def _collect_run(folder: Path) -> RunData:
    problems: list[str] = []
    config_text = read_text(folder / "config.yaml", problems)
    config = read_mapping(folder / "config.yaml", problems)
    provenance = read_mapping(folder / "provenance.json", problems)
    summary = read_mapping(folder / "summary.json", problems)
    lines = read_json_lines(folder / "metrics.jsonl", problems)
    series = _series(lines)
    first, middle, last = first_middle_last(folder, problems)
    samples = tuple(_sample(row) for row in read_json_lines(folder / "samples.jsonl", problems))
    last_step = max((item.steps[-1] for item in series.values() if item.steps), default=None)
    seconds = max((found for line in lines if (found := finite(line.get("time"))) is not None), default=None)
    started = bool(lines or first or samples or (folder / "checkpoints").is_dir())
    return RunData(
        name=clean_text(folder.resolve().name),
        folder=folder,
        stage=_stage(folder, config, provenance, series),
        status=_status(folder, started),
        last_step=last_step,
        seconds=seconds,
        config=config,
        config_text=config_text,
        provenance=provenance,
        summary=summary,
        series=series,
        first=first,
        middle=middle,
        last=last,
        samples=samples,
        table=_table(summary),
        world=read_mapping(folder / "world.json", problems),
        control=config.get("shuffle_labels") is True,
        problems=(*problems, *_not_finite_problems(series)),
    )


def _status(folder: Path, started: bool) -> Status:
    if (folder / "summary.json").is_file():  # written whole, as the run's last act
        return Status.FINISHED
    return Status.INTERRUPTED if started else Status.NEVER_STARTED


def _stage(folder: Path, config: Mapping[str, Any], provenance: Mapping[str, Any], series: Iterable[str]) -> str:
    """What the run says of itself, else its folder's name in a pipeline, else the prefix of most of its metrics."""
    for said in (provenance.get("stage"), config.get("stage")):
        if isinstance(said, str) and said:
            return said
    if _STAGE_FOLDER.match(folder.name):
        return stage_name(clean_text(folder.name))
    prefixes = Counter(key.split("/")[0] for key in series if "/" in key)
    return prefixes.most_common(1)[0][0] if prefixes else "run"


def _series(lines: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Columns from lines. A step logged twice (a resumed run) counts once, the later line winning key by key."""
    columns: dict[str, dict[int, tuple[float | None, float | None]]] = {}
    for line in lines:
        step = finite(line.get("step"))
        if step is None:
            continue
        seconds = finite(line.get("time"))
        strange = line.get("non_finite")
        strange = strange if isinstance(strange, dict) else {}
        for key, value in line.items():
            if key not in NOT_METRICS and (value is None or number(value) is not None):
                logged = math.nan if value is None and key in strange else number(value)
                columns.setdefault(key, {})[int(step)] = (logged, seconds)
    return {key: _one_series(column) for key, column in columns.items()}


def _one_series(column: Mapping[int, tuple[float | None, float | None]]) -> Series:
    steps = tuple(sorted(column))
    logged = [column[step][0] for step in steps]
    return Series(
        steps=steps,
        values=tuple(finite(value) for value in logged),
        seconds=tuple(column[step][1] for step in steps),
        not_finite=tuple(s for s, v in zip(steps, logged, strict=True) if v is not None and not math.isfinite(v)),
    )


def _not_finite_problems(series: Mapping[str, Series]) -> list[str]:
    return [
        f"{key} was NaN or infinite at {len(item.not_finite)} of {len(item.steps)} steps, first at {item.not_finite[0]}"
        for key, item in series.items()
        if item.not_finite
    ]


def _sample(row: Mapping[str, Any]) -> Sample:
    before, after = _side(row, "before"), _side(row, "after")
    return Sample(prompt=words(row.get("prompt")), before=before, after=after, policy=words(row.get("policy")))


def _side(row: Mapping[str, Any], side: str) -> Answer:
    kl = row.get(f"kl_{side}", row.get("kl") if side == "after" else None)
    length = finite(row.get(f"length_{side}"))
    return Answer(
        text=words(row.get(side)),
        score=finite(row.get(f"score_{side}")),
        true_score=finite(row.get(f"true_{side}")),
        kl=finite(kl),
        length=None if length is None else int(length),
        finish_reason=words(row.get(f"finish_reason_{side}", row.get(f"finish_{side}"))),
    )


def _table(summary: Mapping[str, Any]) -> tuple[StageRow, ...]:
    rows = summary.get("stages")
    if not isinstance(rows, list):
        return ()
    return tuple(_row(row) for row in rows if isinstance(row, dict))


def _row(row: Mapping[str, Any]) -> StageRow:
    numbers = {key: found for key, value in row.items() if (found := finite(value)) is not None}
    return StageRow(
        **{key: clean_text(row.get(key)) for key in ("name", "metric", "unit", "stage")},
        **{key: numbers.pop(key, None) for key in ("value", "low", "high", "floor", "ceiling")},
        facts=numbers,
    )
