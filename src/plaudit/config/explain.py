"""What a config class offers: its options with their docs, as help text, as commented YAML and as a file to start
from."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.config.read import Node, dump_entry
from plaudit.config.types import (
    MISSING,
    default_of,
    field_types,
    kinds,
    phrase,
    shape,
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


def field_docs(cls: type) -> Mapping[str, str]:
    """Field name -> the string literal under it, in one line; inherited ones included. Empty where no source is."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        docs |= _docs_of_file(getattr(sys.modules.get(base.__module__), "__file__", None)).get(base.__name__, {})
    return docs


@functools.cache
def _docs_of_file(file: str | None) -> dict[str, dict[str, str]]:
    """Class -> field -> doc, for all classes of a source file: reading it once is faster than asking for each class."""
    try:
        classes = [
            node for node in ast.walk(ast.parse(Path(file or "").read_bytes())) if isinstance(node, ast.ClassDef)
        ]
    except (OSError, SyntaxError):
        return {}
    return {node.name: dict(_docs_of_class(node)) for node in classes}


def _docs_of_class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in itertools.pairwise(node.body):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
            yield field.target.id, " ".join(text.split())


# -------------------------------------------------------------------------------------------------------------- help


def describe(cls: type) -> list[Option]:
    """All options of a config class, dotted, in the order of the fields."""
    return list(_options(cls, "", MISSING, ""))


def _options(cls: type, prefix: str, default: Any, note: str) -> Iterator[Option]:
    docs = field_docs(cls)
    for field in dataclasses.fields(cls):
        if not field.init or (note and field.name == "kind"):
            continue
        value = getattr(default, field.name) if type(default) is cls else default_of(field)
        yield from _field_options(
            field_types(cls)[field.name], prefix + field.name, value, note + docs.get(field.name, ""), note
        )


def _field_options(tp: Any, name: str, value: Any, doc: str, note: str) -> Iterator[Option]:
    this = shape(tp)
    element = this.items[0] if this.items else None
    if element is not None and shape(element).arms:
        yield Option(name=name, type="list", default=_inline(value), doc=doc)
        yield from _field_options(element, f"{name}.N", MISSING, doc, note)
    elif not this.arms:
        yield Option(name=name, type=phrase(tp), default=_inline(value), doc=doc)
    elif len(this.arms) == 1:
        if this.optional:
            yield Option(name=name, type="group | null", default="null" if value is None else "set", doc=doc)
        yield from _options(this.arms[0], f"{name}.", value, note)
    else:
        words = " | ".join([*(kind for arm in this.arms for kind in kinds(arm)), *(["null"] if this.optional else [])])
        default = value.kind if type(value) in this.arms else _inline(value)
        yield Option(name=f"{name}.kind", type=words, default=default, doc=doc)
        for arm in this.arms:
            yield from _options(arm, f"{name}.", value, f"[{kinds(arm)[0]}] ")


def _inline(value: Any) -> str:
    """A value as one would write it after a colon."""
    return REQUIRED if value is MISSING else dump_entry("x", to_plain(value)).removeprefix("x:").strip()


def help_text(
    cls: type, common: Mapping[str, Collection[str]] | None = None, *, every: bool = True, width: int = 0
) -> str:
    """Options in groups, for `--help`: first the `common` ones (heading -> names), then, with `every`, all others."""
    width = width or min(shutil.get_terminal_size((100, 24)).columns, 120)
    options = {option.name: option for option in describe(cls)}
    groups = {heading: [options.pop(name) for name in names] for heading, names in (common or {}).items()}
    if every:
        docs, nested = field_docs(cls), {name.split(".")[0] for name in options if "." in name}
        for option in options.values():
            head = option.name.split(".")[0]
            heading = f"{head}: {docs.get(head, '')}" if head in nested else "others"
            groups.setdefault(heading, []).append(option)
    blocks = ["\n".join([*textwrap.wrap(heading, width), *_table(rows, width)]) for heading, rows in groups.items()]
    rest = "" if every else f"\n\n{len(options)} more options: --help-all"
    return "\n\n".join(blocks) + rest + "\n"


def _table(options: Sequence[Option], width: int) -> Iterator[str]:
    """`  --name   doc [type; default]`, the second column folded; a long name stands on a line of its own."""
    column = 34
    for option in options:
        choice = REQUIRED if option.default == REQUIRED else f"default {option.default}"
        doc = textwrap.wrap(f"{option.doc} [{option.type}; {choice}]".strip(), width - column)
        name = f"  --{option.name}"
        if len(name) > column - 2:
            yield name
            name = ""
        yield from (f"{left:<{column}}{right}" for left, right in zip([name, *[""] * len(doc)], doc, strict=False))


# -------------------------------------------------------------------------------------------------------------- YAML


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
            is_tree = isinstance(value, dict) and any(isinstance(item, Node) for item in value.values())
            written = dump_entry(name, value if is_tree else to_plain(value)).rstrip("\n").split("\n")
            yield f"{written[0]}{doc if len(written) == 1 else ''}"
            yield from written[1:]


def _items(values: Any) -> Iterator[str]:
    for value in values:
        lines = list(_lines(value)) if dataclasses.is_dataclass(value) else [_inline(value)]
        yield from (("- " if index == 0 else "  ") + line for index, line in enumerate(lines or ["{}"]))
