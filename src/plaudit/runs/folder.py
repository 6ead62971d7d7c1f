"""The run folder: the only place that writes run files.

<name>/ config.yaml  provenance.json  metrics.jsonl  rollouts/000012.jsonl.gz  checkpoints/000012/  model/
        summary.json  report.html
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from plaudit.config.load import dump_yaml, read_plain
from plaudit.errors import SaveFailed, StopRequested, UserError
from plaudit.files import (
    atomic_write,
    finite,
    free_bytes,
    make_folder,
    remove_leftovers,
    safe_name,
    write_json,
)
from plaudit.runs import checkpoints
from plaudit.runs.lock import FolderLock
from plaudit.runs.provenance import provenance
from plaudit.runs.ranks import Alone, Ranks
from plaudit.runs.signals import StopSignals
from plaudit.telemetry.console import warn
from plaudit.telemetry.log import MetricsLog
from plaudit.telemetry.sinks import Sink, open_sink

CONFIG, PROVENANCE, SUMMARY = "config.yaml", "provenance.json", "summary.json"


class Run:
    """One run and its folder, locked for this process. Use as a context manager: it also listens for stop signals.

    with Run.create(folder, "ppo", config) as run:
        for step in ...:
            run.log(step, {...})
            with run.checkpoint(step) as folder: ...
            run.check_stop()
        run.finish({...})
    """

    def __init__(self, folder: Path, *, keep: int, lock: FolderLock | None, ranks: Ranks, change: bool = False) -> None:
        self.folder = folder
        self.change = change
        self.ranks = ranks
        self._is_new = False
        self._keep = keep
        self._lock = lock
        self._warned_rollouts = False
        self._sinks: list[Sink] = []
        self._metrics = None if lock is None else MetricsLog(folder)
        self.signals = StopSignals()

    # ---- opening and closing

    @classmethod
    def create(
        cls,
        folder: Path | str,
        stage: str,
        config: Any,
        *,
        data: Mapping[str, str] | None = None,
        keep: int = 2,
        ranks: Ranks | None = None,
    ) -> Run:
        """A new run. `config` is a config dataclass or a plain dict, `data` maps files to fingerprints.

        `keep` is the number of checkpoints that stay. Of several `ranks` the first writes, the others follow. UserError
        when the folder can't be written to, is in use, or already holds a run.
        """
        if keep < 1:
            raise UserError(f"keep is {keep}; at least one checkpoint must stay")
        folder, ranks = Path(folder), ranks or Alone()
        lock = ranks.first(lambda: _begin(folder, stage, config, data))
        run = cls._locked(folder, keep=keep, lock=lock, ranks=ranks)
        run._is_new = lock is not None
        return run

    @classmethod
    def open(cls, folder: Path | str, *, keep: int = 2, change: bool = False, ranks: Ranks | None = None) -> Run:
        """An existing run, to go on with it. UserError when there is none, or when another process has it.

        `change`: the user allows that it goes on with other data than it began with.
        """
        folder, ranks = Path(folder), ranks or Alone()
        return cls._locked(folder, keep=keep, lock=ranks.first(lambda: _go_on(folder)), ranks=ranks, change=change)

    @classmethod
    def _locked(cls, folder: Path, *, lock: FolderLock | None, **options: Any) -> Run:
        try:
            return cls(folder, lock=lock, **options)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @property
    def following(self) -> bool:
        """Whether another rank writes this run's files; what this one is told to write, it doesn't."""
        return self._lock is None

    @staticmethod
    def exists(folder: Path | str) -> bool:
        """Whether the folder holds a run."""
        return (Path(folder) / CONFIG).is_file()

    def close(self) -> None:
        """Close the log and give the folder free. Harmless when repeated."""
        if not self.following:
            self._metrics.close()
            self._lock.release()

    def __enter__(self) -> Run:
        self.signals.__enter__()
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
        self.signals.__exit__()
        if isinstance(error, UserError) and self._is_new and self._is_untouched():
            for name in (CONFIG, PROVENANCE):  # the same command can be given again once the mistake is put right
                (self.folder / name).unlink(missing_ok=True)
        self.close()

    def _is_untouched(self) -> bool:
        """Whether nothing was made yet: no metrics, no checkpoint, no result, no stage."""
        made = self.metrics_lines or self.finished or checkpoints.checkpoint_folders(self.folder / "checkpoints")
        return not made and not any(Run.exists(path) for path in self.folder.iterdir())

    # ---- what is known about it

    @property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain values."""
        return read_plain(self.folder / CONFIG)

    def replace_config(self, config: Any) -> None:
        """Write config.yaml anew, for a run that is extended: it is finished no more."""
        if self.following:
            return
        (self.folder / SUMMARY).unlink(missing_ok=True)
        atomic_write(self.folder / CONFIG, dump_yaml(config))

    @property
    def provenance(self) -> dict[str, Any]:
        """provenance.json."""
        return _read_json(self.folder / PROVENANCE)

    @functools.cached_property
    def stage(self) -> str:
        """What kind of run it is: sft, reward, ppo, pipeline, ..."""
        return str(self.provenance.get("stage", ""))

    def add_provenance(self, facts: Mapping[str, Any]) -> None:
        """Add facts that became known later (data fingerprints, device names)."""
        if not self.following:
            write_json(self.folder / PROVENANCE, {**self.provenance, **facts})

    def check_data(self, fingerprints: Mapping[str, str]) -> None:
        """Write down what the run reads (file → sha256). Where it goes on from a checkpoint, that must be the same.

        UserError naming the files that changed, unless the run was opened with `change`.
        """
        self.ranks.check_same("the data", dict(fingerprints))
        self.ranks.first(lambda: self._check_data(fingerprints))

    def _check_data(self, fingerprints: Mapping[str, str]) -> None:
        known = self.provenance.get("data", {})
        changed = [path for path, fingerprint in fingerprints.items() if known.get(path, fingerprint) != fingerprint]
        if changed and not self.change and checkpoints.checkpoint_folders(self.folder / "checkpoints"):
            raise UserError(
                f"{', '.join(changed)}: changed since the run {self.folder} read it, so a resumed run would not be the "
                "same run. Put the old file back, add --change if it is meant, or start a new run."
            )
        if (data := {**known, **fingerprints}) != known:
            self.add_provenance({"data": data})

    def check_space(self, needed: int) -> None:
        """UserError when the disk has fewer than `needed` bytes free; ask before training, not at the first save."""
        free = free_bytes(self.folder)
        if free < needed:
            raise UserError(f"{self.folder}: {needed:,} bytes will be needed, {free:,} are free; make room first")

    # ---- stopping

    @property
    def stop_requested(self) -> bool:
        """True once SIGINT or SIGTERM has come: finish the step, save, then call check_stop."""
        return self.signals.requested != 0

    def check_stop(self) -> None:
        """Raise StopRequested if a stop was asked for: of any rank, and then in all of them at once."""
        if signum := self.ranks.largest(self.signals.requested):
            raise StopRequested(signum)

    # ---- metrics and rollouts

    def attach(self, sinks: Sequence[str]) -> None:
        """Send metrics also to these sinks: tensorboard, wandb, trackio."""
        if not self.following:
            self._sinks += [open_sink(name, self.folder, self.stage, self.config) for name in sinks]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, in the file when this returns; there the stage stands before every key.

        Raises: ValueError for an undeclared key.
        """
        if self.following:
            return
        named = {f"{self.stage}/{key}": value for key, value in values.items()}
        for key, value in self._metrics.write(step, named).items():
            for sink in self._sinks:
                sink(key, value, step)

    @property
    def metrics_lines(self) -> int:
        """Lines in metrics.jsonl; store it with a checkpoint, give it to truncate_metrics on resume."""
        return 0 if self.following else self._metrics.line_count

    def truncate_metrics(self, line_count: int) -> None:
        """Forget the lines after the first `line_count`, atomically."""
        if not self.following:
            self._metrics.truncate(line_count)

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> Path:
        """rollouts/000012.jsonl.gz, whole or not at all. When the disk refuses, one warning, and training goes on."""
        path = self.folder / "rollouts" / f"{step:06d}.jsonl.gz"
        if self.following:
            return path
        lines = [json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        raw = "".join(lines).encode("utf-8", "backslashreplace")
        try:
            path.parent.mkdir(exist_ok=True)
            atomic_write(path, gzip.compress(raw, compresslevel=6, mtime=0))
        except (SaveFailed, OSError) as error:
            if not self._warned_rollouts:
                warn(f"{error}; training goes on, this and later rollouts may be lost")
            self._warned_rollouts = True
        return path

    # ---- checkpoints and results

    @contextlib.contextmanager
    def checkpoint(self, step: int, *, names: Sequence[str] = ()) -> Iterator[Path]:
        """Yield a folder to write into; on leaving it is committed as checkpoints/<step> and `latest` points to it.

        `names` are further pointers to move there (`best`); what a pointer names is never purged. SaveFailed when the
        disk refuses: the earlier checkpoints are then untouched, and nothing was purged.
        """
        if self.following:
            with _nowhere() as temp:
                yield temp
            return
        root = self.folder / "checkpoints"
        target = root / f"{step:06d}"
        newest = next(iter(checkpoints.checkpoint_folders(root)), None)
        if newest is not None and checkpoints.step_of(newest) > step:
            raise UserError(f"{newest} is newer than step {step}; move it away before saving an earlier step")
        self._metrics.sync()
        facts = {"step": step, "metrics_lines": self.metrics_lines}
        with checkpoints.folder_transaction(target, facts) as temp:
            yield temp
        try:
            checkpoints.point(root, (checkpoints.LATEST, *names), target)
        except SaveFailed as error:
            warn(f"{error}; the checkpoint itself is complete and will be found")
            return
        checkpoints.purge(root, self._keep)

    def latest(self, *, fallback: bool = False) -> Path | None:
        """The newest checkpoint, verified; None when there is none yet.

        A damaged one raises Corrupted naming the file. With `fallback` it is set aside as `<step>.damaged`, loudly,
        and the one before is taken.
        """
        chosen = checkpoints.latest_checkpoint(self.folder, fallback=fallback)
        for path in checkpoints.checkpoint_folders(self.folder / "checkpoints"):
            if chosen is not None and checkpoints.step_of(path) > checkpoints.step_of(chosen):
                _set_aside(path)
        return chosen

    def named(self, name: str) -> Path | None:
        """The checkpoint that a pointer such as `best` names, verified; None when there is none."""
        path = checkpoints.named_checkpoint(self.folder, name)
        if path is not None:
            checkpoints.verify(path)
        return path

    @contextlib.contextmanager
    def save_model(self, name: str = "model") -> Iterator[Path]:
        """Yield a folder to write a model into; on leaving it becomes model/ (or best/), whole or not at all."""
        to_disk = checkpoints.folder_transaction(self.folder / safe_name(name), {})
        with _nowhere() if self.following else to_disk as temp:
            yield temp

    @contextlib.contextmanager
    def keep_batch(self, step: int) -> Iterator[Path]:
        """Yield a folder for the batch of an optimiser step that could not be taken: skipped/000012, whole or not at
        all."""
        to_disk = checkpoints.folder_transaction(self.folder / "skipped" / f"{step:06d}", {"step": step})
        with _nowhere() if self.following else to_disk as temp:
            yield temp

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json: the run is finished."""
        if not self.following:
            write_json(self.folder / SUMMARY, summary)

    @property
    def finished(self) -> bool:
        """Whether summary.json has been written."""
        return (self.folder / SUMMARY).is_file()

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json; empty while the run is not finished."""
        return _read_json(self.folder / SUMMARY) if self.finished else {}


def _begin(folder: Path, stage: str, config: Any, data: Mapping[str, str] | None) -> FolderLock:
    """Make the folder and the files that every run has."""
    make_folder(folder)
    lock = FolderLock(folder)
    try:
        if Run.exists(folder):
            advice = f"continue it with `plaudit resume {folder}` or choose another folder"
            raise UserError(f"{folder} already holds a run; {advice}")
        write_json(folder / PROVENANCE, provenance(stage, data))
        text = yaml.safe_dump(dict(config), sort_keys=False) if isinstance(config, Mapping) else dump_yaml(config)
        atomic_write(folder / CONFIG, text)  # last: from here on the folder is a run
        _tidy(folder)
        return lock
    except BaseException:
        lock.release()
        raise


def _go_on(folder: Path) -> FolderLock:
    """Lock a folder that holds a run, and clear away what a killed process left in it."""
    if not Run.exists(folder):
        raise UserError(f"{folder} is not a run folder: it has no {CONFIG}")
    make_folder(folder)
    lock = FolderLock(folder)
    try:
        _tidy(folder)
        return lock
    except BaseException:
        lock.release()
        raise


def _tidy(folder: Path) -> None:
    for name in ("", "checkpoints", "rollouts"):
        remove_leftovers(folder / name)
    checkpoints.remove_superseded(folder / "checkpoints")


@contextlib.contextmanager
def _nowhere() -> Iterator[Path]:
    """A folder that is gone afterwards, for a rank that need not write."""
    with tempfile.TemporaryDirectory() as temp:
        yield Path(temp)


def _set_aside(path: Path) -> None:
    """Keep a damaged checkpoint for inspection, out of the way of numbering and purging."""
    aside = path.with_name(f"{path.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    try:
        path.rename(aside)
    except OSError as error:
        raise SaveFailed(f"cannot set the damaged checkpoint {path} aside: {error.strerror}") from error
    warn(f"the damaged checkpoint is kept as {aside}")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def read_rollouts(path: Path) -> list[dict[str, Any]]:
    """The rows of one rollouts file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
