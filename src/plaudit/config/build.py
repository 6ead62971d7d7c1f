"""From a tree of values to a config: merging layers by type, checking, building."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from plaudit.config.read import Branch, Leaf, Node, Row, from_plain, to_value
from plaudit.config.types import (
    arm_of_kind,
    arms,
    bare,
    default_of,
    dict_type,
    element_type,
    field_types,
    fixed_length,
    kinds,
    list_type,
    members,
    only_text_field,
    optional,
    phrase,
    to_plain,
    value_type,
)
from plaudit.errors import UserError

_MISSING = dataclasses.MISSING
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class _Bad(Exception):
    """A value that is not what its field wants; caught where the path is known."""


def merge(tp: Any, base: Node, over: Node, path: str, problems: list[str]) -> Node:
    """`base` with `over` laid on top, by type: another `kind` drops the old alternative's keys, a list is edited by
    index, everything else that is not a mapping is replaced."""
    base, over = expand(tp, base), expand(tp, over)
    if not isinstance(over, Branch):
        return over
    if isinstance(base, Row) and (list_type(tp) is not None or _all_indices(over.items)):
        return _merge_rows(list_type(tp), base, over, path, problems)
    if not isinstance(base, Branch) or _switches_kind(tp, base, over):
        return over
    items = dict(base.items)
    for key, node in over.items.items():
        if key in items:
            node = merge(_child_type(tp, (over, base), key), items[key], node, _join(path, key), problems)
        items[key] = node
    return Branch(items, None, base.where)


def _merge_rows(rows: Any, base: Row, over: Branch, path: str, problems: list[str]) -> Row:
    items = list(base.items)
    for key, node in sorted(over.items.items(), key=lambda item: int(item[0])):
        index = int(key)
        if index > len(items):
            problems.append(f"{node.where}: {path} has {len(items)} items; the next one is {path}.{len(items)}")
        elif index == len(items):
            items.append(node)
        else:
            items[index] = merge(element_type(rows, index), items[index], node, _join(path, key), problems)
    return Row(items, None, base.where)


def expand(tp: Any, node: Node) -> Node:
    """Bare values in their full form: a kind's name, a dataclass's only required text, a list's only element."""
    if isinstance(node, Leaf) and node.value is None:
        return node
    if list_type(tp) is not None:
        edits = isinstance(node, Branch) and _all_indices(node.items)
        return node if isinstance(node, Row) or edits or len(members(tp)) > 1 else Row([node], None, node.where)
    choices = arms(tp)
    if not isinstance(node, Leaf) or len(members(tp)) > len(choices):
        return node
    name = "kind" if len(choices) > 1 else only_text_field(choices[0])
    return Branch({name: node}, None, node.where) if name else node


def _all_indices(items: Mapping[str, Node]) -> bool:
    return bool(items) and all(key.isdecimal() for key in items)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _kind_of(node: Branch) -> Any:
    kind = node.items.get("kind")
    return kind.value if isinstance(kind, Leaf) else None


def _switches_kind(tp: Any, base: Branch, over: Branch) -> bool:
    if len(arms(tp)) < 2 or "kind" not in base.items or "kind" not in over.items:
        return False
    return arm_of_kind(tp, _kind_of(base)) is not arm_of_kind(tp, _kind_of(over))


def _child_type(tp: Any, nodes: Iterable[Branch], key: str) -> Any:
    """The type of the value under a key, as far as it can be told before building."""
    if list_type(tp) is not None:
        return element_type(list_type(tp), int(key)) if key.isdecimal() else Any
    candidates: list[type] = (
        [arm for node in nodes if (arm := arm_of_kind(tp, _kind_of(node)))] if (len(arms(tp)) > 1) else []
    )
    for arm in (*candidates, *arms(tp)):
        if key in field_types(arm):
            return field_types(arm)[key]
    return value_type(dict_type(tp)) if dict_type(tp) is not None else Any


