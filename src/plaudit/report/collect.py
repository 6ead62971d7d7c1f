"""A run folder, or a pipeline's folder of run folders, as frozen records. Works on a run that was killed half-way."""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.report.columns import Columns, Series
from plaudit.report.reading import clean_text, finite, read_json_lines, read_mapping, read_text, whole
from plaudit.report.rollouts import Answer, Iteration, first_middle_last, words
from plaudit.runs.lineage import stage_folders, stage_name
from plaudit.runs.records import PEOPLE, SAMPLES
from plaudit.telemetry.events import read_events
from plaudit.telemetry.health import Symptom, diagnose, is_watched
from plaudit.telemetry.status import is_alive
from plaudit.telemetry.summary import check_format

RUN_FILES = ("config.yaml", "provenance.json", "metrics.jsonl", "summary.json", SAMPLES)
RUN_FOLDERS = ("checkpoints", "rollouts", "model")


class RunStatus(StrEnum):
    """How far a run came. One on a machine that gives no sign any more counts as interrupted."""

    FINISHED = "finished"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    NEVER_STARTED = "never started"


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
        before, after = self.before.score, self.after.score
        return None if after is None or before is None else after - before


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    name: str
    folder: Path
    stage: str
    status: RunStatus
    last_step: int | None
    seconds: float | None
    """From the run's start to its last line of metrics."""
    config: Mapping[str, Any]
    config_text: str
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]
    series: Mapping[str, Series]
    """By the measure's key, without the stage that metrics.jsonl puts before it."""
    first: Iteration | None
    """The oldest kept rollouts that can be read."""
    middle: Iteration | None
    last: Iteration | None
    """The newest ones; None where there is only one iteration."""
    samples: tuple[Sample, ...]
    results: tuple[Result, ...]
    """Its own, and what people said of its samples afterwards."""
    people: tuple[Result, ...]
    """These alone."""
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    health: tuple[Symptom, ...] | None = None
    """What the rules find in what it logged and found; None: it has logged nothing, or its stage has no rules."""
    control: bool = False
    """Trained on permuted labels, or on a stage that was: it must learn nothing, and stands apart from the others."""

    @property
    def command(self) -> str:
        """What it was started by, as a shell takes it."""
        words = self.provenance.get("command")
        return shlex.join(map(str, words)) if isinstance(words, list) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineData:
    """A folder of stages. `own` is the folder read as a run: the pipeline's config, provenance and results."""

    own: RunData
    stages: tuple[RunData, ...]

    @property
    def name(self) -> str:
        return self.own.name

    @property
    def results(self) -> tuple[Result, ...]:
        """The pipeline's own list and what people said afterwards; while it has none, that of the finished stages."""
        every = [(run, r) for run in self.stages for r in (run.people if self.own.results else run.results)]
        left = tuple(dataclasses.replace(r, stage=stage_name(run.name)) for run, r in every)
        return with_people(self.own.results, left) if self.own.results else left

    @property
    def status(self) -> RunStatus:
        """Finished once the pipeline's own summary is written; never started while no stage has anything to show."""
        if self.own.status is RunStatus.FINISHED:
            return RunStatus.FINISHED
        statuses = {self.own.status, *(stage.status for stage in self.stages)}
        if RunStatus.RUNNING in statuses:
            return RunStatus.RUNNING
        return RunStatus.INTERRUPTED if statuses != {RunStatus.NEVER_STARTED} else self.own.status


