"""Where a run's inputs came from: the runs that made them, and its data files, if they still are what the run read.

Configs and provenance name files and other runs; nothing of a file is repeated here unless the reported runs left it,
or wrote down its sha256. So a report can't be made to carry what its runs never saw: somebody else's run that names
your folders gets their names and numbers into its flow, and none of their texts.
"""

import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.report.collect import Facts, PipelineData, RunData, read_facts
from plaudit.report.reading import clean
from plaudit.runs import lineage as above

LARGEST = 1 << 29
"""Bytes of a file, packed or unpacked, that is still counted and checked."""
LONGEST = 1 << 26
"""Bytes of a line, or of a whole .json, that is still read."""
TOO_LARGE = "too large to count"
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
        if (location := above.nearest(path, lambda each: self.locate(each, of))) is None:
            return None
        folders = {run.folder.resolve(): run for run in self.runs}
        return next((folders[each] for each in (location, *location.parents) if each in folders), None)

    @property
    def read_hashes(self) -> frozenset[str]:
        """sha256 of each file that the reported runs wrote down that they read."""
        read = (run.provenance.get("data") for run in self.runs if isinstance(run, RunData))
        return frozenset(str(each) for data in read if isinstance(data, dict) for each in data.values())

    def locate(self, path: Any, of: Maker) -> Path | None:
        """Where it is now: in this pipeline's own folder, which may have been moved; else as the run named it."""
        if not isinstance(path, str) or not path or not above.may_be_here(path):
            return None
        parts = Path(path).parts
        if self.root is not None:
            stages = {run.folder.name for run in self.runs if run.folder.parent == self.root}
            for index in (i for i, part in enumerate(parts) if part in stages):
                if os.path.exists(there := self.root.joinpath(*parts[index:])):
                    inside = there.resolve()
                    return inside if self.follow or inside.is_relative_to(self.root.resolve()) else None
        return above.locate(path, of.folder) if self.follow else None

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
            is_lost = location is None and self.follow and above.may_be_here(path) and not glob.has_magic(path)
            return replace(known, note="not here any more" if is_lost else "")
        content = _read(location, location.stat().st_mtime_ns, location.stat().st_size)
        if content.fingerprint and content.fingerprint != fingerprint:
            return replace(known, note="changed since" if fingerprint else "")
        if content.rows is None:
            return replace(known, note=content.note)
        limit = entry.get("limit")
        rows = min(content.rows, limit) if isinstance(limit, int) and limit > 0 else content.rows
        names = entry.get("columns")
        first = [_renamed(row, names if isinstance(names, dict) else {}) for row in content.first[:rows]]
        return replace(known, rows=rows, first=tuple(first) if self._may_quote(run, fingerprint) else ())

    def output(self, run: Maker, name: str) -> InputFile:
        """A file that the run itself left, as it is now."""
        path = run.folder / name
        inside = path.is_file() and path.resolve().is_relative_to(run.folder.resolve())
        content = _read(path, path.stat().st_mtime_ns, path.stat().st_size) if inside else None
        known = InputFile(path=str(path), name=f"{run.folder.name}/{name}", fingerprint="")
        if content is None or content.rows is None:
            return known
        first = content.first if self._may_quote(run, content.fingerprint) else ()
        return replace(known, fingerprint=content.fingerprint, rows=content.rows, first=first)

    def _may_quote(self, run: Maker, fingerprint: str) -> bool:
        """A file of a reported run, or one that such a run read."""
        return isinstance(run, RunData) or fingerprint in self.read_hashes


def lineage(item: RunData | PipelineData, *, follow: bool = True) -> Lineage:
    """A pipeline's stages, or a run; with `follow` also the runs that made what they read, and what those read."""
    own: list[Maker] = [*item.stages] if isinstance(item, PipelineData) else [item]
    root = item.own.folder if isinstance(item, PipelineData) else None
    known: dict[Path, Maker] = {run.folder: run for run in own}
    family = Lineage(runs=tuple(own), root=root, follow=follow)

    def read(folder: Path) -> Mapping[str, Any] | None:
        try:
            known[folder] = read_facts(folder, [])
        except UserError:  # another version's summary
            return None
        return known[folder].config

    def locate(path: str, of: Path) -> Path | None:
        return family.locate(path, known[of])

    earlier = above.ancestors({run.folder: run.config for run in own}, read, locate) if follow else []
    return replace(family, runs=(*(known[folder] for folder in earlier), *own))


def shortened(path: str) -> str:
    """A path as a figure names it: its last two parts."""
    return "/".join(Path(path).parts[-2:])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    fingerprint: str = ""
    """Empty where the file is too large to say."""
    rows: int | None = None
    first: tuple[Mapping[str, Any], ...] = ()
    note: str = ""
    """Why `rows` is None."""


@lru_cache(maxsize=128)
def _read(path: Path, _modified: int, size: int) -> _Content:
    """A file's hash, how many rows it has and its first ones. It may be anybody's: no more than LARGEST is unpacked."""
    if size > LARGEST:
        return _Content(note=TOO_LARGE)
    fingerprint = ""
    try:
        with open(path, "rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
        ending = Path(path.stem if path.suffix == ".gz" else path.name).suffix
        if ending in (".csv", ".tsv", ".parquet"):
            return _Content(fingerprint=fingerprint, note=f"rows of {ending} aren't counted")
        count, first = _whole(path) if ending == ".json" else _counted(path)
    except OverflowError:
        return _Content(fingerprint=fingerprint, note=TOO_LARGE)
    except (OSError, EOFError, ValueError, TypeError, KeyError, RecursionError, zlib.error):
        return _Content(fingerprint=fingerprint, note="can't be read")
    rows = tuple(clean(row) for row in first if isinstance(row, dict))
    return _Content(fingerprint=fingerprint, rows=count, first=rows)


def _whole(path: Path) -> tuple[int, list[Any]]:
    rows = list(json.loads(b"".join(_lines(path, LONGEST))))
    return len(rows), rows[:FIRST_ROWS]


def _counted(path: Path) -> tuple[int, list[Any]]:
    count, first = 0, list[Any]()
    for line in _lines(path, LARGEST):
        if line.strip():
            count += 1
            if count <= FIRST_ROWS:
                first.append(json.loads(line))
    return count, first


def _lines(path: Path, most: int) -> Iterator[bytes]:
    """Unpacked. Raises: OverflowError beyond `most` bytes in all, or LONGEST in one line."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        while line := file.readline(min(most, LONGEST) + 1):
            most -= len(line)
            if most < 0 or len(line) > LONGEST:
                raise OverflowError
            yield line


def _renamed(row: Mapping[str, Any], names: Mapping[str, Any]) -> Mapping[str, Any]:
    return {str(names.get(key, key)): value for key, value in row.items()} if names else row
