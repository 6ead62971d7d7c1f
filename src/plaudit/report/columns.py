"""metrics.jsonl as columns, filled line by line: the whole file for a report, what is new in it for the board."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from plaudit.report.reading import finite, number

NOT_METRICS = frozenset({"step", "time", "non_finite"})
LAST_STEP = 2**53
"""Steps beyond are no steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one run, by ascending step. `values[i]` is None where the number was missing or not finite."""

    steps: tuple[int, ...]
    values: tuple[float | None, ...]
    seconds: tuple[float | None, ...]
    not_finite: tuple[int, ...] = ()
    """The steps at which NaN or an infinity was logged (as null, named under `non_finite`)."""
    means: tuple[float | None, ...] = ()
    """Where the board has left points out: the moving mean at each step, taken over all of them."""
    width: int = 0
    """How many neighbouring points `means` are of."""
    left_out: int = 0
    """Numbers that the board has left out."""

    @property
    def known(self) -> list[tuple[int, float]]:
        """(step, value) where the value is a number."""
        return [(step, value) for step, value in zip(self.steps, self.values, strict=True) if value is not None]

    @property
    def last(self) -> float | None:
        """The newest value that is a number."""
        return next((value for value in reversed(self.values) if value is not None), None)


@dataclass(slots=True)
class Column:
    """One metric's numbers. NaN stands for a missing one, an infinity for whatever is not finite."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Columns:
    """All lines so far. A step logged twice (a resumed run) counts once, the later line winning key by key."""

    steps: list[int] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)
    by_key: dict[str, Column] = field(default_factory=dict)
    ascending: bool = True
    """Whether no step was logged twice or out of its order, so that rows are steps as they come."""

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        for line in lines:
            step = finite(line.get("step"))
            if step is None or abs(step) > LAST_STEP:
                continue
            row = len(self.steps)
            self.ascending = self.ascending and (row == 0 or int(step) > self.steps[-1])
            self.steps.append(int(step))
            self.seconds.append(finite(line.get("time")))
            for key, value in line.items():
                if key not in NOT_METRICS:
                    logged = value if type(value) is float else _logged(line, key, value)
                    if logged is not None:
                        column = self.by_key.get(key)
                        if column is None:
                            column = self.by_key[key] = Column()
                        column.rows.append(row)
                        column.values.append(logged if logged - logged == 0 else _kind(logged, value))

    def rows_by_step(self, column: Column) -> list[int]:
        """Indices into the column by ascending step, of each step the latest."""
        if self.ascending:
            return list(range(len(column.rows)))
        latest = {self.steps[row]: index for index, row in enumerate(column.rows)}
        return [latest[step] for step in sorted(latest)]

    def series(self) -> dict[str, Series]:
        """Every metric by the key that stands in the file."""
        return {key: self._one(column) for key, column in self.by_key.items()}

    def _one(self, column: Column) -> Series:
        order = self.rows_by_step(column)
        rows, values = [column.rows[index] for index in order], [column.values[index] for index in order]
        return Series(
            steps=tuple(self.steps[row] for row in rows),
            values=tuple(map(finite, values)),
            seconds=tuple(self.seconds[row] for row in rows),
            not_finite=tuple(self.steps[row] for row, value in zip(rows, values, strict=True) if math.isinf(value)),
        )


def _logged(line: Mapping[str, Any], key: str, value: Any) -> float | None:
    """The number; NaN for null, an infinity for one that the run names under `non_finite`; None for what is none."""
    if value is None:
        strange = line.get("non_finite")
        return math.inf if isinstance(strange, dict) and key in strange else math.nan
    return number(value)


def _kind(logged: float, value: Any) -> float:
    """NaN where null was written; a NaN or an infinity that was written as such is an infinity."""
    return math.nan if value is None and math.isnan(logged) else math.inf
