"""Rows that a user holds in hand: texts, conversations, mappings, a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.config.load import load_config
from plaudit.config.objects import PythonObject, put_back
from plaudit.data.formats import prompt_row
from plaudit.data.options import DataConfig
from plaudit.data.reading import plain_value
from plaudit.data.sources import load, read_raw
from plaudit.data.turns import RowError
from plaudit.errors import UserError
from plaudit.records.text import Kind, PromptRow
from plaudit.telemetry.console import say


def load_data(source: Any, kind: str = "auto", **options: Any) -> list[dict[str, Any]]:
    """Rows of a file, a hub name (`hub:name:split`), a `datasets.Dataset` or a list, under plaudit's column names.

        rows = pl.load_data("rankings.jsonl", limit=100)
        rows = pl.load_data(dataset, "comparison", columns={"question": "prompt"})

    They are checked as a stage would check them, and can be handed to one.

    Args:
        kind: what a row teaches: demonstration, text, comparison, ranking, rating, verdict, prompt; auto: by its
            columns.
        options: those of `data`: columns, limit, on_bad_row, accept, prompt ...
    Raises: UserError naming the first bad rows.
    """
    path = source if isinstance(source, str | Path) else PythonObject("source", as_rows(source, "source"))
    config = load_config(DataConfig, {"path": str(path), "kind": kind, **options})
    if isinstance(path, PythonObject):
        config = put_back(config, {path: path})
    kinds = tuple(Kind) if kind == "auto" else (Kind(config.kind),)
    loaded = load(config, *kinds)
    say(f"{config.path}: {loaded}")
    bad = {row.where for row in loaded.bad}
    return [dict(raw) for where, raw in read_raw(config).raws if where not in bad]


def as_rows(value: Any, where: str) -> list[Any]:
    """Mappings out of what may be a list of texts or mappings, a datasets.Dataset, a data frame."""
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{where}: give a file, a list of rows, or a dict with `path`, not {type(value).__name__}")
    column = "text" if where.partition(".")[0] in ("data", "held_out", "ptx") else "prompt"
    rows = [_as_row(row, column) for row in _from_table(value)]
    if not rows:
        raise UserError(f"{where}: there are no rows")
    return rows


def _from_table(value: Any) -> Iterable[Any]:
    """The rows of a data frame or a data set as they were written; of anything else as they are."""
    if hasattr(value, "itertuples"):  # pandas; its NaN is our null
        value = value.astype(object).where(value.notna(), None).to_dict("records")
    elif not hasattr(value, "features"):  # a datasets.Dataset
        return value
    return [{name: plain_value(item) for name, item in row.items()} for row in value]


def _as_row(row: Any, column: str) -> Any:
    """A text under `column`, a conversation (a list of turns) under `messages`; anything else as it is."""
    if isinstance(row, str):
        return {column: row}
    is_conversation = isinstance(row, (list, tuple)) and bool(row) and all(isinstance(turn, Mapping) for turn in row)
    return {"messages": list(row)} if is_conversation else row


def prompt_rows(prompts: Sequence[Any]) -> list[PromptRow]:
    """Records of texts, conversations (lists of {role, content}) or mappings with a prompt, one each; records stay.

    Raises: UserError naming the first that can't be read.
    """
    if isinstance(prompts, str):
        raise UserError("prompts: give a list of them, not one text")
    rows = []
    for number, raw in enumerate(as_rows(prompts, "prompts")):
        try:
            is_record = isinstance(raw, PromptRow)
            rows.append(raw if is_record else prompt_row(raw, Kind.PROMPT, f"prompts row {number}"))
        except RowError as error:
            raise UserError(f"prompts row {number}: {error.column} {error.reason}") from error
    return rows
