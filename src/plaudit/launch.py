"""Start a run of any stage in a folder, or go on with one: what the command line and other callers share."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.config.explain import starter
from plaudit.config.load import config_changes, load_config
from plaudit.config.read import dump_entry
from plaudit.config.types import to_plain
from plaudit.doctor.paths import check_paths
from plaudit.doctor.run import at_start
from plaudit.errors import UserError
from plaudit.pipeline import PipelineConfig, check_late_changes, prepare, unfinished
from plaudit.runs.children import cores
from plaudit.runs.folder import CONFIG, Run
from plaudit.runs.ranks import ALONE, RunRanks
from plaudit.runs.records import RunFiles
from plaudit.stages import PIPELINE, RUNS, STAGES, Stage
from plaudit.telemetry.console import mute, say
from plaudit.telemetry.health import HEALTHY, Level

EXTENDING = {
    "epochs", "iterations", "jobs", "save_every", "evaluate_every", "microbatch_tokens", "keep_rollouts",
    "model.activation_checkpointing", "evaluation.every", "evaluation.patience",
}  # fmt: skip
"""Options that a resumed run may change without being asked twice: how long and how finely, not what is trained."""
DEMO_JOBS = 3
_NO_SINK = "--sink: a pipeline logs nothing itself; run its stages one by one to send their metrics"


def start(stage: Stage, config: Any, folder: Path, sinks: Sequence[str] = (), *, profile: bool = False) -> None:
    """A new run of a stage, to its end; with `profile` its second iteration or step is taken apart."""
    if isinstance(config, PipelineConfig):
        if sinks:
            raise UserError(_NO_SINK)
        prepare(config, folder)
    check_paths(config, folder)
    ranks = _ranks()
    _check_ranks(stage, ranks)
    with Run.create(folder, stage.name, config, ranks=ranks) as run:
        run.attach(sinks)
        if ranks.is_first:
            at_start(stage.name, config, folder)
        with taken_apart(run, profile and ranks.is_first):
            stage.function(config, run)


def taken_apart(run: Run, wanted: bool) -> contextlib.AbstractContextManager[None]:
    """Around a stage: its second iteration or step is profiled where that is wanted."""
    if not wanted:
        return contextlib.nullcontext()
    from plaudit.hardware.profile import profiled  # takes torch

    return profiled(run)


Grid = Mapping[str, Sequence[str]]
"""Options and their values."""


def sweep_of(stage: Stage, source: Path, options: Sequence[str], axes: Sequence[str]) -> tuple[Grid, Mapping[str, Any]]:
    """The axes (`kl.coef=0.02,0.05`), and by name the config of each combination of their values.

    Raises: UserError for whatever is wrong with one of them.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for axis in axes:
        name, equals, values = axis.removeprefix("--").partition("=")
        grid[name] = tuple(filter(None, re.split(r",(?![^\[{]*[\]}])", values)))
        if not name or not equals or not grid[name] or len(set(grid[name])) < len(grid[name]):
            raise UserError(f"--sweep {axis}: write an option and its different values, such as kl.coef=0.02,0.05")
    configs = {}
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        config = load_config(stage.config_class, source, [*options, *(f"--{key}={one}" for key, one in chosen.items())])
        name = ",".join(f"{key}={one}" for key, one in chosen.items()).replace("/", "_")
        configs[name] = config
    if len(configs) > 99:
        raise UserError(f"--sweep: {len(configs)} runs are more than one folder can show, 99; leave some values out")
    return grid, configs


def start_sweep(stage: Stage, grid: Grid, configs: Mapping[str, Any], folder: Path, sinks: Sequence[str] = ()) -> None:
    """One run after the other, as stages of one pipeline."""
    stages = {name: {"kind": stage.name, **_escaped(to_plain(config))} for name, config in configs.items()}
    together = load_config(PipelineConfig, {"stages": stages, "sweep": grid})
    check_paths(together, folder)
    say(f"sweep: {len(configs)} runs of {stage.name} in {folder}")
    start(PIPELINE, together, folder, sinks)


