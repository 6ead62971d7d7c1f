"""What a run says to its user: on stderr, never fatal, quiet when asked (PLAUDIT_QUIET=1); how wide tables are."""

from __future__ import annotations

import contextlib
import os
import sys

PIPED_WIDTH = 100
"""Columns where there is no terminal to ask."""
_muted = False


def mute() -> None:
    """Say nothing any more, not even warnings: another process of the same run says it all."""
    global _muted
    _muted = True


def muted() -> bool:
    """Whether another process speaks for this one."""
    return _muted


def quiet() -> bool:
    """True when PLAUDIT_QUIET is set to something other than 0: no progress, no notices; warnings still come."""
    return _muted or os.environ.get("PLAUDIT_QUIET", "0") not in ("", "0")


def print_width() -> int | None:
    """Columns of what is printed to standard output: None, the terminal's own, or PIPED_WIDTH where there is none."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH


def say(message: str) -> None:
    """One notice on stderr, left out when quiet."""
    if not quiet():
        _print(message)


def warn(message: str) -> None:
    """One warning on stderr, quiet or not."""
    if not _muted:
        _print(f"warning: {message}")


def _print(message: str) -> None:
    """A closed pipe or a lost terminal must not end a training run."""
    try:
        print(message, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        discard_closed(sys.stderr)


def discard_closed(stream: object) -> None:
    """Point a broken stream at the null device, so that later writes and the flush at exit stay silent."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[attr-defined]
        os.close(null)
