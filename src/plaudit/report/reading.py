"""Reading the files of a run that may have been killed at any moment: nothing raises, what can't be read is told."""

import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_PROBLEMS_PER_FILE = 3

_SURROGATES = re.compile("[\ud800-\udfff]")
# Control characters have no place in HTML: C0 are shown by their pictures (␀ …), C1 by the replacement mark.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)

# Marks of direction, of width zero, of lines: they act on the text around them. Joiners (emoji, Persian) may stay.
_TRICKS = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]")


def clean_text(value: Any) -> str:
    """Any value as text that UTF-8 and HTML can carry: lone surrogates replaced, control characters made visible."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return _SURROGATES.sub("\ufffd", text).translate(_CONTROLS)


def visible(text: str, line_break: str = "↵\n") -> str:
    """Clean text in which nothing moves, hides or turns round what stands beside it: neither terminals nor pages take
    orders from it, and single tokens can be told apart."""
    coded = _TRICKS.sub(lambda match: f"\\u{ord(match[0]):04x}", clean_text(text))
    return coded.replace("\t", "⇥").replace("\n", line_break)


def clean(value: Any) -> Any:
    """A value as JSON or YAML gave it, with every string in it (keys too) passed through `clean_text`."""
    if isinstance(value, dict):
        return {clean_text(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return clean_text(value) if isinstance(value, str) else value


def number(value: Any) -> float | None:
    """A float, not necessarily finite; None where the value isn't a number (null, text, a flag)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def finite(value: Any) -> float | None:
    as_float = number(value)
    return as_float if as_float is not None and math.isfinite(as_float) else None


def whole(value: Any) -> int | None:
    known = finite(value)
    return None if known is None else int(known)


def read_text(path: Path, problems: list[str]) -> str:
    """The whole file as clean text; "" where there is none. Bytes that aren't UTF-8 become replacement marks."""
    try:
        return clean_text(path.read_bytes().decode("utf-8", "replace"))
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.append(f"{path.name} can't be read: {clean_text(error)}")
        return ""


def read_mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    """The mapping that a JSON or YAML file (by its suffix) holds; {} where absent, or unreadable, which is told."""
    text = read_text(path, problems)
    if not text.strip():
        return {}
    try:
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        problems.append(f"{path.name} can't be read: {clean_text(error).splitlines()[0]}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} holds {type(value).__name__}, not a mapping; left out")
        return {}
    return clean(value)


def read_json_lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file, in order. Other lines are left out and told, by number."""
    # Only an escape, a byte beyond ASCII or DEL can bring in what needs cleaning: long logs have none of them.
    return [
        clean(row) if b"\\" in raw or b"\x7f" in raw or not raw.isascii() else row
        for raw, row in _objects(path, problems)
    ]


def read_rows_as_written(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """As `read_json_lines`, with the texts as they are: for machines, never for a page or a terminal."""
    return [row for _, row in _objects(path, problems)]


def _objects(path: Path, problems: list[str]) -> list[tuple[bytes, dict[str, Any]]]:
    rows: list[tuple[bytes, dict[str, Any]]] = []
    bad: list[str] = []
    for line_number, raw in enumerate(_lines(path, bad), start=1):
        if not raw.strip():
            continue
        try:
            value = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            half = not raw.endswith(b"\n")
            bad.append(f"line {line_number} is {'half-written' if half else 'not JSON'}; left out")
            continue
        if isinstance(value, dict):
            rows.append((raw, value))
        else:
            bad.append(f"line {line_number} is not an object; left out")
    problems.extend(f"{path.name}: {text}" for text in bad[:MAX_PROBLEMS_PER_FILE])
    if len(bad) > MAX_PROBLEMS_PER_FILE:
        problems.append(f"{path.name}: {len(bad) - MAX_PROBLEMS_PER_FILE} more like these")
    return rows


def _lines(path: Path, bad: list[str]) -> Iterator[bytes]:
    """Lines with their ends; a compressed file that was cut off gives what comes before the cut."""
    if not path.exists():
        return
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile):
        bad.append("the file is cut off; read as far as it goes")
    except OSError as error:
        bad.append(f"can't be read: {clean_text(error)}")
