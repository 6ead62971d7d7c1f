"""What a stage reads: data files and their part in it, judges, models, and the stages that they come from. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from plaudit.config.load import load_config, to_plain
from plaudit.config.types import leaves
from plaudit.data.options import DataConfig
from plaudit.data.sources import LoadedFile, load
from plaudit.data.stream import head
from plaudit.errors import UserError
from plaudit.records.text import KIND_OF, Kind, Row
from plaudit.runs.folder import CONFIG, Run
from plaudit.runs.records import RunFiles
from plaudit.scoring.options import JudgeConfig
from plaudit.stages import STAGES

LONGEST_PATH = 1000
LABELLED = (Kind.RANKING, Kind.RATING, Kind.VERDICT)


class Part(Enum):
    """What rows are for."""

    TRAINED = "trained"
    """A model is fitted to them."""
    MEASURED = "measured"
    """A model is measured on them, so that no model may have been fitted to them."""
    ANSWERED = "answered"
    """A model answers them."""
    REFERENCE = "reference"
    """They set a scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse:
    """A data file of a stage."""

    option: str
    config: DataConfig
    kinds: tuple[Kind, ...]
    part: Part
    streaming: bool = False
    """Whether it may be larger than memory: its first rows are looked at."""


_DATA: Mapping[str, Sequence[tuple[str, Part]]] = {
    "openings": [("data", Part.ANSWERED)],
    "sft": [("data", Part.TRAINED), ("held_out", Part.MEASURED)],
    "collect": [("prompts", Part.ANSWERED)],
    "reward": [("data", Part.TRAINED), ("held_out", Part.MEASURED), ("reference", Part.REFERENCE)],
    "ppo": [("prompts", Part.TRAINED), ("ptx.data", Part.TRAINED), ("evaluation.prompts", Part.MEASURED)],
    "compare": [("prompts", Part.MEASURED)],
    "frontier": [("prompts", Part.ANSWERED)],
    "reward_eval": [("data", Part.MEASURED), ("train", Part.TRAINED)],
}
_JUDGES = {
    "collect": ("labeller",),
    "ppo": ("rewards",),
    "compare": ("judge",),
    "frontier": ("truth",),
    "reward_eval": ("models",),
}


def data_uses(kind: str, config: Any) -> list[DataUse]:
    """Every data file that a stage names."""
    uses: list[DataUse] = []
    for option, part in _DATA.get(kind, ()):
        named: Any = config
        for name in option.split("."):
            named = getattr(named, name, None) or ()
        kinds = _kinds(kind, config, option)
        streaming = option in ("data", "ptx.data") and getattr(
            getattr(config, "ptx", None) or config, "streaming", False
        )
        for i, one in enumerate(named):
            uses.append(DataUse(option=f"{option}.{i}", config=one, kinds=kinds, part=part, streaming=streaming))
    return uses


def _kinds(kind: str, config: Any, option: str) -> tuple[Kind, ...]:
    """As the stage itself asks for them."""
    if option.endswith("prompts"):
        return (Kind.PROMPT,)
    if kind == "openings":
        return (Kind.TEXT,)
    if kind == "reward" and option == "data":
        return (KIND_OF[config.objective.learns_from],)
    if option == "reference":
        return (Kind.DEMONSTRATION,)
    if option == "train":
        return (Kind.RANKING,)
    return LABELLED if kind in ("reward", "reward_eval") else (Kind.DEMONSTRATION, Kind.TEXT)


def judges(kind: str, config: Any) -> list[tuple[str, JudgeConfig]]:
    """(option, judge) of those that aren't a head on PPO's trunk."""
    named = [(f"{name}.{i}", one) for name in _JUDGES.get(kind, ()) for i, one in enumerate(getattr(config, name))]
    if kind == "frontier":
        named += [(f"judges.{name}.{i}", one) for name, group in config.judges.items() for i, one in enumerate(group)]
    if kind == "ppo" and config.evaluation:
        named += [(f"evaluation.truth.{i}", one) for i, one in enumerate(config.evaluation.truth)]
    if kind == "collect" and config.unsure:
        named += [(f"unsure.judge.{i}", one) for i, one in enumerate(config.unsure.judge)]
    return [(option, judge) for option, judge in named if judge.kind != "trunk"]


def texts_in(config: Any) -> Iterator[str]:
    """Every text in a config that may be a path."""
    texts = (value for _, value in leaves(to_plain(config)) if isinstance(value, str))
    yield from (text for text in texts if text and len(text) <= LONGEST_PATH and "\n" not in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStage:
    """A stage's config, whoever has it: this pipeline, or a run folder."""

    name: str
    kind: str
    config: Any
    before: Mapping[Path, KnownStage] = field(default_factory=dict)
    """Earlier stages of its pipeline, by their folders."""

    def ancestors(self) -> dict[str, KnownStage]:
        """Every stage whose product this one reads, theirs included, by name."""
        known: dict[str, KnownStage] = {}
        for text in texts_in(self.config):
            for folder in Path(text).parents:
                if (one := self.before.get(folder) or _in_folder(folder)) and one.name not in known:
                    known |= {one.name: one, **one.ancestors()}
        return known

    def maker(self, path: str) -> KnownStage | None:
        """The stage of this pipeline that makes the file at `path`."""
        return next((self.before[folder] for folder in Path(path).parents if folder in self.before), None)


def _in_folder(folder: Path) -> KnownStage | None:
    """The stage whose run the folder holds; None where it holds none, or one that can't be read any more."""
    if folder == Path() or not Run.exists(folder):
        return None
    with contextlib.suppress(UserError, OSError, ValueError):
        kind = str(RunFiles(folder).provenance.get("stage", ""))
        if kind in STAGES:
            config = load_config(STAGES[kind].config_class, folder / CONFIG)
            return KnownStage(name=str(folder), kind=kind, config=config)
    return None


class Library:
    """Data files, each read once; `limit`: so many of their rows, 0 is all."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._files: dict[tuple[str, tuple[Kind, ...]], LoadedFile[Row] | UserError] = {}

    def read(self, use: DataUse) -> LoadedFile[Row]:
        """Raises: UserError, the same each time."""
        key = (repr(use.config), use.kinds)
        if key not in self._files:
            try:
                limit = min(use.config.limit or self.limit, self.limit) if self.limit else use.config.limit
                config = head(use.config) if use.streaming else use.config
                self._files[key] = load(replace(config, limit=limit), *use.kinds)
            except UserError as error:
                self._files[key] = error
        known = self._files[key]
        if isinstance(known, UserError):
            raise known
        return known

    def rows_behind(self, stage: KnownStage, use: DataUse) -> list[Row]:
        """A file's rows; of rankings that a pipeline has yet to collect, the prompts that will be answered."""
        maker = stage.maker(use.config.path)
        sources = data_uses(maker.kind, maker.config) if maker and maker.kind == "collect" else [use]
        return [row for source in sources for row in self.rows(source)]

    def rows(self, use: DataUse) -> tuple[Row, ...]:
        """Nothing where the file can't be read."""
        try:
            return self.read(use).rows
        except UserError:
            return ()
