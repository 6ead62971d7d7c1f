"""YAML and plain Python values as a small tree that remembers where each value was written; and YAML written back."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from plaudit.errors import UserError


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a config, with its place. As a field's type: a part that somebody else checks later."""

    value: Any
    """A scalar, a dict of nodes or a list of nodes."""
    where: str
    """`file:line`, `--option`, or `config` for values that come from Python."""
    text: str | None = None
    """A scalar as it was written, so that a text field gets `007` or `no` as it stands; None if unknown."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Scalars by YAML 1.2's rules: `1e-5` is a number; `no`, `007`, `1:30` and dates are not what 1.1 makes of them.

    libyaml's parser, where PyYAML has it, is twenty times as fast as the one in Python.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (as PyYAML has it)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


class _Deep(yaml.SafeLoader):
    """The same in Python, for texts of many brackets: where they stand in each other, libyaml overflows the stack."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


_MANY_BRACKETS = 5000

# YAML ends a plain word at a brace inside `{…}` and `[…]`; while it is parsed, `${name}` wears private characters.
_REFERENCE, _HIDDEN = re.compile(r"\$\{([\w-]+)\}"), re.compile("\ue000([\\w-]+)\ue001")


def read_yaml(path: Path) -> Node:
    """A YAML file as a tree. UserError naming file and line for anything that is not one plain mapping."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"there is no config file {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    node = _parse(text, str(path), lines=True)
    if not isinstance(node.value, (dict, NoneType)):
        raise UserError(f"{node.where}: a config is a mapping of keys to values, `key: value`")
    return Node(node.value or {}, str(path))


def parse_option(text: str, option: str) -> Node:
    """A command-line value: YAML where it is YAML, the text itself where it isn't; the text is kept either way."""
    try:
        return replace(_parse(text, option, lines=False), text=text)
    except UserError:
        return Node(text, option, text)


def from_plain(value: Any, where: str = "config") -> Node:
    """Python dicts, lists and scalars as a tree; what is a tree already stays as it is."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Mapping):
        return Node({str(key): from_plain(item, where) for key, item in value.items()}, where)
    return Node([from_plain(item, where) for item in value] if isinstance(value, (list, tuple)) else value, where)


def _parse(text: str, where: str, *, lines: bool) -> Node:
    """One YAML document. With `lines`, each node's `where` is `where:line`; without, `where` as it is."""
    try:
        kind = _Deep if text.count("[") + text.count("{") > _MANY_BRACKETS else _Loader
        loader = kind(_REFERENCE.sub("\ue000\\1\ue001", text))
        root = loader.get_single_node()
        return Node(None, where) if root is None else _Reader(loader, where, lines).read(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{where}:{mark.line + 1}" if mark is not None and lines else where
        raise UserError(f"{at}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None


class _Reader:
    """Turns PyYAML's nodes into ours; refuses duplicate keys and foreign tags."""

    def __init__(self, loader: _Loader | _Deep, where: str, lines: bool) -> None:
        self.loader, self.where, self.lines = loader, where, lines
        self.mappings: dict[int, Node] = {}

    def at(self, node: yaml.Node) -> str:
        return f"{self.where}:{node.start_mark.line + 1}" if self.lines else self.where

    def read(self, node: yaml.Node) -> Node:
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            if id(node) not in self.mappings:  # an alias is the same node again, its `<<` resolved already
                self.mappings[id(node)] = self._mapping(node)
            return self.mappings[id(node)]
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return Node([self.read(item) for item in node.value], self.at(node))
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode) -> Node:
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UserError(f"{self.at(key)}: a key must be a plain word")
            if key.value in keys and key.tag != "tag:yaml.org,2002:merge":
                raise UserError(f"{self.at(key)}: the key {key.value!r} is given twice; remove one")
            keys.add(key.value)
        self.loader.flatten_mapping(node)
        return Node({_shown(key.value): self.read(value) for key, value in node.value}, self.at(node))

    def _scalar(self, node: yaml.Node) -> Node:
        kind = node.tag.rpartition(":")[2]
        if not isinstance(node, yaml.ScalarNode) or kind not in ("null", "bool", "int", "float", "str"):
            raise UserError(f"{self.at(node)}: the tag {node.tag!r} is not allowed in a config")
        text = _shown(node.value)
        try:
            value = text if kind == "str" else self.loader.construct_object(node)
        except (ValueError, KeyError):
            raise UserError(f"{self.at(node)}: {text!r} is not a {kind}") from None
        return Node(value, self.at(node), None if kind == "null" else text)


def _shown(text: str) -> str:
    return _HIDDEN.sub(r"${\1}", text)


class _Dumper(yaml.SafeDumper):
    """Writes what both YAML 1.1 and our rules read back as the same value; a text never spans lines."""


def _one_line_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text.isprintable() and text == text.strip()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def _as_written(dumper: yaml.SafeDumper, node: Node) -> yaml.Node:
    if isinstance(node.value, bool | int | float) and node.text is not None:
        return dumper.represent_scalar(f"tag:yaml.org,2002:{type(node.value).__name__}", node.text)
    return dumper.represent_data(node.value)


_Dumper.add_representer(str, _one_line_text)
_Dumper.add_representer(Node, _as_written)
for _char, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _regexp in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _regexp, [_char])


def dump_entry(key: str, value: Any) -> str:
    """`key: value` as YAML, plain values and nodes; a list or mapping of scalars stays on the line."""
    return _dump(key, value) if isinstance(value, (list, dict, Node)) else _dump_again(key, value)


@functools.lru_cache(maxsize=1024, typed=True)
def _dump_again(key: str, value: object) -> str:
    """Most options of a config are scalars at their defaults: yaml needs a hundred times longer than the cache."""
    return _dump(key, value)


def _dump(key: str, value: Any) -> str:
    style = {"default_flow_style": None if isinstance(value, (list, dict)) else False, "width": 1 << 30}
    return yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, **style)
