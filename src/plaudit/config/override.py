"""Command-line options as a tree of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plaudit.config.build import merge
from plaudit.config.read import Branch, Leaf, Node, parse_option
from plaudit.config.types import (
    arms,
    dict_type,
    element_type,
    field_types,
    list_type,
    takes,
    value_type,
)

_LIST = "(list)"
"""Stands in a path for a list's field that was named without the item's index."""


def parse_overrides(cls: type, overrides: Sequence[str], problems: list[str]) -> Branch:
    """`["--a.b", "3", "--flag", "--no-x"]` as one tree; a later option wins over an earlier one."""
    tree: Node = Branch({}, None, "options")
    words = list(overrides)
    while words:
        word = words.pop(0)
        if not _is_option(word):
            problems.append(f"{word!r}: not an option; options look like --name value")
            continue
        name, equals, value = word[2:].partition("=")
        path, tp, negated = _resolve(cls, name)
        node = _no_value(tp, negated, f"--{name}")
        if equals and not negated:
            node = parse_option(value, f"--{name}")
        elif equals:
            problems.append(f"--{name}: takes no value; write --{'.'.join(path)}={value}")
        elif not negated and words and not _is_option(words[0]):
            node = parse_option(words.pop(0), f"--{name}")
        if _LIST in path:
            before = ".".join(path[: path.index(_LIST)])
            problems.append(
                f"--{name}: {before} is a list; say which item, as in --{before}.0.{name.rpartition('.')[2]}"
            )
        elif node is None:
            problems.append(f"--{name}: needs a value; write --{name}=VALUE")
        else:
            tree = merge(cls, tree, _nested(path, node), "", problems)
    assert isinstance(tree, Branch)
    return tree


def _is_option(word: str) -> bool:
    return word.startswith("--") and len(word) > 2


def _no_value(tp: Any, negated: bool, option: str) -> Node | None:
    """What an option means that stands alone: a bool's true or false; an unknown one is left for the check to name."""
    if tp is None:
        return Leaf(None, None, option)
    return Leaf(not negated, None, option) if takes(tp, bool) else None


def _nested(path: Sequence[str], node: Node) -> Node:
    for part in reversed(path):
        node = Branch({part: node}, None, node.where)
    return node


def _resolve(cls: type, name: str) -> tuple[list[str], Any, bool]:
    """(path, its type or None if there is no such field, whether it is `--no-...` of a bool)."""
    path, tp = _walk(cls, name.split("."))
    if tp is None and name.startswith("no-"):
        positive, positive_tp = _walk(cls, name[3:].split("."))
        if positive_tp is not None and takes(positive_tp, bool):
            return positive, positive_tp, True
    return path, tp, False


def _walk(cls: Any, parts: Sequence[str]) -> tuple[list[str], Any]:
    """Follow a path through the types; dashes become underscores where only that names a field."""
    path: list[str] = []
    tp: Any = cls
    for part in parts:
        part, tp = _step(tp, part)
        path.append(part)
    return path, tp


def _step(tp: Any, part: str) -> tuple[str, Any]:
    if tp is None:
        return part, None
    rows = list_type(tp)
    if rows is not None:
        if part.isdecimal():
            return part, element_type(rows, int(part))
        return _LIST, None
    for name in (part, part.replace("-", "_")):
        for arm in arms(tp):
            if name in field_types(arm):
                return name, field_types(arm)[name]
    mapping = dict_type(tp)
    return part, value_type(mapping) if mapping is not None else None
