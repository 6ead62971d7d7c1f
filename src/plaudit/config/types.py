"""What a config's type annotations mean: what may stand where, in which words a user is told so."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from plaudit.config.read import Node, to_value

MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class ByKind:
    """Beside a `Node` in `Annotated`: the part's class depends on its key and its `kind`; None: there is none such."""

    choose: Callable[[str, str | None], type | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What a type takes."""

    arms: tuple[type, ...]
    """Dataclasses; several are told apart by `kind`."""
    rows: Any
    """A list or tuple type, or None."""
    mapping: Any
    """A dict type, or None."""
    scalars: tuple[Any, ...]
    """Everything else, `Annotated` and all."""
    optional: bool
    """Whether `null` is a value."""

    @property
    def is_leaf(self) -> bool:
        """Whether no keys or indices lead further down."""
        return bool(self.scalars) or not (self.arms or self.rows or self.mapping)


@functools.cache
def shape(tp: Any) -> Shape:
    """A type, taken apart."""
    members = get_args(bare(tp)) if get_origin(bare(tp)) in (Union, types.UnionType) else (tp,)
    arms, scalars, rows, mapping = [], [], None, None
    for member in members:
        plain = bare(member)
        origin = get_origin(plain) or plain
        if origin in (list, tuple):
            rows = plain
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            mapping = plain
        elif dataclasses.is_dataclass(plain) and plain is not Node:
            arms.append(plain)
        elif plain is not types.NoneType:
            scalars.append(member)
    if arms and (scalars or rows or mapping):
        raise TypeError(f"{tp}: keys and other values cannot stand at one place")
    optional = types.NoneType in members or Any in members
    return Shape(tuple(arms), rows, mapping, tuple(scalars), optional)


def bare(tp: Any) -> Any:
    """The type without its Annotated wrapper."""
    return get_args(tp)[0] if get_origin(tp) is Annotated else tp


def takes(tp: Any, plain: type) -> bool:
    """Whether a plain type such as bool is among the members."""
    return plain in map(bare, shape(tp).scalars)


def element_type(rows: Any, index: int) -> Any:
    """The type of a list's or tuple's element."""
    arguments = get_args(rows) or (Any,)
    return arguments[min(index, len(arguments) - 1)] if fixed_length(rows) else arguments[0]


def fixed_length(rows: Any) -> int:
    """The length of `tuple[int, int]`; 0 for lists and `tuple[int, ...]`."""
    arguments = get_args(rows)
    return len(arguments) if get_origin(rows) is tuple and arguments[-1] is not Ellipsis else 0


def value_type(mapping: Any) -> Any:
    """The type of a dict's values."""
    return (*get_args(mapping), Any, Any)[1]


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved annotation, for the fields that the constructor takes."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def child_type(tp: Any, key: str, nodes: Sequence[Node]) -> Any:
    """The type of what stands under a key or index, or None; `nodes` (last first) tell which kind it is."""
    if tp is None:
        return None
    this = shape(tp)
    if this.rows is not None:
        return element_type(this.rows, int(key)) if key.isdecimal() else None
    if this.mapping is not None:
        below = [node.value[key] for node in nodes if isinstance(node.value, dict) and key in node.value]
        return _by_kind(value_type(this.mapping), key, below)
    chosen = [arm for node in nodes if (arm := arm_of_kind(tp, kind_of(node)))] if len(this.arms) > 1 else []
    return next((field_types(arm)[key] for arm in (*chosen, *this.arms) if key in field_types(arm)), None)


def _by_kind(tp: Any, key: str, nodes: Sequence[Node]) -> Any:
    for chooser in getattr(tp, "__metadata__", ()):
        if isinstance(chooser, ByKind):
            return chooser.choose(key, next((kind for node in nodes if (kind := kind_of(node))), None))
    return tp


def kind_of(node: Node) -> str | None:
    """The word under `kind`, if there is one."""
    kind = node.value.get("kind") if isinstance(node.value, dict) else None
    word = kind and (kind.text or kind.value)
    return word if isinstance(word, str) else None


def kinds(cls: type) -> tuple[str, ...]:
    """The words that choose this alternative of a tagged union."""
    kind = bare(field_types(cls).get("kind"))
    if get_origin(kind) is not Literal:
        raise TypeError(f"{cls.__name__} is one of several alternatives and needs a field `kind: Literal[...]`")
    return get_args(kind)


def arm_of_kind(tp: Any, kind: str | None) -> type | None:
    """The alternative that a kind chooses, or None."""
    return next((arm for arm in shape(tp).arms if kind in kinds(arm)), None)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default, or MISSING."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def only_text_field(cls: type) -> str:
    """The one required field, if there is exactly one and it is text: a bare value then stands for it; else ''."""
    required = [field.name for field in dataclasses.fields(cls) if field.init and default_of(field) is MISSING]
    return required[0] if len(required) == 1 and takes(field_types(cls)[required[0]], str) else ""


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}


def choices(tp: Any) -> list[Any]:
    """The values of a Literal or an Enum; empty for other types."""
    plain = bare(tp)
    if isinstance(plain, type) and issubclass(plain, Enum):
        return [member.value for member in plain]
    return list(get_args(plain)) if get_origin(plain) is Literal else []


def phrase(tp: Any, *, short: bool = False) -> str:
    """The type in a user's words, `a whole number or null`; short, for tables: `int | null`."""
    this, parts = shape(tp), []
    for scalar in this.scalars:
        name = getattr(bare(scalar), "__name__", str(scalar))
        words = [str(choice) for choice in choices(scalar)]
        parts.append((" | " if short else ", ").join(words) or (name if short else _WORDS.get(bare(scalar), name)))
        parts[-1] = f"one of: {parts[-1]}" if words and not short else parts[-1]
    if this.arms:
        parts.append("group" if short else f"keys ({', '.join(field_types(this.arms[0]))})")
    if this.rows is not None:
        parts.append(f"{'' if short else 'a '}list of {phrase(element_type(this.rows, 0), short=short)}")
    if this.mapping is not None:
        short_map = f"map to {phrase(value_type(this.mapping), short=True)}"
        parts.append(short_map if short else "a mapping of keys to values")
    if this.optional and not takes(tp, Any):  # type: ignore[arg-type]
        parts.append("null")
    return (" | " if short else " or ").join(parts)


def to_plain(config: Any) -> Any:
    """A config as dicts, lists and scalars, every field spelled out."""
    if isinstance(config, Node):
        return to_value(config)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    if isinstance(config, Enum):
        return to_plain(config.value)
    return str(config) if isinstance(config, Path) else config
