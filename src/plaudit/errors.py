"""The exceptions that cross rooms."""

from __future__ import annotations

import urllib.parse


class UserError(Exception):
    """Something the user can put right. The command line prints the message without a traceback and exits with 2.

    The message names the file and line, row, option or function, says what is wrong and what to do.
    """


def require(holds: object, mistake: str) -> None:
    """What an option's value must be; the config's reader adds file and line to the mistake. Raises: ValueError."""
    if not holds:
        raise ValueError(mistake)


def require_server(url: str, *, option: str, example: str, instead: str) -> None:
    """`url` must name a server and nothing else, since it is written into run folders; `instead`: what to do about a
    secret. Raises: ValueError."""
    try:
        parts = urllib.parse.urlsplit(url)
        names_server = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        is_bare = not ("@" in parts.netloc or "?" in url or "#" in url)
    except ValueError:  # what should be the port is no number
        names_server = is_bare = False
    require(names_server, f"{option} must be a URL such as {example}")
    require(is_bare, f"{option}: no name, password or query in it; {instead}")


MEMORY_ADVICE = (
    "Training needs less with a lower microbatch_tokens (the gradient stays the same), model.activation_checkpointing: "
    "true or model.train.kind: lora; sampling with a lower sampling.batch_size. What was saved is there: plaudit resume"
)


def out_of_memory(error: Exception) -> str:
    """What to say where memory ran out: the first line of what torch or Python said, and what to turn.

    Raises: `error` itself where it is about something else.
    """
    names = {kind.__name__ for kind in type(error).__mro__}  # torch isn't loaded for this
    if not names & {"MemoryError", "OutOfMemoryError"} and "can't allocate memory" not in str(error):
        raise error
    first = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    return f"out of memory ({first}). {MEMORY_ADVICE}"


class SaveFailed(UserError):
    """Writing failed (full disk, read-only folder). What was on disk before is still there, whole."""


class RankLost(UserError):
    """Another process of this run ended, or doesn't answer any more."""


class FirstFailed(UserError):
    """What the first of a run's processes said when it failed, as the others hear of it."""


class StopRequested(BaseException):
    """SIGINT or SIGTERM asked for an orderly end. Not an `Exception`: no `except Exception` may swallow it.

    `exit_code` is the shell's convention, 128 + signal: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum, self.exit_code = signum, 128 + signum
