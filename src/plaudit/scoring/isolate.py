"""A reward function in a process of its own (decision 0010): it may hang, crash or print, and the run lives on.

    parent                                     worker (`worker.py`)
    {"id", "function"}                    →    loads it; {"id", "loaded"} or {"id", "refused"}
    {"id", "function", "arguments",       →    calls it; {"id", "result"} or {"id", "raised"}
     "limit"}

One line of JSON each way, over pipes; nothing is pickled. A call that takes longer than its limit costs the worker its
life: its process group is killed by its own id, and the next call starts a new one. Functions of one file or module
share a worker. It is no sandbox: the function still has the user's rights, network and disk.
"""

import contextlib
import functools
import io
import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from plaudit.errors import UserError
from plaudit.scoring.calls import OURS, Returned, Takes
from plaudit.scoring.results import Entry, FailureKind, Unusable, from_wire
from plaudit.telemetry.console import say

LOADING_SECONDS = 300.0
"""How long importing the user's file may take: it may load a model."""
GRACE_SECONDS = 0.25
"""Between the worker's noting where it hangs and its end."""
KEPT_BYTES = 16384
"""Of what a worker has printed."""
SHOWN_LINES = 10
"""Of what the functions of a file print, on the terminal."""
WORKERS_KEPT = 4
"""Idle workers that stay when nobody holds them: checking a config and then using it starts one, not two."""
START = "import sys; sys.path[:] = sys.argv[1:]; from plaudit.scoring.worker import main; main()"

_FRAME = re.compile(r'File "(?P<file>.+?)", line (?P<line>\d+) in (?P<name>\S+)')
_DUMP = re.compile(r"^(Timeout \(|Fatal Python error|Current thread|Thread 0x).*", re.MULTILINE | re.DOTALL)


class CallFailed(Exception):
    """A call that brought no result; `reason` continues the sentence "reward function f …"."""

    def __init__(self, kind: FailureKind, reason: str):
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class IsolationError(UserError):
    """What leaving out a row cannot put right: a file that doesn't load, a value that can't cross."""


class IsolatedFunction:
    """Looks like the user's function, and calls it in its worker."""

    def __init__(self, spec: str, worker: "Worker", timeout: float):
        self.spec, self.worker, self.timeout = spec, worker, timeout
        loaded = self._load()
        self.file, columns = loaded["file"], loaded["columns"]
        columns = None if columns is None else tuple(columns)
        self.takes = Takes(parameters=loaded["parameters"], any_name=loaded["any_name"], columns=columns)

    def _load(self) -> Mapping[str, Any]:
        try:
            reply = self.worker.ask({"function": self.spec}, LOADING_SECONDS)
        except CallFailed as failed:
            raise IsolationError(f"reward function {self.spec!r}: while loading, it {failed.reason}") from failed
        if "refused" in reply:
            raise IsolationError(reply["refused"] + self.worker.printed())
        return reply["loaded"]

    def __call__(self, **arguments: Any) -> list[Entry] | Unusable:
        """What the function returned, read."""
        return self.call(arguments).result

    def call(self, arguments: Mapping[str, Any], state: Mapping[str, float] | None = None) -> Returned:
        """The same, and what it logged. CallFailed where it raised, took too long or ended its process."""
        for name, value in arguments.items():
            if name not in OURS and (stranger := _stranger(value)):
                raise IsolationError(
                    f"reward function {self.spec!r}: {name!r} holds {stranger}, which cannot cross to the function's "
                    f"own process (text, numbers, true, false, null, lists and mappings can): change the data, or say "
                    f"`isolate: false`"
                )
        if not self.worker.knows(self.spec):  # a new process: what loading takes is not the call's time
            self._load()
        request = {"function": self.spec, "arguments": arguments, "state": state or {}, "limit": self.timeout}
        reply = self.worker.ask(request, self.timeout, file=self.file)
        if "raised" in reply:
            raise CallFailed(FailureKind.RAISED, f"raised {reply['raised']}{self.worker.printed()}")
        return Returned(from_wire(reply["result"]), reply["metrics"], reply["not_numbers"])


