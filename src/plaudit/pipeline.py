"""Stages one after the other, or side by side: a pipeline's YAML names them, each takes what earlier ones wrote.

    stages:
      world:   {kind: world}
      sft:     {kind: sft, data: [{path: "${world}/demonstrations.jsonl"}]}
      reward:  {kind: reward, model: {path: "${sft}/model"}, …}

`${name}` stands for an earlier stage's folder or for a word of `vars`, `$${name}` for itself. Every stage is a run of
its own, in a folder `NN-name` of the pipeline's. Checking one takes no torch.

With `jobs` 2 a stage begins when those are finished that its options name, in a process of its own, beside another one.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from plaudit.config.build import build
from plaudit.config.load import config_changes, refuse
from plaudit.config.read import Node
from plaudit.config.types import ByKind, join, kind_of, to_plain
from plaudit.errors import UserError, require
from plaudit.files import safe_name
from plaudit.records.results import Result
from plaudit.runs import children
from plaudit.runs.children import Children
from plaudit.runs.folder import Run
from plaudit.runs.provenance import versions
from plaudit.runs.ranks import ALONE, RunRanks
from plaudit.stages import STAGES
from plaudit.telemetry.console import HEALTH, mute, say
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
    jobs: int = 1
    """Stages that may run at the same time, each with its share of the cores; those that name none of each other."""
    ranks: dict[str, int] = field(default_factory=dict)
    """Stage → processes that share its work, `jobs` at most (docs/parallel.md); each of them counts as a job."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage → seconds that it took once, on any machine, so that the time to go of the whole can be told."""
    sweep: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Option → its values, where the stages are the runs of a sweep; `--sweep` writes it."""

    def __post_init__(self) -> None:
        require(self.jobs >= 1 and all(n >= 1 for n in self.ranks.values()), "jobs and ranks must be at least 1")

    @staticmethod
    def check_parts(tree: Node, problems: list[str]) -> None:
        """What is wrong in the stages, before they have folders."""
        stages, words = (getattr(tree.value.get(name), "value", None) for name in ("stages", "vars"))
        for option in ("seconds", "ranks"):
            named = getattr(tree.value.get(option), "value", None)
            if isinstance(stages, dict) and isinstance(named, dict):
                others = {name: node for name, node in named.items() if name not in stages}
                problems += [f"{node.where}: {option}.{name}: there is no such stage" for name, node in others.items()]
        known = {name: str(to_plain(node)) for name, node in words.items()} if isinstance(words, dict) else {}
        if isinstance(stages, dict):
            _planned(stages, known, 0, Path(), problems)


@dataclass(frozen=True, slots=True)
class _Planned:
    name: str
    kind: str
    folder: Path
    config: Any
    after: frozenset[str]
    """The stages whose folders its options name."""
    ranks: int
    """Processes that share it."""


def plan(config: PipelineConfig, folder: Path) -> list[_Planned]:
    """Every stage's checked config, before anything runs. UserError tells every mistake of every stage."""
    problems: list[str] = []
    planned = _planned(config.stages, config.vars, config.seed, folder, problems)
    planned = [replace(stage, ranks=min(config.ranks.get(stage.name, 1), config.jobs)) for stage in planned]
    for stage in planned:
        if stage.ranks > 1 and not STAGES[stage.kind].parallel:
            problems.append(f"ranks.{stage.name}: {stage.kind} is the work of one process")
    refuse(problems, "the pipeline")
    return planned


def prepare(config: PipelineConfig, folder: Path) -> None:
    """The mistakes of every stage, as `plan`; then what takes long before the first one is begun."""
    stages = plan(config, folder)
    if config.jobs > 1:
        children.prepare(_modules(stages))


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
            before = _Known({key: folder for key, folder in folders.items() if key != name})
            filled = _filled(Node(options, node.where), before, {*words, *stages}, path, problems)
            config = build(STAGES[kind].config_class, filled, problems, path)
            after = frozenset(before.named & stages.keys())
            planned.append(_Planned(name, kind, Path(folders.get(name, name)), config, after, 1))
    return planned


