"""Stages one after the other: a pipeline's YAML names them, each takes what earlier ones wrote.

    stages:
      world:   {kind: world}
      sft:     {kind: sft, data: [{path: "{world}/demonstrations.jsonl"}]}
      reward:  {kind: reward, model: {path: "{sft}/model"}, …}

`{name}` stands for an earlier stage's folder. Every stage is a run of its own, in a folder `NN-name` of the pipeline's.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.config.load import config_changes, load_config, to_plain
from plaudit.data.openings import write_openings
from plaudit.data.options import DataConfig
from plaudit.data.tinyworld_files import write_world
from plaudit.errors import UserError
from plaudit.evaluation.compare import compare
from plaudit.evaluation.frontier import frontier
from plaudit.evaluation.options import CompareConfig, FrontierConfig, RewardEvalConfig
from plaudit.evaluation.reward_eval import reward_eval
from plaudit.files import safe_name
from plaudit.hardware.machine import peak_memory_bytes
from plaudit.records.text import Kind
from plaudit.runs.folder import Run
from plaudit.runs.provenance import versions
from plaudit.telemetry.console import say
from plaudit.training import state
from plaudit.training.collect import collect
from plaudit.training.options import CollectConfig, SFTConfig
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.loop import ppo
from plaudit.training.reward.loop import reward
from plaudit.training.reward.options import RewardConfig
from plaudit.training.sft import sft


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """The tiny world's files: demonstrations, prompts, held-out prompts (docs/tiny-world.md)."""

    seed: int = 0
    """Of every row."""
    demonstrations: int = 6000
    """Rows to fine-tune on."""
    preference_prompts: int = 2400
    """Prompts whose answers are ranked."""
    ppo_prompts: int = 900
    """Prompts that PPO practises on."""
    held_out: int = 300
    """Prompts that nothing is trained on."""


def world(config: WorldConfig, run: Run) -> None:
    """Write the world's files into the run folder; world.json holds its ceilings."""
    write_world(run.folder, **to_plain(config))
    run.finish({"stages": []})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningsConfig:
    """Prompts out of plain texts: their first words. Texts and prompts, divided into training and held-out ones."""

    data: tuple[DataConfig, ...]
    """Files of plain text."""
    words: int = 8
    """Of each text's opening, cut at white space."""
    held_out_fraction: float = 0.1
    """Share of the openings that is set aside, by hash, with all texts that begin so."""
    seed: int = 0
    """Of the division."""