def collect(folder: Path) -> RunData | PipelineData:
    """Read one folder.

    Raises: UserError where it isn't a folder, holds runs without being a pipeline or a run, or was written by a version
    whose summaries have another format.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Give a run's folder, such as runs/<name>.")
    if stages := stage_folders(folder):
        return pipeline_of(_collect_run(folder), [*map(_collect_run, stages)])
    if not looks_like_run(folder):
        children = sorted(child.name for child in folder.iterdir() if child.is_dir() and looks_like_run(child))
        some = " ".join(str(folder / clean_text(name)) for name in children[:3])
        advice = f"but it holds {len(children)} of them. Name those you want: {some}"
        raise UserError(f"{folder} is no run" + (f", {advice}" if children else ": no run has begun in it."))
    return _collect_run(folder)


def with_people(results: Sequence[Result], people: Sequence[Result]) -> tuple[Result, ...]:
    """What people said stands behind the win rates by the judge, if there are any."""
    won = [index for index, result in enumerate(results, start=1) if result.measure == "win_rate_over_prompts"]
    end = max(won, default=len(results))
    return *results[:end], *people, *results[end:]


def pipeline_of(own: RunData, stages: Sequence[RunData]) -> PipelineData:
    return PipelineData(own=own, stages=_with_controls(stages))


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings and lists as dotted keys with values in text: {"kl": {"coef": 0.1}} -> {"kl.coef": "0.1"}."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": _plain(value)}
    return flat


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) if value else "[]"
    if value is None or isinstance(value, (bool, dict)):
        return json.dumps(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _with_controls(stages: Sequence[RunData]) -> tuple[RunData, ...]:
    """Stages that train on a control's output are controls too; those that measure it are not."""
    marked: list[RunData] = []
    for stage in stages:
        values = [value.split("/") for value in flatten(stage.config).values()]
        heirs = [other for other in marked if other.control and any(other.name in parts for parts in values)]
        trains = "model" in stage.config
        marked.append(dataclasses.replace(stage, control=stage.control or (trains and bool(heirs))))
    return tuple(marked)


def looks_like_run(folder: Path) -> bool:
    """Whether a run has begun in it. An empty file is what a start that failed has left."""
    has_file = any((path := folder / name).is_file() and path.stat().st_size for name in RUN_FILES)
    return has_file or any((folder / name).is_dir() for name in RUN_FOLDERS)


