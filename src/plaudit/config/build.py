"""From a tree of values to a config: layers are merged by type, pydantic checks the whole, each mistake is told where
it was written."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

from plaudit.config.read import Node, from_plain, to_value
from plaudit.config.types import (
    MISSING,
    arm_of_kind,
    bare,
    child_type,
    choices,
    default_of,
    field_types,
    kind_of,
    kinds,
    only_text_field,
    phrase,
    shape,
    to_plain,
)
from plaudit.errors import UserError


def build(cls: type, tree: Node, problems: list[str], path: str = "") -> Any:
    """An instance of `cls`, or None where something is wrong with the tree; `problems` then says what, with its place.

    `path`: where the tree stands in a larger one.
    """
    before, config = len(problems), None
    plain = _as_input(cls, tree, MISSING, path, problems)
    try:
        config = _validator(cls).validate_python(plain)
    except ValidationError as error:
        sentences = [_sentence(cls, tree, path, one) for one in error.errors(include_url=False, include_input=False)]
        problems += dict.fromkeys(sentences)  # a value that fits no member of a union is told once
    return config if len(problems) == before else None


# ---------------------------------------------------------------------------------------------------------- layers


def merge(tp: Any, base: Node, over: Node, path: str, problems: list[str]) -> Node:
    """`base` with `over` laid on top, by type: another `kind` drops the old alternative's keys, a list is edited by
    index, everything else that is not a mapping is replaced."""
    base, over = _expand(tp, base), _expand(tp, over)
    if not isinstance(over.value, dict):
        return over
    if isinstance(base.value, list) and _by_index(over):
        return _edited(tp, base, over, path, problems)
    if not isinstance(base.value, dict) or _switches_kind(tp, base, over):
        return over
    items = dict(base.value)
    for key, node in over.value.items():
        if key in items:
            node = merge(child_type(tp, key, (over, base)), items[key], node, join(path, key), problems)
        items[key] = node
    return Node(items, base.where)


def _edited(tp: Any, base: Node, over: Node, path: str, problems: list[str]) -> Node:
    items = list(base.value)
    for key, node in sorted(over.value.items(), key=lambda item: int(item[0])):
        index = int(key)
        if index > len(items):
            problems.append(f"{node.where}: {path} has {len(items)} items; the next one is {path}.{len(items)}")
        elif index == len(items):
            items.append(node)
        else:
            items[index] = merge(child_type(tp, key, ()), items[index], node, join(path, key), problems)
    return Node(items, base.where)


def _expand(tp: Any, node: Node) -> Node:
    """Bare values in their full form: a kind's name, a dataclass's only required text, a list's only element."""
    if node.value is None or tp is None or (this := shape(tp)).is_leaf:
        return node
    if this.items:
        return node if isinstance(node.value, list) or _by_index(node) else Node([node], node.where)
    if isinstance(node.value, (dict, list)) or not this.arms:
        return node
    name = "kind" if len(this.arms) > 1 else only_text_field(this.arms[0])
    return Node({name: node}, node.where) if name else node


def _by_index(node: Node) -> bool:
    return isinstance(node.value, dict) and bool(node.value) and all(key.isdecimal() for key in node.value)


def _switches_kind(tp: Any, base: Node, over: Node) -> bool:
    if tp is None or len(shape(tp).arms) < 2 or "kind" not in base.value or "kind" not in over.value:
        return False
    return arm_of_kind(tp, kind_of(base)) is not arm_of_kind(tp, kind_of(over))


def join(path: str, key: str) -> str:
    """A dotted name."""
    return f"{path}.{key}" if path else key


# --------------------------------------------------------------------------------------------------------- checking


