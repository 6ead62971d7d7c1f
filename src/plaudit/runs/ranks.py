"""What a run folder asks of the processes that share it: `plaudit.hardware.ranks.Ranks`, or nobody else at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class RunRanks(Protocol):
    """The part of `hardware.ranks.Ranks` that a run needs; runs stand below hardware."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run's files."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        ...

    def first(self, work: Callable[[], T]) -> T | None:
        """Do `work` on the first rank while the others wait; None on them. Its UserError is raised on all."""

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        ...

    def check_same(self, what: str, value: Any) -> None:
        """UserError where `value` isn't the same on all ranks."""

    def wait(self) -> None:
        """Go on when all have come here."""


class Alone:
    """One process."""

    is_first = is_alone = True

    def first(self, work: Callable[[], T]) -> T | None:
        return work()

    def largest(self, number: int) -> int:
        return number

    def check_same(self, what: str, value: Any) -> None:
        pass

    def wait(self) -> None:
        pass


ALONE = Alone()
