"""How far a stage is: a live bar on a terminal, a plain line every few seconds elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from plaudit.telemetry.console import quiet, say
from plaudit.telemetry.numbers import duration, number


class Progress:
    """Context manager. `update(step, {"score": 0.31})` after each step; `total` 0 means unknown.

    `start` is the step a resumed run begins at, so that the time to go is not judged by steps of another process.
    Time is monotonic. Nothing here can end a run: a broken terminal only ends the display.
    """

    def __init__(
        self, stage: str, total: int, *, start: int = 0, interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.stage, self.total, self.interval = stage, total, interval
        self._clock, self._start = clock, start
        self._began = clock()
        self._spoke = float("-inf")
        self._line = ""
        self._bar: Any = None
        self._shown = not quiet()

    def __enter__(self) -> Progress:
        self._began = self._clock()
        if self._shown and _is_terminal():
            self._forgive(self._open_bar)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self.close()

    def update(self, step: int, numbers: Mapping[str, float] | None = None) -> None:
        """Show that `step` steps are done, with a few key numbers."""
        if not self._shown:
            return
        facts = "  ".join(f"{key} {number(value)}" for key, value in (numbers or {}).items())
        if self._bar is not None:
            self._forgive(lambda: self._move_bar(step, facts))
            return
        self._line = f"{self.stage} {self._count(step)}{self._eta(step)}" + (f"  {facts}" if facts else "")
        if self._clock() - self._spoke >= self.interval or step == self.total:
            self._speak()

    def close(self) -> None:
        """Say the last line if it was not said, take the bar down. Harmless when repeated."""
        if self._bar is not None:
            self._forgive(self._bar.stop)
            self._bar = None
        elif self._line:
            self._speak()
        self._line = ""
        self._shown = False

    def _speak(self) -> None:
        say(self._line)
        self._line = ""
        self._spoke = self._clock()

    def _count(self, step: int) -> str:
        return f"{step}/{self.total}" if self.total else str(step)

    def _eta(self, step: int) -> str:
        done = step - self._start
        if not self.total or done <= 0 or step >= self.total:
            return ""
        return f"  {duration((self._clock() - self._began) / done * (self.total - step))} to go"

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        class Patient(Console):
            def on_broken_pipe(self) -> None:  # rich's own ends the process
                self.quiet = True

        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}{task.fields[eta]}  {task.fields[facts]}", markup=False),
        )  # fmt: skip
        bar = Bar(
            *columns, console=Patient(file=sys.stderr), auto_refresh=False
        )  # no thread: it would not survive fork
        task = bar.add_task(self.stage, total=self.total or None, completed=self._start,
                            count=self._count(self._start), eta="", facts="")  # fmt: skip
        bar.start()
        self._bar, self._task = bar, task

    def _move_bar(self, step: int, facts: str) -> None:
        due = self._clock() - self._spoke >= 0.1 or step == self.total
        fields = {"count": self._count(step), "eta": self._eta(step), "facts": facts}
        self._bar.update(self._task, completed=step, refresh=due, **fields)
        if due:
            self._spoke = self._clock()

    def _forgive(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception:
            self._bar = None
            self._shown = False


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


class Stopwatch:
    """`with Stopwatch() as watch: ...` measures the block: `watch.seconds`, monotonic, never 0."""

    def __enter__(self) -> Stopwatch:
        self._began, self.seconds = time.monotonic(), 1e-9
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = max(time.monotonic() - self._began, 1e-9)
