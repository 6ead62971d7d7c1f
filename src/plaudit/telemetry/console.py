"""What a run says to its user: notices and warnings of the logger `plaudit`, and where they are shown.

`say` and `warn` are `logging.getLogger("plaudit").info` and `.warning`. The logger has one handler, the terminal; a run
adds another one, its `events.jsonl` (`telemetry.events`). Levels, filters and further handlers are the user's, as with
any logger. PLAUDIT_QUIET=1 hides notices and progress on the terminal; warnings still come.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Generator, Iterable
from typing import Any

from plaudit.telemetry.visible import visible

PIPED_WIDTH = 100
"""Columns where there is no terminal to ask."""
HEALTH = "health: "
"""How a line on a run's health begins; behind it stands its level."""
LOGGER = logging.getLogger("plaudit")
_speaker = ""
"""Who says what this process says; empty where it is the only one."""


def speak_as(name: str) -> None:
    """From now on `name` stands before every line on the terminal: other processes talk there too."""
    global _speaker
    _speaker = name


def is_one_of_several() -> bool:
    """Whether other processes talk on the terminal too, so that no line may be written over."""
    return bool(_speaker)


def say(message: str) -> None:
    """One notice."""
    LOGGER.info("%s", message)


def show(message: str) -> None:
    """One notice with a model's own words, for who is watching: what would act on the terminal is made visible, and no
    run keeps it."""
    LOGGER.info("%s", visible(message), extra={"passing": True})


def warn(message: str) -> None:
    """One warning."""
    LOGGER.warning("%s", message)


class Terminal(logging.Handler):
    """Shows records on stderr, whatever that is at the moment (notices in a notebook: on stdout, which isn't red).

    A closed pipe or a lost terminal must not end a training run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        is_notice = record.levelno < logging.WARNING
        if is_notice and quiet():
            return
        stream = sys.stdout if is_notice and in_notebook() else sys.stderr
        try:
            message = record.getMessage()
            says_level = is_notice or message.startswith(HEALTH)
            line = message if says_level else f"warning: {message}"
            print(f"{_speaker} │ {line}" if _speaker else line, file=stream, flush=True)
        except (OSError, ValueError, AttributeError):
            discard_closed(stream)


LOGGER.addHandler(Terminal())
LOGGER.setLevel(logging.INFO)
LOGGER.propagate = False  # else a root handler of the user's would show everything twice


def mute() -> None:
    """Say nothing any more, not even warnings: another process of the same run says it all."""
    LOGGER.setLevel(logging.CRITICAL)


def muted() -> bool:
    """Whether another process speaks for this one."""
    return not LOGGER.isEnabledFor(logging.WARNING)


def quiet() -> bool:
    """Whether notices and progress are hidden: by PLAUDIT_QUIET other than 0, or by the logger's level."""
    return not LOGGER.isEnabledFor(logging.INFO) or os.environ.get("PLAUDIT_QUIET", "0") not in ("", "0")


def print_width() -> int | None:
    """Columns of what is printed to standard output: None, the terminal's own, or PIPED_WIDTH where there is none."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH


def coloured() -> bool:
    """Whether colours are shown where notices are."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def with_marks(pieces: Iterable[tuple[str, bool]], *, colour: bool) -> str:
    """A row in one line, each piece with whether it is learned: ‹ and › around what is, colours too."""
    text, before = "", False
    for piece, learned in [*pieces, ("", False)]:
        text += ("‹" if learned else "›") * (learned != before)
        shown = piece.replace("\n", "⏎")
        text += f"\x1b[{32 if learned else 2}m{shown}\x1b[0m" if colour and shown else shown
        before = learned
    return text


def in_ipython() -> bool:
    """Whether a person sits before this process and goes on after an interrupt: IPython, Jupyter, Colab."""
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def in_notebook() -> bool:
    """Whether output goes into a notebook's cell."""
    return in_ipython() and hasattr(sys.modules["IPython"].get_ipython(), "kernel")


def discard_closed(stream: Any) -> None:
    """Point a broken stream at the null device, so that later writes and the flush at exit stay silent."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@contextlib.contextmanager
def while_read() -> Generator[None]:
    """What is printed here may meet a reader who has seen enough, such as `| head`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_closed(sys.stdout)
