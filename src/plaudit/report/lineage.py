"""Where a run's inputs came from: the runs that made them, and its data files, if they still are what the run read.

Configs and provenance name files; nothing of a file is repeated here unless its sha256 is the one that the run wrote
down. So a report can't be made to carry what its run never saw.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.report.collect import Facts, PipelineData, RunData, flatten, looks_like_run, read_facts, stage_folders
from plaudit.report.reading import clean

MOST_RUNS = 40
"""Runs that are followed from one to those that it was made from."""
LARGEST = 1 << 29
"""Bytes of a file that is still counted and checked."""
FIRST_ROWS = 200
"""Of a file, among which an example is looked for."""

Maker = RunData | Facts
"""A run as the flow needs it: folder, stage, config, provenance, results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """A data file of a run. `rows` is None and `first` empty where it isn't here any more as the run read it."""

    path: str
    """As the run's config has it."""
    name: str
    fingerprint: str
    """sha256 that the run wrote down; empty where it didn't."""
    rows: int | None = None
    """That the run read: of a file with a `limit`, so many."""
    first: tuple[Mapping[str, Any], ...] = ()
    note: str = ""
    """Why there are no rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Runs and those that they were made from, each after what it needs where that is known."""

    runs: tuple[Maker, ...]
    root: Path | None = None
    """The pipeline's folder, if it is one."""
    follow: bool = True
    """Whether files and runs outside the pipeline may be opened."""

    def maker(self, path: Any, of: Maker) -> Maker | None:
        """The run that made what `of` names by this path."""
        if (location := self.nearest(path, of)) is None:
            return None
        folders = {run.folder.resolve(): run for run in self.runs}
        return next((folders[each] for each in (location, *location.parents) if each in folders), None)

    def nearest(self, path: Any, of: Maker) -> Path | None:
        """As `locate`; where a model was removed, the folder that it lay in."""
        tries = [path, *map(str, Path(path).parents[:2])] if isinstance(path, str) and path else []
        there = (self.locate(each, of) for each in tries if each not in (".", "/"))
        return next((location for location in there if location is not None), None)

    def locate(self, path: Any, of: Maker) -> Path | None:
        """Where it is now: in this pipeline's own folder, which may have been moved; else as the run named it."""
        if not isinstance(path, str) or not path or "://" in path:
            return None
        parts = Path(path).parts
        if self.root is not None:
            stages = {run.folder.name for run in self.runs if run.folder.parent == self.root}
            for index in (i for i, part in enumerate(parts) if part in stages):
                if os.path.exists(there := self.root.joinpath(*parts[index:])):
                    inside = there.resolve()
                    return inside if self.follow or inside.is_relative_to(self.root.resolve()) else None
        if not self.follow:
            return None
        bases = (Path(), *of.folder.resolve().parents)
        return next((there.resolve() for base in bases if os.path.exists(there := base / path)), None)

    def files(self, run: Maker, option: str) -> list[InputFile]:
        """What a list of data files in its config names, such as `data` and `prompts`."""
        entries = run.config.get(option)
        known = [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []
        return [self._file(run, each) for each in known if isinstance(each.get("path"), str)]

    def _file(self, run: Maker, entry: Mapping[str, Any]) -> InputFile:
        path, location = entry["path"], self.locate(entry["path"], run)
        read = run.provenance.get("data")
        fingerprint = str(read.get(path, "")) if isinstance(read, dict) else ""
        known = InputFile(path=path, name=shortened(path), fingerprint=fingerprint)
        if location is None or not os.path.isfile(location):
            is_lost = location is None and self.follow and "://" not in path
            return replace(known, note="not here any more" if is_lost else "")
        content = _read(location, location.stat().st_mtime_ns, location.stat().st_size)
        if content is None:
            return replace(known, note="too large to count")
        if content.fingerprint != fingerprint:
            return replace(known, note="changed since" if fingerprint else "")
        limit = entry.get("limit")
        rows = min(content.rows, limit) if isinstance(limit, int) and limit > 0 else content.rows
        names = entry.get("columns")
        first = [_renamed(row, names if isinstance(names, dict) else {}) for row in content.first[:rows]]
        return replace(known, rows=rows, first=tuple(first))

    def output(self, run: Maker, name: str) -> InputFile:
        """A file that the run itself left, as it is now."""
        path = run.folder / name
        inside = path.is_file() and path.resolve().is_relative_to(run.folder.resolve())
        content = _read(path, path.stat().st_mtime_ns, path.stat().st_size) if inside else None
        known = InputFile(path=str(path), name=f"{run.folder.name}/{name}", fingerprint="")
        if content is None:
            return known
        return replace(known, fingerprint=content.fingerprint, rows=content.rows, first=content.first)


def lineage(item: RunData | PipelineData, *, follow: bool = True) -> Lineage:
    """A pipeline's stages, or a run; with `follow` also the runs that made what they read, and what those read."""
    runs: list[Maker] = [*item.stages] if isinstance(item, PipelineData) else [item]
    root = item.own.folder if isinstance(item, PipelineData) else None
    ancestors: list[Maker] = []
    queue = [*runs] if follow else []
    for run in queue:
        known = Lineage(runs=(*runs, *ancestors), root=root)
        for path in _paths(run.config):
            location = known.nearest(path, run)
            folder = _run_above(location) if location else None
            if folder is None or known.maker(path, run) or len(ancestors) + len(runs) >= MOST_RUNS:
                continue
            try:
                ancestors.append(read_facts(folder, []))
            except UserError:  # another version's summary
                continue
            queue.append(ancestors[-1])
            known = Lineage(runs=(*runs, *ancestors), root=root)
    return Lineage(runs=(*reversed(ancestors), *runs), root=root, follow=follow)


def _paths(config: Mapping[str, Any]) -> list[str]:
    """Everything that a config names by a path: data, models, judges, policies."""
    return [
        value for key, value in flatten(config).items() if key.split(".")[-1] == "path" or key.startswith("policies.")
    ]


def _run_above(location: Path) -> Path | None:
    """The run folder that a file or a model lies in; the nearest one. A pipeline's own folder made nothing."""
    above = (location, *location.parents)[:4]
    runs = (each for each in above if os.path.isfile(each / "provenance.json") and looks_like_run(each))
    nearest = next(runs, None)
    return None if nearest is None or stage_folders(nearest) else nearest


def shortened(path: str) -> str:
    """A path as a figure names it: its last two parts."""
    return "/".join(Path(path).parts[-2:])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    fingerprint: str
    rows: int
    first: tuple[Mapping[str, Any], ...]


@lru_cache(maxsize=128)
def _read(path: Path, _modified: int, size: int) -> _Content | None:
    """A file's hash, how many rows it has and its first ones; None where it is too large, or can't be read."""
    if size > LARGEST:
        return None
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        is_list = path.suffix == ".json"
        rows = list(json.loads(text)) if is_list else [line for line in text.splitlines() if line.strip()]
        first = rows[:FIRST_ROWS] if is_list else [json.loads(line) for line in rows[:FIRST_ROWS]]
    except (OSError, EOFError, ValueError, TypeError, KeyError, RecursionError):
        return None
    known = tuple(clean(row) for row in first if isinstance(row, dict))
    return _Content(fingerprint=hashlib.sha256(raw).hexdigest(), rows=len(rows), first=known)


def _renamed(row: Mapping[str, Any], names: Mapping[str, Any]) -> Mapping[str, Any]:
    return {str(names.get(key, key)): value for key, value in row.items()} if names else row
