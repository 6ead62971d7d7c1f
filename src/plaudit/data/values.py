"""One value of a row, as what it must be, or a RowError that says what it is instead."""

from __future__ import annotations

import math
from typing import Any

from plaudit.data.kinds import Raw
from plaudit.data.turns import RowError, type_name


def present(raw: Raw, column: str) -> Any:
    if raw.get(column) is None:
        raise RowError(column, "is null" if column in raw else "is missing")
    return raw[column]


def string(raw: Raw, column: str) -> str:
    value = present(raw, column)
    if not isinstance(value, str):
        raise RowError(column, f"must be a string, not {type_name(value)}")
    return value


def number(value: Any, column: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(column, f"must be a number, not {type_name(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise RowError(column, "must be a finite number, not NaN or infinite")
    return number


def integer(value: Any, column: str) -> int:
    if isinstance(value, float) and value.is_integer():  # tables with a missing value hold 1 as 1.0
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        actual = value if isinstance(value, float) else type_name(value)
        raise RowError(column, f"must be a whole number, not {actual}")
    return value
