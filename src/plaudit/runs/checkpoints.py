"""Folders that are committed like transactions, and the checkpoints of a run.

    checkpoints/000012/   the payload and MANIFEST.json (size and sha256 of each file); exists only when complete
    checkpoints/latest    a text file that holds `000012`

A save goes: temporary folder, payload, fsync, manifest, fsync, rename, pointer, purge. Whatever moment the process
dies at, the newest folder with a number for a name is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import SaveFailed, UserError
from plaudit.files import atomic_write, is_disk_full, save_failed, sync_path, system_error, temp_beside, tree_bytes
from plaudit.telemetry.console import warn

MANIFEST = "MANIFEST.json"
FORMAT = 1
LATEST = "latest"
_NUMBERED = re.compile(r"(\d{6,})(\.old)?")


class Corrupted(UserError):
    """A checkpoint's bytes are not the ones that were saved."""


@contextlib.contextmanager
def folder_transaction(target: Path, facts: Mapping[str, Any]) -> Generator[Path]:
    """Yield a temporary folder to write into; on leaving it becomes `target`, complete with its manifest.

    `facts` go into the manifest. When the body or the commit fails, the temporary folder is removed and whatever
    `target` held is still there; OSError and a full disk become SaveFailed, other exceptions pass through.
    """
    temp = temp_beside(target)
    try:
        temp.mkdir(parents=True)
        yield temp
        _seal(temp, facts)
        _move_into_place(temp, target)
    except BaseException as error:
        written = tree_bytes(temp)
        shutil.rmtree(temp, ignore_errors=True)
        if isinstance(error, OSError) or (
            isinstance(error, Exception) and (system_error(error) or is_disk_full(error))
        ):
            raise save_failed(target, error, written) from error
        raise


def _seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Sync every file, write the manifest last, sync the folders."""
    files: dict[str, dict[str, Any]] = {}
    folders = [folder]
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path}: a checkpoint holds plain files and folders only")
        if path.is_dir():
            folders.append(path)
            continue
        sync_path(path)
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    manifest = {"format": FORMAT, **facts, "files": files}
    manifest["checksum"] = _checksum(manifest)
    text = json.dumps(manifest, ensure_ascii=False, indent=1, allow_nan=False)
    (folder / MANIFEST).write_text(text, encoding="utf-8")  # no newline: whatever is cut off, it is JSON no more
    sync_path(folder / MANIFEST)
    for path in reversed(folders):
        sync_path(path)


def _move_into_place(temp: Path, target: Path) -> None:
    """Rename; a folder can't replace a full one, so an earlier save of the same step steps aside as `<target>.old`."""
    aside = target.with_name(target.name + ".old")
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(target, aside)
    try:
        os.rename(temp, target)
    except OSError:
        if aside.exists():
            os.rename(aside, target)
        raise
    sync_path(target.parent)
    _discard(aside)


def _discard(folder: Path) -> None:
    """Delete a folder under another name, so that a kill halfway leaves litter and not a broken checkpoint."""
    if not folder.exists():
        return
    try:
        litter = temp_beside(folder)
        os.rename(folder, litter)
        shutil.rmtree(litter)
    except OSError as error:
        warn(f"cannot delete {folder}: {error.strerror}; delete it by hand")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(manifest: Mapping[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode("utf-8")).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a committed folder; Corrupted when it is missing or damaged, UserError when it is too new."""
    path = Path(folder) / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if manifest["checksum"] != _checksum(manifest):
            raise ValueError
    except FileNotFoundError:
        raise Corrupted(f"{path} is missing: {folder} is not a complete checkpoint") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Corrupted(f"{path} is damaged: its content does not fit its checksum") from None
    except OSError as error:
        raise Corrupted(f"{path} cannot be read: {error.strerror}") from error
    if manifest["format"] != FORMAT:
        raise UserError(f"{path} has format {manifest['format']}, this version reads {FORMAT}; update plaudit")
    return manifest


def verify(folder: Path) -> dict[str, Any]:
    """Compare every file with the manifest, which is returned; Corrupted names the first file that differs."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["size"]:
                raise Corrupted(f"{path} is damaged: {size:,} bytes instead of {expected['size']:,}")
            if file_sha256(path) != expected["sha256"]:
                raise Corrupted(f"{path} is damaged: its sha256 is not the one of MANIFEST.json")
        except FileNotFoundError:
            raise Corrupted(f"{path} is missing, though MANIFEST.json lists it") from None
        except OSError as error:
            raise Corrupted(f"{path} cannot be read: {error.strerror}") from error
    return manifest


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's folder name."""
    match = _NUMBERED.fullmatch(Path(checkpoint).name)
    if match is None:
        raise ValueError(f"{checkpoint} is not named like a checkpoint")
    return int(match[1])


def checkpoint_folders(root: Path) -> list[Path]:
    """All committed checkpoints below `checkpoints/`, newest step first (by number, never by the clock).

    `000012.old` counts only while `000012` is missing: a process died between the two renames of a repeated save.
    """
    folders = [path for path in Path(root).glob("*") if _NUMBERED.fullmatch(path.name) and path.is_dir()]
    whole = {path.name for path in folders}
    folders = [path for path in folders if not (path.suffix == ".old" and path.stem in whole)]
    return sorted(folders, key=step_of, reverse=True)


def remove_superseded(root: Path) -> None:
    """Delete each `000012.old` whose `000012` is there: a process died just before doing so."""
    for path in Path(root).glob("*.old"):
        if path.with_suffix("").exists():
            _discard(path)


def latest_checkpoint(run_folder: Path, *, fallback: bool = False) -> Path | None:
    """The newest checkpoint of a run, verified byte for byte; None when there is none. Needs no lock, changes nothing.

    The pointer `latest` is for people and scripts: the newest complete folder wins, since a process may die between
    renaming and moving the pointer. A damaged one raises Corrupted naming the file, or with `fallback` is passed over
    with a warning.
    """
    folders = checkpoint_folders(Path(run_folder) / "checkpoints")
    for path in folders:
        try:
            verify(path)
            return path
        except Corrupted as error:
            if not fallback:
                advice = "an earlier checkpoint can be used instead: `plaudit resume --fallback`"
                raise Corrupted(f"{error}; " + (advice if len(folders) > 1 else "there is no earlier one")) from error
            warn(f"{error}; FALLING BACK to an earlier checkpoint, the steps after it will be repeated")
    if folders:
        raise Corrupted(f"no checkpoint in {Path(run_folder) / 'checkpoints'} is whole; all are damaged")
    return None


def set_aside(path: Path) -> None:
    """Keep a damaged checkpoint for inspection, out of the way of numbering and purging."""
    names = itertools.chain([f"{path.name}.damaged"], (f"{path.name}.damaged-{n}" for n in itertools.count(2)))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    try:
        path.rename(aside)
    except OSError as error:
        raise SaveFailed(f"cannot set the damaged checkpoint {path} aside: {error.strerror}") from error
    warn(f"the damaged checkpoint is kept as {aside}")


def point_to_latest(root: Path, target: Path, keep: int) -> None:
    """Let `latest` point to the new checkpoint and delete all but the newest `keep`. Never fails, only warns."""
    try:
        atomic_write(root / LATEST, target.name + "\n")
    except SaveFailed as error:
        warn(f"{error}; the checkpoint itself is complete and will be found")
        return
    for path in checkpoint_folders(root)[keep:]:
        _discard(path)