def isolated(spec: str, *, timeout: float, memory: int = 0) -> IsolatedFunction:
    """The function that `spec` names, in a worker. `memory`: bytes of address space, 0 for no limit."""
    source = spec.rpartition(":")[0]
    path = Path(source).expanduser()
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return IsolatedFunction(spec, _worker(source, changed, str(Path.cwd()), memory, os.getpid()), timeout)


@functools.lru_cache(maxsize=WORKERS_KEPT)
def _worker(source: str, changed: int, folder: str, memory: int, process: int) -> "Worker":
    """One for each `source` (a file or module); another when the file has `changed`, or in a forked `process`."""
    return Worker(folder, memory, Path(source).name)


class FirstLines:
    """The first lines that a file's functions print, passed on; the rest is kept for messages of failures only."""

    def __init__(self, file: str):
        self.file, self.left, self._open = file, SHOWN_LINES, b""

    def __call__(self, chunk: bytes) -> None:
        """Some bytes, wherever they were cut; a line is shown when it has ended."""
        ended, newline, self._open = (self._open + chunk)[-KEPT_BYTES:].rpartition(b"\n")
        for line in filter(str.strip, _DUMP.sub("", (ended + newline).decode("utf-8", "replace")).splitlines()):
            if not self.left:
                return
            self.left -= 1
            say(f"{self.file} prints: {line}" + ("" if self.left else " (what follows is shown only where it fails)"))


class Worker:
    """A process that is started on the first request, and again after each death."""

    def __init__(self, folder: str, memory: int = 0, file: str = ""):
        self.folder, self.memory, self.show = folder, memory, FirstLines(file)
        self._requests = 0
        self._lock = threading.Lock()
        self._running: list[_Process] = []  # none or one; a list, so that `finalize` sees what runs then
        self.close = weakref.finalize(self, _end_all, self._running, os.getpid())

    def ask(self, request: Mapping[str, Any], seconds: float, file: str = "") -> dict[str, Any]:
        """The answer. CallFailed where none comes in time (then the worker is killed) or the worker dies."""
        with self._lock:
            process = self._process()
            self._requests += 1
            answer = None
            try:
                line = process.exchange(json.dumps({"id": self._requests, **request}), seconds + GRACE_SECONDS)
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    answer = json.loads(line) if line else None
                if isinstance(answer, dict) and answer.get("id") == self._requests:
                    process.knows.add(request["function"])
                    return answer
            except BaseException:
                process.end()  # an interrupt has come between: its answer would meet the next question
                raise
            process.end()
            raise _failure(process, seconds, file, spoke=line is not None)

    def knows(self, spec: str) -> bool:
        """Whether the process that runs has loaded the function."""
        with self._lock:
            return spec in self._process().knows

    def printed(self) -> str:
        """What the function printed last, for a message."""
        return self._running[0].printed() if self._running else ""

    def _process(self) -> "_Process":
        """The living process, or a new one where it has died since."""
        if self._running and not self._running[0].is_idle():
            self._running[0].end()
        if not self._running or self._running[0].ended:
            self._running[:] = [_Process(self.folder, self.memory, self.show)]
        return self._running[0]


