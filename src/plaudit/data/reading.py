"""Bytes of files -> raw rows, each with the place it came from. Nothing is repaired in silence.

JSON Lines: blank lines are passed over (counted), a byte-order mark and CRLF are accepted; whatever else is not one
JSON object a line is a bad row. A JSON list must be sound as a whole. Text must be UTF-8, without NUL and without lone
surrogates. Tables of text (`tables`) are read by the same rules.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import itertools
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from plaudit.config.objects import behind
from plaudit.data import tables
from plaudit.data.paths import TABLES, files_of, is_several, kind_of_file
from plaudit.data.turns import RowError, type_name
from plaudit.errors import UserError

HUB = "hub:"
SCHEMES = {"label": "plaudit.feedback.exchange:rows_behind"}
"""Scheme of a path (`label://…`) → what gives its rows, in a room above this one: imported when asked for."""
STDIN = "-"
"""The path of standard input: JSON lines, or a JSON list."""
BLANK_LINE = "blank"

_BOM = b"\xef\xbb\xbf"
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_TRAILING_COMMA = re.compile(r",\s*[}\]]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One row as the source gave it: `raw` is the object, or what is wrong with it, or None for a blank line."""

    where: str
    raw: Mapping[str, Any] | RowError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source's rows and its fingerprint (sha256 of the file's bytes; of the rows, for a hub name)."""

    items: Iterator[Item]
    fingerprint: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Of a folder or a glob: each file's sha256; `fingerprint` is then that of names and these."""
    is_text: bool = False
    """Whether all values are text: a table's cells."""


def open_source(path: str) -> Source:
    """Read a file (.jsonl, .json, .csv, .tsv, each also .gz; .parquet), those of a folder or a glob, `-`, a hub name
    (`hub:name[:split]`) or what stands behind a scheme (`label://PROJECT`).

    Behind the path may stand rows of the caller's (config.objects): any iterable of mappings, read as a file's rows.
    """
    if (rows := behind(path)) is not None:
        return _rows_in_memory(rows, path)
    if path.startswith(HUB):
        return _open_hub(path)
    scheme, _, rest = path.partition("://")
    if scheme in SCHEMES:
        rows = list(resolve_name(SCHEMES[scheme])(rest))
        return Source(items=_checked(iter(rows), path), fingerprint=_fingerprint(rows))
    if is_several(path):
        sources = {file: _open_file(file) for file in files_of(path)}
        files = {file: source.fingerprint for file, source in sources.items()}
        return Source(
            items=itertools.chain.from_iterable(source.items for source in sources.values()),
            fingerprint=_fingerprint([files]),
            files=files,
            is_text=any(source.is_text for source in sources.values()),
        )
    return _open_file(path)


def _open_file(path: str) -> Source:
    data = _read_bytes(path)
    fingerprint = hashlib.sha256(data).hexdigest()
    ending, _ = kind_of_file("stdin.json" if path == STDIN else path)
    if ending == ".parquet":
        return Source(items=_parquet_items(data, path), fingerprint=fingerprint)
    if not ending:
        raise UserError(
            f"{path}: plaudit reads .jsonl, .json (a list), .csv, .tsv (each also .gz), .parquet and hub:name, "
            f"not {''.join(Path(path).suffixes).lower() or 'a name without an ending'}. "
            'Plain text becomes .jsonl with one {"text": "..."} a line.'
        )
    text = _unzipped(data, path).removeprefix(_BOM)
    if ending in TABLES:
        return Source(items=_table_items(text, path, ending), fingerprint=fingerprint, is_text=True)
    if ending == ".json" and text.lstrip()[:1] == b"[":
        return Source(items=_list_items(text, path), fingerprint=fingerprint)
    return Source(items=_line_items(text, path), fingerprint=fingerprint)


