"""`plaudit data check` and its options."""

import argparse
from typing import Any

from plaudit.errors import UserError


def add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="look at data files").add_subparsers(metavar="WHAT", required=True)
    check = data.add_parser("check", help="kind, counts, lengths, duplicates, overlap, bad rows by line")
    check.add_argument("files", nargs="+", help="data files, folders or globs")
    read_by = "built-in function that will read each `solution`"
    check.add_argument("--reward", action="append", default=[], metavar="NAME", help=read_by)
    streaming = "of files larger than memory: rows, kind and bad rows; no repeats, shared prompts, lengths"
    check.add_argument("--streaming", action="store_true", help=streaming)
    check.add_argument("--json", action="store_true", help="for machines")
    check.set_defaults(call=_data_check)


def _data_check(known: argparse.Namespace) -> int:
    from plaudit.data.check import check
    from plaudit.scoring.builtin import BUILTIN

    if unknown := [name for name in known.reward if name not in BUILTIN]:
        raise UserError(f"--reward: no built-in function is called {unknown[0]!r}; there are {', '.join(BUILTIN)}")
    read = {name: vars(function).get("value_check") for name, function in BUILTIN.items()}
    readers = {name: reader for name, reader in read.items() if reader and name in (known.reward or BUILTIN)}
    checked = check(known.files, readers, certain=bool(known.reward), streaming=known.streaming)
    print(checked.to_json() if known.json else checked.to_text(), end="")
    return 0 if checked.ok else 2
