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
    items: tuple[Any, ...]
    """Types of a list's elements, empty for none: one for all elements, or, of a tuple of `fixed` length, one each."""
    fixed: int
    values: Any
    """The type of a mapping's values, or None."""
    scalars: tuple[Any, ...]
    """Everything else, `Annotated` and all."""
    optional: bool
    """Whether `null` is a value."""

    @property
    def is_leaf(self) -> bool:
        """Whether no keys or indices lead further down."""
        return bool(self.scalars) or not (self.arms or self.items or self.values)

    def item(self, index: int) -> Any:
        """The type of a list's element."""
        return self.items[min(index, len(self.items) - 1)]


@functools.cache
def shape(tp: Any) -> Shape:
    """A type, taken apart."""
    members = get_args(bare(tp)) if get_origin(bare(tp)) in (Union, types.UnionType) else (tp,)
    arms: list[type] = []
    scalars: list[Any] = []
    items: tuple[Any, ...] = ()
    fixed, values = 0, None
    for member in members:
        plain, arguments = bare(member), get_args(bare(member))
        origin = get_origin(plain) or plain
        if origin in (list, tuple):
            fixed = len(arguments) if origin is tuple and arguments[-1:] != (Ellipsis,) else 0
            items = arguments if fixed else (*arguments, Any)[:1]
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            values = (*arguments, Any, Any)[1]
        elif dataclasses.is_dataclass(plain) and plain is not Node:
            arms.append(plain)
        elif plain is not types.NoneType:
            scalars.append(member)
    if arms and (scalars or items or values):
        raise TypeError(f"{tp}: keys and other values cannot stand at one place")
    optional = types.NoneType in members or Any in members
    return Shape(tuple(arms), items, fixed, values, tuple(scalars), optional)


def bare(tp: Any) -> Any:
    """The type without its Annotated wrapper."""
    return get_args(tp)[0] if get_origin(tp) is Annotated else tp


def takes(tp: Any, plain: type) -> bool:
    """Whether a plain type such as bool is among the members."""
    return plain in map(bare, shape(tp).scalars)


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
    if this.items:
        return this.item(int(key)) if key.isdecimal() else None
    if this.values is not None:
        below = [node.value[key] for node in nodes if isinstance(node.value, dict) and key in node.value]
        kind = next((kind for node in below if (kind := kind_of(node))), None)
        chooser = next((one for one in getattr(this.values, "__metadata__", ()) if isinstance(one, ByKind)), None)
        return chooser.choose(key, kind) if chooser else this.values
    chosen = [arm for node in nodes if (arm := arm_of_kind(tp, kind_of(node)))] if len(this.arms) > 1 else []
    return next((field_types(arm)[key] for arm in (*chosen, *this.arms) if key in field_types(arm)), None)


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


def choices(tp: Any) -> list[Any]:
    """The values of a Literal or an Enum; empty for other types."""
    plain = bare(tp)
    if isinstance(plain, type) and issubclass(plain, Enum):
        return [member.value for member in plain]
    return list(get_args(plain)) if get_origin(plain) is Literal else []


_WORDS = {bool: "true | false", int: "whole number", float: "number", str: "text", Path: "path", Any: "anything"}


def phrase(tp: Any) -> str:
    """The type in a user's words: `whole number | null`, `k1 | k2`, `list of text`."""
    this = shape(tp)
    parts: list[str] = []
    for scalar in this.scalars:
        plain = bare(scalar)
        parts += [str(choice) for choice in choices(scalar)] or [_WORDS.get(plain) or plain.__name__]
    if this.arms:
        words = kinds if len(this.arms) > 1 else field_types
        parts.append(f"keys ({', '.join(word for arm in this.arms for word in words(arm))})")
    if this.items:
        parts.append(f"list of {phrase(this.items[0])}")
    if this.values is not None:
        parts.append(f"mapping to {phrase(this.values)}")
    return " | ".join([*parts, *(["null"] if this.optional and not takes(tp, Any) else [])])


def to_plain(config: Any) -> Any:
    """A config as dicts, lists and scalars, every field spelled out."""
    if isinstance(config, Node):
        return to_value(config)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_plain(getattr(config, field.name)) for field in dataclasses.fields(config) if field.init}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    if isinstance(config, Enum):
        return to_plain(config.value)
    return str(config) if isinstance(config, Path) else config
