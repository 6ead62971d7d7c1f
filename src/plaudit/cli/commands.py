"""The command line: parse, load the config, call the function of the same name, print what came of it."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from plaudit import __version__
from plaudit.cli.board import add_board
from plaudit.cli.chat import add_chat
from plaudit.cli.data import add_data
from plaudit.cli.label import add_label
from plaudit.cli.push import add_push
from plaudit.cli.show import add_report, placed, show
from plaudit.cli.tasks import add_models, tasks
from plaudit.errors import FirstFailed, StopRequested, UserError, out_of_memory
from plaudit.stages import GENERATE, RUNS, SCORE, Stage
from plaudit.telemetry.console import muted, warn, while_read


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit code 0, 2 for a user's mistake, 3 by `--fail_on`, 130/143 after SIGINT/SIGTERM."""
    # Idle OpenMP threads sleep instead of spinning: anything else on the machine would slow training tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = build_parser()
    known, rest = parser.parse_known_args(arguments)
    if not hasattr(known, "call"):
        parser.print_help(sys.stderr)
        return 2
    if rest and not getattr(known, "takes_options", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    known.options = rest
    try:
        return known.call(known) or 0
    except UserError as error:
        if not muted():
            print(f"error: {placed(str(error), known)}", file=sys.stderr)
        elif not isinstance(error, FirstFailed):  # of several ranks none says what the first said already
            print(f"rank {os.environ['RANK']}: error: {error}", file=sys.stderr)
        return 2
    except StopRequested as stop:
        if not muted():
            print(f"stopped; go on with `plaudit resume {_run_folder(known)}`", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"error: {out_of_memory(error)}", file=sys.stderr)
        return 2


# ------------------------------------------------------------------------------------------------------ what there is


def build_parser() -> argparse.ArgumentParser:
    """All commands. The options of a stage are no part of it; its config class holds them."""
    parser = argparse.ArgumentParser(
        prog="plaudit",
        description="RLHF from people's preferences to an aligned language model: SFT, reward models, PPO, evaluation.",
        epilog="`plaudit COMMAND --help` shows a command's most used options, `--help-all` every one.",
    )
    parser.add_argument("--version", action="version", version=f"plaudit {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole pipeline on the tiny world, in under four minutes, no download")
    demo.add_argument("--out", default="runs/demo", help="run folder (default: %(default)s)")
    demo.add_argument("--seed", type=int, help="of everything (default: 0)")
    demo.add_argument("--jobs", type=int, help="processes at the same time (default: 3 where there are two cores)")
    demo.set_defaults(call=_demo)

    init = commands.add_parser("init", help="write a commented YAML file to start from")
    init.add_argument("stage", choices=[stage.name for stage in RUNS.values() if stage.starter], metavar="STAGE")
    init.add_argument("file", nargs="?", default="", help="default: the stage's name and .yaml")
    init.set_defaults(call=_init)

    for stage in RUNS.values():
        if stage.command and " " not in stage.command:
            _add_stage(commands, stage.command, stage)
    for add in (_add_generate, _add_score, _add_resume, _add_doctor, _add_inspect, add_label, add_board, add_chat):
        add(commands)
    add_push(commands)
    measure = commands.add_parser("eval", help="measure models").add_subparsers(metavar="WHAT", required=True)
    for stage in RUNS.values():
        if stage.command == "eval tasks":
            add_models(_with_options(measure, "tasks", stage, tasks))
        elif stage.command.startswith("eval "):
            _add_stage(measure, stage.command.removeprefix("eval "), stage)

    add_data(commands)
    add_report(commands)
    completion = commands.add_parser("completion", help="print a script that completes commands, options and values")
    completion.add_argument("shell", choices=["bash", "zsh", "fish", "words"], help="`words` is what the scripts call")
    completion.add_argument("typed", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    completion.set_defaults(call=_completion)
    return parser


def _add_resume(commands: Any) -> None:
    resume = commands.add_parser(
        "resume",
        help="go on with an interrupted run, or extend a finished one",
        description="Go on where the last checkpoint is. Options of the run's stage may follow.",
        epilog="examples: plaudit resume runs/ppo; plaudit resume runs/ppo --iterations 300; "
        "plaudit resume runs/sft --epochs 4; plaudit resume runs/ppo --kl.coef 0.1 --change",
        allow_abbrev=False,
    )
    _watching(resume).add_argument("run", help="run folder")
    resume.add_argument("--change", action="store_true", help="allow options and data that change what is trained")
    resume.add_argument("--fallback", action="store_true", help="set damaged checkpoints aside, use an older one")
    resume.set_defaults(call=_resume, takes_options=True)


def _add_stage(commands: Any, name: str, stage: Stage) -> None:
    command = _with_options(commands, name, stage, _stage)
    command.add_argument("config", nargs="?", help="YAML file")
    command.add_argument("--out", default="", help="run folder (default: runs/ and the config file's name)")
    _watching(command)
    command.set_defaults(sweep=[], dry_run=False, profile=False)
    if stage.main_measures:
        profile = "where the time of the second iteration or step goes; a trace in profile/"
        command.add_argument("--profile", action="store_true", help=profile)
    if stage.trains:
        sweep = "run every combination, such as --sweep kl.coef=0.02,0.05 seed=0,1,2"
        command.add_argument("--sweep", nargs="+", default=[], metavar="OPTION=VALUES", help=sweep)
        command.add_argument("--dry-run", action="store_true", help="check everything, show a row, train nothing")


def _add_generate(commands: Any) -> None:
    command = _with_options(commands, "generate", GENERATE, _generate)
    command.add_argument("model", nargs="?", help="a folder such as runs/sft/model, or a hub name")
    command.add_argument("files", nargs="*", help="data files with prompts")
    command.add_argument("--prompt", action="append", default=[], help="a prompt; may be given several times")
    command.add_argument("--out", default="", help="file of JSON lines (default: print them)")


def _add_score(commands: Any) -> None:
    command = _with_options(commands, "score", SCORE, _score)
    command.add_argument(
        "judge", nargs="?", help="a reward model, the name of a built-in function, or rules.py:function"
    )
    command.add_argument("files", nargs="*", help="data files with answers")
    command.add_argument("--out", default="", help="file of JSON lines (default: print them)")


def _with_options(commands: Any, name: str, stage: Stage, call: Callable[..., int]) -> argparse.ArgumentParser:
    """A command that takes the options of a config class besides its own."""
    command = commands.add_parser(name, help=stage.help, add_help=False, allow_abbrev=False)
    command.add_argument("-h", "--help", action="store_true", dest="wants_help", help="the most used options")
    command.add_argument("--help-all", action="store_true", dest="wants_all", help="every option")
    command.set_defaults(call=_or_help(call), stage=stage, parser=command, takes_options=True)
    return command


def _add_doctor(commands: Any) -> None:
    from plaudit.doctor.checks import CHECKS

    doctor = commands.add_parser(
        "doctor",
        help="look for mistakes before a run: files, tokens, judges, two steps of it",
        epilog="checks, and what holds where they find nothing:\n"
        + "\n".join(f"  {check.name:<14} {check.proves}" for check in CHECKS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    doctor.add_argument("config", help="a stage's YAML file, or a pipeline's; options of it may follow")
    doctor.add_argument("--stage", default="", help="whose config it is, where the file doesn't say: sft, reward, ...")
    doctor.add_argument("--out", default="", help="the run folder to come; finished stages in it are used")
    doctor.add_argument("--quick", action="store_true", help="files, options and tokens only; loads no model")
    doctor.add_argument("--only", action="append", default=[], metavar="CHECK", help="this check (may be repeated)")
    doctor.add_argument("--skip", action="append", default=[], metavar="CHECK", help="all but this check")
    doctor.add_argument("--json", action="store_true", help="for machines")
    doctor.set_defaults(call=_doctor, takes_options=True)


def _watching(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("--sink", action="append", default=[], help="also send metrics to tensorboard, wandb, trackio")
    unwell = "exit with 3 where it ends with this or worse: notice, warning, alarm"
    command.add_argument("--fail_on", choices=["notice", "warning", "alarm"], default="", metavar="LEVEL", help=unwell)
    return command


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


# ------------------------------------------------------------------------------------------------------- what is done


def _or_help(call: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The call, or what it would take."""

    def act(known: argparse.Namespace) -> int:
        if not known.wants_help and not known.wants_all:
            return call(known)
        from plaudit.config.load import help_text

        stage, parser = known.stage, known.parser
        parser.description = (stage.config_class.__doc__ or "").strip()
        with while_read():
            parser.print_help()
            print()
            print(help_text(stage.config_class, stage.common, every=known.wants_all or not stage.common), end="")
        return 0

    return act


def _stage(known: argparse.Namespace) -> int:
    """`plaudit sft CONFIG --option value …` and its siblings."""
    from plaudit.config.load import load_config

    stage: Stage = known.stage
    if any(option.split("=")[0] == "--config" for option in known.options):
        raise UserError(f"--config: the config file is named without an option: {known.parser.prog} FILE …")
    if known.config is None:
        raise UserError(
            f"give a config file: {known.parser.prog} FILE …; `plaudit init {stage.name}` writes one to start from, "
            f"`{known.parser.prog} --help` shows the options"
        )
    if known.options and not Path(known.config).exists():
        usage = f"{known.parser.prog} CONFIG …"
        raise UserError(f"there is no config file {known.config}; it stands before the options: {usage}")
    config = None if known.sweep else load_config(stage.config_class, Path(known.config), known.options)
    from plaudit.doctor.paths import check_paths
    from plaudit.launch import start, start_sweep, sweep_of

    if known.sweep:
        grid, configs = sweep_of(stage, Path(known.config), known.options, known.sweep)
        if not known.dry_run:
            start_sweep(stage, grid, configs, _run_folder(known), known.sink)
            return show(_run_folder(known), known.fail_on)
        config = next(iter(configs.values()))
    if known.dry_run:
        check_paths(config)
        from plaudit.training.dry_run import dry_run

        dry_run(stage.name, config)
        return 0
    start(stage, config, _run_folder(known), known.sink, profile=known.profile)
    return show(_run_folder(known), known.fail_on)


def _generate(known: argparse.Namespace) -> int:
    """`plaudit generate MODEL --prompt TEXT|FILE …`."""
    from plaudit.config.load import load_config
    from plaudit.doctor.paths import check_paths
    from plaudit.models.options import ModelConfig

    if known.model is None:
        raise UserError("name a model: plaudit generate MODEL --prompt TEXT, or plaudit generate MODEL FILE")
    source = {"prompts": [{"path": file} for file in known.files]}
    options = [re.sub(r"^--(?:sampling|model)\.", "--", option) for option in known.options]  # as in a stage's file
    config = load_config(GENERATE.config_class, source, options)
    check_paths({"model": ModelConfig(path=known.model), "prompts": config.prompts})
    resolve_name(GENERATE.run)(config, known.model, known.prompt, known.out)
    return 0


def _score(known: argparse.Namespace) -> int:
    """`plaudit score JUDGE FILE …`."""
    from plaudit.api.options import judge_named
    from plaudit.config.load import load_config
    from plaudit.doctor.paths import check_paths

    if known.judge is None or not known.files:
        raise UserError("name a judge and a file: plaudit score JUDGE FILE")
    source = {"judge": judge_named(known.judge), "data": [{"path": file} for file in known.files]}
    config = load_config(SCORE.config_class, source, known.options)
    check_paths(config)
    resolve_name(SCORE.run)(config, known.out)
    return 0


def _run_folder(known: argparse.Namespace) -> Path:
    """The folder that was named, or runs/ and the config file's name."""
    named = getattr(known, "run", "") or known.out
    return Path(named) if named else Path("runs") / Path(known.config).stem


def _init(known: argparse.Namespace) -> int:
    from plaudit.files import atomic_write
    from plaudit.launch import starter_file

    file = Path(known.file or f"{known.stage}.yaml")
    if file.exists():
        raise UserError(f"{file} exists; name another file: plaudit init {known.stage} FILE")
    stage = RUNS[known.stage]
    atomic_write(file, starter_file(stage))
    print(f"{file}: put your own files in, then `plaudit {stage.command} {file}`")
    return 0


def _demo(known: argparse.Namespace) -> int:
    from plaudit.launch import demo

    demo(Path(known.out), known.seed, known.jobs)
    return show(Path(known.out))


def _resume(known: argparse.Namespace) -> int:
    from plaudit.launch import resume

    resume(Path(known.run), known.options, change=known.change, fallback=known.fallback, sinks=known.sink)
    return show(Path(known.run), known.fail_on)


def _doctor(known: argparse.Namespace) -> int:
    from plaudit.doctor.run import CheckSelection, diagnose
    from plaudit.doctor.terminal import as_json, print_diagnosis, print_end

    try:
        diagnoses = diagnose(
            Path(known.config),
            known.options,
            stage=known.stage,
            out=_run_folder(known),
            selection=CheckSelection(only=tuple(known.only), skip=tuple(known.skip), quick=known.quick),
            show=(lambda diagnosis: None) if known.json else print_diagnosis,
        )
    except StopRequested as stop:  # nothing is left to go on with
        return stop.exit_code
    if known.json:
        print(as_json(diagnoses), end="")
    else:
        print_end(diagnoses)
    return 1 if any(diagnosis.faults for diagnosis in diagnoses) else 0


def _inspect(known: argparse.Namespace) -> int:
    from plaudit.report.inspect import Wanted, find, to_json, to_text

    names = ("iteration", "stage", "row", "pick", "search", "prompt_id", "column")
    view = find(Path(known.run), Wanted(**{name: getattr(known, name) for name in names}))
    for problem in view.problems:
        warn(problem)
    plain = known.no_color or bool(os.environ.get("NO_COLOR"))
    text = to_json(view) if known.json else to_text(view, plain=plain)
    encoding = sys.stdout.encoding or "utf-8"
    with while_read():
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    return 0


def _completion(known: argparse.Namespace) -> int:
    from plaudit.cli.complete import SCRIPTS, candidates

    typed = known.typed[1:] if known.typed[:1] == ["--"] else known.typed
    print(SCRIPTS.get(known.shell) or "\n".join(candidates(build_parser(), typed)), end="\n" * (known.shell == "words"))
    return 0
