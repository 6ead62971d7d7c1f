"""Python objects where a config names a path: a function, a list of rows, a model that lives in the caller's session.

In the config such an object is a text for people, `<python object rewards.0 my_function>`, with the object behind it.
Whoever reads the path asks `behind(path)` first. In a file only the text is left, and nothing can be made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from plaudit.config.read import Node
from plaudit.config.types import field_types, leaves

_MARK = "<python object "


class PythonObject(str):
    """A path's text with the object that is meant. `PythonObject("rewards.0 f", f)`; `text` says it otherwise."""

    value: Any

    def __new__(cls, name: str, value: Any, *, text: str = "") -> PythonObject:
        self = super().__new__(cls, text or f"{_MARK}{name}>")
        self.value = value
        return self

    def __deepcopy__(self, memo: object) -> PythonObject:
        return self


def behind(path: str) -> Any:
    """The object that stands behind a path; None for a path."""
    return path.value if isinstance(path, PythonObject) else None


def is_stand_in(path: str) -> bool:
    """Whether the text stands for an object, which may be behind it or in another session."""
    return path.startswith(_MARK)


def put_back(config: Any, objects: Mapping[str, str]) -> Any:
    """The same config where each text that is a key of `objects` is what stands there: checking makes plain texts."""
    if isinstance(config, str):
        return objects.get(config, config)
    if isinstance(config, tuple):
        return tuple(put_back(item, objects) for item in config)
    if isinstance(config, dict):
        return {key: put_back(value, objects) for key, value in config.items()}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        names = field_types(type(config))
        return dataclasses.replace(config, **{name: put_back(getattr(config, name), objects) for name in names})
    return config


def lost(tree: Node) -> list[str]:
    """What to tell about objects of another session that a file names, each with its place."""
    return [
        f"{node.where}: {path}: {node.value} lived in the Python session that began this run; "
        "go on with it there (docs/python.md), or name a file"
        for path, node in leaves(tree)
        if is_stand_in(str(node.value))
    ]