def openings(config: OpeningsConfig, run: Run) -> None:
    """Write texts.jsonl, prompts.jsonl, held_out_texts.jsonl and held_out_prompts.jsonl into the run folder."""
    texts = [row for rows in state.load_data(run, config.data, Kind.TEXT) for row in rows]
    counts = write_openings(
        run.folder, texts, words=config.words, held_out_fraction=config.held_out_fraction, seed=config.seed
    )
    say("openings: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    run.finish({"stages": [], "openings": counts})


Stage = tuple[type, Callable[[Any, Run], None]]
STAGES: dict[str, Stage] = {
    "world": (WorldConfig, world),
    "openings": (OpeningsConfig, openings),
    "sft": (SFTConfig, sft),
    "collect": (CollectConfig, collect),
    "reward": (RewardConfig, reward),
    "ppo": (PPOConfig, ppo),
    "compare": (CompareConfig, compare),
    "frontier": (FrontierConfig, frontier),
    "reward_eval": (RewardEvalConfig, reward_eval),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What a pipeline's YAML holds."""

    stages: dict[str, dict[str, Any]]
    """Name → the stage's kind and its config, in the order in which they run."""
    vars: dict[str, str] = field(default_factory=dict)
    """Words that `{name}` stands for besides stages, such as paths: `--vars.model some/folder`."""
    seed: int = 0
    """Given to every stage that names none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    name: str
    kind: str
    folder: Path
    config: Any


def plan(config: PipelineConfig, folder: Path) -> list[_Planned]:
    """Every stage's checked config, before anything runs. Raises UserError naming the stage."""
    folders = dict(config.vars)
    planned = []
    for number, (name, plain) in enumerate(config.stages.items(), start=1):
        kind = plain.get("kind", name)
        if kind not in STAGES:
            raise UserError(f"stages.{name}.kind: {kind!r} is none of {', '.join(STAGES)}")
        place = folder / f"{number:02d}-{safe_name(name)}"
        filled = _fill({"seed": config.seed, **{k: v for k, v in plain.items() if k != "kind"}}, folders, name)
        try:
            stage_config = load_config(STAGES[kind][0], filled)
        except UserError as error:
            raise UserError(f"stage {name!r}: {error}") from error
        planned.append(_Planned(name=name, kind=kind, folder=place, config=stage_config))
        folders[name] = str(place)
    return planned


def _fill(value: Any, folders: Mapping[str, str], stage: str) -> Any:
    """Replace `{name}` by that stage's folder or that word of `vars`, everywhere in a nested value."""
    if isinstance(value, Mapping):
        return {key: _fill(item, folders, stage) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(item, folders, stage) for item in value]
    if not isinstance(value, str):
        return value

    def folder(match: re.Match) -> str:
        if match[1] not in folders:
            raise UserError(
                f"stage {stage!r}: {match[0]} is no earlier stage and none of `vars`; "
                f"known: {', '.join(folders) or 'none'}"
            )
        return folders[match[1]]

    return re.sub(r"\{([A-Za-z0-9_-]+)\}", folder, value)


def unfinished(config: PipelineConfig, folder: Path) -> list[str]:
    """Names of the stages that have no result yet."""
    return [stage.name for stage in plan(config, folder) if not _finished(stage.folder)]


def check_late_changes(before: PipelineConfig, after: PipelineConfig, folder: Path) -> None:
    """UserError where `after` would change a stage that is finished: it would not be run again."""
    old = {stage.name: stage for stage in plan(before, folder)}
    for stage in plan(after, folder):
        if stage.name in old and _finished(stage.folder):
            changes = config_changes(to_plain(old[stage.name].config), to_plain(stage.config))
            if changes:
                raise UserError(
                    f"stage {stage.name!r} is finished and keeps its options ({'; '.join(changes)}). Resume "
                    f"{stage.folder} by itself, or delete it and the stages after it to run them again."
                )


def _finished(folder: Path) -> bool:
    return (folder / "summary.json").is_file()


def run_stage(kind: str, config: Any, folder: Path, *, change: bool = False) -> dict[str, Any]:
    """Run one stage in its folder, or go on with it where it was interrupted; its summary.

    `change`: see `Run.open`.
    """
    with Run.open(folder, change=change) if Run.exists(folder) else Run.create(folder, kind, config) as run:
        if not run.finished:
            run.replace_config(config)
            STAGES[kind][1](config, run)
        return run.summary


def pipeline(config: PipelineConfig, run: Run) -> None:
    """Run the stages that are not finished yet, gather their tables into one summary."""
    began = time.monotonic()
    before = float(run.summary.get("seconds", 0.0)) if run.finished else _seconds_so_far(run)
    table: list[dict[str, Any]] = []
    for stage in plan(config, run.folder):
        run.check_stop()
        say(f"── {stage.name} ──")
        summary = run_stage(stage.kind, stage.config, stage.folder, change=run.change)
        table += [{"stage": stage.name, **row} for row in summary.get("stages", [])]
        run.add_provenance({"seconds": before + time.monotonic() - began})
    run.finish(
        {
            "stages": table,
            "seconds": before + time.monotonic() - began,
            "peak_memory_bytes": peak_memory_bytes(),
            "seed": config.seed,
            "versions": versions(),
        }
    )


def _seconds_so_far(run: Run) -> float:
    return float(run.provenance.get("seconds", 0.0))


__all__ = ["STAGES", "PipelineConfig", "check_late_changes", "pipeline", "plan", "run_stage", "unfinished"]
