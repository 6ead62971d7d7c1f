"""From a call's arguments to a checked config: names with underscores, and Python objects where a path may stand."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

from plaudit.api.models import Policy, RewardModel, on_disk
from plaudit.api.options import judge_named
from plaudit.api.rows import as_rows
from plaudit.config.load import load_config
from plaudit.config.names import meant
from plaudit.config.objects import PythonObject, put_back
from plaudit.config.types import child_type, field_types, shape
from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.scoring.options import FunctionConfig

C = TypeVar("C")
_FILE = re.compile(r"hub:.*|.*\.(jsonl|ndjson|json|parquet)(\.gz)?", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Bound(Generic[C]):
    """A call's checked arguments."""

    recorded: C
    """For config.yaml: of objects only the text."""
    config: C
    """For the stage: the objects stand behind their texts."""
    folders: contextlib.ExitStack
    """Of models that had none; close it when the stage has worked."""


def bind(cls: type[C], arguments: Mapping[str, Any]) -> Bound[C]:
    """A config of the class from keyword arguments.

    A name is an option's (`iterations=50`), or that of an option in an option with underscores (`kl_coef=0.05`, which
    is also `kl={"coef": 0.05}` and `kl=FixedKL(coef=0.05)`). None of an argument is as good as leaving it out only
    where the option takes none.

    Raises: UserError naming what is wrong, unknown names with the nearest known one.
    """
    binder = _Binder()
    tree: dict[str, Any] = {}
    unknown = []
    options: dict[str, tuple[Sequence[str], Any]] = {}
    for path, tp in sorted(_options(cls), key=lambda option: len(option[0])):
        options.setdefault("_".join(path), (path, tp))
    for name, value in arguments.items():
        if name in options:
            path, tp = options[name]
            _put(tree, path, binder.plain(tp, value, ".".join(path)), name)
        else:
            near = meant(name, cls)  # dotted; `--out` and `--sink` are arguments of the call
            near = {"--out": "out", "--sink": "sinks"}.get(near.split(" ")[0], near.split(".0.")[0].replace(".", "_"))
            unknown.append(f"{name}: no such option" + (f"; did you mean {near}?" if near else ""))
    if unknown:
        raise UserError("\n".join(unknown))
    recorded = load_config(cls, tree)
    return Bound(recorded, put_back(recorded, binder.objects), binder.folders)


