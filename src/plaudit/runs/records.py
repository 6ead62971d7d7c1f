"""Where a run's records go: into its folder, into memory, or nowhere on a rank that follows another one."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import yaml

from plaudit.config.load import read_plain
from plaudit.errors import SaveFailed, UserError
from plaudit.files import atomic_write, finite, make_folder, safe_name, write_json
from plaudit.runs import checkpoints
from plaudit.runs.provenance import provenance
from plaudit.telemetry.console import warn
from plaudit.telemetry.events import append_event, read_events
from plaudit.telemetry.log import NAME, MetricsLog, metrics_line, read_metrics

CONFIG, PROVENANCE, SUMMARY = "config.yaml", "provenance.json", "summary.json"
PEOPLE = "people.json"
"""What people said of a comparison's samples, written after it was finished."""
SAMPLES = "samples.jsonl"
"""The same prompts answered by two policies, or before and after training."""
Row = Mapping[str, Any]


class RunFiles:
    """What the files of a run folder say. Reading needs no lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def config(self) -> dict[str, Any]:
        return read_plain(self.folder / CONFIG)

    @property
    def provenance(self) -> dict[str, Any]:
        return read_json(self.folder / PROVENANCE)

    @property
    def summary(self) -> dict[str, Any]:
        return read_json(self.folder / SUMMARY)

    @property
    def finished(self) -> bool:
        return (self.folder / SUMMARY).is_file()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return read_metrics(self.folder)

    @property
    def events(self) -> list[dict[str, Any]]:
        return read_events(self.folder)

    @property
    def rollouts(self) -> dict[int, list[dict[str, Any]]]:
        files = sorted((self.folder / "rollouts").glob("*.jsonl.gz"))
        return {int(path.name.partition(".")[0]): read_rollouts(path) for path in files}

    def rows(self, name: str) -> list[dict[str, Any]]:
        with open(self.folder / name, encoding="utf-8") as file:
            return [json.loads(line) for line in file if line.strip()]

    @property
    def has_checkpoints(self) -> bool:
        return bool(checkpoints.checkpoint_folders(self.folder / "checkpoints"))

    def latest(self, *, fallback: bool = False) -> Path | None:
        chosen = checkpoints.latest_checkpoint(self.folder, fallback=fallback)
        for path in checkpoints.checkpoint_folders(self.folder / "checkpoints"):
            if chosen is not None and checkpoints.step_of(path) > checkpoints.step_of(chosen):
                checkpoints.set_aside(path)
        return chosen


class FolderRecords:
    """Writes the files of a run folder, which is locked: nobody else does."""

    saves = True

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self._keep = folder, keep
        self._warned_rollouts = False
        self._metrics = MetricsLog(folder)
        self.log, self.truncate_metrics, self.close = self._metrics.write, self._metrics.truncate, self._metrics.close

    @property
    def metrics_lines(self) -> int:
        return self._metrics.line_count

    def replace_config(self, text: str) -> None:
        (self.folder / SUMMARY).unlink(missing_ok=True)
        atomic_write(self.folder / CONFIG, text)

    def add_provenance(self, facts: Row) -> None:
        write_json(self.folder / PROVENANCE, {**read_json(self.folder / PROVENANCE), **facts})

    def keep_event(self, event: Row) -> None:
        append_event(self.folder, event)

    def write_rollouts(self, step: int, rows: Iterable[Row]) -> None:
        path = self.folder / "rollouts" / f"{step:06d}.jsonl.gz"
        try:
            path.parent.mkdir(exist_ok=True)
            atomic_write(path, gzip.compress(_as_lines(rows), compresslevel=6, mtime=0))
        except (SaveFailed, OSError) as error:
            if not self._warned_rollouts:
                warn(f"{error}; training goes on, this and later rollouts may be lost")
            self._warned_rollouts = True

    def write_rows(self, name: str, rows: Iterable[Row]) -> None:
        atomic_write(self.folder / safe_name(name), _as_lines(rows))

    @contextlib.contextmanager
    def checkpoint(self, step: int) -> Generator[Path]:
        root = self.folder / "checkpoints"
        newest = next(iter(checkpoints.checkpoint_folders(root)), None)
        if newest is not None and checkpoints.step_of(newest) > step:
            raise UserError(f"{newest} is newer than step {step}; move it away before saving an earlier step")
        self._metrics.sync()
        facts = {"step": step, "metrics_lines": self.metrics_lines}
        with checkpoints.folder_transaction(root / f"{step:06d}", facts) as temp:
            yield temp
        checkpoints.point_to_latest(root, root / f"{step:06d}", self._keep)

    def save_folder(self, *names: str, facts: Row) -> AbstractContextManager[Path]:
        return checkpoints.folder_transaction(self.folder.joinpath(*map(safe_name, names)), facts)

    def finish(self, summary: Row) -> None:
        write_json(self.folder / SUMMARY, summary)


class Unsaved:
    """Models and checkpoints go nowhere."""

    saves = False

    @contextlib.contextmanager
    def checkpoint(self, step: int) -> Generator[Path]:
        with tempfile.TemporaryDirectory() as temp:
            yield Path(temp)

    def save_folder(self, *names: str, facts: Row) -> AbstractContextManager[Path]:
        return self.checkpoint(0)


class NoRecords(Unsaved):
    """Of a rank that follows: another one writes."""

    metrics_lines = 0

    def log(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        return {}

    def _nothing(self, *_: Any) -> None:
        """Neither kept nor looked at."""

    replace_config = add_provenance = truncate_metrics = write_rollouts = write_rows = finish = close = _nothing
    keep_event = _nothing


class MemoryRecords(Unsaved):
    """All that a run without a folder leaves, beside the models themselves: those stay where they are trained."""

    has_checkpoints = False

    def __init__(self, stage: str, config: dict[str, Any]) -> None:
        self.config = config
        self.provenance = provenance(stage)
        self.summary: dict[str, Any] = {}
        self.metrics: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.rollouts: dict[int, list[dict[str, Any]]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._began = time.monotonic()

    @property
    def finished(self) -> bool:
        return bool(self.summary)

    def rows(self, name: str) -> list[dict[str, Any]]:
        return self._rows[name]

    def latest(self, *, fallback: bool = False) -> None:
        return None

    def keep_event(self, event: Row) -> None:
        self.events.append(dict(event))

    def add_provenance(self, facts: Row) -> None:
        self.provenance.update(facts)

    def replace_config(self, text: str) -> None:
        self.config = yaml.safe_load(text)
        self.summary = {}

    @property
    def metrics_lines(self) -> int:
        return len(self.metrics)

    def log(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        line, numbers = metrics_line(step, time.monotonic() - self._began, values)
        self.metrics.append(line)
        return numbers

    def truncate_metrics(self, line_count: int) -> None:
        del self.metrics[line_count:]

    def write_rollouts(self, step: int, rows: Iterable[Row]) -> None:
        self.rollouts[step] = [finite(row) for row in rows]

    def write_rows(self, name: str, rows: Iterable[Row]) -> None:
        self._rows[name] = [finite(row) for row in rows]

    def finish(self, summary: Row) -> None:
        self.summary = finite(summary)

    def close(self) -> None:
        """Nothing is held."""

    def write_to(self, folder: Path) -> None:
        """All of it as a run folder's files, for whoever reads those. UserError where the folder holds a run."""
        if (folder / CONFIG).exists():
            raise UserError(f"{folder} already holds a run; choose another folder")
        make_folder(folder)
        write_json(folder / PROVENANCE, self.provenance)
        files = FolderRecords(folder, keep=1)
        atomic_write(folder / NAME, _as_lines(self.metrics))
        for event in self.events:
            files.keep_event(event)
        for step, rows in self.rollouts.items():
            files.write_rollouts(step, rows)
        for name, rows in self._rows.items():
            files.write_rows(name, rows)
        if self.summary:
            files.finish(self.summary)
        files.close()
        atomic_write(folder / CONFIG, yaml.safe_dump(self.config, sort_keys=False))


def _as_lines(rows: Iterable[Row]) -> bytes:
    lines = [json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
    return "".join(lines).encode("utf-8", "backslashreplace")


def read_json(path: Path) -> dict[str, Any]:
    """A file's content, {} where there is none. UserError for one that is broken."""
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


def write_people(folder: Path, content: Row) -> None:
    """What people said of a comparison's samples, written as a summary is, beside the run's own (people.json)."""
    write_json(folder / PEOPLE, content)
