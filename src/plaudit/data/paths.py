"""Which files a path means: one file, those of a folder, or those that a glob matches; always in the same order."""

from __future__ import annotations

import glob
from pathlib import Path

from plaudit.errors import UserError

TABLES = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
ENDINGS = (*LINES, ".json", *TABLES, ".parquet")


def kind_of_file(path: str) -> tuple[str, bool]:
    """(the ending that says what it holds, whether it is packed by gzip); "" for an ending that nobody reads."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    zipped = suffixes[-1:] == [".gz"]
    ending = (suffixes[-2:-1] if zipped else suffixes[-1:]) or [""]
    known = ending[0] in ENDINGS and not (zipped and ending[0] == ".parquet")
    return (ending[0] if known else "", zipped)


def is_several(path: str) -> bool:
    """Whether it names a folder or is a glob. A file whose name has such characters is a file."""
    return Path(path).is_dir() or (glob.has_magic(path) and not Path(path).exists())


def files_of(path: str) -> list[str]:
    """The files, sorted by their names as texts: of a folder those directly in it with an ending that is read; of a
    glob (`**` goes into folders) all that match. Hidden ones are left out. Raises: UserError where there is none."""
    if not is_several(path):
        return [path]
    if Path(path).is_dir():
        inside = sorted(str(one) for one in Path(path).iterdir() if one.is_file() and not one.name.startswith("."))
        files = [one for one in inside if kind_of_file(one)[0]]
        if not files:
            raise UserError(f"{path}: the folder has no file that can be read ({', '.join(ENDINGS)}).")
        return files
    files = sorted(one for one in glob.glob(path, recursive=True) if Path(one).is_file())
    if not files:
        raise UserError(f"{path}: no file matches (looked in {Path.cwd()}).")
    return files
