"""Rows of files larger than memory: looked through once, then read where they lie, any row at any time.

The one pass checks every row and remembers where each 16th begins, so that memory grows by a byte a row at most. What
needs all rows at once can't be had (`refused`).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from plaudit.config.objects import PythonObject
from plaudit.data import tables
from plaudit.data.clean import drop_useless, prompt_key
from plaudit.data.formats import parse
from plaudit.data.kinds import Raw, recognise, samples
from plaudit.data.options import DataConfig
from plaudit.data.paths import LINES, TABLES, files_of, kind_of_file
from plaudit.data.reading import BLANK_LINE, HUB, SCHEMES, STDIN, Item, line_item, open_source, table_item
from plaudit.data.sources import BadRow, bad_rows, check_bad, check_config, renamed, reshape
from plaudit.data.turns import RowDropped, RowError
from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Kind, Text

STREAMED = (Kind.DEMONSTRATION, Kind.TEXT)
LOOKED_AT = 1000
"""Rows by which the kind and the columns of a file are told."""
_EVERY = 16
_CHUNK = 1 << 20

Learned: TypeAlias = Demonstration | Text
Position: TypeAlias = tuple[int, int, int]
"""Number of the file, byte and line at which a row begins."""


def refused(config: DataConfig) -> str:
    """What of a file's options needs all its rows at once, or a file that can be read from the middle on."""
    if config.path == STDIN or config.path.startswith(HUB) or config.path.partition("://")[0] in SCHEMES:
        return "streaming reads files"
    if config.accept or config.answers or config.min_gap:
        return "accept, answers and min_gap are for judged answers; streaming reads demonstrations and texts"
    return ""


def head(config: DataConfig) -> DataConfig:
    """The source with its first rows only, for whoever wants to look at some. UserError as `RowStream`."""
    files = _Files(config)
    items = [item.raw for _, item in itertools.islice(files.items(), LOOKED_AT)]
    rows = [tables.typed(raw) if files.is_text else raw for raw in items if isinstance(raw, Mapping)]
    return replace(config, path=PythonObject(config.path, rows, text=config.path))


class _Files:
    """The files of a source, read from any position on."""

    def __init__(self, config: DataConfig) -> None:
        """Raises: UserError for what can't be streamed."""
        if reason := refused(config):
            raise UserError(f"{config.path}: {reason}")
        self.names = files_of(config.path)
        able = {(ending, False) for ending in (*LINES, *TABLES)}
        if wrong := next((one for one in self.names if kind_of_file(one) not in able), ""):
            names = ", ".join((*LINES, *TABLES))
            raise UserError(f"{wrong}: streaming reads {names}, unpacked: they can be read from the middle on")
        self.states = self.seen_now()
        self._headers = [_header(file) for file in self.names]
        self.is_text = any(self._headers)

    def seen_now(self) -> list[tuple[int, int]]:
        """By which a change is noticed."""
        return [_state(file) for file in self.names]

    def items(self, begin: Position = (0, 0, 1)) -> Iterator[tuple[Position, Item]]:
        """Every line from there on, into the next files."""
        for number in range(begin[0], len(self.names)):
            byte, line = begin[1:] if number == begin[0] else (0, 1)
            yield from self._items_of_file(number, byte, line)

    def _items_of_file(self, number: int, byte: int, line: int) -> Iterator[tuple[Position, Item]]:
        path, header = self.names[number], self._headers[number]
        with open(path, "rb") as file:
            file.seek(byte)
            lines = _Lines(file, path, byte, line)
            if not header:
                for text in lines.raw():
                    yield (number, lines.before, lines.line - 1), line_item(f"{path}:{lines.line - 1}", text)
                return
            delimiter = tables.delimiter_of(kind_of_file(path)[0])
            position = (number, byte, line)
            for begins, row in tables.records_from(lines.texts(), list(header), delimiter, line):
                if not (byte == 0 and position[1] == 0):  # the header itself
                    yield position, table_item(f"{path}:{begins}", row)
                position = (number, lines.byte, lines.line)


