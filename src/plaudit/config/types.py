"""What a config's type annotations mean: what may stand where, in which words a user is told so."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from plaudit.config.read import Node
from plaudit.errors import UserError

MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class ByKind:
    """Beside a `Node` in `Annotated`: the part's class depends on its key and its `kind`; None: there is none such."""

    choose: Callable[[str, str | None], type | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Without:
    """Beside a dataclass in `Annotated`: which of its fields do nothing in this place, and why."""

    fields: tuple[str, ...]
    why: str


def idle_fields(tp: Any) -> dict[str, str]:
    """Field → why it does nothing where `tp` is wanted."""
    marks = [mark for mark in getattr(tp, "__metadata__", ()) if isinstance(mark, Without)]
    return {name: mark.why for mark in marks for name in mark.fields}


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
    leaf: Any
    """What stands here without keys or indices: int, float, bool, str, Any, a Literal or Node; or None."""
    optional: bool
    """Whether `null` is a value."""

    def item(self, index: int) -> Any:
        """The type of a list's element."""
        return self.items[min(index, len(self.items) - 1)]


@functools.cache
def shape(tp: Any) -> Shape:
    """A type, taken apart."""
    plain = get_args(tp)[0] if get_origin(tp) is Annotated else tp
    members = get_args(plain) if get_origin(plain) in (Union, types.UnionType) else (plain,)
    arms: list[type] = []
    items: tuple[Any, ...] = ()
    fixed, values, leaf = 0, None, None
    for member in members:
        origin, arguments = get_origin(member) or member, get_args(member)
        if origin in (list, tuple):
            fixed = len(arguments) if origin is tuple and arguments[-1:] != (Ellipsis,) else 0
            items = arguments if fixed else (*arguments, Any)[:1]
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            values = (*arguments, Any, Any)[1]
        elif dataclasses.is_dataclass(member) and member is not Node:
            arms.append(member)
        elif member is not types.NoneType:
            leaf = member
    return Shape(tuple(arms), items, fixed, values, leaf, types.NoneType in members or Any in members)


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
    return choices(field_types(cls)["kind"])


def arm_of_kind(tp: Any, kind: str | None) -> type | None:
    """The alternative that a kind chooses, or None."""
    return next((arm for arm in shape(tp).arms if kind in kinds(arm)), None)


def default_of(cls: type, name: str) -> Any:
    """A field's default, or MISSING."""
    field = cls.__dataclass_fields__[name]
    return field.default if field.default_factory is MISSING else field.default_factory()


def bare_field(cls: type) -> str:
    """The field that a bare text stands for: the only required one, if it is text, else `path`; '' where none is."""
    required = [name for name in field_types(cls) if default_of(cls, name) is MISSING]
    (name,) = required if len(required) == 1 else ("path",)
    return name if name in field_types(cls) and shape(field_types(cls)[name]).leaf is str else ""


def choices(tp: Any) -> tuple[str, ...]:
    """The words of a Literal; empty for other types."""
    return get_args(shape(tp).leaf)


def phrase(tp: Any) -> str:
    """The type in a user's words: `whole number | null`, `k1 | k2`, `list of text`."""
    this = shape(tp)
    words = {None: (), bool: ("true", "false"), int: ("whole number",), float: ("number",), str: ("text",)}
    parts = [*(choices(tp) or words.get(this.leaf, ("anything",)))]
    if this.arms:
        below = kinds if len(this.arms) > 1 else field_types
        parts.append(f"keys ({', '.join(word for arm in this.arms for word in below(arm))})")
    if this.items:
        parts.append(f"list of {phrase(this.items[0])}")
    if this.values is not None:
        parts.append(f"mapping to {phrase(this.values)}")
    return " | ".join([*parts, *(["null"] if this.optional and this.leaf is not Any else [])])


def to_plain(config: Any) -> Any:
    """A config, or a tree of nodes, as dicts, lists and scalars, every field spelled out."""
    if isinstance(config, Node):
        return to_plain(config.value)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {name: to_plain(getattr(config, name)) for name in field_types(type(config))}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    return [to_plain(value) for value in config] if isinstance(config, (list, tuple)) else config


def join(path: str, key: str) -> str:
    """A dotted name."""
    return f"{path}.{key}" if path else key


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of each scalar and each empty container in plain values or in a tree of nodes."""
    plain = value.value if isinstance(value, Node) else value
    items = plain.items() if isinstance(plain, Mapping) else enumerate(plain) if isinstance(plain, list) else ()
    if not plain or not items:
        yield path, value
        return
    for key, item in items:
        yield from leaves(item, join(path, str(key)))


def check_built(config: Any, path: str = "") -> None:
    """UserError where a config that was put together in Python holds what no file can say: dicts where dataclasses
    belong, functions, models."""
    for name, tp in field_types(type(config)).items():
        value, this = getattr(config, name), shape(tp)
        in_list = bool(this.items) and isinstance(value, (list, tuple))
        arms = shape(this.items[0]).arms if in_list else this.arms
        for one in value if in_list else (value,):
            is_plain = one is None or isinstance(one, (str, int, float, list, tuple, Mapping, Node))
            if type(one) not in arms and (not is_plain or (arms and one is not None)):
                wanted = " or ".join(arm.__name__ for arm in arms) or phrase(tp)
                raise UserError(
                    f"{join(path.rstrip('.'), name)}: a {type(one).__name__} stands where {wanted} belongs. What is "
                    "put together in Python isn't converted: load_config(PPOConfig, {…}) takes nested dicts, "
                    "pl.ppo(…) functions, models and lists too (docs/python.md)"
                )