@dataclass(frozen=True, slots=True)
class _Known:
    """What `${name}` may stand for, and which names were met."""

    texts: Mapping[str, str]
    named: set[str] = field(default_factory=set)


def _filled(node: Node, known: _Known, names: set[str], path: str, problems: list[str]) -> Node:
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
        if match[2] not in known.texts:
            what = "comes later" if match[2] in names else "is no earlier stage and none of `vars`"
            there = ", ".join(known.texts) or "none"
            problems.append(f"{node.where}: {path}: {match[0]} {what}; known: {there}")
        known.named.add(match[2])
        return known.texts.get(match[2], match[0])

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


def run_stage(
    kind: str, config: Any, folder: Path, *, change: bool = False, is_new: bool | None = None, ranks: RunRanks = ALONE
) -> dict[str, Any]:
    """Run one stage in its folder, or go on with it where it was interrupted; its summary, of `ranks` for the first.

    `change`: see `Run.open`. `is_new`: whether the folder holds no run yet, where somebody has looked already.
    """
    is_new = not Run.exists(folder) if is_new is None else is_new
    with (
        Run.create(folder, kind, config, ranks=ranks) if is_new else Run.open(folder, change=change, ranks=ranks)
    ) as run:
        if not run.finished:
            run.replace_config(config)
            run.attach()
            STAGES[kind].function(config, run)
        return run.summary if ranks.is_first else {}


def pipeline(config: PipelineConfig, run: Run) -> None:
    """Run the stages that are not finished yet, gather their results into one summary."""
    began = time.monotonic()
    before = float((run.summary if run.finished else run.provenance).get("seconds", 0.0))
    stages = plan(config, run.folder)
    left: dict[str, dict[str, Any]] = {}
    peak = 0
    for stage, (summary_of_stage, bytes_held) in _carried_out(stages, config, run):
        left[stage.name], peak = summary_of_stage, max(peak, bytes_held)
        run.add_provenance({"seconds": before + time.monotonic() - began})
    results: list[Result] = []
    health: dict[str, dict[str, Any]] = {}
    for stage in stages:
        facts = left[stage.name]
        results += [replace(result, stage=stage.name) for result in read_results(facts, stage.folder / "summary.json")]
        health |= {stage.name: facts["health"]} if "health" in facts else {}
    levels = {name: each["level"] for name, each in health.items() if each["level"] != HEALTHY}
    say(HEALTH + (", ".join(f"{name}: {level}" for name, level in levels.items()) or HEALTHY))
    highest = max(levels.values(), key=lambda level: Level(level).rank, default=HEALTHY)
    facts = {"peak_memory_bytes": peak, "seed": config.seed, "versions": versions()}
    facts |= {"sweep": {stage.name: str(stage.folder) for stage in stages}} if config.sweep else {}
    seconds = before + time.monotonic() - began
    run.finish(summary(results, seconds=seconds, health={"level": highest, "stages": levels}, **facts))


_Left = tuple[dict[str, Any], int]
"""A stage's summary, and the most bytes that its process has held."""


