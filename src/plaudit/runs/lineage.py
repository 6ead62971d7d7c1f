"""Which runs made what a run read. The model's card and the report's flow both ask here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plaudit.runs.records import PROVENANCE

MOST_RUNS = 40
"""Runs that are followed from one to those that it was made from."""

_STAGE_FOLDER = re.compile(r"^(\d\d)-(.+)$")


def ancestors(
    runs: Mapping[Path, Mapping[str, Any]],
    read: Callable[[Path], Mapping[str, Any] | None],
    locate: Callable[[str, Path], Path | None],
) -> list[Path]:
    """Folders of the runs that made what `runs` (folder → config) read, and what those read; each after its own.

    `read`: the config of a run that was found, None where it can't be read: it is left out. `locate`: where that is
    which a run, by its folder, names by a path.
    """
    known = {folder.resolve() for folder in runs}
    order: list[Path] = []

    def visit(folder: Path, config: Mapping[str, Any]) -> None:
        for path in paths_in(config):
            location = nearest(path, lambda each: locate(each, folder))
            above = _run_above(location) if location else None
            if above is None or above in known or len(known) >= MOST_RUNS + len(runs):
                continue
            known.add(above)
            if (own := read(above)) is not None:
                visit(above, own)
                order.append(above)

    for folder, config in runs.items():
        visit(folder, config)
    return order


def paths_in(config: Mapping[str, Any]) -> list[str]:
    """Everything that a config names by a path: data, models, judges, policies."""
    policies = config.get("policies")
    named = policies.values() if isinstance(policies, Mapping) else ()
    return [*_below(config), *(path for path in named if isinstance(path, str))]


def _below(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(path := value.get("path"), str):
            yield path
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _below(item)


def locate(path: str, of: Path) -> Path | None:
    """Where a file or folder is that `of` (a run's folder, a project) names; None where it isn't here.

    A relative path was one of the folder in which the command was given. That is tried first where `of` lies in it, as
    it does while a run works; later the folders above `of` are the better guess.
    """
    if not path or not may_be_here(path):
        return None
    now, above = Path.cwd(), of.resolve().parents
    bases = (now, *above) if now in above else (*above, now)
    return next((there.resolve() for base in bases if os.path.exists(there := base / path)), None)


def may_be_here(path: str) -> bool:
    """Whether it can name a file or folder of this machine: not a hub's name, a scheme or standard input."""
    return path != "-" and not path.startswith("hub:") and "://" not in path


def nearest(path: Any, locate: Callable[[str], Path | None]) -> Path | None:
    """Where a path is; where a model was removed, the folder that it lay in."""
    tries = [path, *map(str, Path(path).parents[:2])] if isinstance(path, str) and path else []
    there = (locate(each) for each in tries if each not in (".", "/"))
    return next((location for location in there if location is not None), None)


def stage_folders(folder: Path) -> list[Path]:
    """Of a pipeline or a sweep the folders of its stages, in their order; none for any other folder."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and _STAGE_FOLDER.match(child.name))


def stage_name(folder_name: str) -> str:
    """`02-sft` → `sft`; other names as they are."""
    inside = _STAGE_FOLDER.match(folder_name)
    return inside[2] if inside else folder_name


def _run_above(location: Path) -> Path | None:
    """The run folder that a file or a model lies in; the nearest one. A pipeline's own folder made nothing."""
    above = (location, *location.parents)[:4]
    runs = (each for each in above if os.path.isfile(file := each / PROVENANCE) and os.path.getsize(file))
    nearest_run = next(runs, None)
    return None if nearest_run is None or stage_folders(nearest_run) else nearest_run
