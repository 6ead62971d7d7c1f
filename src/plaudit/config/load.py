"""Configuration: frozen dataclasses < YAML file < command line, checked whole, every mistake named.

    config = load_config(PPOConfig, Path("ppo.yaml"), ["--kl_coef", "0.05", "--critic.kind", "separate"])

A config class is a frozen, slotted, keyword-only dataclass whose fields are scalars, Literals, other dataclasses,
tuples or dicts of these, or unions of dataclasses told apart by `kind: Literal["x"] = "x"`. A bare word where such a
union is wanted is the kind; a bare value where a dataclass with one required text field is wanted is that field;
a bare value where a list is wanted is its only element.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from plaudit.config.build import Builder, merge
from plaudit.config.explain import describe, dump_yaml, help_text
from plaudit.config.override import parse_overrides
from plaudit.config.read import Branch, from_plain, read_yaml, to_value
from plaudit.config.types import to_plain
from plaudit.errors import UserError

__all__ = ["config_changes", "describe", "dump_yaml", "help_text", "load_config", "read_plain", "to_plain"]

C = TypeVar("C")


def load_config(cls: type[C], source: Path | str | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> C:
    """A checked instance of `cls` from a YAML file (or a plain dict, or nothing) and command-line options.

    Options: `--a.b value`, `--a.b=value`, `--flag`, `--no-flag`, `--items.0.path value`; dashes in names may stand
    for underscores. UserError lists every unknown key (with the nearest known one), missing key, wrong type, wrong
    choice and failed check, each with its file and line or its option.
    """
    if source is None:
        tree = Branch({}, None, "config")
    elif isinstance(source, Mapping):
        tree = from_plain(source)
    else:
        tree = read_yaml(Path(source))
    problems: list[str] = []
    tree = merge(cls, tree, parse_overrides(cls, overrides, problems), "", problems)
    builder = Builder(problems)
    config = builder.build(cls, tree)
    if problems:
        what = str(source) if isinstance(source, str | Path) else "the config"
        heading = f"{what}: {len(problems)} problems\n  " if len(problems) > 1 else ""
        raise UserError(heading + "\n  ".join(problems))
    return config


def read_plain(path: Path) -> dict[str, Any]:
    """A config file as plain values, unchecked: for readers of finished runs."""
    return to_value(read_yaml(Path(path)))


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two plain configs, one line each: `critic.head: 'linear' -> 'mlp'`."""
    before, after = _flatten(old, ""), _flatten(new, "")
    lines = []
    for key in [*before, *(key for key in after if key not in before)]:
        one, two = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if type(one) is not type(two) or one != two:
            lines.append(f"{key}: {_show(one)} -> {_show(two)}")
    return lines


_ABSENT = object()


def _show(value: Any) -> str:
    return "(absent)" if value is _ABSENT else repr(value)


def _flatten(value: Any, path: str) -> dict[str, Any]:
    """Dotted key -> scalar; empty containers stay as they are, so that they are seen too."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = to_plain(value)
    if isinstance(value, Mapping):
        items: list[tuple[str, Any]] = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: value.value if isinstance(value, Enum) else value}
    if not items:
        return {path: value if isinstance(value, Mapping) else []} if path else {}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat.update(_flatten(item, f"{path}.{key}" if path else key))
    return flat