class _Process:
    """A started worker and the two threads that read what it says."""

    def __init__(self, folder: str, memory: int, show: Callable[[bytes], None]):
        self.ended, self.late, self.show = False, False, show
        self.knows: set[str] = set()
        self.popen = subprocess.Popen(
            [sys.executable, "-c", START, *(path or folder for path in sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for the parent, and killing the group takes the function's own children
        )
        self._stdin, self._stdout = cast(IO[bytes], self.popen.stdin), cast(IO[bytes], self.popen.stdout)
        self._stderr = cast(io.BufferedReader, self.popen.stderr)  # all three are pipes
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._tail = b""
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_answers, self._read_prints)]
        for reader in self._readers:
            reader.start()
        from_main = threading.current_thread() is threading.main_thread()
        self._send(json.dumps({"parent": os.getpid(), "from_main_thread": from_main, "memory": memory}))

    def is_idle(self) -> bool:
        """Whether it can be asked: nothing unread, not even its end."""
        return self._lines.empty()

    def exchange(self, line: str, seconds: float) -> bytes | None:
        """Send a line and wait for one; None where the process ended first, or was killed after `seconds`."""
        self._tail = b""
        timer = threading.Timer(seconds, self._too_late)  # frees a blocked write as well as the wait for the answer
        timer.daemon = True
        timer.start()
        try:
            self._send(line)
            return self._lines.get(timeout=seconds + 5.0)  # a process that outlives its killing must not hold us
        except queue.Empty:
            return None
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        self.late = True
        self.kill()

    def _send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it is dead: the reader sees that too
            self._stdin.write(line.encode("ascii") + b"\n")
            self._stdin.flush()

    def _read_answers(self) -> None:
        with self._stdout as stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _read_prints(self) -> None:
        with self._stderr as stream:
            while chunk := stream.read1(65536):
                self._tail = (self._tail + chunk)[-KEPT_BYTES:]
                self.show(chunk)
        self.show(b"\n")

    def output(self) -> str:
        """The end of what it has printed."""
        return self._tail.decode("utf-8", "replace")

    def printed(self) -> str:
        until = time.monotonic() + GRACE_SECONDS
        while self._unread() and time.monotonic() < until:  # its answer was faster than the thread that reads this
            time.sleep(0.005)
        lines = _DUMP.sub("", self.output()).split("\n")
        last = " / ".join(line.strip() for line in lines if line.strip())
        return f"; it printed last: {last[-300:]!r}" if last else ""

    def _unread(self) -> bool:
        """Whether prints are still in the pipe."""
        try:
            return os.name != "nt" and bool(select.select([self._stderr], [], [], 0)[0]) and not self.ended
        except ValueError:  # closed: all was read
            return False

    def kill(self) -> None:
        """SIGKILL to its process group, which is named after its own id and nobody else's until we have waited."""
        if self.popen.returncode is None and hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)
        elif self.popen.returncode is None:
            self.popen.kill()

    def end(self, patience: float = 0.0) -> None:
        """Close the pipe, wait `patience` seconds for an orderly end, kill what is left, read what it said."""
        self.ended = True
        with contextlib.suppress(OSError):
            self._stdin.close()
        if patience:  # not `popen.wait`: a reaped id may belong to somebody else's group
            self._readers[0].join(timeout=patience)
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=5.0)
        for reader in self._readers:
            reader.join(timeout=1.0)


def _end_all(running: list[_Process], owner: int) -> None:
    """When nobody needs the worker any more, and when Python ends."""
    for process in running:
        if not process.ended and os.getpid() == owner:  # a forked child must not end its parent's worker
            process.end(patience=2.0)


def _failure(process: _Process, seconds: float, file: str, *, spoke: bool) -> CallFailed:
    frames = (frame for frame in _FRAME.finditer(process.output()) if file and frame["file"] == file)
    position = next((f" (in {frame['file']}:{frame['line']} in {frame['name']})" for frame in frames), "")
    if process.late:
        reason = f"gave no answer within {seconds:g} s and was killed{position}"
    elif spoke:
        reason = "wrote into the pipe of its answers and was killed"
    else:
        reason = f"{_how_it_ended(process.popen.returncode)}{position}"
    return CallFailed(FailureKind.TIMED_OUT if process.late else FailureKind.DIED, reason + process.printed())


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended its process with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"ended its process by {signal.Signals(-code).name}"
    return f"ended its process by signal {-code}"


def _stranger(value: Any) -> str:
    """What JSON cannot carry unchanged in `value`, in words; empty where there is nothing."""
    if value is None or type(value) in (bool, int, float, str):
        return "an integer of 4000 digits or more" if type(value) is int and value.bit_length() > 13000 else ""
    if type(value) in (list, tuple):
        return next(filter(None, map(_stranger, value)), "")
    if type(value) is dict:
        odd = next((key for key in value if type(key) is not str), None)
        return f"a mapping with the key {odd!r}" if odd is not None else _stranger(list(value.values()))
    return f"{type(value).__name__} {value!r}"[:80]
