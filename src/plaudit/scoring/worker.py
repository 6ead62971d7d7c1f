"""The inner side of an isolated reward function: a process that reads requests and writes answers, a JSON line each.

`isolate.py` starts it and says what crosses. It loads no torch unless the function does. The function's own standard
input is empty and what it prints goes to standard error: the pipes of the protocol are not within its reach by
accident.
"""

import ctypes
import faulthandler
import functools
import inspect
import io
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import Any, BinaryIO

from plaudit.errors import UserError
from plaudit.scoring.calls import RewardFunction, call, takes
from plaudit.scoring.loading import load_function
from plaudit.scoring.results import described, entries_of, to_wire

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the other side closes the pipe."""
    requests, replies = _private_pipes()
    del sys.argv[1:]
    settings = json.loads(requests.readline())
    _end_with(settings["parent"], from_main_thread=settings["from_main_thread"])
    _limit_memory(settings["memory"])
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # whoever stops the run asks the parent, which ends us when it is done
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)
    faulthandler.enable()
    for line in requests:
        request = json.loads(line)
        answer = {"id": request["id"], **_answer(request)}
        replies.write(json.dumps(answer).encode("ascii") + b"\n")
        replies.flush()


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The protocol moves to descriptors that children do not inherit; 0 becomes empty, 1 becomes standard error."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    return requests, replies


def _end_with(parent: int, *, from_main_thread: bool) -> None:
    """No orphans: the kernel kills us with the parent, even while a function hangs in C. Elsewhere a thread looks.

    The kernel's "parent" is the thread that started us, so it is asked only where that thread is the main one.
    """
    if sys.platform == "linux" and from_main_thread:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)
        return

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=look, name="plaudit-parent", daemon=True).start()


def _limit_memory(limit: int) -> None:
    if limit:
        import resource  # not on Windows, where the other side refuses a limit

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        function = _loaded(request["function"])
    except UserError as error:
        return {"refused": str(error)}
    if "arguments" not in request:
        file = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_filename", "")
        return {"loaded": {**asdict(takes(function)), "file": file}}
    faulthandler.dump_traceback_later(request["limit"])  # so that the other side learns where it hangs, even in C
    try:
        returned = call(function, request["arguments"], request["state"])
        logged = {"metrics": returned.metrics, "not_numbers": returned.not_numbers}
        return {"result": to_wire(entries_of(returned.result)), **logged}
    except BaseException as error:
        return {"raised": described(error)}
    finally:
        faulthandler.cancel_dump_traceback_later()


@functools.cache
def _loaded(spec: str) -> RewardFunction:
    """Once for all calls, even if the file changes meanwhile."""
    return load_function(spec)
