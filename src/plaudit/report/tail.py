"""Files of JSON lines that grow while they are read: what is new since a byte offset, or a few lines of all of it."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from plaudit.report.reading import clean

CHUNK = 1 << 18
"""Bytes that are read at once; other threads wait no longer than it takes to parse them."""
LONGEST = 1 << 26
"""Bytes of a line; what is longer is no line of a run."""
REMEMBERED = 64
"""Bytes before the offset by which a file is known again."""

Lines = list[dict[str, Any]]


@dataclass(slots=True)
class Tail:
    """Follows one file. A half-written line waits for its end; a file that was truncated or replaced begins anew."""

    path: Path
    offset: int = 0
    """Bytes that were read: whole lines."""
    bad: int = 0
    """Lines that were no JSON objects."""
    at_end: bool = False
    """Whether the last reading left nothing, but perhaps a half-written line."""
    _before: bytes = b""
    _inode: int = field(default=0)

    def read(self, limit: int = CHUNK) -> tuple[Lines, bool]:
        """The next lines, about `limit` bytes of them, and whether the file begins anew with them."""
        try:
            with open(self.path, "rb") as file:
                anew = not self._goes_on(file)
                if anew:
                    self.offset, self.bad, self._before = 0, 0, b""
                file.seek(self.offset)
                raw = file.read(limit)
                while b"\n" not in raw and limit <= len(raw) < LONGEST and (more := file.read(limit)):
                    raw += more
        except OSError:
            anew = self.offset > 0
            self.offset, self.bad, self._before, self.at_end = 0, 0, b"", True
            return [], anew
        self.at_end = len(raw) < limit
        whole = raw[: raw.rfind(b"\n") + 1]
        self.offset += len(whole)
        self._before = (self._before + whole)[-REMEMBERED:]
        pieces = whole.splitlines()
        lines = objects(pieces)
        self.bad += sum(1 for piece in pieces if piece.strip()) - len(lines)
        return lines, anew

    @property
    def share(self) -> float:
        """How much of the file was read."""
        try:
            size = os.stat(self.path).st_size
        except OSError:
            return 1.0
        return 1.0 if self.at_end or not size else min(1.0, self.offset / size)

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether the file still has what was read of it: same file, not shorter, the same bytes before the offset."""
        known = os.fstat(file.fileno())
        same = self.offset == 0 or (known.st_ino == self._inode and known.st_size >= self.offset)
        self._inode = known.st_ino
        if not same or not self.offset:
            return same
        file.seek(self.offset - len(self._before))
        return file.read(len(self._before)) == self._before


def sampled(path: Path, count: int) -> Lines:
    """About `count` lines at even distances, the first and the last whole one among them; all of a short file."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= CHUNK // 4:
                file.seek(0)
                raw = file.read()
                return objects(raw[: raw.rfind(b"\n") + 1].splitlines())
            lines_at: dict[int, bytes] = {}
            for index in range(count):
                file.seek(size * index // count)
                if index:
                    file.readline(LONGEST)
                at, line = file.tell(), file.readline(LONGEST)
                if line.endswith(b"\n"):
                    lines_at[at] = line
            _add_last(file, size, lines_at)
            return objects(lines_at[at] for at in sorted(lines_at))
    except OSError:
        return []


def _add_last(file: BinaryIO, size: int, lines_at: dict[int, bytes]) -> None:
    """The last whole line, from the last sampled one on."""
    begin = max(lines_at, default=0)
    file.seek(begin)
    raw = file.read(size - begin)
    end = raw.rfind(b"\n")
    if end > 0:
        start = raw.rfind(b"\n", 0, end) + 1
        lines_at[begin + start] = raw[start : end + 1]


def objects(lines: Iterable[bytes]) -> Lines:
    """What is a JSON object, its texts clean."""
    rows: Lines = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            is_plain = line.isascii() and b"\\" not in line and b"\x7f" not in line
            rows.append(row if is_plain else clean(row))
    return rows
