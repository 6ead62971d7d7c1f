"""Small files for the tests of the data room."""

import json
from pathlib import Path
from typing import Any

from plaudit.data.options import DataConfig
from plaudit.data.sources import LoadedFile, load
from plaudit.records.text import Form, Kind, Message, Prompt


def write(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> str:
    """JSON Lines of these objects; the path, as a string."""
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_bytes(folder: Path, data: bytes, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def load_rows(folder: Path, rows: list[Any], *kinds: Kind, **options: Any) -> LoadedFile:
    return load(DataConfig(path=write(folder, rows), **options), *kinds)


def plain(text: str) -> Prompt:
    return Prompt.of_text(text)


def chat(*turns: tuple[str, str]) -> Prompt:
    return Prompt(form=Form.CHAT, turns=tuple(Message(role=role, content=content) for role, content in turns))


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