def _rows_in_memory(rows: Iterable[Any], path: str) -> Source:
    """Copies; what JSON can't say is a bad row. Fingerprint: sha256 of all rows as JSON."""
    digest = hashlib.sha256()

    def read(row: Any) -> Mapping[str, Any]:
        if not isinstance(row, Mapping):
            raise RowError("-", f"is {type_name(row)}, not a mapping of columns to values")
        try:
            line = json.dumps(dict(row), ensure_ascii=True).encode()
        except (TypeError, ValueError) as error:
            raise RowError("-", f"can't be written as JSON: {error}") from None
        digest.update(line + b"\n")
        return parse_line(line)

    items = [_item(f"{path} row {number}", lambda row=row: read(row)) for number, row in enumerate(rows)]
    return Source(items=iter(items), fingerprint=digest.hexdigest())


@functools.cache
def _standard_input() -> bytes:
    """It can be read once, and some look at their rows twice."""
    return sys.stdin.buffer.read()


def _read_bytes(path: str) -> bytes:
    if path == STDIN:
        return _standard_input()
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        hint = f"looked in {Path.cwd()}; a hub data set is written hub:name"
        raise UserError(f"{path}: no such file ({hint}).") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name the file in it.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read: {error}") from None


def _unzipped(data: bytes, path: str) -> bytes:
    """Gzip is told by its first bytes, so a misnamed file is read rightly. Several members in a row are one text."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except EOFError:
        raise UserError(f"{path}: the gzip data is cut short; copy or download the file again.") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: the gzip data is damaged: {error}") from None


# --------------------------------------------------------------------------------------------------------- JSON


def _refuse_utf16(data: bytes, path: str) -> None:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: is UTF-16; save it as UTF-8.")


def _line_items(data: bytes, path: str) -> Iterator[Item]:
    _refuse_utf16(data, path)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield line_item(f"{path}:{number}", line)


def line_item(where: str, line: bytes) -> Item:
    text = line.strip()
    return _item(where, lambda: parse_line(text) if text else None)


def _item(where: str, read: Callable[[], Mapping[str, Any] | None]) -> Item:
    try:
        return Item(where=where, raw=read())
    except RowError as error:
        return Item(where=where, raw=error)


def parse_line(line: bytes) -> Mapping[str, Any]:
    """One line of JSON Lines -> its object. Raises RowError (column `-`) with what is wrong and where in the line."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError("-", f"byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8") from None
    try:
        raw = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise RowError("-", _syntax_reason(text, error)) from None
    except (ValueError, RecursionError) as error:
        raise RowError("-", f"not JSON that can be read: {error}") from None
    return _sound_row(raw, suspect=_SUSPECT_ESCAPE.search(text) is not None)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in row if keys.count(key) > 1)
        raise RowError(twice, "stands twice in one object")
    return row


def _syntax_reason(text: str, error: json.JSONDecodeError) -> str:
    position = f"not valid JSON at character {error.pos + 1}"
    if "\0" in text:
        return "holds a NUL byte"
    if text.endswith(","):
        return f"{position}: a comma after the object; JSON Lines has none"
    if _TRAILING_COMMA.match(text.rstrip(), max(text.rfind(",", 0, error.pos + 1), 0)):
        return f"{position}: a comma before a closing bracket"
    if text in ("{", "["):
        return f"{position}: the object must stand on one line (a JSON list is read from a .json file)"
    return f"{position}: {error.msg}"


