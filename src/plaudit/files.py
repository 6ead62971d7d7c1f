"""Files and folders that appear whole or not at all, and names that stay inside their folder."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import SaveFailed, UserError

TEMP_PREFIX = ".tmp-"
_counter = itertools.count()
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def safe_name(name: str) -> str:
    """The name, if it can only ever be one ordinary folder or file inside its parent; UserError otherwise.

    Refused: empty, `.` and `..`, slashes of either kind (so absolute paths too), NUL and other control characters,
    a leading dot (ours) or dash (an option), anything above 200 bytes.
    """
    wrong = ""
    if not name:
        wrong = "is empty"
    elif any(c in "/\\" for c in name):
        wrong = "holds a slash; a name is one folder, not a path"
    elif any(ord(c) < 32 or ord(c) == 127 for c in name):
        wrong = "holds a control character"
    elif name[0] in ".-" or name.endswith((" ", ".")):
        wrong = "starts with a dot or a dash, or ends with a dot or a space"
    elif len(name.encode("utf-8", "surrogatepass")) > 200:
        wrong = "is longer than 200 bytes"
    if wrong:
        raise UserError(f"name {name!r} {wrong}; use letters, digits, '-', '_' and '.'")
    return name


def inside(root: Path, name: str) -> Path:
    """root/name, refused when the name is not safe or a symbolic link leads out of root."""
    path = Path(root) / safe_name(name)
    if not path.resolve().is_relative_to(Path(root).resolve()):
        raise UserError(f"{path} is a link that leads out of {root}; remove the link or choose another name")
    return path


def temp_beside(path: Path) -> Path:
    """A fresh name in the same folder; short, so that it fits wherever the final name does."""
    return path.parent / f"{TEMP_PREFIX}{os.getpid()}-{next(_counter)}"


def sync_path(path: Path) -> None:
    """fsync a file or a folder; file systems that cannot sync a folder are forgiven."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def atomic_write(path: Path | str, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that, whatever happens, it holds either the old content or the new. Text is UTF-8.

    Not `durable`: nothing waits for the disk, so that after a power cut it may hold neither. Raises SaveFailed naming
    the path and the bytes; the old file is then untouched and nothing is left behind.
    """
    path = Path(path)
    raw = content.encode("utf-8") if isinstance(content, str) else content
    temp = temp_beside(path)
    try:
        with open(temp, "xb") as file:
            file.write(raw)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temp, path)
        if durable:
            sync_path(path.parent)
    except OSError as error:
        raise save_failed(path, error, len(raw)) from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def write_json(path: Path, value: Any) -> None:
    """atomic_write of readable JSON; NaN and infinities become null, because JSON has no word for them."""
    text = json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False, default=str)
    atomic_write(path, (text + "\n").encode("utf-8", "backslashreplace"))  # a lone surrogate becomes its JSON escape


def finite(value: Any) -> Any:
    """The same nested value with every non-finite float replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def save_failed(path: Path, error: BaseException, needed: int = 0) -> SaveFailed:
    """The message for a failed write: the path, the reason, and the bytes where space is the reason."""
    reason = getattr(error, "strerror", None) or str(error)
    message = f"cannot write {path}: {reason}"
    if is_disk_full(error):
        wanted = f"{needed:,} bytes were to be written, " if needed else ""
        message += f" ({wanted}{free_bytes(path):,} are free); make room or choose another folder"
    return SaveFailed(message)


def is_disk_full(error: BaseException) -> bool:
    return system_error(error) in _FULL or "No space left" in str(error)


def system_error(error: BaseException) -> int:
    """The system's number for a failed write, 0 where it is no such thing: also of libraries (safetensors) that wrap
    the system's error in their own exception and keep only its words."""
    words = re.search(r"os error (\d+)", str(error))
    return getattr(error, "errno", None) or (int(words[1]) if words else 0)


def free_bytes(path: Path) -> int:
    """Free bytes of the file system that holds (or would hold) the path; 0 when it can't be told."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return 0


def tree_bytes(folder: Path) -> int:
    """The sizes of all files below the folder, added up."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def make_folder(folder: Path) -> None:
    """Create the folder and prove that it can be written to; UserError before anything heavy happens."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = temp_beside(folder / "probe")
        probe.write_bytes(b"plaudit")
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, FileNotFoundError):  # /proc and its like
            reason = f"{next(above for above in folder.absolute().parents if above.exists())} takes no new folders"
        raise UserError(f"cannot write to the folder {str(folder)!r}: {reason}; choose another one") from error


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left behind. Call it only while holding the folder's lock."""
    for path in folder.glob(f"{TEMP_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