def _escaped(value: Any) -> Any:
    """Plain values whose texts a pipeline takes as they are."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def demo(folder: Path, seed: int | None, jobs: int | None = None) -> None:
    """The embedded pipeline on the tiny world, or on with it where it was interrupted.

    `jobs`: by default, where there are two cores, a stage on both and one that fills the gaps in which its ranks wait.
    """
    options = [] if jobs is None else ["--jobs", str(jobs)]
    if not Run.exists(folder):
        source = Path(__file__).with_name("demo.yaml")
        options = options or ["--jobs", str(DEMO_JOBS if cores() > 1 else 1)]
        return start(PIPELINE, load_config(PipelineConfig, source, ["--seed", str(seed or 0), *options]), folder)
    if seed is not None:
        raise UserError(f"{folder} exists and keeps its seed; leave --seed out to go on with it, or change --out")
    say(f"{folder} exists; going on with it")
    return resume(folder, options)


def is_unwell(folder: Path, level: str) -> bool:
    """Whether the run or pipeline ended with a finding of that level (notice, warning, alarm) or a higher one."""
    level_reached = RunFiles(folder).summary.get("health", {}).get("level", HEALTHY)
    return level_reached != HEALTHY and Level(level_reached).rank >= Level(level).rank


def resume(
    folder: Path,
    options: Sequence[str] = (),
    *,
    change: bool = False,
    fallback: bool = False,
    sinks: Sequence[str] = (),
) -> None:
    """Go on where the last checkpoint is; options may extend the run, and with `change` alter it.

    `fallback`: damaged checkpoints are set aside.
    """
    ranks = _ranks()
    with Run.open(folder, change=change, ranks=ranks) as run:
        if run.stage not in RUNS:
            raise UserError(f"{folder}: provenance.json says that this is a run of {run.stage!r}, which is no command")
        stage = RUNS[run.stage]
        _check_ranks(stage, ranks)
        if fallback:
            ranks.first(lambda: _set_damaged_aside(run))
        before = load_config(stage.config_class, folder / CONFIG)
        config = load_config(stage.config_class, folder / CONFIG, options)
        is_pipeline = isinstance(config, PipelineConfig)
        if is_pipeline:
            check_late_changes(before, config, folder)
        if not adopt(run, before, config, change) and run.finished and not (is_pipeline and unfinished(config, folder)):
            longer = "--iterations" if stage.counts == "iteration" else "--epochs"
            if (run.summary.get("best_policy") or {}).get("stopped_early"):
                longer = "--evaluation.patience"
            say(f"{folder} is finished" + f"; {longer} with a higher number extends it" * bool(stage.main_measures))
            return
        if is_pipeline and sinks:
            raise UserError(_NO_SINK)
        run.attach(sinks)
        stage.function(config, run)


def starter_file(stage: Stage) -> str:
    """A YAML file to begin from: what is asked for most with its defaults, all else as comments."""
    head = f"# {stage.help[0].upper()}{stage.help[1:]}. Launch: plaudit {stage.command} FILE\n"
    return head + "".join(f"{line}\n" for line in _starter_lines(stage))


def _starter_lines(stage: Stage) -> Iterator[str]:
    if stage is not PIPELINE:
        yield from _stage_lines(stage, stage.starter, every=True)
        return
    yield from (dump_entry(key, value).rstrip() for key, value in stage.starter.items() if key != "stages")
    yield "stages:"
    for name, chosen in stage.starter["stages"].items():
        options = dict(chosen)
        kind = options.pop("kind")
        yield from (f"  {name}:", f"    kind: {kind}")
        yield from (f"    {line}" for line in _stage_lines(STAGES[kind], options, every=False))


def _stage_lines(stage: Stage, chosen: Mapping[str, Any], *, every: bool) -> list[str]:
    common = [name for names in stage.common.values() for name in names if name != "seed" or every]
    return starter(load_config(stage.config_class, chosen), chosen, common, every=every)


def _ranks() -> RunRanks:
    """The processes that torchrun started, of which only the first talks; or this one alone, for which nothing is
    imported."""
    if "RANK" not in os.environ:
        return ALONE
    from plaudit.hardware.ranks import start

    ranks = start()
    if not ranks.is_first:
        mute()
    return ranks


def _check_ranks(stage: Stage, ranks: RunRanks) -> None:
    if not ranks.is_alone and not stage.parallel:
        able = ", ".join(one.name for one in STAGES.values() if one.parallel)
        raise UserError(f"{stage.name} is the work of one process; torchrun is for {able}")


def _set_damaged_aside(run: Run) -> None:
    """Of the run, or of a pipeline's stages: the newest whole checkpoint becomes the newest."""
    if run.stage != PIPELINE.name:
        run.latest(fallback=True)
        return
    for path in sorted(filter(Run.exists, run.folder.iterdir())):
        with Run.open(path) as stage:
            stage.latest(fallback=True)


def adopt(run: Run, before: Any, config: Any, allowed: bool) -> bool:
    """The options with which a run is gone on with; whether they differ from those `before`.

    Raises: UserError where it would train something else than it began with, unless that is `allowed`.
    """
    changes = config_changes(before, config)
    options = {line: re.sub(r"^stages\.[^.]*\.", "", line.partition(":")[0]) for line in changes}
    others = [line for line, option in options.items() if option not in EXTENDING]
    if fixed := [line for line in others if options[line].startswith(("model.", "critic."))]:
        raise UserError(f"a resumed run keeps its model: {'; '.join(fixed)}. Start a new run instead.")
    if others and not allowed:
        raise UserError(f"this changes what is being trained: {'; '.join(others)}. Add --change if it is meant.")
    if changes:
        say("changed: " + "; ".join(changes))
        run.replace_config(config)
    return bool(changes)
