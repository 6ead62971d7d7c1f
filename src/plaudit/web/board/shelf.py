"""Which runs the board shows: those in the folders that it was given, found again while new ones begin.

Pages name a run by an id that was made here and is looked up here: no path of a request ever reaches the file system.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plaudit.errors import UserError
from plaudit.report.collect import looks_like_run
from plaudit.report.live import FILES, LiveRun
from plaudit.report.reading import clean_text
from plaudit.runs.lineage import stage_folders

DEPTH = 5
"""Folders below the one that was given, in which runs are looked for."""
MOST = 5000
"""Runs that are looked for."""
AGAIN = 2.0
"""Seconds after which folders are looked through once more."""


@dataclass(slots=True, kw_only=True)
class ShelfItem:
    """A run, or a pipeline with its stages."""

    id: str
    folder: Path
    live: LiveRun
    stages: tuple[ShelfItem, ...] = ()

    @property
    def lives(self) -> list[LiveRun]:
        return [self.live, *(stage.live for stage in self.stages)]


@dataclass(slots=True, kw_only=True)
class Shelf:
    """What was asked for: folders of runs, of pipelines, of many of both; or patterns of such (`runs/ppo-*`)."""

    wanted: Sequence[str]
    items: dict[str, ShelfItem] = field(default_factory=dict)
    """By id, in order: those of the folders themselves; stages are also found by `get`."""
    left_out: list[str] = field(default_factory=list)
    _looked: float = float("-inf")
    _known: dict[Path, LiveRun] = field(default_factory=dict)

    def refresh(self) -> None:
        """Look through the folders where that is a while ago."""
        if time.monotonic() - self._looked < AGAIN:
            return
        self._looked = time.monotonic()
        self.left_out.clear()
        items: dict[str, ShelfItem] = {}
        names: dict[str, Path] = {}
        for root in self._roots():
            name = clean_text(root.resolve().name) or "root"
            name = next(n for n in _numbered(name) if names.setdefault(n, root) == root)
            for folder in self._runs(root, root, DEPTH):
                inside = folder.relative_to(root).as_posix()
                item = self._item(root, folder, name if inside == "." else f"{name}/{clean_text(inside)}")
                if len(items) < MOST:
                    items.setdefault(item.id, item)
        self.items = items
        used = {live.folder for item in items.values() for live in item.lives}
        self._known = {folder: live for folder, live in self._known.items() if folder in used}

    def get(self, run_id: str) -> ShelfItem | None:
        """None where there is none, or no more."""
        for item in self.items.values():
            for one in (item, *item.stages):
                if one.id == run_id:
                    return one
        return None

    def _roots(self) -> Iterator[Path]:
        known: set[Path] = set()
        for text in self.wanted:
            paths = [Path(text)] if os.path.isdir(text) else [Path(match) for match in sorted(glob.glob(text))]
            for path in paths:
                if path.is_dir() and path.resolve() not in known:
                    known.add(path.resolve())
                    yield path

    def _runs(self, folder: Path, root: Path, depth: int) -> Iterator[Path]:
        try:
            if stage_folders(folder) or looks_like_run(folder):
                if self._stays_inside(folder, root):
                    yield folder
                return
            children = sorted(each.path for each in os.scandir(folder) if not each.name.startswith("."))
        except OSError as error:
            self.left_out.append(f"{folder}: {error.strerror}")
            return
        for child in map(Path, children):
            if depth and child.is_dir() and not (child.is_symlink() and not _inside(child, root)):
                yield from self._runs(child, root, depth - 1)

    def _stays_inside(self, folder: Path, root: Path) -> bool:
        """Nothing of a run may be a link that leads out of what was given: it would be shown."""
        paths = [folder / name for name in (*FILES, "status.json", "rollouts", "checkpoints")]
        links = [path for path in (paths if folder == root else [folder, *paths]) if path.is_symlink()]
        if (rollouts := folder / "rollouts").is_dir():
            links += [Path(each.path) for each in os.scandir(rollouts) if each.is_symlink()]
        out = next((link for link in links if not _inside(link, root)), None)
        if out is not None:
            self.left_out.append(f"{folder} isn't shown: {out.name} is a link that leads out of {root}")
        return out is None

    def _item(self, root: Path, folder: Path, run_id: str) -> ShelfItem:
        stages = [stage for stage in stage_folders(folder) if self._stays_inside(stage, root)]
        return ShelfItem(
            id=run_id,
            folder=folder,
            live=self._live(folder),
            stages=tuple(
                ShelfItem(id=f"{run_id}/{clean_text(stage.name)}", folder=stage, live=self._live(stage))
                for stage in stages
            ),
        )

    def _live(self, folder: Path) -> LiveRun:
        return self._known.setdefault(folder, LiveRun(folder))


def shelf(wanted: Sequence[str]) -> Shelf:
    """Raises: UserError for a name that is no folder and no pattern of any. Folders without a run yet are fine."""
    for text in wanted:
        if not os.path.isdir(text) and not any(map(os.path.isdir, glob.glob(text))):
            raise UserError(f"{text} is not a folder. Give runs' folders, such as runs/ppo, or one with runs in it")
    new = Shelf(wanted=tuple(wanted))
    new.refresh()
    return new


def _inside(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name} ({number})" for number in range(2, 10_000))
