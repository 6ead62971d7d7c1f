"""A run folder that is looked at again and again while it grows: the same records as `collect`'s, for the board.

The log is read on from where it was read to. Until all of it is known, a few lines at even distances stand for it, so
that fifty long runs open at once; then every curve has its extremes and the mean over all of its points.
"""

import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.report.clocks import LENGTH
from plaudit.report.collect import Answers, Facts, RunData, assemble, read_answers, read_facts
from plaudit.report.columns import Column, Columns, Series
from plaudit.report.curves import moving_mean, smoothing_width
from plaudit.report.reading import clean_text, finite, whole
from plaudit.report.tail import Tail, sampled
from plaudit.runs.records import PEOPLE, SAMPLES
from plaudit.telemetry.events import NAME as EVENTS
from plaudit.telemetry.health import Level, Monitor, Symptom, is_watched
from plaudit.telemetry.status import Status, is_alive, read_status

FILES = ("config.yaml", "provenance.json", "summary.json", PEOPLE, "metrics.jsonl", EVENTS, SAMPLES)
SKETCHED = 48
"""Lines that stand for a log which wasn't read yet, in the list of runs."""
KEPT_EVENTS = 200

Stamp = tuple[Any, ...]
"""What is another one when anything in the folder has changed."""


class LiveRun:
    """One run folder. Not to be used by two threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[Mapping[str, Any]] = []
        """The newest ones, in order."""
        self._event_tail = Tail(folder / EVENTS)
        self._warnings: dict[str, int] = {}
        self._stamps: dict[str, Stamp] = {}
        self._problems: list[str] = []
        self._facts: Facts | None = None
        self._answers = Answers()
        self._answer_problems: list[str] = []
        self._sketches: dict[int, tuple[Stamp, dict[str, Series]]] = {}
        self._begin()

    def _begin(self) -> None:
        self._metrics = Tail(self.folder / "metrics.jsonl")
        self._columns = Columns()
        self._monitor: Monitor | None = None

    # ---- what is new

    @property
    def stamp(self) -> Stamp:
        """Compared with an earlier one: whether anything is new."""
        status = read_status(self.folder)
        working = status and (status.state, status.step, status.of, is_alive(self.folder))
        return (*(_stamp(self.folder / name) for name in FILES), _stamp(self.folder / "rollouts"), working)

    @property
    def whole(self) -> bool:
        """Whether all of the log was read."""
        return self._metrics.at_end

    @property
    def share(self) -> float:
        """Of the log, that was read."""
        return self._metrics.share

    @property
    def status(self) -> Status | None:
        return read_status(self.folder)

    def advance(self, seconds: float) -> None:
        """Read on in the log for about so long."""
        self._read_facts()
        end = time.monotonic() + seconds
        while True:
            monitor = self._watching()
            lines, anew = self._metrics.read()
            if anew:
                self._columns, monitor = Columns(), self._watching(anew=True)
            self._columns.add(lines)
            if monitor:
                for line in lines:
                    monitor.read(line)
            if self._metrics.at_end or time.monotonic() > end:
                return

    def _watching(self, *, anew: bool = False) -> Monitor | None:
        """The rules of health, where the run doesn't say itself how well it ended."""
        facts = self._read_facts()
        if not is_watched(facts.stage) or isinstance(facts.summary.get("health"), dict):
            return None
        if self._monitor is None or anew:
            if self._columns.steps:  # it was finished and is extended now: the rules begin with its first line
                self._begin()
            self._monitor = Monitor(facts.stage, facts.config)
        return self._monitor

    # ---- what there is

    def sketch(self, lines: int = SKETCHED, *, answers: bool = False) -> RunData:
        """The run by a few lines of its log."""
        facts, stamp = self._read_facts(), _stamp(self.folder / "metrics.jsonl")
        if lines not in self._sketches or self._sketches[lines][0] != stamp:
            columns = Columns()
            columns.add(sampled(self.folder / "metrics.jsonl", lines))
            self._sketches[lines] = stamp, columns.series()
        return self._assemble(facts, self._sketches[lines][1], self._read_answers() if answers else Answers())

    def read(self, points: int, *, answers: bool = True) -> RunData:
        """The run by all that was read of its log, at most about `points` of each curve; with its `answers`."""
        facts = self._read_facts()
        health = self._health(facts) or ()
        series = thinned(self._columns, points, {one.since for one in health if one.since is not None})
        return self._assemble(facts, series, self._read_answers() if answers else Answers())

    def _assemble(self, facts: Facts, series: Mapping[str, Series], answers: Answers) -> RunData:
        self._read_events()
        bad = self._metrics.bad
        broken = [f"metrics.jsonl: {bad} lines can't be read; left out"] if bad and self.whole else []
        problems = [*self._problems, *broken, *(self._answer_problems if answers.first or answers.samples else ())]
        warnings = tuple(text for text, count in self._warnings.items() for _ in range(count))
        return assemble(facts, series, answers, self._health(facts), warnings, problems)

    def _health(self, facts: Facts) -> tuple[Symptom, ...] | None:
        """As its summary says; else by the rules, once all of the log was seen."""
        stated = facts.summary.get("health")
        if isinstance(stated, dict):
            rows = stated.get("findings")
            return tuple(filter(None, map(_symptom, rows if isinstance(rows, list) else ())))
        if self._monitor is None or not self.whole or not (self._columns.steps or facts.results):
            return None
        if facts.results:
            self._monitor.conclude(facts.results)
        return tuple(self._monitor.findings.values())

    def _read_facts(self) -> Facts:
        stamp = tuple(_stamp(self.folder / name) for name in FILES[:4])
        if self._facts is None or self._stamps.get("facts") != stamp:
            before = self._facts
            self._problems = []
            self._facts, self._stamps["facts"] = read_facts(self.folder, self._problems), stamp
            if before and (before.stage, before.config) != (self._facts.stage, self._facts.config):
                self._begin()
        return self._facts

    def _read_answers(self) -> Answers:
        stamp = _stamp(self.folder / "rollouts"), _stamp(self.folder / "samples.jsonl")
        if self._stamps.get("answers") != stamp:
            self._answer_problems = []
            self._answers = read_answers(self.folder, self._answer_problems)
            self._stamps["answers"] = stamp
        return self._answers

    def _read_events(self) -> None:
        while True:
            lines, anew = self._event_tail.read()
            if anew:
                self.events.clear()
                self._warnings.clear()
            for event in lines:
                if event.get("level") == "warning":
                    message = clean_text(event.get("message"))
                    self._warnings[message] = self._warnings.get(message, 0) + 1
            self.events = [*self.events, *lines][-KEPT_EVENTS:]
            if self._event_tail.at_end:
                return


