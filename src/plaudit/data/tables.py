"""CSV and TSV: a header, then a record a row. All cells are text; which of them are numbers or lists is told by their
columns' names, once these are plaudit's."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plaudit.data.turns import RowError
from plaudit.errors import UserError

TYPED = frozenset(
    (
        "score", "scores", "rank", "ranks", "best", "margin", "label", "responses", "reviews", "votes", "annotations",
        "majority", "messages", "conversation", "conversations", "history", "references", "prompt_rendered",
    )
)  # fmt: skip
"""Columns of numbers, truth values and lists: a cell there is read as JSON where it is JSON, and an empty one is
absent. All others are text as it stands, so that a prompt `12` stays a prompt."""
Record = tuple[int, dict[str, Any] | RowError | None]
"""Line on which it begins, and what it holds; None where the line is blank."""


def delimiter_of(ending: str) -> str:
    return "\t" if ending == ".tsv" else ","


def header_of(cells: list[str], path: str) -> list[str]:
    """Raises: UserError for a header by which cells can't be told apart."""
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}:1: the header has the column {twice!r} twice.")
    return names


def records(lines: Iterator[str], path: str, delimiter: str) -> Iterator[Record]:
    """Every record of a table whose first line is the header. A damaged one is a RowError, and the next is read."""
    header: list[str] = []
    for line, record in cells(lines, delimiter):
        if not header:
            if isinstance(record, RowError):
                raise UserError(f"{path}:1: the header can't be read: {record.reason}")
            header = header_of(record, path)
        else:
            yield line, as_row(record, header)


def records_from(lines: Iterator[str], header: list[str], delimiter: str, line: int) -> Iterator[Record]:
    """The same from a record in the middle on, which stands on that `line`."""
    for begins, record in cells(lines, delimiter, line):
        yield begins, as_row(record, header)


def cells(lines: Iterable[str], delimiter: str, first: int = 1) -> Iterator[tuple[int, list[str] | RowError]]:
    """(line on which it begins, cells) of every record; the first is on the line `first`."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = first + reader.line_num
        try:
            yield line, next(reader)
        except csv.Error as error:
            yield line, RowError("-", f"not a sound record: {error}")
        except StopIteration:
            return


def as_row(record: list[str] | RowError, header: list[str]) -> dict[str, Any] | RowError | None:
    if isinstance(record, RowError):
        return record
    if not record:
        return None
    if len(record) != len(header):
        return RowError("-", f"has {len(record)} cells, the header has {len(header)}")
    return dict(zip(header, record, strict=True))


def typed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the cells of `TYPED` columns as what they say."""
    return {column: _value(cell) if column in TYPED else cell for column, cell in row.items()}


def _value(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if text in ("True", "False"):  # as pandas writes them
        return text == "True"
    try:
        return json.loads(text) if text else None
    except ValueError:
        return cell
