"""The command line: `commands` says what there is and calls it, `complete` tells shells."""

from plaudit.cli.commands import main

__all__ = ["main"]