def _as_input(tp: Any, node: Node, default: Any, path: str, problems: list[str]) -> Any:
    """What pydantic is given for a node: shorthand in full, the default beneath it, each scalar as its type wants it.

    Where a field's default is an instance, what the node leaves open is that instance's, not the class's.
    """
    node, this = _expand(tp, node), shape(tp)
    if this.items and _by_index(node):
        node = _edited(tp, from_plain(() if default in (MISSING, None) else to_plain(default)), node, path, problems)
    if this.items and isinstance(node.value, list):
        items = enumerate(node.value)
        return [_as_input(this.item(i), one, MISSING, join(path, str(i)), problems) for i, one in items]
    if node.value is None or this.is_leaf:
        return _scalar(tp, node)
    if not isinstance(node.value, dict):
        return to_value(node)
    if this.values is not None:
        keys = node.value.items()
        return {key: _as_input(this.values, one, MISSING, join(path, key), problems) for key, one in keys}
    cls = _choose(tp, node, default)
    plain = to_plain(default) if type(default) is cls else {}
    for field in dataclasses.fields(cls) if cls else ():
        old = getattr(default, field.name) if type(default) is cls else default_of(field)
        if field.init and field.name in node.value:
            one = node.value[field.name]
            plain[field.name] = _as_input(field_types(cls)[field.name], one, old, join(path, field.name), problems)
    unknown = {key: to_value(one) if key == "kind" else None for key, one in node.value.items()}
    return {**unknown, **plain}


def _choose(tp: Any, node: Node, default: Any) -> type | None:
    """The alternative that the node's kind names, else the default's, else the only one."""
    arms = shape(tp).arms
    if len(arms) == 1:
        return arms[0]
    if "kind" in node.value:
        return arm_of_kind(tp, kind_of(node))
    return type(default) if type(default) in arms else None


def _scalar(tp: Any, node: Node) -> Any:
    """Text fields get what was written; true is no 1, and what is not a number is no number."""
    wanted = [bare(scalar) for scalar in shape(tp).scalars]
    if Node in wanted or (node.value is None and shape(tp).optional):
        return node if Node in wanted else None
    if wanted and all(_is_text(scalar) for scalar in wanted):
        text = to_value(node) if node.text is None else node.text
        is_element = shape(tp).items and text is not None and not any(text in choices(one) for one in wanted)
        return [text] if is_element else text
    unfit = isinstance(node.value, bool) and not {bool, Any} & set(wanted)
    return str(node.value) if unfit else "not a number" if node.value != node.value else to_value(node)


def _is_text(tp: Any) -> bool:
    options = choices(tp)
    return all(isinstance(option, str) for option in options) if options else tp in (str, Path)


@functools.cache
def _validator(cls: type) -> SchemaValidator:
    return SchemaValidator(_schema(cls))


@functools.cache
def _schema(tp: Any) -> CoreSchema:
    """pydantic's schema: unions of dataclasses are discriminated by `kind`, unknown keys forbidden."""
    this = shape(tp)
    parts = [_scalar_schema(scalar) for scalar in this.scalars]
    if len(this.arms) > 1:
        parts.append(
            core_schema.tagged_union_schema({k: _of_class(arm) for arm in this.arms for k in kinds(arm)}, "kind")
        )
    elif this.arms:
        parts.append(_of_class(this.arms[0]))
    if this.values is not None:
        parts.append(core_schema.dict_schema(core_schema.str_schema(), _schema(this.values)))
    if this.items:
        items = [_schema(item) for item in this.items]
        parts.append(core_schema.tuple_schema(items, variadic_item_index=None if this.fixed else 0))
    schema = parts[0] if len(parts) == 1 else core_schema.union_schema(list(parts))
    return core_schema.nullable_schema(schema) if this.optional else schema


_PLAIN = {
    int: core_schema.int_schema(), float: core_schema.float_schema(), bool: core_schema.bool_schema(),
    str: core_schema.str_schema(), Any: core_schema.any_schema(), Node: core_schema.any_schema(),
}  # fmt: skip


def _scalar_schema(tp: Any) -> CoreSchema:
    if get_origin(tp) is Literal:
        return core_schema.literal_schema(choices(tp))
    if tp in _PLAIN or bare(tp) is Node:
        return _PLAIN[bare(tp)]
    from pydantic import TypeAdapter  # the rest of pydantic takes longer to load than all options together

    return TypeAdapter(tp).core_schema


