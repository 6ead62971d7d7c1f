"""YAML (and plain Python values) as a small tree that remembers where each value was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plaudit.errors import UserError

_MAX_NODES = 100_000  # aliases can make a few lines of YAML stand for billions of values


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar. `text` is what was written, so that a text field gets `007` or `no` as it stands; None if unknown."""

    value: Any
    text: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A mapping."""

    items: dict[str, Node]
    text: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Row:
    """A list."""

    items: list[Node]
    text: str | None
    where: str


Node = Leaf | Branch | Row


class _Loader(yaml.SafeLoader):
    """Scalars by YAML 1.2's rules: `1e-5` is a number; `no`, `007`, `1:30` and dates are not what 1.1 makes of them."""


_Loader.yaml_implicit_resolvers = {}
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


def read_yaml(path: Path) -> Branch:
    """A YAML file as a tree. UserError naming file and line for anything that is not one plain mapping."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"there is no config file {path}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    node = parse(text, str(path), lines=True)
    if isinstance(node, Leaf) and node.value is None:
        return Branch({}, None, str(path))
    if not isinstance(node, Branch):
        raise UserError(f"{node.where}: a config is a mapping of keys to values, `key: value`")
    return Branch(node.items, None, str(path))


def parse(text: str, where: str, *, lines: bool) -> Node:
    """One YAML document. With `lines`, each node's `where` is `where:line`; without, `where` as it is."""
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return Leaf(None, None, where)
        return _Reader(loader, where, lines).node(root, _line(root), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{where}:{mark.line + 1}" if mark is not None and lines else where
        raise UserError(f"{at}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


class _Reader:
    """Turns PyYAML's nodes into ours; refuses duplicate keys, foreign tags, cycles and alias bombs."""

    def __init__(self, loader: yaml.SafeLoader, where: str, lines: bool) -> None:
        self.loader, self.where, self.lines = loader, where, lines
        self.count = 0

    def at(self, line: int) -> str:
        return f"{self.where}:{line}" if self.lines else self.where

    def node(self, node: yaml.Node, line: int, above: tuple[int, ...]) -> Node:
        self.count += 1
        if id(node) in above:
            raise UserError(f"{self.at(line)}: an alias that contains itself; write the values out")
        if self.count > _MAX_NODES:
            raise UserError(f"{self.at(line)}: more than {_MAX_NODES:,} values; a config is small")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self.branch(node, line, above)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return Row([self.node(item, _line(item), above) for item in node.value], None, self.at(line))
        return self.leaf(node, line)

    def branch(self, node: yaml.MappingNode, line: int, above: tuple[int, ...]) -> Branch:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key_line = _line(key_node)
            if key_node.tag == "tag:yaml.org,2002:merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    inherited = self.node(source, key_line, above)
                    if not isinstance(inherited, Branch):
                        raise UserError(f"{self.at(key_line)}: `<<` takes a mapping")
                    merged = {**inherited.items, **merged}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{self.at(key_line)}: a key must be a plain word")
            if key_node.value in own:
                raise UserError(f"{self.at(key_line)}: the key {key_node.value!r} is given twice; remove one")
            own[key_node.value] = self.node(value_node, key_line, above)
        return Branch({**merged, **own}, None, self.at(line))

    def leaf(self, node: yaml.Node, line: int) -> Leaf:
        kind = node.tag.rpartition(":")[2]
        if not isinstance(node, yaml.ScalarNode) or kind not in ("null", "bool", "int", "float", "str"):
            raise UserError(f"{self.at(line)}: the tag {node.tag!r} is not allowed in a config")
        if kind == "str":
            return Leaf(node.value, node.value, self.at(line))
        try:
            value = float(node.value.replace("_", "")) if kind == "float" else self.loader.construct_object(node)
        except ValueError:
            if kind != "float":
                raise UserError(f"{self.at(line)}: {node.value!r} is not a {kind}") from None
            value = self.loader.construct_object(node)  # .inf and .nan
        return Leaf(value, None if kind == "null" else node.value, self.at(line))


def parse_option(text: str, option: str) -> Node:
    """A command-line value: YAML where it is YAML, the text itself where it isn't; the text is kept either way."""
    try:
        node = parse(text, option, lines=False)
    except UserError:
        return Leaf(text, text, option)
    if isinstance(node, Leaf):
        return Leaf(node.value, text, option)
    return type(node)(node.items, text, option)  # type: ignore[arg-type]


def from_plain(value: Any, where: str = "config") -> Node:
    """Python dicts, lists and scalars as a tree."""
    if isinstance(value, Mapping):
        return Branch({str(key): from_plain(item, where) for key, item in value.items()}, None, where)
    if isinstance(value, list | tuple):
        return Row([from_plain(item, where) for item in value], None, where)
    return Leaf(value, None, where)


def to_value(node: Node) -> Any:
    """Back to plain Python values."""
    if isinstance(node, Branch):
        return {key: to_value(item) for key, item in node.items.items()}
    if isinstance(node, Row):
        return [to_value(item) for item in node.items]
    return node.value


class Dumper(yaml.SafeDumper):
    """Writes what both YAML 1.1 and our rules read back as the same value; a text never spans lines."""


def _one_line_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text.isprintable() and text == text.strip()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


Dumper.add_representer(str, _one_line_text)
for _char, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _regexp in _resolvers:
        Dumper.add_implicit_resolver(_tag, _regexp, [_char])


def dump_entry(key: str, value: Any) -> str:
    """`key: value` as YAML, plain values only; a list or mapping of scalars stays on the line."""
    flow = None if isinstance(value, list | dict) else False
    return yaml.dump(
        {key: value}, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=1 << 30
    )
