"""The command line: parse, load the config, call the function of the same name, print what came of it."""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit import __version__
from plaudit.errors import FirstFailed, StopRequested, UserError
from plaudit.telemetry.console import discard_closed, mute, muted, say, warn

if TYPE_CHECKING:
    from plaudit.hardware.ranks import Ranks

STAGE_HELP = {
    "sft": "supervised fine-tuning: learn to write as the demonstrations do",
    "collect": "let a model answer prompts, have a rule rank the answers",
    "reward": "train a reward model on rankings, comparisons, ratings or verdicts",
    "ppo": "align a policy with reward models and functions",
    "compare": "compare policies on held-out prompts: win rates, KL, samples",
    "reward_eval": "measure reward models and functions on labelled answers: accuracy, calibration, bias",
    "pipeline": "run several stages, one after the other",
}
EVAL = {"policies": "compare", "reward": "reward_eval"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit code 0, 2 for a user's mistake, 130/143 after SIGINT/SIGTERM."""
    # Idle OpenMP threads sleep instead of spinning: anything else on the machine would slow training tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and not getattr(known, "takes_options", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    known.options = rest
    try:
        return known.call(known) or 0
    except UserError as error:
        _say_error(error)
        return 2
    except StopRequested as stop:
        if not muted():
            print(f"stopped; go on with `plaudit resume {_run_folder(known)}`", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        return 130


def _say_error(error: UserError) -> None:
    """Of several ranks each says its own error, and none what the first said already."""
    if not muted():
        print(f"error: {error}", file=sys.stderr)
    elif not isinstance(error, FirstFailed):
        print(f"rank {os.environ['RANK']}: error: {error}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="plaudit",
        description="RLHF from people's preferences to an aligned language model: SFT, reward models, PPO, evaluation.",
        epilog="`plaudit COMMAND --help` lists every option of a command with its default and its meaning.",
    )
    parser.add_argument("--version", action="version", version=f"plaudit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="the whole pipeline on the tiny world, in a few minutes, no download")
    demo.add_argument("--out", default="runs/demo", help="run folder (default: %(default)s)")
    demo.add_argument("--seed", type=int, help="of everything (default: 0)")
    demo.set_defaults(call=_demo)

    for name in ("sft", "collect", "reward", "ppo", "pipeline"):
        _add_stage(commands, name, name)
    evaluate = commands.add_parser("eval", help="measure models").add_subparsers(metavar="WHAT", required=True)
    for name, stage in EVAL.items():
        _add_stage(evaluate, name, stage)

    resume = commands.add_parser(
        "resume", help="go on with an interrupted run, or extend a finished one", allow_abbrev=False
    )
    resume.add_argument("run", help="run folder")
    resume.add_argument("--change", action="store_true", help="allow options and data that change what is trained")
    resume.add_argument("--fallback", action="store_true", help="set damaged checkpoints aside, use an older one")
    resume.set_defaults(call=_resume, takes_options=True)

    data = commands.add_parser("data", help="look at data files").add_subparsers(metavar="WHAT", required=True)
    check = data.add_parser("check", help="kind, counts, lengths, duplicates, overlap, bad rows by line")
    check.add_argument("files", nargs="+", help="data files")
    check.add_argument("--json", action="store_true", help="for machines")
    check.set_defaults(call=_data_check)

    report = commands.add_parser("report", help="write report.html for runs or pipelines, finished or not")
    report.add_argument("runs", nargs="+", help="run folders; several are laid over each other")
    report.add_argument("--out", default="", help="file (default: report.html in the first run folder)")
    report.set_defaults(call=_report)
    _add_inspect(commands)
    return parser


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser("inspect", help="a PPO run's rollouts token by token, coloured, with every number")
    inspect.add_argument("run", help="run folder, or a pipeline's")
    inspect.add_argument("--stage", default="", help="of a pipeline in which several stages kept rollouts")
    inspect.add_argument("--iteration", type=_count, default=0, help="default: the last one kept")
    pick = inspect.add_mutually_exclusive_group()
    pick.add_argument("--row", type=_count, default=0, help="this line of the iteration's file")
    for name, what in (("best", "the highest score"), ("worst", "the lowest score"), ("longest", "most tokens")):
        pick.add_argument(
            f"--{name}", dest="pick", action="store_const", const=name, default="", help=f"row with {what}"
        )
    inspect.add_argument("--search", default="", help="rows whose prompt or response has this text")
    inspect.add_argument("--prompt-id", default="", help="rows of this prompt; the id's beginning will do")
    column = "numbers that colour the response: advantage, reward, kl, value, logprob … (default: %(default)s)"
    inspect.add_argument("--column", default="advantage", help=column)
    inspect.add_argument("--json", action="store_true", help="for machines")
    inspect.add_argument("--no-color", action="store_true", help="no colours; so does NO_COLOR=1, and a pipe")
    inspect.set_defaults(call=_inspect)


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _add_stage(commands: Any, name: str, stage: str) -> None:
    command = commands.add_parser(name, help=STAGE_HELP[stage], add_help=False, allow_abbrev=False)
    command.add_argument("config", nargs="?", help="YAML file")
    command.add_argument("--out", default="", help="run folder (default: runs/ and the config file's name)")
    command.add_argument("--sink", action="append", default=[], help="also send metrics to tensorboard, wandb, trackio")
    command.add_argument("-h", "--help", action="store_true", dest="wants_help", help="list every option")
    command.set_defaults(call=_stage, stage=stage, parser=command, takes_options=True)


def _stage(known: argparse.Namespace) -> int:
    """`plaudit sft CONFIG --option value …` and its siblings."""
    config_class, function = _stages()[known.stage]
    if known.wants_help or known.config is None:
        from plaudit.config.load import help_text

        known.parser.print_usage()
        print(f"\n{(config_class.__doc__ or '').strip()}\n\n{help_text(config_class)}", end="")
        return 0 if known.wants_help else 2
    from plaudit.config.load import load_config

    if any(option.split("=")[0] == "--config" for option in known.options):
        raise UserError(f"--config: the config file is named without an option: {known.parser.prog} FILE …")
    if known.options and not Path(known.config).exists():
        usage = f"{known.parser.prog} CONFIG …"
        raise UserError(f"there is no config file {known.config}; it stands before the options: {usage}")
    config = load_config(config_class, Path(known.config), known.options)
    folder = _run_folder(known)
    return _run_new(known.stage, function, config, folder, known.sink)


def _run_folder(known: argparse.Namespace) -> Path:
    """The folder that was named, or runs/ and the config file's name."""
    named = getattr(known, "run", "") or known.out
    return Path(named) if named else Path("runs") / Path(known.config).stem


def _stages() -> dict[str, tuple[type, Callable]]:
    """All stages, the pipeline among them; importing them takes torch, so it is done only when one is asked for."""
    from plaudit.pipeline import STAGES, PipelineConfig, pipeline

    return {**STAGES, "pipeline": (PipelineConfig, pipeline)}


def _run_new(stage: str, function: Callable, config: Any, folder: Path, sinks: Sequence[str] = ()) -> int:
    from plaudit.pipeline import PipelineConfig, plan
    from plaudit.runs.folder import Run

    if isinstance(config, PipelineConfig):
        if sinks:
            raise UserError("--sink: a pipeline logs nothing itself; run its stages one by one to send their metrics")
        plan(config, folder)
    ranks = _ranks()
    _check_ranks(stage, ranks)
    with Run.create(folder, stage, config, ranks=ranks) as run:
        run.attach(sinks)
        function(config, run)
    return _show(folder)


PARALLEL = ("sft", "reward", "ppo")
"""Stages that several processes can share (docs/parallel.md)."""


def _ranks() -> "Ranks":
    """The processes that torchrun started, of which only the first talks; or this one alone."""
    from plaudit.hardware.ranks import start

    ranks = start()
    if not ranks.is_first:
        mute()
    return ranks


def _check_ranks(stage: str, ranks: "Ranks") -> None:
    if not ranks.is_alone and stage not in PARALLEL:
        raise UserError(f"{stage} is the work of one process; torchrun is for {', '.join(PARALLEL)}")


def _demo(known: argparse.Namespace) -> int:
    """The embedded pipeline on the tiny world."""
    from plaudit.config.load import load_config
    from plaudit.pipeline import PipelineConfig, pipeline
    from plaudit.runs.folder import Run

    folder = Path(known.out)
    if Run.exists(folder):
        if known.seed is not None:
            raise UserError(f"{folder} exists and keeps its seed; leave --seed out to go on with it, or change --out")
        say(f"{folder} exists; going on with it")
        return _resume_folder(folder, [], change=False)
    source = files("plaudit").joinpath("demo.yaml")
    config = load_config(PipelineConfig, Path(str(source)), ["--seed", str(known.seed or 0)])
    return _run_new("pipeline", pipeline, config, folder)


def _resume(known: argparse.Namespace) -> int:
    return _resume_folder(Path(known.run), known.options, change=known.change, fallback=known.fallback)


def _set_damaged_aside(run: Any) -> None:
    """Of the run, or of a pipeline's stages: the newest whole checkpoint becomes the newest."""
    from plaudit.runs.folder import Run

    if run.stage != "pipeline":
        run.latest(fallback=True)
        return
    for path in sorted(path for path in run.folder.iterdir() if Run.exists(path)):
        with Run.open(path) as stage:
            stage.latest(fallback=True)


def _resume_folder(folder: Path, options: Sequence[str], *, change: bool, fallback: bool = False) -> int:
    """Go on where the last checkpoint is; options may extend the run, and with --change alter it."""
    from plaudit.config.load import config_changes, load_config, to_plain
    from plaudit.pipeline import check_late_changes, unfinished
    from plaudit.runs.folder import Run

    ranks = _ranks()
    with Run.open(folder, change=change, ranks=ranks) as run:
        stage = run.stage
        _check_ranks(stage, ranks)
        if fallback:
            ranks.first(lambda: _set_damaged_aside(run))
        if stage not in (stages := _stages()):
            raise UserError(f"{folder}: provenance.json says that this is a run of {stage!r}, which is no command")
        config_class, function = stages[stage]
        before = load_config(config_class, run.config)
        config = load_config(config_class, run.config, options)
        changes = config_changes(to_plain(before), to_plain(config))
        _check_changes(changes, change)
        if stage == "pipeline":
            check_late_changes(before, config, folder)
        if run.finished and not changes and not (stage == "pipeline" and unfinished(config, folder)):
            say(f"{folder} is finished; extend it with an option such as --epochs or --iterations")
        else:
            if changes:
                say("changed: " + "; ".join(changes))
                run.replace_config(config)
            function(config, run)
    return _show(folder)


EXTENDING = {
    "epochs", "iterations", "save_every", "evaluate_every", "microbatch_tokens", "keep_rollouts",
    "model.activation_checkpointing",
}  # fmt: skip
"""Options that a resumed run may change without being asked twice: how long and how finely, not what is trained."""


def _check_changes(changes: Sequence[str], allowed: bool) -> None:
    def option(line: str) -> str:
        return re.sub(r"^stages\.[^.]*\.", "", line.partition(":")[0])

    others = [line for line in changes if option(line) not in EXTENDING]
    fixed = [line for line in others if option(line).startswith(("model.", "critic."))]
    if fixed:
        raise UserError(f"a resumed run keeps its model: {'; '.join(fixed)}. Start a new run instead.")
    if others and not allowed:
        raise UserError(f"this changes what is being trained: {'; '.join(others)}. Add --change if it is meant.")


def _data_check(known: argparse.Namespace) -> int:
    from plaudit.data.check import check

    found = check(known.files)
    print(found.to_json() if known.json else found.to_text(), end="")
    return 0 if found.ok else 2


def _report(known: argparse.Namespace) -> int:
    from plaudit.report.html import write

    folders = [Path(run) for run in known.runs]
    print(write(folders, Path(known.out) if known.out else folders[0] / "report.html"))
    return 0


def _inspect(known: argparse.Namespace) -> int:
    from plaudit.report.inspect import Wanted, find, to_json, to_text

    names = ("iteration", "stage", "row", "pick", "search", "prompt_id", "column")
    found = find(Path(known.run), Wanted(**{name: getattr(known, name) for name in names}))
    for problem in found.problems:
        warn(problem)
    plain = known.no_color or bool(os.environ.get("NO_COLOR"))
    text = to_json(found) if known.json else to_text(found, plain=plain)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        discard_closed(sys.stdout)
    return 0


def _show(folder: Path) -> int:
    """The table of a finished run, and where its report is."""
    if muted():
        return 0
    from plaudit.report.html import write
    from plaudit.report.table import print_table

    began = time.monotonic()
    path = write([folder], folder / "report.html")
    print_table(folder)
    say(f"report written in {time.monotonic() - began:.1f} s")
    print(f"report: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
