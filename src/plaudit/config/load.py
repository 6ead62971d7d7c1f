"""Configuration: frozen dataclasses < YAML file < command line, checked whole, every mistake named.

    config = load_config(PPOConfig, Path("ppo.yaml"), ["--kl.coef", "0.05", "--critic.kind", "separate"])

A config class is a frozen, slotted, keyword-only dataclass whose fields are scalars, Literals, other dataclasses,
tuples or dicts of these, or unions of dataclasses told apart by `kind: Literal["x"] = "x"`. A bare word where such a
union is wanted is the kind; a bare value where a dataclass with one required text field is wanted is that field;
a bare value where a list is wanted is its only element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from plaudit.config.explain import describe, dump_yaml, help_text
from plaudit.config.objects import lost
from plaudit.config.read import from_plain, read_yaml
from plaudit.config.types import leaves, to_plain
from plaudit.errors import UserError

__all__ = ["config_changes", "describe", "dump_yaml", "help_text", "load_config", "read_plain", "to_plain"]

C = TypeVar("C")


def load_config(cls: type[C], source: Path | str | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()) -> C:
    """A checked instance of `cls` from a YAML file (or a plain dict, or nothing) and command-line options.

    Options: `--a.b value`, `--a.b=value`, `--flag`, `--no-flag`, `--items.0.path value`; dashes in names may stand
    for underscores. UserError lists every unknown key (with the nearest known one), missing key, wrong type, wrong
    choice and failed check, each with its file and line or its option. A class whose parts are checked elsewhere has
    a `check_parts(tree, problems)`, so that what is wrong in them is told with the rest.
    """
    from plaudit.config.build import build, merge, parse_overrides

    is_file = isinstance(source, str | Path)
    tree = read_yaml(Path(source)) if isinstance(source, str | Path) else from_plain(source or {})
    problems: list[str] = lost(tree) if is_file else []
    tree = merge(cls, tree, parse_overrides(cls, overrides, tree, problems), "", problems)
    config = build(cls, tree, problems)
    if check := getattr(cls, "check_parts", None):
        check(tree, problems)
    refuse(problems, str(source) if is_file else "the config")
    return config


def place_of(cls: type, source: Path, overrides: Sequence[str], option: str) -> str:
    """Where a dotted option, or the nearest one above it, was written: `file:line` or `--option`; empty where it
    wasn't."""
    from plaudit.config.build import merge, parse_overrides

    tree = read_yaml(source)
    node, where = merge(cls, tree, parse_overrides(cls, overrides, tree, []), "", []), ""
    for part in option.split("."):
        below = dict(enumerate(node.value)) if isinstance(node.value, list) else node.value
        key = int(part) if isinstance(node.value, list) and part.isdecimal() else part
        if not isinstance(below, dict) or key not in below:
            return where
        node = below[key]
        where = node.where
    return where


def refuse(problems: Sequence[str], what: str) -> None:
    """UserError with all problems in the order of their lines, if there are any."""
    if problems:
        heading = f"{what}: {len(problems)} problems\n  " if len(problems) > 1 else ""
        raise UserError(heading + "\n  ".join(sorted(problems, key=_line)))


def _line(problem: str) -> int:
    match = re.match(r".*?:(\d+): ", problem)
    return int(match[1]) if match else 0


def read_plain(path: Path) -> dict[str, Any]:
    """A config file as plain values, unchecked: for readers of finished runs."""
    return to_plain(read_yaml(path))


def config_changes(old: Any, new: Any) -> list[str]:
    """What differs between two configs or plain dicts, one line each: `critic.head: 'linear' -> 'mlp'`."""
    before, after = ({key: repr(value) for key, value in leaves(to_plain(config)) if key} for config in (old, new))
    pairs = {key: (before.get(key, "(absent)"), after.get(key, "(absent)")) for key in before | after}
    return [f"{key}: {one} -> {two}" for key, (one, two) in pairs.items() if one != two]
