"""How far a stage is: a live bar on a terminal, a line that is written over in a notebook, else a line every few
seconds; nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from plaudit.telemetry.console import in_notebook, is_one_of_several, quiet, say
from plaudit.telemetry.numbers import duration, number


class Progress:
    """Context manager. `update(step, {"score": 0.31})` after each step; `total` 0 means unknown.

    `start` is the step a resumed run begins at, so that the time to go is not judged by steps of another process.
    `beat` is told of every step, shown or not. Time is monotonic. Nothing here can end a run.
    """

    def __init__(
        self, stage: str, total: int, *, start: int = 0, interval: float = 10.0,
        beat: Callable[[int, int], None] | None = None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.stage, self.total = stage, total
        self._start, self._interval, self._beat, self._clock = start, interval, beat, clock
        self._display: _Lines | _Bar | _Cell | None = None
        self._unshown: tuple[int, str, str] | None = None
        self._first: tuple[int, float] | None = None
        """This process's first step, and when it ended: it pays for what is made once, and may be the rest of a step
        that another process began, so that the rate is judged by the steps after it."""

    def __enter__(self) -> Progress:
        self._began, self._shown = self._clock(), float("-inf")
        if not quiet():
            self._guarded(self._open)  # any exception ends the display, never the run
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        """Show the last step if it was not shown, take the display down."""
        if self._unshown is not None:
            step, _, facts = self._unshown  # nothing is to go any more, though it may end before its last step
            self._unshown = (step, f"{step}/{self.total}" if self.total else str(step), facts)
            self._show()
        if self._display is not None:
            self._guarded(self._display.close)
        self._display = None

    def update(self, step: int, numbers: Mapping[str, float] | None = None) -> None:
        """Show that `step` steps are done, with a few key numbers."""
        if self._beat is not None:
            self._beat(step, self.total)
        if self._display is None:
            return
        facts = "  ".join(f"{key} {number(value)}" for key, value in (numbers or {}).items())
        self._unshown = (step, self._how_far(step), facts)
        if self._clock() - self._shown >= self._display.interval or step == self.total:
            self._show()

    def _open(self) -> None:
        if in_notebook():
            self._display = _Cell(self.stage)
        elif sys.stderr.isatty() and not is_one_of_several():
            self._display = _Bar(self.stage, self.total, self._start)
        else:
            self._display = _Lines(self.stage, self._interval)

    def _show(self) -> None:
        if self._display is not None and self._unshown is not None:
            shown, display = self._unshown, self._display
            self._guarded(lambda: display.show(*shown))
        self._unshown = None
        self._shown = self._clock()

    def _guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception:
            self._display = None

    def _how_far(self, step: int) -> str:
        """`12/30  18 s to go`."""
        if not self.total:
            return str(step)
        if self._first is None:
            self._first = (step, self._clock())
        done, left = step - self._first[0], self.total - step
        to_go = f"  {duration((self._clock() - self._first[1]) / done * left)} to go" if done > 0 and left > 0 else ""
        return f"{step}/{self.total}{to_go}"


class _Lines:
    """One notice after the other, `interval` seconds apart."""

    def __init__(self, stage: str, interval: float) -> None:
        self.stage, self.interval = stage, interval

    def show(self, step: int, how_far: str, facts: str) -> None:
        say(f"{self.stage} {how_far}  {facts}".rstrip())

    def close(self) -> None:
        pass


class _Bar:
    """A bar of rich's on stderr."""

    interval = 0.1

    def __init__(self, stage: str, total: int, start: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        class Patient(Console):
            def on_broken_pipe(self) -> None:  # rich's own ends the process
                self.quiet = True

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.fields[how_far]}  {task.fields[facts]}", markup=False),
        )  # fmt: skip
        # No thread that refreshes: it would not survive fork.
        self._bar = Bar(*columns, console=Patient(file=sys.stderr), auto_refresh=False)
        self._task = self._bar.add_task(stage, total=total or None, completed=start, how_far="", facts="")
        self._bar.start()

    def show(self, step: int, how_far: str, facts: str) -> None:
        self._bar.update(self._task, completed=step, refresh=True, how_far=how_far, facts=facts)

    def close(self) -> None:
        self._bar.stop()


class _Cell:
    """A line in a notebook's output, written over and over; needs no widgets, and a saved notebook keeps the last."""

    interval = 0.5

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._handle: Any = None

    def show(self, step: int, how_far: str, facts: str) -> None:
        from IPython.display import display

        shown = {"text/plain": f"{self._stage} {how_far}  {facts}"}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def close(self) -> None:
        pass


class Stopwatch:
    """`with Stopwatch() as watch: ...` measures the block: `watch.seconds`, monotonic, never 0."""

    def __enter__(self) -> Stopwatch:
        self._began, self.seconds = time.monotonic(), 1e-9
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = max(time.monotonic() - self._began, 1e-9)
