"""Files and folders that a config names and that aren't there: found before anything is imported or loaded."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.config.objects import behind, is_stand_in
from plaudit.config.types import field_types, join
from plaudit.data.options import DataConfig
from plaudit.data.paths import files_of, is_several
from plaudit.data.reading import HUB, STDIN
from plaudit.errors import UserError
from plaudit.models.options import ModelConfig
from plaudit.pipeline import PipelineConfig, plan
from plaudit.scoring.options import FunctionConfig, GenerativeJudgeConfig, RewardModelConfig
from plaudit.tokens.tokenizer import looks_local


def check_paths(config: Any, folder: Path | None = None) -> None:
    """UserError naming option and path of every file or folder that is missing; of a run, which has a `folder`, also of
    what can't be read again when it goes on, and of a pipeline's only what no stage of it will make in there."""
    if isinstance(config, PipelineConfig):
        stages = plan(config, folder or Path())
        outputs = [one.folder for one in stages]
        planned = [("" if config.sweep else f"stages.{one.name}", one.config) for one in stages]
    else:
        planned, outputs = [("", config)], list[Path]()
    faults = [f"{option}: {fault}" for path, one in planned for option, fault in missing(one, path, outputs)]
    if folder is not None:
        named = [(option, name) for path, one in planned for option, name, _ in _named(one, path)]
        again = "can't be read again when the run goes on; write it into a file"
        faults += [f"{option}: {STDIN} (standard input) {again}" for option, name in named if name == STDIN]
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))


def missing(
    config: Any, path: str = "", outputs: Sequence[Path] = (), *, models: bool = False
) -> Iterator[tuple[str, str]]:
    """(option, what is wrong) of each, of `models` alone where that is wanted. `outputs`: folders to come."""
    for option, name, is_model in _named(config, path):
        if not name or behind(name) is not None or is_stand_in(name):
            continue
        file = Path(name).expanduser()
        if any(folder == file or folder in file.parents for folder in outputs):
            continue
        if is_model and name != "tiny" and looks_local(name) and not file.exists():
            yield option, f"no folder {name!r}{_near(file)}; give a folder in Hugging Face format, or a hub name"
        elif not is_model and not models and not name.startswith(HUB) and name != STDIN and not _exists(file):
            hub = "" if option.endswith("function") else "; a hub data set is written hub:name"
            yield option, f"{name}: no such file (looked in {Path.cwd()}{hub}){_near(file)}"


def _named(config: Any, path: str) -> Iterator[tuple[str, str, bool]]:
    """(option, path, whether it is a model's) of all that a config names."""
    match config:
        case ModelConfig() | RewardModelConfig() | GenerativeJudgeConfig():
            yield join(path, "path"), config.path, True
        case DataConfig():
            yield join(path, "path"), config.path, False
        case FunctionConfig():
            source, colon, _ = config.function.rpartition(":")
            if colon and source.endswith(".py"):
                yield join(path, "function"), source, False
        case _:
            for name, value in _parts(config):
                yield from ((join(path, f"{name}.{key}"), one, True) for key, one in _policies(name, value).items())
                yield from _named(value, join(path, name))


def _parts(config: Any) -> Iterator[tuple[str, Any]]:
    """What stands in it, by name or number."""
    if isinstance(config, tuple):
        yield from ((str(index), one) for index, one in enumerate(config))
    elif isinstance(config, Mapping):
        yield from ((str(name), one) for name, one in config.items())
    elif dataclasses.is_dataclass(config):
        yield from ((name, getattr(config, name)) for name in field_types(type(config)))


def _policies(name: str, value: Any) -> Mapping[str, str]:
    """The folders of a comparison's policies, which are words."""
    return value if name == "policies" else {}


def _exists(file: Path) -> bool:
    """A file, a folder, or a glob that matches something."""
    try:
        return file.exists() or (is_several(str(file)) and bool(files_of(str(file))))
    except UserError:
        return False


def _near(file: Path) -> str:
    """The names beside it that are spelled nearly so."""
    beside = [one.name for one in file.parent.iterdir()] if file.parent.is_dir() else []
    near = difflib.get_close_matches(file.name, beside, n=1, cutoff=0.6)
    return f"; did you mean {str(file.with_name(near[0]))!r}?" if near else ""
