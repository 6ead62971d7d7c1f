"""Files of JSON lines as a killed run leaves them: what can be read, and what is wrong with the rest."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HALF = "is half-written"


def read_lines(path: Path, bad: list[tuple[int, str]]) -> list[tuple[bytes, dict[str, Any]]]:
    """(as written, its object) of each line of a .jsonl or .jsonl.gz file; none where there is no file.

    What can't be read goes into `bad`: (the line's number, what is wrong); number 0 is the file itself.
    """
    rows: list[tuple[bytes, dict[str, Any]]] = []
    for number, raw in enumerate(_raw_lines(path, bad), start=1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            bad.append((number, "is not JSON" if raw.endswith(b"\n") else HALF))
            continue
        if isinstance(value, dict):
            rows.append((raw, value))
        else:
            bad.append((number, "is not an object"))
    return rows


def _raw_lines(path: Path, bad: list[tuple[int, str]]) -> Iterator[bytes]:
    """Lines with their ends; a compressed file that was cut off gives what comes before the cut."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return
    except (EOFError, zlib.error, gzip.BadGzipFile):
        bad.append((0, "the file is cut off; read as far as it goes"))
    except OSError as error:
        bad.append((0, f"can't be read: {error}"))