def _collect_run(folder: Path) -> RunData:
    problems: list[str] = []
    facts = read_facts(folder, problems)
    lines = read_json_lines(folder / "metrics.jsonl", problems)
    columns = Columns()
    columns.add(lines)
    answers = read_answers(folder, problems)
    health = _health(facts.stage, facts.config, lines, facts.results, problems)
    warnings = tuple(clean_text(e.get("message")) for e in read_events(folder) if e.get("level") == "warning")
    return assemble(facts, columns.series(), answers, health, warnings, problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a run's small files say of it."""

    folder: Path
    stage: str
    config: Mapping[str, Any]
    config_text: str
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]
    results: tuple[Result, ...]
    people: tuple[Result, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What models wrote in a run: kept rollouts, and samples of before and after."""

    first: Iteration | None = None
    middle: Iteration | None = None
    last: Iteration | None = None
    samples: tuple[Sample, ...] = ()


def read_facts(folder: Path, problems: list[str]) -> Facts:
    """Raises: UserError where a summary was written by a version whose summaries have another format."""
    config_text = read_text(folder / "config.yaml", problems)
    config = read_mapping(folder / "config.yaml", problems)
    provenance = read_mapping(folder / "provenance.json", problems)
    summary = read_mapping(folder / "summary.json", problems)
    check_format(summary, folder / "summary.json")
    people = _results(read_mapping(folder / PEOPLE, problems), problems, PEOPLE)
    return Facts(
        folder=folder,
        stage=_stage(folder, config, provenance),
        config=config,
        config_text=config_text,
        provenance=provenance,
        summary=summary,
        results=with_people(_results(summary, problems), people),
        people=people,
    )


def read_answers(folder: Path, problems: list[str]) -> Answers:
    first, middle, last = first_middle_last(folder, problems)
    samples = tuple(_sample(row) for row in read_json_lines(folder / SAMPLES, problems))
    return Answers(first=first, middle=middle, last=last, samples=samples)


def assemble(
    facts: Facts,
    series: Mapping[str, Series],
    answers: Answers,
    health: tuple[Symptom, ...] | None,
    warnings: tuple[str, ...],
    problems: Sequence[str],
) -> RunData:
    """A run's record from what was read of it: all at once by the report, piece by piece by the board."""
    folder = facts.folder
    started = bool(series or answers.first or answers.samples or (folder / "checkpoints").is_dir())
    seconds = (time for item in series.values() for time in item.seconds if time is not None)
    strange = [
        f"{key} was NaN or infinite at {len(item.not_finite)} of {len(item.steps)} steps, first at {item.not_finite[0]}"
        for key, item in series.items()
        if item.not_finite
    ]
    return RunData(
        name=clean_text(folder.resolve().name),
        folder=folder,
        stage=facts.stage,
        status=_status(folder, started),
        last_step=max((item.steps[-1] for item in series.values() if item.steps), default=None),
        seconds=max(seconds, default=None),
        config=facts.config,
        config_text=facts.config_text,
        provenance=facts.provenance,
        summary=facts.summary,
        series={key.partition("/")[2] or key: item for key, item in series.items()},
        first=answers.first,
        middle=answers.middle,
        last=answers.last,
        samples=answers.samples,
        results=facts.results,
        people=facts.people,
        health=health,
        control=facts.config.get("shuffle_labels") is True,
        warnings=warnings,
        problems=(*problems, *strange),
    )


def _health(
    stage: str,
    config: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    results: Sequence[Result],
    problems: list[str],
) -> tuple[Symptom, ...] | None:
    if not is_watched(stage) or not (lines or results):
        return None
    try:
        return tuple(diagnose(stage, config, lines, results).findings.values())
    except (TypeError, ValueError, AttributeError) as error:
        problems.append(f"its health can't be judged: config.yaml holds what no run has ({clean_text(error)})")
        return None


def _status(folder: Path, started: bool) -> RunStatus:
    if (folder / "summary.json").is_file():  # written whole, as the run's last act
        return RunStatus.FINISHED
    if is_alive(folder):
        return RunStatus.RUNNING
    return RunStatus.INTERRUPTED if started else RunStatus.NEVER_STARTED


def _stage(folder: Path, config: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """What the run says of itself, else its folder's name in a pipeline."""
    for name in (provenance.get("stage"), config.get("stage")):
        if isinstance(name, str) and name:
            return name
    name = clean_text(folder.name)
    return "run" if stage_name(name) == name else stage_name(name)


def _sample(row: Mapping[str, Any]) -> Sample:
    def side(which: str) -> Answer:
        score, length, finish = (row.get(f"{what}_{which}") for what in ("score", "length", "finish"))
        answer = Answer(text=words(row.get(which)), score=finite(score), length=whole(length))
        return dataclasses.replace(answer, finish_reason=words(finish))

    after = dataclasses.replace(side("after"), kl=finite(row.get("kl")))
    return Sample(prompt=words(row.get("prompt")), before=side("before"), after=after, policy=words(row.get("policy")))


def _results(summary: Mapping[str, Any], problems: list[str], name: str = "summary.json") -> tuple[Result, ...]:
    rows = summary.get("results")
    rows = rows if isinstance(rows, list) else []
    read = [_result(row) for row in rows]
    if None in read:
        problems.append(f"{name}: {read.count(None)} of {len(read)} results can't be read; left out")
    return tuple(result for result in read if result is not None)


def _result(row: Any) -> Result | None:
    """None where what makes a result is missing; a damaged number beside it is left out."""
    if not isinstance(row, dict) or not isinstance(row.get("measure"), str) or finite(row.get("value")) is None:
        return None
    facts, role = row.get("facts"), row.get("role")
    facts = facts if isinstance(facts, dict) else {}
    return Result.from_plain(
        {name: clean_text(row.get(name)) for name in ("measure", "subject", "against", "part", "stage")}
        | {name: finite(row.get(name)) for name in ("value", "low", "high", "floor", "ceiling")}
        | {name: whole(row.get(name)) for name in ("count", "ties")}
        | {"role": role if role in ("floor", "people") else ""}
        | {"facts": {name: x for name, value in facts.items() if (x := finite(value)) is not None}}
    )