class Builder:
    """Builds values by type and collects what is wrong with them; a value is only good while `problems` stays empty."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def build(self, tp: Any, node: Node, default: Any = _MISSING, path: str = "") -> Any:
        """The value of a node as the type wants it. `default` fills what the node leaves open."""
        if isinstance(node, Leaf) and node.value is None and optional(tp):
            return None
        node = expand(tp, node)
        if isinstance(node, Row | Branch) and list_type(tp) is not None:
            return self._list(list_type(tp), node, default, path)
        if isinstance(node, Branch) and arms(tp):
            return self._dataclass(tp, node, default, path)
        if isinstance(node, Branch) and dict_type(tp) is not None:
            types = value_type(dict_type(tp))
            return {key: self.build(types, item, path=_join(path, key)) for key, item in node.items.items()}
        try:
            return leaf_value(tp, node)
        except _Bad as bad:
            if list_type(tp) is not None and isinstance(node, Leaf) and node.value is not None:
                return self._list(list_type(tp), Row([node], None, node.where), default, path)
            return self._wrong(node, path, str(bad))

    def _wrong(self, node: Node, path: str, what: str) -> None:
        named = not path or node.where.replace("-", "_") == f"__{path}"
        self.problems.append(f"{node.where}: {what}" if named else f"{node.where}: {path}: {what}")

    def _list(self, tp: Any, node: Row | Branch, default: Any, path: str) -> Any:
        if isinstance(node, Branch):  # edits by index on the default
            old = from_plain([] if default is _MISSING or default is None else to_plain(default), "default")
            assert isinstance(old, Row)
            node = _merge_rows(tp, old, node, path, self.problems)
        length = fixed_length(tp)
        if length is not None and length != len(node.items):
            return self._wrong(node, path, f"needs {length} values, got {len(node.items)}")
        values = [
            self.build(element_type(tp, index), item, path=_join(path, str(index)))
            for index, item in enumerate(node.items)
        ]
        return tuple(values) if tp is tuple or get_origin(tp) is tuple else values

    def _dataclass(self, tp: Any, node: Branch, default: Any, path: str) -> Any:
        cls = self._choose(tp, node, default, path)
        if cls is None:
            return None
        before = len(self.problems)
        types = field_types(cls)
        for key in node.items:
            if key not in types:
                self._wrong(node.items[key], _join(path, key), _unknown(key, cls, tp))
        values = {}
        for field in dataclasses.fields(cls):
            if not field.init:
                continue
            value = getattr(default, field.name) if type(default) is cls else default_of(field)
            child = node.items.get(field.name)
            if child is not None:
                value = self.build(types[field.name], child, value, _join(path, field.name))
            elif value is _MISSING:
                self._wrong(node, _join(path, field.name), f"missing; it has no default ({phrase(types[field.name])})")
            values[field.name] = value
        if len(self.problems) > before:
            return None
        try:
            return cls(**values)
        except (ValueError, TypeError, UserError) as error:
            return self._wrong(node, path, str(error))

    def _choose(self, tp: Any, node: Branch, default: Any, path: str) -> type | None:
        """The alternative that the node's kind names, else the default's, else the only one."""
        choices = arms(tp)
        if len(choices) == 1:
            return choices[0]
        words = [kind for arm in choices for kind in kinds(arm)]
        kind = node.items.get("kind")
        if kind is None:
            if type(default) in choices:
                return type(default)
            self._wrong(node, _join(path, "kind"), f"missing; choose from: {', '.join(words)}")
            return None
        word = getattr(kind, "text", None) or to_value(kind)
        arm = arm_of_kind(tp, word) if isinstance(word, str) else None
        if arm is None:
            self._wrong(kind, _join(path, "kind"), _not_among(word, words))
        return arm


def _unknown(key: str, cls: type, tp: Any) -> str:
    for arm in arms(tp):
        if arm is not cls and key in field_types(arm):
            return f"has no effect with kind {kinds(cls)[0]!r}; it belongs to kind {kinds(arm)[0]!r}"
    near = difflib.get_close_matches(key, field_types(cls), n=1, cutoff=0.5)
    return "unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(field_types(cls))}")


def _not_among(word: Any, choices: Iterable[Any]) -> str:
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(word), names, n=1)
    return f"{word!r} is none of: {', '.join(names)}" + (f"; did you mean {near[0]!r}?" if near else "")


def leaf_value(tp: Any, node: Node) -> Any:
    """A scalar (or anything, where Any is wanted) as one of the type's members; raises _Bad with the reason."""
    if bare(tp) is Any:
        return to_value(node)
    reasons = []
    for member in sorted(members(tp), key=lambda member: bare(member) is str):  # text takes everything: try it last
        try:
            return _member_value(member, node)
        except _Bad as bad:
            reasons.append(str(bad))
    if len(reasons) == 1:
        raise _Bad(reasons[0])
    raise _Bad(f"expected {phrase(tp)}, got {_shown(node)}")


def _shown(node: Node) -> str:
    value = to_value(node)
    return "nothing" if value is None else repr(node.text if node.text is not None else value)


def _member_value(tp: Any, node: Node) -> Any:
    plain = bare(tp)
    if plain is str or plain is Path or (isinstance(plain, type) and issubclass(plain, Enum)):
        value: Any = node.text if node.text is not None else to_value(node)
    elif not isinstance(node, Leaf):
        raise _Bad(f"expected {phrase(tp)}, got {_shown(node)}")
    elif get_origin(plain) is Literal:
        return _choice(get_args(plain), node)
    else:
        value = _bool(node) if plain is bool else node.value
    unfit = isinstance(value, bool) and plain in (int, float)
    if value is None or unfit or (isinstance(value, float) and math.isnan(value)):
        raise _Bad(f"expected {phrase(tp)}, got {_shown(node)}")
    try:
        return TypeAdapter(tp).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "enum":
            raise _Bad(_not_among(value, [member.value for member in plain])) from None
        if first["type"].startswith(("greater", "less", "multiple", "string_too", "string_pattern", "value_error")):
            raise _Bad(f"{_shown(node)}: {first['msg'].removeprefix('Input ')}") from None
        raise _Bad(f"expected {phrase(tp)}, got {_shown(node)}") from None


def _bool(node: Leaf) -> Any:
    word = str(node.value).lower()
    return True if word in _TRUE else False if word in _FALSE else node.value


def _choice(choices: tuple[Any, ...], node: Leaf) -> Any:
    for choice in choices:
        if type(choice) is type(node.value) and choice == node.value:
            return choice
        if isinstance(choice, str) and choice == node.text:
            return choice
    raise _Bad(_not_among(node.text if node.text is not None else node.value, choices))
