"""Stages one after the other: a pipeline's YAML names them, each takes what earlier ones wrote.

    stages:
      world:   {kind: world}
      sft:     {kind: sft, data: [{path: "${world}/demonstrations.jsonl"}]}
      reward:  {kind: reward, model: {path: "${sft}/model"}, …}

`${name}` stands for an earlier stage's folder or for a word of `vars`, `$${name}` for itself. Every stage is a run of
its own, in a folder `NN-name` of the pipeline's. Checking one takes no torch.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from plaudit.config.build import build
from plaudit.config.load import config_changes, refuse
from plaudit.config.read import Node
from plaudit.config.types import ByKind, join, kind_of, to_plain
from plaudit.errors import UserError
from plaudit.files import safe_name
from plaudit.records.results import Result
from plaudit.runs.folder import Run
from plaudit.runs.provenance import versions
from plaudit.stages import STAGES
from plaudit.telemetry.console import HEALTH, say
from plaudit.telemetry.health import HEALTHY, Level
from plaudit.telemetry.numbers import duration
from plaudit.telemetry.summary import read_results, summary


def _options_of(name: str, kind: str | None) -> type | None:
    return STAGES[kind or name].config_class if (kind or name) in STAGES else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What a pipeline's YAML holds."""

    stages: dict[str, Annotated[Node, ByKind(_options_of)]]
    """Name → the stage's kind and its options, in the order in which they run."""
    vars: dict[str, str] = field(default_factory=dict)
    """Words that `${name}` stands for besides stages, such as paths: `--vars.model some/folder`."""
    seed: int = 0
    """Given to every stage that names none of its own."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage → seconds that it took once, on any machine, so that the time to go of the whole can be told."""
    sweep: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Option → its values, where the stages are the runs of a sweep; `--sweep` writes it."""

    @staticmethod
    def check_parts(tree: Node, problems: list[str]) -> None:
        """What is wrong in the stages, before they have folders."""
        stages, words, times = (getattr(tree.value.get(name), "value", None) for name in ("stages", "vars", "seconds"))
        if isinstance(stages, dict) and isinstance(times, dict):
            others = {name: node for name, node in times.items() if name not in stages}
            problems += [f"{node.where}: seconds.{name}: there is no such stage" for name, node in others.items()]
        known = {name: str(to_plain(node)) for name, node in words.items()} if isinstance(words, dict) else {}
        if isinstance(stages, dict):
            _planned(stages, known, 0, Path(), problems)


@dataclass(frozen=True, slots=True)
class _Planned:
    name: str
    kind: str
    folder: Path
    config: Any


def plan(config: PipelineConfig, folder: Path) -> list[_Planned]:
    """Every stage's checked config, before anything runs. UserError tells every mistake of every stage."""
    problems: list[str] = []
    planned = _planned(config.stages, config.vars, config.seed, folder, problems)
    refuse(problems, "the pipeline")
    return planned


def _planned(
    stages: Mapping[str, Node], words: Mapping[str, str], seed: int, folder: Path, problems: list[str]
) -> list[_Planned]:
    planned: list[_Planned] = []
    folders = dict(words)
    for number, (name, node) in enumerate(stages.items(), start=1):
        node = replace(node, value={}) if node.value is None else node
        path, kind = f"stages.{name}", kind_of(node) or name
        try:
            folders[name] = str(folder / f"{number:02d}-{safe_name(name)}")
        except UserError as error:
            problems.append(f"{node.where}: {error}")
        if not isinstance(node.value, dict):
            problems.append(f"{node.where}: {path}: expected a stage's options, got {node.value!r}")
        elif kind not in STAGES:
            where = node.value.get("kind", node).where
            problems.append(f"{where}: {path}.kind: {kind!r} is none of: {', '.join(STAGES)}")
        else:
            options = {"seed": Node(seed, "seed")} | {key: one for key, one in node.value.items() if key != "kind"}
            before = {key: folder for key, folder in folders.items() if key != name}
            filled = _filled(Node(options, node.where), before, {*words, *stages}, path, problems)
            config = build(STAGES[kind].config_class, filled, problems, path)
            planned.append(_Planned(name, kind, Path(folders.get(name, name)), config))
    return planned