def _decoded(data: bytes, path: str) -> str:
    """Of a file that is read whole or not at all."""
    _refuse_utf16(data, path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8.") from None


def _table_items(data: bytes, path: str, ending: str) -> Iterator[Item]:
    lines = io.StringIO(_decoded(data, path), newline="")
    for line, row in tables.records(lines, path, tables.delimiter_of(ending)):
        yield table_item(f"{path}:{line}", row)


def table_item(where: str, row: Mapping[str, Any] | RowError | None) -> Item:
    if row is None or isinstance(row, RowError):
        return Item(where=where, raw=row)
    return _item(where, lambda: _sound_row(row, suspect=True))


def _list_items(data: bytes, path: str) -> Iterator[Item]:
    text = _decoded(data, path)
    suspect = _SUSPECT_ESCAPE.search(text) is not None
    line, counted = 1, 0
    for index, (start, value) in enumerate(_list_values(text, path)):
        line += text.count("\n", counted, start)
        counted = start
        yield _item(f"{path}:{line} (item {index})", lambda row=value: _sound_row(row, suspect=suspect))


def _list_values(text: str, path: str) -> Iterator[tuple[int, Any]]:
    """(position, value) of each item of a JSON list; item by item, so that each item's line is known."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    position = _skip_blanks(text, text.index("[") + 1)
    while text[position : position + 1] != "]":
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _broken_list(path, text, error.pos, _syntax_reason(text, error)) from None
        except (RowError, ValueError, RecursionError) as error:
            raise _broken_list(path, text, position, str(error)) from None
        yield position, value
        position = _skip_blanks(text, end)
        if text[position : position + 1] == ",":
            position = _skip_blanks(text, position + 1)
        elif text[position : position + 1] != "]":
            raise _broken_list(path, text, position, "a comma or the closing ] is missing")
    rest = _skip_blanks(text, position + 1)
    if rest < len(text):
        raise _broken_list(path, text, rest, "something follows the list")


def _broken_list(path: str, text: str, position: int, reason: str) -> UserError:
    line = text.count("\n", 0, position) + 1
    return UserError(f"{path}:{line}: {reason}. A JSON list is read whole or not at all; correct the file.")


_BLANKS = re.compile(r"[ \t\r\n]*")


def _skip_blanks(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match else position


def _sound_row(raw: Any, *, suspect: bool) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise RowError("-", f"a row must be an object {{...}}, not {type_name(raw)}")
    if suspect:
        for column, value in raw.items():
            reason = unsound_text(column) or unsound_text(value)
            if reason:
                raise RowError(column.encode("utf-8", "backslashreplace").decode("utf-8"), reason)
    return raw


def unsound_text(value: Any) -> str:
    """What is wrong with the strings in a value (NUL, lone surrogates), or nothing."""
    if isinstance(value, str):
        if "\0" in value:
            return f"holds a NUL character at position {value.index(chr(0))}"
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"holds a lone surrogate \\u{ord(value[error.start]):04x} at position {error.start}"
        return ""
    if isinstance(value, Mapping):
        return next((r for pair in value.items() for r in map(unsound_text, pair) if r), "")
    if isinstance(value, list):
        return next((r for r in map(unsound_text, value) if r), "")
    return ""


# ---------------------------------------------------------------------------------------------------- parquet, hub


def _parquet_items(data: bytes, path: str) -> Iterator[Item]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise UserError(f"{path}: reading parquet needs pyarrow: pip install pyarrow") from None
    try:
        batches = parquet.ParquetFile(arrow.BufferReader(data)).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from _checked(rows, path)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a parquet file that can be read: {error}") from None


def _checked(rows: Iterator[dict[str, Any]], name: str) -> Iterator[Item]:
    for number, row in enumerate(rows, 1):
        plain = {column: plain_value(value) for column, value in row.items()}
        yield _item(f"{name} row {number}", lambda row=plain: _sound_row(row, suspect=True))


def plain_value(value: Any) -> Any:
    """A table's value as JSON would have it. All objects of a column have the fields of each of them there, so that a
    field that is null is one that this object doesn't have: a tool call's arguments would else hold all tools'."""
    if isinstance(value, Decimal):
        return float(value)
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy's, in data frames
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items() if item is not None}
    return [plain_value(item) for item in value] if isinstance(value, list) else value


def _open_hub(path: str) -> Source:
    """`hub:name` (split `train`) or `hub:name:split`. The one place where `datasets` is imported."""
    name, _, part = path.removeprefix(HUB).partition(":")
    try:
        import datasets
    except ImportError:
        raise UserError(f"{path}: hub names need the package `datasets`: pip install datasets") from None
    try:
        rows = list(datasets.load_dataset(name, split=part or "train"))
    except Exception as error:  # whatever the hub, the network or a loading script raises, the user reads one message
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    return Source(items=_checked(iter(rows), path), fingerprint=_fingerprint(rows))


def _fingerprint(rows: Iterable[Mapping[str, Any]]) -> str:
    """Of rows that are no file's bytes."""
    lines = "\n".join(json.dumps(row, sort_keys=True, default=str) for row in rows)
    return hashlib.sha256(lines.encode()).hexdigest()