def _options(tp: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The keys that lead to an option, and its type, for each option and each group of them that is in no list."""
    for arm in shape(tp).arms if not shape(tp).items else ():
        for key, inner in field_types(arm).items():
            yield (*above, key), inner
            yield from _options(inner, (*above, key))


def _put(tree: dict[str, Any], path: Sequence[str], value: Any, name: str) -> None:
    *above, last = path
    for key in above:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):  # a kind's bare name, such as kl="adaptive" beside kl_target
            below = tree[key] = {"kind": below}
        tree = below
    if isinstance(tree.get(last), dict) and isinstance(value, (Mapping, str)):
        value = {**({"kind": value} if isinstance(value, str) else value), **tree[last]}
    elif last in tree:
        raise UserError(f"{name}: given twice")
    tree[last] = value


@dataclass(slots=True)
class _Binder:
    """Plain values out of Python ones; remembers the objects that texts stand for."""

    objects: dict[str, str] = field(default_factory=dict)
    folders: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def plain(self, tp: Any, value: Any, where: str) -> Any:
        """What a YAML file would say in this place."""
        element = shape(tp).items[0] if tp is not None and shape(tp).items else None
        arms = shape(element).arms if element is not None else ()
        if DataConfig in arms:
            return self._data(value, where)
        if FunctionConfig in arms:
            judges = value if isinstance(value, list) else [value]
            return [self._judge(element, judge, f"{where}.{index}") for index, judge in enumerate(judges)]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
        if isinstance(value, Mapping):
            below = {str(key): child_type(tp, str(key), ()) for key in value}
            return {key: self.plain(below[key], item, f"{where}.{key}") for key, item in value.items()}
        if isinstance(value, Policy | RewardModel):
            return self._model(value, where)
        if isinstance(value, (list, tuple)):
            return [self.plain(element, item, f"{where}.{index}") for index, item in enumerate(value)]
        if isinstance(value, Path | Enum):
            return str(value) if isinstance(value, Path) else value.value
        if value is None or isinstance(value, str | bool | int | float):
            return value
        return self._object(where, value)

    def _object(self, name: str, value: Any) -> str:
        stand_in = PythonObject(name, value)
        self.objects[stand_in] = stand_in
        return stand_in

    def _model(self, model: Policy | RewardModel, where: str) -> str:
        """Its folder, with what is in hand behind it; a temporary one where whoever takes it must read a folder."""
        is_read = isinstance(model, Policy) and not where.startswith("policies.")
        text = model.path or str(PythonObject(f"{where} {type(model).__name__}", None))
        path = on_disk(model, self.folders) if is_read or isinstance(model, RewardModel) else text
        value = model.model if isinstance(model, RewardModel) else None if is_read else model.loaded
        self.objects[text] = PythonObject("", value, text=path)
        return text

    # ---- data

    def _data(self, value: Any, where: str) -> list[Any]:
        """One entry a source: files and their options stay; rows become an object."""
        sources = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, str) or (sources and all(map(_is_source, sources))):
            return [self._source(source, f"{where}.{index}") for index, source in enumerate(sources)]
        return [{"path": self._object(where, as_rows(value, where))}]

    def _source(self, source: Any, where: str) -> Any:
        if isinstance(source, str | Path):
            return {"path": str(source)}
        if isinstance(source, DataConfig):
            return dataclasses.asdict(source) | {"path": source.path}
        path = source["path"]
        is_file = isinstance(path, str | Path)
        return {**source, "path": str(path) if is_file else self._object(where, as_rows(path, where))}

    # ---- judges

    def _judge(self, element: Any, judge: Any, where: str) -> Any:
        """A function, a reward model, a name or a folder, as `rewards` of a YAML file has them."""
        if isinstance(judge, tuple):
            inner, weight = judge
            return {**self._judge(element, inner, where), "weight": weight}
        if isinstance(judge, Mapping):
            named = judge.get("function", judge.get("path"))
            if isinstance(named, str | None):
                return {**({"kind": "function" if "function" in judge else "model"} if named else {}), **judge}
            entry = {key: item for key, item in judge.items() if key not in ("function", "path")}
            return {**self._judge(element, named, where), **entry}
        if isinstance(judge, str) and judge in _kinds(element):
            return {"kind": judge}
        if isinstance(judge, str | Path):
            return judge_named(judge) if isinstance(judge, str) else {"kind": "model", "path": str(judge)}
        if isinstance(judge, RewardModel):
            return {"kind": "model", "path": self._model(judge, where)}
        if callable(judge):
            return self._function(judge, where)
        plain = self.plain(element, judge, where)
        if isinstance(plain, dict):
            return plain
        raise UserError(
            f"{where}: {type(judge).__name__} is no judge; give a function f(prompts, completions, **columns), a "
            "pl.RewardModel, a folder, the name of a built-in function, or a dict with `function` or `path`"
        )

    def _function(self, function: Callable[..., Any], where: str) -> dict[str, Any]:
        name = getattr(function, "__name__", type(function).__name__)
        name = "function" if name == "<lambda>" else name
        stand_in = self._object(f"{where} {name}", function)
        return {"kind": "function", "function": stand_in, "name": name, "isolate": False}


def _kinds(element: Any) -> set[str]:
    return {arm.__dataclass_fields__["kind"].default for arm in shape(element).arms} - {"function", "model"}


def _is_source(value: Any) -> bool:
    if isinstance(value, str):
        return _FILE.fullmatch(value) is not None
    return isinstance(value, Path | DataConfig) or (isinstance(value, Mapping) and "path" in value)
