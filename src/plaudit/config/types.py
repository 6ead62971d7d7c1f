"""What a config's type annotations mean."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Field name -> resolved annotation, for the fields that the constructor takes."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def bare(tp: Any) -> Any:
    """The type without its Annotated wrapper."""
    return get_args(tp)[0] if get_origin(tp) is Annotated else tp


def members(tp: Any) -> tuple[Any, ...]:
    """The members of a union without None; the type itself, Annotated and all, when it is no union."""
    if get_origin(bare(tp)) not in (Union, types.UnionType):
        return (tp,)
    return tuple(member for member in get_args(bare(tp)) if member is not type(None))


def takes(tp: Any, plain: type) -> bool:
    """Whether a plain type such as bool is among the members."""
    return any(bare(member) is plain for member in members(tp))


def optional(tp: Any) -> bool:
    """Whether `null` is a value of the type."""
    tp = bare(tp)
    return tp is type(None) or tp is Any or (get_origin(tp) in (Union, types.UnionType) and type(None) in get_args(tp))


def arms(tp: Any) -> tuple[type, ...]:
    """The dataclasses among the members."""
    found = (bare(member) for member in members(tp))
    return tuple(member for member in found if isinstance(member, type) and dataclasses.is_dataclass(member))


def list_type(tp: Any) -> Any:
    """The list or tuple type among the members, or None."""
    for member in members(tp):
        if bare(member) in (list, tuple) or get_origin(bare(member)) in (list, tuple):
            return bare(member)
    return None


def dict_type(tp: Any) -> Any:
    """The dict or Mapping type among the members, or None."""
    for member in members(tp):
        origin = get_origin(bare(member)) or bare(member)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return bare(member)
    return None


def element_type(list_tp: Any, index: int) -> Any:
    """The type of a list's or tuple's element."""
    arguments = get_args(list_tp)
    if not arguments:
        return Any
    if get_origin(list_tp) is tuple and arguments[-1] is not Ellipsis:
        return arguments[min(index, len(arguments) - 1)]
    return arguments[0]


def fixed_length(list_tp: Any) -> int | None:
    """The length of `tuple[int, int]`; None for lists and `tuple[int, ...]`."""
    arguments = get_args(list_tp)
    if get_origin(list_tp) is not tuple or not arguments or arguments[-1] is Ellipsis:
        return None
    return len(arguments)


def value_type(dict_tp: Any) -> Any:
    """The type of a dict's values."""
    arguments = get_args(dict_tp)
    return arguments[1] if len(arguments) == 2 else Any


def kinds(cls: type) -> tuple[str, ...]:
    """The words that choose this alternative of a tagged union."""
    kind = bare(field_types(cls).get("kind"))
    if get_origin(kind) is not Literal:
        raise TypeError(f"{cls.__name__} is one of several alternatives and needs a field `kind: Literal[...]`")
    return get_args(kind)


def arm_of_kind(tp: Any, kind: Any) -> type | None:
    """The alternative that a kind chooses, or None."""
    return next((arm for arm in arms(tp) if kind in kinds(arm)), None)


def only_text_field(cls: type) -> str:
    """The one required field, if there is exactly one and it is text: a bare value then stands for it; else ''."""
    required = [field.name for field in dataclasses.fields(cls) if field.init and not has_default(field)]
    if len(required) == 1 and takes(field_types(cls)[required[0]], str):
        return required[0]
    return ""


def has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The field's default, or dataclasses.MISSING."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def phrase(tp: Any) -> str:
    """The type in a user's words."""
    tp = bare(tp)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    if tp in words:
        return words[tp]
    if len(members(tp)) > 1 or (optional(tp) and tp is not Any):
        parts = [phrase(member) for member in members(tp)] + (["null"] if optional(tp) else [])
        return " or ".join(parts)
    if get_origin(tp) is Literal:
        return "one of: " + ", ".join(str(choice) for choice in get_args(tp))
    if arms(tp):
        return f"keys ({', '.join(field_types(tp))})"
    if list_type(tp) is not None:
        return f"a list of {phrase(element_type(tp, 0))}"
    if dict_type(tp) is not None:
        return "a mapping of keys to values"
    if isinstance(tp, type) and issubclass(tp, Enum):
        return "one of: " + ", ".join(str(member.value) for member in tp)
    return getattr(tp, "__name__", str(tp))


def short_name(tp: Any) -> str:
    """The type in one or two words, for tables: `float`, `k1 | k2`, `list of str`."""
    tp = bare(tp)
    if tp is type(None):
        return "null"
    if len(members(tp)) > 1 or (optional(tp) and tp is not Any):
        return " | ".join([short_name(member) for member in members(tp)] + (["null"] if optional(tp) else []))
    if get_origin(tp) is Literal:
        return " | ".join(str(choice) for choice in get_args(tp))
    if list_type(tp) is not None:
        return f"list of {short_name(element_type(tp, 0))}"
    if dict_type(tp) is not None:
        return f"map to {short_name(value_type(tp))}"
    if isinstance(tp, type) and issubclass(tp, Enum):
        return " | ".join(str(member.value) for member in tp)
    return getattr(tp, "__name__", str(tp))


def to_plain(config: Any) -> Any:
    """A config as dicts, lists and scalars, every field spelled out."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = (field for field in dataclasses.fields(config) if field.init)
        return {field.name: to_plain(getattr(config, field.name)) for field in fields}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    if isinstance(config, Enum):
        return to_plain(config.value)
    return str(config) if isinstance(config, Path) else config
