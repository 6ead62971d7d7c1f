"""`plaudit eval tasks` and its options."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from plaudit.cli.show import show
from plaudit.errors import UserError


def add_models(command: argparse.ArgumentParser) -> None:
    """Models instead of a config file."""
    command.add_argument("models", nargs="*", help="model folders or hub names; or one YAML file")
    command.add_argument("--tasks", default="", help="names of the harness's tasks, separated by commas")
    command.add_argument("--out", default="runs/tasks", help="run folder (default: %(default)s)")


def tasks(known: argparse.Namespace) -> int:
    """`plaudit eval tasks MODEL … --tasks …`."""
    from plaudit.config.load import load_config
    from plaudit.launch import start

    if not known.models:
        raise UserError("name a model and tasks: plaudit eval tasks runs/ppo/model --tasks arc_easy,hellaswag")
    wanted = {"tasks": [name.strip() for name in known.tasks.split(",")]} if known.tasks else {}
    is_file = len(known.models) == 1 and Path(known.models[0]).suffix in (".yaml", ".yml")
    if is_file:
        options = [f"--tasks=[{', '.join(wanted['tasks'])}]"] if wanted else []
        config = load_config(known.stage.config_class, Path(known.models[0]), [*known.options, *options])
    else:
        source = {"policies": names_of(known.models), **wanted}
        config = load_config(known.stage.config_class, source, known.options)
    start(known.stage, config, Path(known.out))
    return show(Path(known.out))


def names_of(models: Sequence[str]) -> dict[str, str]:
    """What each is called in the table: a run's model by the run."""
    short = [Path(one).parent.name if Path(one).name in ("model", "best") else Path(one).name for one in models]
    return {name if name and short.count(name) == 1 else one: one for name, one in zip(short, models, strict=True)}
