"""A run: what trainers and evaluations write through, into a folder or into memory.

<name>/ config.yaml  provenance.json  status.json  events.jsonl  metrics.jsonl  rollouts/000012.jsonl.gz
        checkpoints/000012/  model/  summary.json  report.html
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from plaudit.config.explain import dump_yaml
from plaudit.config.types import to_plain
from plaudit.errors import StopRequested, UserError
from plaudit.files import atomic_write, free_bytes, make_folder, remove_leftovers, write_json
from plaudit.records.results import Result
from plaudit.runs import card, checkpoints
from plaudit.runs.lock import LOCK, PID, FolderLock
from plaudit.runs.outcome import outcome
from plaudit.runs.provenance import changed_versions, provenance
from plaudit.runs.ranks import Alone, RunRanks
from plaudit.runs.records import CONFIG, PROVENANCE, FolderRecords, MemoryRecords, NoRecords, RunFiles
from plaudit.runs.signals import StopSignals
from plaudit.telemetry import events, log, status
from plaudit.telemetry.console import LOGGER, say, warn
from plaudit.telemetry.health import HEALTHY, Level, Monitor, diagnose, is_watched, tell, verdict, worst
from plaudit.telemetry.progress import Progress
from plaudit.telemetry.sinks import Sink, open_sink
from plaudit.telemetry.status import Heart, State

_AT_BIRTH = (CONFIG, PROVENANCE, status.NAME, events.NAME, log.NAME, LOCK, PID)
"""Files of a run that has not begun to work."""


class Run:
    """One run. Use as a context manager: it then listens for stop signals, keeps what is said, and shows that it lives.

    with Run.create(folder, "ppo", config) as run:
        for step in ...:
            run.log(step, {...})
            with run.checkpoint(step) as folder: ...
            run.check_stop()
        run.finish({...})
    """

    def __init__(
        self, files: RunFiles | MemoryRecords, records: FolderRecords | NoRecords | MemoryRecords, *, stage: str,
        ranks: RunRanks, lock: FolderLock | None = None, change: bool = False, is_new: bool = False,
    ) -> None:  # fmt: skip
        self.files = files
        """What is known about the run: config, provenance, summary, metrics, rollouts, events."""
        self.stage = stage
        """What kind of run it is: sft, reward, ppo, pipeline, ..."""
        self.ranks = ranks
        self.change = change
        """Whether it may go on with other data than it began with."""
        self.signals = StopSignals()
        self._records, self._lock, self._is_new = records, lock, is_new
        self.sinks: list[Sink] = []
        """Who is told of every line of metrics."""
        self._health: Monitor | None = None
        self._first: dict[str, float] = {}
        self._heart: Heart | None = None
        self._open = contextlib.ExitStack()
        self._events = events.EventLog(records.keep_event)

    # ---- opening and closing

    @classmethod
    def create(
        cls, folder: Path | str, stage: str, config: Any, *, keep: int = 2, ranks: RunRanks | None = None
    ) -> Run:
        """A new run. `config` is a config dataclass or a plain dict.

        `keep` is the number of checkpoints that stay. Of several `ranks` the first writes, the others follow. UserError
        when the folder can't be written to, is in use, or already holds a run.
        """
        if keep < 1:
            raise UserError(f"keep is {keep}; at least one checkpoint must stay")
        folder, ranks = Path(folder), ranks or Alone()
        lock = ranks.first(lambda: _begin(folder, stage, config))
        return cls._locked(folder, lock, keep, stage=stage, ranks=ranks, is_new=lock is not None)

    @classmethod
    def open(cls, folder: Path | str, *, keep: int = 2, change: bool = False, ranks: RunRanks | None = None) -> Run:
        """An existing run, to go on with it. UserError when there is none, or when another process has it.

        `change`: the user allows that it goes on with other data than it began with.
        """
        folder, ranks = Path(folder), ranks or Alone()
        lock = ranks.first(lambda: _go_on(folder))
        facts = RunFiles(folder).provenance
        if lock is not None and (changed := changed_versions(facts.get("versions", {}))):
            warn(
                f"{folder} was begun with other versions ({', '.join(changed)}): the last digits may come out otherwise"
            )
        stage = str(facts.get("stage", ""))
        return cls._locked(folder, lock, keep, stage=stage, ranks=ranks, change=change)

    @classmethod
    def memory(cls, stage: str, config: Any) -> Run:
        """A new run without a folder: all records in memory, no checkpoints."""
        plain = dict(config) if isinstance(config, Mapping) else to_plain(config)
        records = MemoryRecords(stage, plain)
        return cls(records, records, stage=stage, ranks=Alone())

    @classmethod
    def _locked(cls, folder: Path, lock: FolderLock | None, keep: int, **facts: Any) -> Run:
        try:
            records = NoRecords() if lock is None else FolderRecords(folder, keep=keep)
            return cls(RunFiles(folder), records, lock=lock, **facts)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @staticmethod
    def exists(folder: Path | str) -> bool:
        """Whether the folder holds a run."""
        return (Path(folder) / CONFIG).is_file()

    def close(self) -> None:
        """Close the log and give the folder free. Harmless when repeated."""
        self._records.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Run:
        self._open.enter_context(self.signals)
        LOGGER.addHandler(self._events)
        self._open.callback(LOGGER.removeHandler, self._events)
        if self._lock is not None:
            self._heart = Heart(self.folder, self.stage)
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        try:
            # Nobody leaves before the first has written: the launcher would take it for a failure and end the others.
            if isinstance(error, StopRequested):
                with contextlib.suppress(UserError):
                    self.ranks.wait()
            elif error is None:
                self.ranks.wait()
        finally:
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        if isinstance(error, StopRequested) and self._health and worst(symptoms := [*self._health.findings.values()]):
            warn(verdict(symptoms))
        self._open.close()
        if self._heart is not None:
            self._heart.stop(_state(error, finished=self.finished))
        if isinstance(error, UserError) and self._is_new and self._is_untouched():
            for name in _AT_BIRTH:  # the same command can be given again once the mistake is put right
                (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # files of the user's are in it
                self.folder.rmdir()
        self.close()

    def _is_untouched(self) -> bool:
        """Whether nothing was made yet: no metrics, no checkpoint, no result, no stage."""
        has_left = self.metrics_lines or self.finished or self.files.has_checkpoints
        return not has_left and not any(Run.exists(path) for path in self.folder.iterdir())

    # ---- what is known about it

    @property
    def folder(self) -> Path:
        """UserError for a run in memory."""
        if isinstance(self.files, MemoryRecords):
            raise UserError(f"{self.stage}: this run is in memory; give it a folder by `out`")
        return self.files.folder

    @property
    def saves(self) -> bool:
        """Whether models and checkpoints go to disk, by this process: else they need not be made ready."""
        return self._records.saves

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain values."""
        return self.files.config

    def replace_config(self, config: Any) -> None:
        """Write config.yaml anew, for a run that is extended: it is finished no more."""
        self._records.replace_config(_as_yaml(config))

    @property
    def provenance(self) -> dict[str, Any]:
        """provenance.json."""
        return self.files.provenance

    def add_provenance(self, facts: Mapping[str, Any]) -> None:
        """Add facts that became known later (data fingerprints, device names)."""
        self._records.add_provenance(facts)

    def check_data(self, fingerprints: Mapping[str, str]) -> None:
        """Write down what the run reads (file → sha256). Where it goes on from a checkpoint, that must be the same.

        UserError naming the files that changed, unless the run was opened with `change`.
        """
        self.ranks.check_same("the data", dict(fingerprints))
        self.ranks.first(lambda: self._check_data(fingerprints))

    def _check_data(self, fingerprints: Mapping[str, str]) -> None:
        known = self.provenance.get("data", {})
        changed = [path for path, fingerprint in fingerprints.items() if known.get(path, fingerprint) != fingerprint]
        if changed and not self.change and self.files.has_checkpoints:
            raise UserError(
                f"{', '.join(changed)}: changed since the run {self.folder} read it, so a resumed run would not be the "
                "same run. Put the old file back, add --change if it is meant, or start a new run."
            )
        if (data := {**known, **fingerprints}) != known:
            self.add_provenance({"data": data})

    def check_space(self, needed: int) -> None:
        """UserError when the disk has fewer than `needed` bytes free; ask before training, not at the first save."""
        if self.saves and (free := free_bytes(self.folder)) < needed:
            raise UserError(f"{self.folder}: {needed:,} bytes will be needed, {free:,} are free; make room first")

    # ---- stopping, and showing that it lives

    def check_stop(self) -> None:
        """Raise StopRequested if a stop was asked for: of any rank, and then in all of them at once."""
        if self._heart is not None:
            self._heart.beat()
        if signum := self.ranks.largest(self.signals.requested):
            raise StopRequested(signum)

    def progress(self, total: int, *, start: int = 0) -> Progress:
        """Shows how far the stage is: of `total` steps an earlier process did `start` (telemetry.progress)."""
        beat = self._heart.beat if self._heart is not None else None
        return Progress(self.stage, total, start=start, beat=beat)

    # ---- metrics and rollouts

    def attach(self, sinks: Sequence[str] = ()) -> None:
        """Send metrics also to these sinks (tensorboard, wandb, trackio), and to those that the run had before, whose
        runs go on: provenance.json knows them. One of before that doesn't start any more costs a warning."""
        if not self.saves:
            return
        known = dict(self.provenance.get("sinks", {}))
        for name in dict.fromkeys([*sinks, *known]):
            run_id = known.setdefault(name, uuid.uuid4().hex[:12])
            try:
                self.sinks.append(open_sink(name, self.folder, self.stage, self.config, run_id))
            except UserError as error:
                if name in sinks:
                    raise
                warn(f"{error}; the run goes on without it")
        if known != self.provenance.get("sinks", {}):
            self.add_provenance({"sinks": known})

    def observe(self, values: Mapping[str, float]) -> None:
        """Numbers that are known before the first step: the first line of metrics gets them."""
        self._first |= values

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, in the file when this returns; there the stage stands before every key.

        The health rules see it too, and a rule that fires for the first time is told. Raises: ValueError for an
        undeclared key.
        """
        health = self.health
        values = values if self.metrics_lines else {**self._first, **values}
        logged = self._records.log(step, {f"{self.stage}/{key}": value for key, value in values.items()})
        for sink in self.sinks:
            sink.log(logged, step)
        self._events.step = step
        symptoms = health.see(step, {key.removeprefix(f"{self.stage}/"): value for key, value in logged.items()})
        for finding in symptoms:
            tell(finding)
            for sink in self.sinks:
                sink.alert(finding, step)

    @property
    def health(self) -> Monitor:
        """What the log shows of it so far."""
        if self._health is None:
            self._health = diagnose(self.stage, self.config, self.files.metrics if self.metrics_lines else ())
        return self._health

    @property
    def metrics_lines(self) -> int:
        """Lines in metrics.jsonl; store it with a checkpoint, give it to truncate_metrics on resume."""
        return self._records.metrics_lines

    def truncate_metrics(self, line_count: int) -> None:
        """Forget the lines after the first `line_count`, atomically."""
        self._records.truncate_metrics(line_count)
        self._health = None

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """rollouts/000012.jsonl.gz, whole or not at all. When the disk refuses, one warning, and training goes on."""
        self._records.write_rollouts(step, rows)

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """A file of JSON lines that is part of the result, such as rankings.jsonl."""
        self._records.write_rows(name, rows)

    # ---- checkpoints and results

    def checkpoint(self, step: int) -> AbstractContextManager[Path]:
        """A folder to write into; on leaving it is committed as checkpoints/<step> and `latest` points to it.

        SaveFailed when the disk refuses: the earlier checkpoints are then untouched, and nothing was purged.
        """
        return self._records.checkpoint(step)

    def latest(self, *, fallback: bool = False) -> Path | None:
        """The newest checkpoint, verified; None when there is none yet. A damaged one raises Corrupted naming the file;
        with `fallback` it is set aside as `<step>.damaged`, loudly, and the one before is taken.
        """
        return self.files.latest(fallback=fallback)

    def save_model(self, name: str = "model") -> AbstractContextManager[Path]:
        """A folder to write a model into; on leaving it becomes model/ (or best/), whole or not at all."""
        return self._records.save_folder(name, facts={})

    def keep_batch(self, step: int) -> AbstractContextManager[Path]:
        """A folder for the batch of an optimiser step that could not be taken: skipped/000012, whole or not at all."""
        return self._records.save_folder("skipped", f"{step:06d}", facts={"step": step})

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write its models' cards and summary.json: the run is finished. Its health is judged, told and added."""
        has_said = self.metrics_lines or summary.get("results")
        if has_said and self.ranks.is_first and is_watched(self.stage):
            symptoms = self.health.conclude([Result.from_plain(row) for row in summary.get("results", ())])
            for finding, sink in itertools.product(symptoms, self.sinks):
                sink.alert(finding, self._events.step or 0)
            findings = list(self.health.findings.values())
            level = worst(findings)
            (say if level in (None, Level.NOTICE) else warn)(verdict(findings))
            summary = {**summary, "health": {"level": level or HEALTHY, "findings": [f.to_plain() for f in findings]}}
        folder = None if isinstance(self.files, MemoryRecords) else self.files.folder
        summary = {**summary, **outcome(self.stage, folder, self.files.metrics)}
        if folder is not None and self.saves:
            card.write(folder, summary)
        self._records.finish(summary)

    @property
    def finished(self) -> bool:
        """Whether it has a summary."""
        return self.files.finished

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json; empty while the run is not finished."""
        return self.files.summary


def _state(error: BaseException | None, *, finished: bool) -> State:
    if error is None:
        return State.FINISHED if finished else State.STOPPED
    return State.STOPPED if isinstance(error, StopRequested | KeyboardInterrupt) else State.FAILED


def _begin(folder: Path, stage: str, config: Any) -> FolderLock:
    """Make the folder and the files that every run has."""
    with _locking(folder) as lock:
        if Run.exists(folder):
            advice = f"continue it with `plaudit resume {folder}` or choose another folder"
            raise UserError(f"{folder} already holds a run; {advice}")
        write_json(folder / PROVENANCE, provenance(stage))
        atomic_write(folder / CONFIG, _as_yaml(config))  # last: from here on the folder is a run
    return lock


def _as_yaml(config: Any) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False) if isinstance(config, Mapping) else dump_yaml(config)


def _go_on(folder: Path) -> FolderLock:
    """Lock a folder that holds a run, and clear away what a killed process left in it."""
    if not Run.exists(folder):
        raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
    with _locking(folder) as lock:
        return lock


@contextlib.contextmanager
def _locking(folder: Path) -> Generator[FolderLock]:
    """Lock a folder and clear away what a killed process left in it; free again where the block fails."""
    make_folder(folder)
    lock = FolderLock(folder)
    try:
        yield lock
        for name in ("", "checkpoints", "rollouts"):
            remove_leftovers(folder / name)
        checkpoints.remove_superseded(folder / "checkpoints")
    except BaseException:
        lock.release()
        raise