class RowStream:
    """The rows of a source by number, as demonstrations or texts, without holding them."""

    def __init__(self, config: DataConfig, measured: Collection[str] = ()) -> None:
        """Looks through all of it. `measured`: prompt keys of held-out rows, which are looked for.

        Raises: UserError as `sources.load`, and for what can't be streamed.
        """
        check_config(config)
        self.config, self._files = config, _Files(config)
        files = self._files.names
        hashes = {file: _sha256(file) for file in files}
        together = hashlib.sha256("\n".join(hashes.values()).encode()).hexdigest()
        self.fingerprints = hashes if files == [config.path] else {config.path: together, **hashes}
        self.dropped: Counter[str] = Counter()
        """Lines that teach nothing, by reason."""
        self.first = self._looked_at()
        self._positions = (array("Q"), array("Q"), array("Q"))
        self.shared = 0
        """Rows whose prompt is one of `measured`."""
        self._count(measured)

    def __len__(self) -> int:
        return self._length

    def __str__(self) -> str:
        left = [f"{count:,} {reason}" for reason, count in self.dropped.items()]
        left += [f"{len(self.bad):,} bad, skipped"] if self.bad else []
        return f"{len(self):,} rows of {self.kind.value} data, streamed" + (f" ({'; '.join(left)})" if left else "")

    def rows(self, number: int) -> tuple[Learned, ...]:
        """What row `number` teaches: one demonstration for each answer of a conversation that is learned, or a text."""
        now = self._files.seen_now()
        if now != self._files.states:
            pairs = zip(self._files.names, self._files.states, now, strict=True)
            changed = next(file for file, old, new in pairs if old != new)
            raise UserError(f"{changed}: changed while it was read; put it back and go on with `plaudit resume`")
        block, skip = divmod(number, _EVERY)
        file, byte, line = (column[block] for column in self._positions)
        every = (self._learned(item, [], Counter()) for _, item in self._files.items((file, byte, line)))
        return next(itertools.islice(filter(None, every), skip, None))

    # ---- the pass

    def _looked_at(self) -> tuple[Learned, ...]:
        """The kind and the columns, told by the first rows; these rows."""
        bad: list[BadRow] = []
        raws: list[tuple[str, Raw]] = []
        for _, item in itertools.islice(self._files.items(), LOOKED_AT):
            if isinstance(item.raw, Mapping):
                raws.append((item.where, self._renamed(item.raw)))
        self.columns = tuple(dict.fromkeys(column for _, raw in raws for column in raw))
        if not raws:
            raise UserError(f"{self.config.path}: none of its first {LOOKED_AT} rows can be read")
        if lacking := next((old for old, new in self.config.columns.items() if new not in self.columns), ""):
            raise UserError(f"{self.config.path}: `columns` renames {lacking!r}, which no row has")
        plain = [raw for _, raw in reshape(raws, self.columns, self.config, bad, Counter())]
        kind = self.config.kind
        self.kind = Kind(kind) if kind != "auto" else recognise(samples(plain), STREAMED, source=self.config.path)
        if self.kind not in STREAMED:
            raise UserError(
                f"{self.config.path}: holds {self.kind.value} rows; streaming reads demonstrations and plain text as "
                "they are, and converts nothing: leave `streaming` out, or write the rows anew"
            )
        items = (item for _, item in itertools.islice(self._files.items(), LOOKED_AT))
        return tuple(row for item in items for row in self._learned(item, [], Counter()))

    def _count(self, measured: Collection[str]) -> None:
        """Fill in where rows begin; check each of them."""
        bad: list[BadRow] = []
        self._length = total = 0
        for position, item in self._files.items():
            if self.config.limit and total - len(bad) == self.config.limit:
                break
            total += item.raw is not None
            rows = self._learned(item, bad, self.dropped)
            if bad and self.config.on_bad_row == "error" and len(bad) >= 3:
                raise bad_rows(bad, "")
            if not rows:
                continue
            if self._length % _EVERY == 0:
                for column, number in zip(self._positions, position, strict=True):
                    column.append(number)
            self._length += 1
            self.shared += bool(measured) and any(prompt_key(row) in measured for row in rows)
        check_bad(self.config, self.kind, bad, total)
        self.bad = tuple(bad)
        if not self._length:
            raise UserError(f"{self.config.path}: no row is left")

    def _learned(self, item: Item, bad: list[BadRow], dropped: Counter[str]) -> tuple[Learned, ...]:
        """The rows of one line; none where it is blank or teaches nothing (`dropped`), or is `bad`."""
        if item.raw is None:
            dropped[BLANK_LINE] += 1
            return ()
        try:
            if isinstance(item.raw, RowError):
                raise item.raw
            raws = reshape([(item.where, self._renamed(item.raw))], self.columns, self.config, bad, dropped)
            rows = [row for _, raw in raws for row in parse(raw, self.kind, item.where, learn=self.config.learn)]
        except RowError as error:
            bad.append(BadRow(where=item.where, column=error.column, reason=error.reason))
            return ()
        except RowDropped as drop:
            dropped[drop.reason] += 1
            return ()
        useful, useless = drop_useless(rows)
        dropped.update(useless)
        return tuple(row for row in useful if isinstance(row, Demonstration | Text))

    def _renamed(self, raw: Raw) -> Raw:
        row = renamed(raw, self.config.columns) if self.config.columns else raw
        return tables.typed(row) if self._files.is_text else row


class _Lines:
    """Lines of a file, with the byte and the line at which the next one begins."""

    def __init__(self, file: Any, path: str, byte: int, line: int) -> None:
        self._file, self._path = file, path
        self.byte, self.line, self.before = byte, line, byte

    def raw(self) -> Iterator[bytes]:
        for text in self._file:
            self.before = self.byte
            self.byte += len(text)
            self.line += 1
            yield text.removeprefix(b"\xef\xbb\xbf") if self.before == 0 else text

    def texts(self) -> Iterator[str]:
        for text in self.raw():
            try:
                yield text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{self._path}:{self.line - 1}: byte 0x{text[error.start]:02x} is not UTF-8.") from None


def _header(path: str) -> tuple[str, ...]:
    """Of a table its columns; nothing for a file of JSON lines."""
    ending = kind_of_file(path)[0]
    if ending not in TABLES:
        return ()
    with open(path, encoding="utf-8-sig", newline="") as file:
        _, first = next(tables.cells(file, tables.delimiter_of(ending)), (1, None))
    if isinstance(first, RowError) or not first:
        raise UserError(f"{path}:1: the header can't be read")
    return tuple(tables.header_of(first, path))


def _state(path: str) -> tuple[int, int]:
    known = os.stat(path)
    return known.st_size, known.st_mtime_ns


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        open_source(path)  # says what is wrong
        raise
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error}") from None
    return digest.hexdigest()
