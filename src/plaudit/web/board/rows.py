"""A line of the board's list for each run: how it is, how far it is, and what it has come to."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.report.collect import PipelineData, RunData, RunStatus, flatten, pipeline_of
from plaudit.report.columns import Series
from plaudit.report.heads import Head, head
from plaudit.report.measures import arrange, measure, shown
from plaudit.report.reading import clean_text
from plaudit.stages import RUNS
from plaudit.telemetry.health import HEALTHY
from plaudit.telemetry.numbers import duration
from plaudit.telemetry.status import State, Status
from plaudit.web.board.shelf import ShelfItem
from plaudit.web.templates import dictionary

WIDE, HIGH = 120.0, 28.0
"""The drawing of a curve in the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Whether something works on a run, and what became of it."""

    kind: str
    """Its colour: finished, running, dead, failed, stopped, new."""
    state: str
    """What it is called: `life_…` in words.json."""
    why: str = ""
    """`why_…` there, to be filled in by `facts`."""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    title: str
    now: str
    points: str
    """Of an SVG's polyline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    id: str
    name: str
    stage: str
    inside: bool
    """Whether it is a stage of the pipeline above."""
    life: Life
    step: int | None
    of: int
    to_go: str
    sentences: tuple[str, ...]
    health: tuple[str, str] | None
    """(level, text) of the worst that is not over, `healthy` where nothing is; None: not known yet."""
    warnings: int
    spark: Spark | None
    command: str
    """What may come next."""
    problem: str = ""

    @property
    def share(self) -> float | None:
        return min(1.0, (self.step or 0) / self.of) if self.of else None


def rows(items: Sequence[ShelfItem], words: str, now: float) -> Iterator[Row]:
    """Those that have all of the `words` in their name, status or configuration (`kl.coef=0.1`)."""
    wanted = words.casefold().split()
    for item in items:
        try:
            data = sketch(item)
        except UserError as error:
            yield _broken(item, error)
            continue
        own = data.own if isinstance(data, PipelineData) else data
        stages = data.stages if isinstance(data, PipelineData) else ()
        lines = [_row(item, data, own, now, inside=False)]
        lines += [
            _row(stage, run, run, now, inside=True)
            for stage, run in zip(item.stages, stages, strict=True)
        ]  # fmt: skip
        if any(_has(line, run, wanted) for line, run in zip(lines, (own, *stages), strict=True)):
            yield from lines


def sketch(item: ShelfItem) -> RunData | PipelineData:
    """By a few lines of each log. Raises: UserError where another version of plaudit wrote a summary."""
    own = item.live.sketch()
    return pipeline_of(own, [stage.live.sketch() for stage in item.stages]) if item.stages else own


def life(status: RunStatus, process: Status | None, now: float) -> Life:
    """In words, by status.json: of an interrupted run whether it was stopped, failed, or died without a word."""
    match status:
        case RunStatus.FINISHED:
            return Life(kind="finished", state="finished")
        case RunStatus.RUNNING:
            facts = {"pid": process.pid} if process else {}
            return Life(kind="running", state="running", why="process" if process else "", facts=facts)
        case RunStatus.NEVER_STARTED:
            return Life(kind="new", state="never_started")
        case RunStatus.INTERRUPTED:
            return _interrupted(process, now)


def _interrupted(process: Status | None, now: float) -> Life:
    if process is None:
        return Life(kind="dead", state="interrupted")
    if process.state is State.STOPPED:
        return Life(kind="stopped", state="stopped", why="signal")
    if process.state is State.FAILED:
        return Life(kind="failed", state="failed", why="error")
    ago = duration(max(0.0, now - process.heartbeat))
    if process.host == socket.gethostname():
        return Life(kind="dead", state="dead", why="gone", facts={"pid": process.pid, "ago": ago})
    return Life(kind="dead", state="silent", why="silent", facts={"host": clean_text(process.host), "ago": ago})


def _row(item: ShelfItem, data: RunData | PipelineData, own: RunData, now: float, *, inside: bool) -> Row:
    top, process = head(data), item.live.status
    status = life(data.status, process, now)
    step = own.last_step if own.last_step is not None else process.step if process and process.of else None
    of = process.of if process else 0
    running = status.kind == "running"
    stages = data.stages if isinstance(data, PipelineData) else (data,)
    return Row(
        id=item.id,
        name=own.name if inside else item.id,
        stage=RUNS[own.stage].title if own.stage in RUNS else own.stage,
        inside=inside,
        life=status,
        step=step,
        of=of,
        to_go=_to_go(own, step or 0, of) if running else "",
        sentences=top.sentences,
        health=_health(top),
        warnings=sum(len(run.warnings) for run in stages),
        spark=_spark(own),
        command=_command(item.folder, own, status),
    )


def _health(top: Head) -> tuple[str, str] | None:
    if top.health:
        level, text = top.health[0]
        return level.value, text
    return (HEALTHY, "") if top.facts.get("Health") else None


def _to_go(run: RunData, step: int, of: int) -> str:
    """By the pace of the second half so far."""
    known = next((series for series in run.series.values() if len(series.steps) > 1), None)
    if known is None or of <= step:
        return ""
    middle = len(known.steps) // 2 if len(known.steps) > 3 else 0
    (begin, then), (end, now) = ((known.steps[at], known.seconds[at]) for at in (middle, -1))
    return duration((now - then) / (end - begin) * (of - step)) if now and then is not None else ""


def _command(folder: Path, run: RunData, status: Life) -> str:
    if status.kind in ("dead", "failed", "stopped"):
        return f"plaudit resume {folder}"
    following = run.summary.get("next")
    return following.replace("RUN", str(folder)) if isinstance(following, str) else ""


def _spark(run: RunData) -> Spark | None:
    """The first curve that has a better end, else the first."""
    keys = [key for panel, keys in arrange(run.series) if not panel.folded for key in keys]
    key = next((key for key in keys if measure(key).better), keys[0] if keys else "")
    if not key or len(run.series[key].known) < 2:
        return None
    about = measure(key)
    return Spark(title=about.title, now=shown(run.series[key].last, about.unit, 3), points=_polyline(run.series[key]))


def _polyline(series: Series) -> str:
    known = series.known
    (first, _), (last, _) = known[0], known[-1]
    low, high = min(y for _, y in known), max(y for _, y in known)
    wide, high_by = max(last - first, 1), (high - low) or 1.0
    return " ".join(
        f"{(x - first) / wide * WIDE:.1f},{HIGH - 2 - (y - low) / high_by * (HIGH - 4):.1f}" for x, y in known
    )


def _has(row: Row, run: RunData, wanted: Sequence[str]) -> bool:
    if not wanted:
        return True
    options = " ".join(f"{key}={value}" for key, value in flatten(run.config).items())
    states = " ".join(dictionary()[f"life_{row.life.state}"].values())
    text = f"{row.id} {row.stage} {states} {options}".casefold()
    return all(word in text for word in wanted)


def _broken(item: ShelfItem, error: UserError) -> Row:
    return Row(
        id=item.id, name=item.id, stage="", inside=False, life=Life(kind="new", state="unreadable"), step=None, of=0,
        to_go="", sentences=(), health=None, warnings=0, spark=None, command="", problem=str(error),
    )  # fmt: skip
