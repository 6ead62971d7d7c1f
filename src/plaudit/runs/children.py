"""Work side by side, each in a process of its own or in several that share it. It gives back a value or a mistake,
stops when it is told to, and ends with the process that started it.

The processes are forks of a server that has imported the heavy modules once, and nothing else: threads, locks and
devices of the caller stay where they are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from typing import Any

from plaudit.errors import StopRequested, UserError, out_of_memory
from plaudit.telemetry.console import speak_as


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def prepare(preload: Iterable[str]) -> None:
    """Begin to import modules that children will need and that take long; returns at once."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(preload))
    ensure_running()


class Children:
    """Context manager. Where the block ends by an exception, its children are asked to stop; it is left when they have.

    A child is no part of the terminal's group: Ctrl-C reaches its parent alone, which asks the children once.
    """

    def __init__(self, preload: Iterable[str]) -> None:
        """`preload`: see `prepare`."""
        prepare(preload)
        self._context = multiprocessing.get_context("forkserver")
        self._running: dict[Connection, tuple[str, BaseProcess]] = {}
        self._values: dict[str, Any] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for _name, process in self._running.values():
            if process.pid is not None and process.is_alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
        for connection, (_name, process) in self._running.items():
            process.join()
            connection.close()
        self._running.clear()

    def start(self, name: str, work: Callable[..., Any], *args: Any, ranks: int = 1) -> None:
        """Begin `work(*args)`; what it says stands behind `name`. Several `ranks` do it together, each told by the
        environment which one it is, as torchrun tells it (`hardware.ranks`)."""
        for environment in _environments(ranks):
            ours, theirs = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_live, args=(theirs, name, environment, work, args), name=name)
            process.start()
            theirs.close()
            self._running[ours] = (name, process)

    def wait(self, seconds: float) -> list[tuple[str, Any]]:
        """The names and values of those that have ended since, for which it waits so long at most; of several ranks the
        first one's value.

        Raises: what a child's work raised of UserError and StopRequested; UserError for one that ended without a word.
        """
        silent = {self._hear(connection) for connection in wait(list(self._running), seconds)}
        over = sorted(silent - {name for name, _ in self._running.values()})
        return [(name, self._values.pop(name)) for name in over]

    def _hear(self, connection: Any) -> str:
        """Who has ended; its value is kept."""
        name, process = self._running.pop(connection)
        try:
            signum, is_first, value = connection.recv()
        except EOFError:
            process.join()
            code = process.exitcode or 0
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}, its traceback stands above"
            raise UserError(f"{name}: its process {how}. What was saved is there: plaudit resume") from None
        finally:
            connection.close()
        process.join()
        if signum:
            raise StopRequested(signum)
        if isinstance(value, UserError):
            raise value
        if is_first:
            self._values[name] = value
        return name


def _environments(ranks: int) -> list[dict[str, str]]:
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _live(
    connection: Connection, name: str, environment: Mapping[str, str], work: Callable[..., Any], args: Sequence[Any]
) -> None:
    """A child's life. It sends (the signal that stopped it or 0, whether it is the first of its ranks, a value or a
    user's mistake)."""
    os.environ |= environment
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    speak_as(name)
    signum, value = 0, None
    try:
        value = work(*args)
    except StopRequested as stop:
        signum = stop.signum
    except UserError as error:
        value = error
    except Exception as error:
        value = UserError(out_of_memory(error))
    connection.send((signum, environment.get("RANK", "0") == "0", value))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
