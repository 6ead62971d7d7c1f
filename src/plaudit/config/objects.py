"""Python objects where a config names a path: a function, a list of rows, a model that lives in the caller's session.

In the config such an object is a text for people, `<python object rewards.0 my_function>`, with the object behind it.
Whoever reads the path asks `behind(path)` first. In a file only the text is left, and nothing can be made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from plaudit.config.read import Node

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
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        old = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.init}
        new = {name: put_back(value, objects) for name, value in old.items()}
        return dataclasses.replace(config, **new) if any(new[name] is not old[name] for name in old) else config
    if isinstance(config, tuple):
        new_items = tuple(put_back(item, objects) for item in config)
        return new_items if any(a is not b for a, b in zip(new_items, config, strict=True)) else config
    if isinstance(config, dict):
        return {key: put_back(value, objects) for key, value in config.items()}
    return config


def lost(node: Node, path: str = "") -> list[str]:
    """What to tell about objects of another session that a file names, each with its place."""
    if isinstance(node.value, dict):
        return [message for key, item in node.value.items() for message in lost(item, f"{path}.{key}" if path else key)]
    if isinstance(node.value, list):
        return [message for index, item in enumerate(node.value) for message in lost(item, f"{path}.{index}")]
    if not is_stand_in(str(node.value)):
        return []
    return [
        f"{node.where}: {path}: {node.value} lived in the Python session that began this run; "
        "go on with it there (docs/python.md), or name a file"
    ]
