"""SIGINT and SIGTERM as a polite request, SIGHUP as nothing at all."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import Any

from plaudit.errors import StopRequested
from plaudit.telemetry.console import in_ipython

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context manager. The first SIGINT or SIGTERM is remembered, the second ends the process at once.

    Training calls `Run.check_stop` between steps (and in every long loop: generation, evaluation), which raises
    StopRequested, and saves. Ending at once harms no checkpoint: those are transactions. SIGHUP is ignored.
    Handlers are installed in the main thread only, and put back on leaving; none inside IPython and Jupyter, where
    signals are the kernel's (there `request` is called instead). Inside another StopSignals this one only looks at the
    outer one's state, so that a pipeline and its stages see the same request.
    """

    def __init__(self) -> None:
        self._signum = 0
        self._at_once = False
        self._outer: StopSignals | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if isinstance(outer, StopSignals) and outer is not self:
            self._outer = outer
            return self
        is_ours = threading.current_thread() is threading.main_thread() and not in_ipython()
        if is_ours and not self._previous:
            for signum in _STOPPING:
                self._previous[signum] = signal.signal(signum, self._handle)
            if hasattr(signal, "SIGHUP"):
                self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        while self._previous:
            signum, previous = self._previous.popitem()
            signal.signal(signum, signal.SIG_DFL if previous is None else previous)

    @property
    def requested(self) -> int:
        """The signal's number, or 0."""
        return self._outer.requested if self._outer is not None else self._signum

    def request(self, signum: int) -> None:
        """Ask for a stop as if the signal had come."""
        self._signum = signum

    @contextlib.contextmanager
    def at_once(self) -> Generator[None]:
        """In the block the first signal raises StopRequested on the spot: for long work that leaves nothing half done,
        such as an evaluation, which can only begin again."""
        handling = self._outer or self
        handling._at_once = True
        try:
            yield
        finally:
            handling._at_once = False

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if self._signum:
            _notice("second signal: ending at once; the last complete checkpoint stays good\n")
            os._exit(128 + signum)
        self._signum = signum
        name = signal.Signals(signum).name
        if self._at_once:
            raise StopRequested(signum)
        _notice(f"{name}: finishing this step, saving, then stopping (once more to end at once)\n")


def _notice(message: str) -> None:
    """os.write, because print is not safe inside a handler that may have interrupted a print."""
    with contextlib.suppress(OSError):
        os.write(2, message.encode("ascii"))