def thinned(columns: Columns, points: int, steps: Collection[int]) -> dict[str, Series]:
    """Every metric; of a long one its ends, the lowest and the highest of every stretch, and what stands at `steps`."""
    return {
        key: _thinned(columns, column, points if LENGTH not in key else len(column.rows), steps)
        for key, column in columns.by_key.items()
    }


def _thinned(columns: Columns, column: Column, points: int, steps: Collection[int]) -> Series:
    order = columns.rows_by_step(column)
    rows, values = (np.array(each)[order] for each in (column.rows, column.values))
    finite_values = np.where(np.isfinite(values), values, math.nan)
    keep = _extremes(finite_values, points)
    known_steps = [columns.steps[row] for row in rows]
    if len(keep) < len(rows) and steps:
        keep = sorted({*keep, *(index for index, step in enumerate(known_steps) if step in steps)})
    series = Series(
        steps=tuple(known_steps[index] for index in keep),
        values=tuple(_or_none(finite_values[keep])),
        seconds=tuple(columns.seconds[rows[index]] for index in keep),
        not_finite=tuple(known_steps[index] for index in np.flatnonzero(np.isinf(values))),
    )
    if len(keep) == len(rows):
        return series
    width = smoothing_width(len(rows))
    means = tuple(_or_none(moving_mean(finite_values, width)[keep])) if width else ()
    left_out = int(np.isfinite(values).sum()) - len(series.known)
    return replace(series, means=means, width=width, left_out=left_out)


def _extremes(values: np.ndarray, points: int) -> list[int]:
    """As `figures.thin` keeps them, of equally long stretches."""
    inner = len(values) - 2
    stretches = max(1, (points - 2) // 2)
    if len(values) <= points or inner < 1:
        return list(range(len(values)))
    size = -(-inner // stretches)
    padded = np.full(size * (-(-inner // size)), math.nan)
    padded[:inner] = values[1:-1]
    table = padded.reshape(-1, size)
    begin = 1 + size * np.arange(len(table))
    gaps = np.isnan(table)
    lows = begin + np.where(gaps, math.inf, table).argmin(1)
    highs = begin + np.where(gaps, -math.inf, table).argmax(1)
    return sorted({0, len(values) - 1, *lows.tolist(), *highs.tolist()})


def _or_none(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _stamp(path: Path) -> Stamp:
    try:
        known = os.stat(path)
    except OSError:
        return ()
    return known.st_mtime_ns, known.st_size, known.st_ino


def _symptom(row: Any) -> Symptom | None:
    """A finding as summary.json has it; None for what is none."""
    if not isinstance(row, dict) or row.get("level") not in list(Level):
        return None
    texts: dict[str, str] = {name: clean_text(row.get(name)) for name in ("rule", "key", "says", "do")}
    since, until = whole(row.get("since")), whole(row.get("until"))
    value = finite(row.get("value"))
    return Symptom(level=Level(row["level"]), since=since, until=until, value=value or 0.0, **texts)
