"""What a reward function returned, row by row, as plain values that can cross to another process. No torch here."""

import math
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from plaudit.errors import UserError
from plaudit.scoring.rows import ResponseRow

FLOAT32_MAX = (2 - 2**-23) * 2.0**127


class FailureKind(StrEnum):
    """Why a row has no number; the value is the word in metrics."""

    RAISED = "raised"
    TIMED_OUT = "timed_out"
    DIED = "died"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Stands where a row's number should be."""

    kind: FailureKind
    reason: str
    cause: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """`what` stands where a list or a number belongs."""

    what: str


Entry = float | tuple[float, ...] | None | Failure | Unusable
"""What stands for one completion: a number; numbers by token, which a scorer takes only where it asked for them; no
opinion; a number that is not finite; something that is no number."""
RowOutcome = float | tuple[float, ...] | None | Failure
"""What became of a row."""


def entries_of(result: Any) -> list[Entry] | Unusable:
    """A list, tuple or one-dimensional array or tensor, read; anything else is `Unusable`. Idempotent."""
    if isinstance(result, Unusable):
        return result
    if _elsewhere(result):
        return Unusable(what=f"a tensor on {result.device}: return `.tolist()`")
    if isinstance(result, (list, tuple)):
        return [_entry(value) for value in result]
    if hasattr(result, "ndim") and hasattr(result, "tolist"):
        if result.ndim != 1:
            return Unusable(what=f"an array of shape {tuple(result.shape)}")
        return [_entry(value) for value in result.tolist()]
    return Unusable(what=typed(result))


def _entry(value: Any) -> Entry:
    if value is None or isinstance(value, (Failure, Unusable)):
        return value
    if _elsewhere(value):
        return Unusable(what=f"a tensor on {value.device} (return `.item()`)")
    number = value
    if not isinstance(value, (bool, int, float)) and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        number = value.item()  # a scalar of numpy or torch
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
        return _by_token(value)
    if not isinstance(number, (bool, int, float)):
        return Unusable(what=typed(value))
    # abs first: an int too large for a float would raise in isfinite, and 1e300 would become infinity in float32.
    if not abs(number) <= FLOAT32_MAX or not math.isfinite(number):
        what = repr(number) if isinstance(number, float) else f"an integer of {number.bit_length()} bits"
        return Failure(kind=FailureKind.NOT_FINITE, reason=f"returned {what}, which is no finite float32 number")
    return float(number)


def _by_token(values: Any) -> Entry:
    """Numbers only: the first that is none speaks for all."""
    read = [_entry(value) for value in values]
    faults = [entry for entry in read if not isinstance(entry, float)]
    if not faults:
        return tuple(entry for entry in read if isinstance(entry, float))
    return faults[0] if isinstance(faults[0], Failure) else Unusable(what=typed(values))


def _elsewhere(value: Any) -> bool:
    """Whether it is a tensor of torch that is not in the CPU's memory. Without torch there are no tensors."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.device.type != "cpu"


def typed(value: Any) -> str:
    """Type and beginning of a value, on one line."""
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:59] + '…'}"


def described(error: BaseException) -> str:
    """`ValueError: why (file.py:12 in reward)`: the exception and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    position = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}{position}"


def to_wire(value: list[Entry] | Entry) -> Any:
    """As JSON: numbers, lists and null stand for themselves, the rest is an object with one key."""
    match value:
        case Unusable():
            return {"unusable": value.what}
        case Failure():
            return {"not_finite": value.reason}
        case list():
            return [to_wire(entry) for entry in value]
    return value


def from_wire(wire: Any) -> list[Entry] | Unusable:
    """The inverse of `to_wire`."""
    return Unusable(what=wire["unusable"]) if isinstance(wire, dict) else [_from_wire(entry) for entry in wire]


def _from_wire(entry: Any) -> Entry:
    match entry:
        case {"unusable": what}:
            return Unusable(what=what)
        case {"not_finite": reason}:
            return Failure(kind=FailureKind.NOT_FINITE, reason=reason)
    return tuple(entry) if isinstance(entry, list) else entry


def read_result(result: Any, name: str, rows: Sequence[ResponseRow], *, by_token: bool = False) -> list[RowOutcome]:
    """What a call returned, one number a row; `by_token` a list of them, one for each of the row's `completion_ids`.

    None abstains. UserError for anything but a list of these, as long as the rows.
    """
    each = f"for each of the {len(rows)} completions"
    wanted, tail = ("a list of numbers", ", one for each of its tokens") if by_token else ("one number", "")
    wanted = f"{wanted} (or None) {each}{tail}"
    entries = entries_of(result)
    if isinstance(entries, Unusable):
        raise UserError(f"reward function {name!r} must return {wanted}, not {entries.what}")
    if len(entries) != len(rows):
        raise UserError(f"reward function {name!r} must return {wanted}; it returned {len(entries)}")
    outcomes: list[RowOutcome] = []
    for entry, row in zip(entries, rows, strict=True):
        if fault := _fault(entry, row, by_token=by_token):
            raise UserError(f"reward function {name!r}: {row}: returned {fault}")
        if not isinstance(entry, Unusable):
            outcomes.append(entry)
    return outcomes


def _fault(entry: Entry, row: ResponseRow, *, by_token: bool) -> str:
    """What is wrong with the entry on any row; empty where nothing is."""
    match entry:
        case Unusable():
            return f"{entry.what} where a number belongs"
        case tuple() if not by_token:
            return f"{typed(list(entry))} where a number belongs"
        case tuple() if len(entry) != len(row.response_ids or ()):
            return f"{len(entry)} numbers for {len(row.response_ids or ())} tokens (`completion_ids`)"
        case float() if by_token:
            return f"{entry} where a list by token belongs"
    return ""