def _filled(node: Node, known: Mapping[str, str], names: set[str], path: str, problems: list[str]) -> Node:
    """The tree with each `${name}` replaced by that stage's folder or that word of `vars`."""

    def below(one: Node, key: object) -> Node:
        return _filled(one, known, names, join(path, str(key)), problems)

    if isinstance(node.value, dict):
        return Node({key: below(one, key) for key, one in node.value.items()}, node.where)
    if isinstance(node.value, list):
        return Node([below(one, i) for i, one in enumerate(node.value)], node.where)
    if not isinstance(node.value, str):
        return node

    def text(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        if match[2] not in known:
            what = "comes later" if match[2] in names else "is no earlier stage and none of `vars`"
            there = ", ".join(known) or "none"
            problems.append(f"{node.where}: {path}: {match[0]} {what}; known: {there}")
        return known.get(match[2], match[0])

    for old in re.findall(r"(?<![${])\{([\w-]+)\}(?!\})", node.value):
        if old in names:
            problems.append(f"{node.where}: {path}: for the folder of {old!r} write ${{{old}}} instead of {{{old}}}")
    value = re.sub(r"\$(\$?)\{([\w-]+)\}", text, node.value)
    return Node(value, node.where, value)


def unfinished(config: PipelineConfig, folder: Path) -> list[str]:
    """Names of the stages that have no result yet."""
    return [stage.name for stage in plan(config, folder) if not _finished(stage.folder)]


def check_late_changes(before: PipelineConfig, after: PipelineConfig, folder: Path) -> None:
    """UserError where `after` would change a stage that is finished: it would not be run again."""
    old = {stage.name: stage for stage in plan(before, folder)}
    for stage in plan(after, folder):
        is_kept = stage.name in old and _finished(stage.folder)
        if is_kept and (changes := config_changes(old[stage.name].config, stage.config)):
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
            run.attach()
            STAGES[kind].function(config, run)
        return run.summary


def pipeline(config: PipelineConfig, run: Run) -> None:
    """Run the stages that are not finished yet, gather their results into one summary."""
    from plaudit.hardware.machine import peak_memory_bytes

    began = time.monotonic()
    before = float((run.summary if run.finished else run.provenance).get("seconds", 0.0))
    results: list[Result] = []
    health: dict[str, dict[str, Any]] = {}
    stages = plan(config, run.folder)
    weights = [1.0 if config.sweep else config.seconds.get(stage.name, 0.0) for stage in stages]
    # What a weight takes here is told by what is done; at first by the config, whose word weighs as a twentieth of all.
    spent = done = 0.0 if config.sweep else sum(weights) / 20
    one = "run" if config.sweep else "stage"
    for index, stage in enumerate(stages):
        run.check_stop()
        to_go = f", {duration(spent / done * sum(weights[index:]))} to go in all" if done else ""
        is_new = not _finished(stage.folder)
        say(f"── {stage.name} ── {one} {index + 1} of {len(stages)}{to_go if is_new else ', finished before'}")
        start = time.monotonic()
        left = run_stage(stage.kind, stage.config, stage.folder, change=run.change)
        results += [replace(result, stage=stage.name) for result in read_results(left, stage.folder / "summary.json")]
        health |= {stage.name: left["health"]} if "health" in left else {}
        if is_new:
            spent, done = spent + time.monotonic() - start, done + weights[index]
        run.add_provenance({"seconds": before + time.monotonic() - began})
    levels = {name: each["level"] for name, each in health.items() if each["level"] != HEALTHY}
    say(HEALTH + (", ".join(f"{name}: {level}" for name, level in levels.items()) or HEALTHY))
    highest = max(levels.values(), key=lambda level: Level(level).rank, default=HEALTHY)
    facts = {"peak_memory_bytes": peak_memory_bytes(), "seed": config.seed, "versions": versions()}
    facts |= {"sweep": {stage.name: str(stage.folder) for stage in stages}} if config.sweep else {}
    seconds = before + time.monotonic() - began
    run.finish(summary(results, seconds=seconds, health={"level": highest, "stages": levels}, **facts))