@functools.cache
def _of_class(cls: type) -> CoreSchema:
    fields = {
        field.name: core_schema.typed_dict_field(
            _schema(field_types(cls)[field.name]), required=default_of(field) is MISSING
        )
        for field in dataclasses.fields(cls)
        if field.init
    }
    keys = core_schema.typed_dict_schema(fields, extra_behavior="forbid")
    return core_schema.no_info_after_validator_function(functools.partial(_make, cls), keys)


def _make(cls: type, values: dict[str, Any]) -> Any:
    try:
        return cls(**values)
    except (UserError, TypeError) as error:
        raise ValueError(str(error)) from error


# ---------------------------------------------------------------------------------------------------------- telling


def _sentence(cls: type, node: Node, path: str, error: Any) -> str:
    """One of pydantic's errors in the user's words, behind the place where the value, or what lacks it, was written."""
    tp: Any = cls
    owner: tuple[Any, Any] = (cls, cls)  # whose key the value is: a class, and the union that it is chosen from
    union: Any = cls
    for part in error["loc"]:
        if len(shape(tp).arms) > 1:
            union, tp = tp, arm_of_kind(tp, str(part))
            continue
        if shape(tp).is_leaf:
            break
        owner, node = (tp, union), _expand(tp, node)
        tp = union = child_type(tp, str(part), ())
        if shape(owner[0]).fixed and error["type"] == "missing":
            tp = owner[0]
            break
        path = join(path, str(part))
        node = _below(node, part)
    if error["type"].startswith("union_tag"):
        path, node = join(path, "kind"), _below(node, "kind")
    is_named = not path or node.where.replace("-", "_") == f"__{path.replace('-', '_')}"
    return f"{node.where}: {'' if is_named else f'{path}: '}{_what(error, tp, node, owner)}"


def _below(node: Node, part: str | int) -> Node:
    """What stands under a key or index; the node itself where nothing does."""
    if isinstance(node.value, list):
        return node.value[int(part)]
    return node.value.get(str(part), node) if isinstance(node.value, dict) else node


def _what(error: Any, tp: Any, node: Node, owner: tuple[Any, Any]) -> str:
    value, kind = to_value(node), error["type"]
    shown = "nothing" if value is None else repr(value if node.text is None else node.text)
    if kind == "extra_forbidden":
        return _unknown(str(error["loc"][-1]), *owner)
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "union_tag_not_found":
        return f"missing; choose from: {', '.join(_kinds(tp))}"
    if kind == "union_tag_invalid":
        return _not_among(value if node.text is None else node.text, _kinds(tp))
    if kind in ("missing", "too_long") and shape(tp).fixed:
        return f"needs {shape(tp).fixed} values, got {len(value)}"
    if kind == "missing":
        return f"missing; it has no default ({phrase(tp)})"
    if kind in ("literal_error", "enum") and not shape(tp).items and len(shape(tp).scalars) == 1:
        return _not_among(value if node.text is None else node.text, choices(shape(tp).scalars[0]))
    if kind.startswith(("greater", "less", "multiple", "string_too", "string_pattern")):
        return f"{shown}: {error['msg'].removeprefix('Input ')}"
    return f"expected {phrase(tp)}, got {shown}"


def _kinds(tp: Any) -> list[str]:
    return [kind for arm in shape(tp).arms for kind in kinds(arm)]


def _unknown(key: str, cls: type, union: Any) -> str:
    for arm in shape(union).arms:
        if arm is not cls and key in field_types(arm):
            return f"has no effect with kind {kinds(cls)[0]!r}; it belongs to kind {kinds(arm)[0]!r}"
    near = difflib.get_close_matches(key, field_types(cls), n=1, cutoff=0.5)
    return "unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(field_types(cls))}")


def _not_among(word: Any, known: Sequence[Any]) -> str:
    names = [str(choice) for choice in known]
    near = difflib.get_close_matches(str(word), names, n=1)
    return f"{word!r} is none of: {', '.join(names)}" + (f"; did you mean {near[0]!r}?" if near else "")