def _carried_out(stages: Sequence[_Planned], config: PipelineConfig, run: Run) -> Iterator[tuple[_Planned, _Left]]:
    """Each stage with what it left, as they end. Those that are finished already come first to hand as others do."""
    weights = {stage.name: 1.0 if config.sweep else config.seconds.get(stage.name, 0.0) for stage in stages}
    # What a weight takes here is told by what is done; at first by the config, whose word weighs as a twentieth of all.
    spent = done = 0.0 if config.sweep else sum(weights.values()) / 20
    one, began, ended = "run" if config.sweep else "stage", dict[str, float](), set[str]()
    here = _Here()
    with _workers(config.jobs, stages) as workers:
        while len(ended) < len(stages):
            run.check_stop()
            for stage in ready(stages, began, ended, config.jobs):
                is_new = not _finished(stage.folder)
                to_go = duration(spent / done * makespan(stages, weights, ended, config.jobs)) if done else ""
                note = (f", {to_go} to go in all" if to_go else "") if is_new else ", finished before"
                say(f"── {stage.name} ── {one} {stages.index(stage) + 1} of {len(stages)}{note}")
                began[stage.name] = time.monotonic()
                # A world needs no model: it is made while the other processes' server still imports what they need.
                if stage.kind == "world" and stage.ranks == 1:
                    here.start(stage.name, carry_out, stage, run.change, 1)
                else:
                    workers.start(stage.name, carry_out, stage, run.change, config.jobs, ranks=stage.ranks)
                weights |= {} if is_new else {stage.name: 0.0}
            for name, left in here.wait(0) or workers.wait(_PATIENCE):
                ended.add(name)
                if weights[name]:
                    spent, done = spent + time.monotonic() - began[name], done + weights[name]
                yield next(stage for stage in stages if stage.name == name), left


_PATIENCE = 0.5
"""Seconds between two looks at whether a stop was asked for, where stages run in other processes."""


def ready(stages: Sequence[_Planned], began: Collection[str], ended: Collection[str], jobs: int) -> list[_Planned]:
    """The stages that can begin now, in order: those they name are finished, and there is room for their processes."""
    room = jobs - sum(stage.ranks for stage in stages if stage.name in began and stage.name not in ended)
    able: list[_Planned] = []
    for stage in stages:
        if stage.name not in began and stage.after <= set(ended) and stage.ranks <= room:
            able.append(stage)
            room -= stage.ranks
    return able


def makespan(stages: Sequence[_Planned], weights: Mapping[str, float], ended: Collection[str], jobs: int) -> float:
    """How long the stages that have not ended will take from their beginning on, where `weights` are their times."""
    now, over, running = 0.0, set(ended), dict[str, float]()
    while len(over) < len(stages):
        for stage in ready(stages, {*over, *running}, over, jobs):
            running[stage.name] = now + weights[stage.name]
        first = min(running, key=running.__getitem__)
        now = running.pop(first)
        over.add(first)
    return now


def carry_out(stage: _Planned, change: bool, jobs: int) -> _Left:
    """Run a stage, here or in processes that share the cores with others; its summary and memory. Where there are fewer
    GPUs than ranks, the first does it alone."""
    from plaudit.hardware.machine import has_room, peak_memory_bytes, share_cores
    from plaudit.hardware.ranks import start

    if jobs > 1:
        share_cores(jobs)
    if stage.ranks > 1 and not has_room(stage.config.device.device, stage.ranks) and os.environ.pop("RANK") != "0":
        return {}, 0
    ranks = start()
    if not ranks.is_first:
        mute()
    is_new = ranks.ask_first(lambda: not Run.exists(stage.folder))
    left = run_stage(stage.kind, stage.config, stage.folder, change=change, is_new=is_new, ranks=ranks)
    return left, peak_memory_bytes()


class _Here:
    """A stage at a time in this process; the same methods as `Children`."""

    def __init__(self) -> None:
        self._ended: list[tuple[str, Any]] = []

    def start(self, name: str, work: Callable[..., Any], *args: Any, ranks: int = 1) -> None:
        assert ranks == 1
        self._ended.append((name, work(*args)))

    def wait(self, _: float) -> list[tuple[str, Any]]:
        ended = self._ended.copy()
        self._ended.clear()
        return ended


def _workers(jobs: int, stages: Sequence[_Planned]) -> contextlib.AbstractContextManager[Children | _Here]:
    if jobs == 1:
        return contextlib.nullcontext(_Here())
    return Children(_modules(stages))


def _modules(stages: Sequence[_Planned]) -> list[str]:
    return [STAGES[stage.kind].run.partition(":")[0] for stage in stages]
