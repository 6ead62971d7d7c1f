"""What a config class offers: its options with their docs, as help text, as commented YAML and as a file to start
from."""

from __future__ import annotations

import ast
import functools
import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from plaudit.config.read import Node, dump_entry
from plaudit.config.types import (
    MISSING,
    bare_field,
    check_built,
    default_of,
    field_types,
    idle_fields,
    kinds,
    leaves,
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
    docs: dict[str, dict[str, str]] = {}
    nodes = ast.walk(ast.parse(Path(file).read_bytes())) if file else ()
    for one in (node for node in nodes if isinstance(node, ast.ClassDef)):
        for pair in itertools.pairwise(one.body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs.setdefault(one.name, {})[name] = " ".join(text.split())
    return docs


# -------------------------------------------------------------------------------------------------------------- help


def describe(cls: type) -> list[Option]:
    """All options of a config class, dotted, in the order of the fields."""
    return list(_options(cls, "", MISSING, ""))


def _options(cls: type, prefix: str, default: Any, note: str, idle: Collection[str] = ()) -> Iterator[Option]:
    docs = field_docs(cls)
    for name, tp in field_types(cls).items():
        if not (note and name == "kind") and name not in idle:
            value = getattr(default, name) if type(default) is cls else default_of(cls, name)
            if prefix and default is MISSING and name == bare_field(cls):
                value = MISSING  # the group must be given, and this is what it is given for
            yield from _field_options(tp, prefix + name, value, note + docs.get(name, ""), note)


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
        yield from _options(this.arms[0], f"{name}.", value, note, idle_fields(tp))
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
    width = width or min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
    options = describe(cls)
    groups = {
        heading: [next(option for option in options if option.name == name) for name in names]
        for heading, names in (common or {}).items()
    }
    rest = [option for option in options if all(option not in group for group in groups.values())]
    if every:
        docs, nested = field_docs(cls), {option.name.split(".")[0] for option in options if "." in option.name}
        for option in rest:
            head = option.name.split(".")[0]
            heading = f"{head}: {docs.get(head, '')}" if head in nested else "others"
            groups.setdefault(heading, []).append(option)
    blocks = ["\n".join([*textwrap.wrap(heading, width), *_table(rows, width)]) for heading, rows in groups.items()]
    return "\n\n".join([*blocks, *([] if every else [f"{len(rest)} more options: --help-all"])]) + "\n"


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
    return "".join(f"{line}  # {doc}\n" if doc else f"{line}\n" for _, line, doc in _lines(config))


def starter(config: Any, chosen: Mapping[str, Any], common: Collection[str], *, every: bool = True) -> list[str]:
    """The lines of a config to begin from: the `chosen` values and the `common` options (dotted, `N` for an index) as
    they are, all others, if `every`, as comments with their meaning and choices."""
    shown = [*common, *(re.sub(r"\.\d+(?=\.|$)", ".N", name) for name, _ in leaves(chosen))]
    types = {option.name.removesuffix(".kind"): option.type for option in describe(type(config))}
    lines = []
    for name, line, doc in _lines(config):
        choice = types.get(name.removesuffix(".kind"), "")
        has_choice = " | " in choice and choice != "true | false" and not line.endswith(":")
        about = " ".join(filter(None, [doc, f"[{choice}]" if has_choice else ""]))
        note = "  # ".join(filter(None, [line, about]))
        if any(f"{one}.".startswith(f"{name}.") for one in shown):
            lines.append(note)
        elif every:
            lines.append(f"# {note}")
    return lines


def _lines(config: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(dotted name, line, doc) of every field."""
    docs = field_docs(type(config))
    check_built(config, prefix)
    for field in field_types(type(config)):
        value, name = getattr(config, field), f"{prefix}{field}"
        doc = docs.get(field, "") if docs.get(field, "").isprintable() else ""
        if is_dataclass(value):
            yield name, f"{field}:", doc
            yield from ((below, f"  {line}", doc) for below, line, doc in _lines(value, f"{name}."))
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            yield name, f"{field}:", doc
            for item in value:
                for i, (below, line, doc) in enumerate(_lines(item, f"{name}.N.")):
                    yield below, f"{'  ' if i else '- '}{line}", doc
        else:
            is_tree = isinstance(value, dict) and any(isinstance(item, Node) for item in value.values())
            written = dump_entry(field, value if is_tree else to_plain(value)).rstrip("\n").split("\n")
            yield from ((name, line, doc if len(written) == 1 else "") for line in written)
