"""What a config class offers: its options with their docs, as help text and as commented YAML."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import itertools
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from plaudit.config.read import dump_entry
from plaudit.config.types import (
    arms,
    default_of,
    element_type,
    field_types,
    kinds,
    list_type,
    members,
    optional,
    short_name,
    to_plain,
)

REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One dotted option of a config class."""

    name: str
    """As on the command line, without the dashes: `critic.head`, `data.N.path`."""
    type: str
    """In a word or two."""
    default: str
    """As one would write it, or `required`."""
    doc: str
    """The field's docstring, in one line."""


@functools.cache
def field_docs(cls: type) -> Mapping[str, str]:
    """Field name -> the string literal under it, in one line; inherited ones included. Empty where no source is."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):
            continue
        statements = getattr(body, "body", [])
        for field, below in itertools.pairwise(statements):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if (
                isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and (isinstance(below.value.value, str))
            ):
                docs[field.target.id] = " ".join(below.value.value.split())
    return docs


def describe(cls: type) -> list[Option]:
    """All options of a config class, dotted, in the order of the fields."""
    return list(_options(cls, "", dataclasses.MISSING, ""))


def _options(cls: type, prefix: str, default: Any, note: str) -> Iterator[Option]:
    for field in dataclasses.fields(cls):
        tp = field_types(cls).get(field.name)
        if tp is None or (note and field.name == "kind"):
            continue
        value = getattr(default, field.name) if type(default) is cls else default_of(field)
        doc = note + field_docs(cls).get(field.name, "")
        yield from _field_options(tp, prefix + field.name, value, doc, note)


def _field_options(tp: Any, name: str, value: Any, doc: str, note: str) -> Iterator[Option]:
    element = element_type(list_type(tp), 0) if list_type(tp) is not None else None
    if element is not None and arms(element):
        yield Option(name=name, type="list", default=_shown(value), doc=doc)
        yield from _field_options(element, f"{name}.N", dataclasses.MISSING, doc, note)
        return
    choices = arms(tp)
    if not choices:
        yield Option(name=name, type=short_name(tp), default=_shown(value), doc=doc)
    elif len(choices) == 1:
        if optional(tp) or len(members(tp)) > 1:
            words = [short_name(member) for member in members(tp) if not arms(member)]
            default = _shown(value) if value is None or not dataclasses.is_dataclass(value) else "set"
            yield Option(name=name, type=" | ".join([*words, "group", "null"]), default=default, doc=doc)
        yield from _options(choices[0], f"{name}.", value, note)
    else:
        words = [str(kind) for arm in choices for kind in kinds(arm)]
        default = str(value.kind) if type(value) in choices else _shown(value)
        yield Option(name=f"{name}.kind", type=" | ".join(words), default=default, doc=doc)
        for arm in choices:
            yield from _options(arm, f"{name}.", value, f"[{kinds(arm)[0]}] ")


def _shown(value: Any) -> str:
    return REQUIRED if value is dataclasses.MISSING else _inline(to_plain(value))


def _inline(value: Any) -> str:
    """A value as one would write it after a colon."""
    return dump_entry("x", value).removeprefix("x:").strip()


def help_text(cls: type, *, width: int = 0) -> str:
    """All options as a table, for `--help`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for heading in ("option", "type", "default", "what it does"):
        # A folded option name could not be copied or searched for.
        table.add_column(
            heading, overflow="fold", no_wrap=heading == "option", ratio=1 if heading == "what it does" else None
        )
    for option in describe(cls):
        kind = option.type if len(option.type) <= 24 else option.type.replace(" | ", "\n")
        table.add_row(*(Text(cell) for cell in (f"--{option.name}", kind, option.default, option.doc)))
    console = Console(
        file=io.StringIO(), width=width or shutil.get_terminal_size((120, 24)).columns, color_system=None,
        legacy_windows=False,
    )  # fmt: skip
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"  # type: ignore[attr-defined]


def dump_yaml(config: Any) -> str:
    """A config as YAML with every field spelled out and its doc behind it; load_config gives the same config back."""
    return "".join(line + "\n" for line in _lines(config))


def _lines(config: Any) -> Iterator[str]:
    docs = field_docs(type(config))
    for name in field_types(type(config)):
        value = getattr(config, name)
        doc = f"  # {docs[name]}" if name in docs and docs[name].isprintable() else ""
        if dataclasses.is_dataclass(value):
            inner = list(_lines(value))
            yield f"{name}:{'' if inner else ' {}'}{doc}"
            yield from (f"  {line}" for line in inner)
        elif isinstance(value, list | tuple) and any(dataclasses.is_dataclass(item) for item in value):
            yield f"{name}:{doc}"
            yield from _items(value)
        else:
            written = dump_entry(name, to_plain(value)).rstrip("\n").split("\n")
            yield f"{written[0]}{doc if len(written) == 1 else ''}"
            yield from written[1:]


def _items(values: Any) -> Iterator[str]:
    for value in values:
        lines = list(_lines(value)) if dataclasses.is_dataclass(value) else [_inline(to_plain(value))]
        yield from (("- " if index == 0 else "  ") + line for index, line in enumerate(lines or ["{}"]))
