"""Reading the files of a run that may have been killed at any moment: nothing raises, what can't be read is told."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from plaudit.telemetry.lines import read_lines
from plaudit.telemetry.visible import clean_text

MAX_PROBLEMS_PER_FILE = 3

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the safe one in C, five times as quick, where it was built


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
        value = json.loads(text) if path.suffix == ".json" else _YAML(text).get_single_data()
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        problems.append(f"{path.name} can't be read: {clean_text(error).splitlines()[0]}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name} holds {type(value).__name__}, not a mapping; left out")
        return {}
    return clean(value)


def read_json_lines(path: Path, problems: list[str], *, as_written: bool = False) -> list[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file, in order. Other lines are left out and told, by number.

    `as_written`: the texts as they are, for machines, never for a page or a terminal.
    """
    bad: list[tuple[int, str]] = []
    rows = read_lines(path, bad)
    sentences = (f"line {number} {text}; left out" if number else clean_text(text) for number, text in bad)
    problems.extend(f"{path.name}: {text}" for text in islice(sentences, MAX_PROBLEMS_PER_FILE))
    if len(bad) > MAX_PROBLEMS_PER_FILE:
        problems.append(f"{path.name}: {len(bad) - MAX_PROBLEMS_PER_FILE} more like these")
    # Only an escape, a byte beyond ASCII or DEL can bring in what needs cleaning: long logs have none of them.
    strange = (not as_written and (b"\\" in raw or b"\x7f" in raw or not raw.isascii()) for raw, _ in rows)
    return [clean(row) if is_strange else row for is_strange, (_, row) in zip(strange, rows, strict=True)]
