"""`plaudit push` and its options."""

import argparse
from pathlib import Path
from typing import Any


def add_push(commands: Any) -> None:
    push = commands.add_parser(
        "push",
        help="upload a finished run's model with its card to the Hugging Face hub",
        description="Upload the run's model folder to a repository, which is made where there is none and is private. "
        "The token is HF_TOKEN's, or that of `hf auth login`.",
        epilog="examples: plaudit push runs/ppo me/my-policy --dry-run; plaudit push runs/demo/03-reward me/my-judge",
    )
    push.add_argument("run", help="run folder, or the model folder in it")
    push.add_argument("repository", metavar="REPO", help="OWNER/NAME")
    push.add_argument("--dry-run", action="store_true", help="show the files, their sizes and the card; send nothing")
    push.add_argument("--best", action="store_true", help="the model in best/ instead of the last one")
    push.add_argument("--public", action="store_true", help="a new repository is public")
    push.add_argument("--unfinished", action="store_true", help="also of a run that has not finished")
    push.set_defaults(call=_push)


def _push(known: argparse.Namespace) -> int:
    from plaudit.models.push import pack, send
    from plaudit.telemetry.console import while_read
    from plaudit.telemetry.numbers import size

    name = "best" if known.best else "model"
    parcel = pack(Path(known.run), known.repository, name=name, unfinished=known.unfinished)
    if known.dry_run:
        with while_read():
            for file, count in parcel.sizes.items():
                print(f"{size(count):>10}  {file}")
            kind = "public" if known.public else "private"
            print(f"{size(sum(parcel.sizes.values())):>10}  in all, to {known.repository} ({kind} if it is new)\n")
            print(parcel.card, end="")
        return 0
    print(send(parcel, public=known.public))
    return 0
