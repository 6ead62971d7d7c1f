"""What a reward function returned, entry by entry, as plain values that can cross to another process. No torch here."""

import math
import sys
import traceback
from dataclasses import dataclass
from typing import Any

FLOAT32_MAX = (2 - 2**-23) * 2.0**127


@dataclass(frozen=True, slots=True)
class Unusable:
    """The function returned `what` instead of a flat list."""

    what: str


@dataclass(frozen=True, slots=True)
class NoNumber:
    """The entry is `what`, where a number belongs."""

    what: str


@dataclass(frozen=True, slots=True)
class NotFinite:
    """The entry is `what`: NaN, infinity, or beyond float32."""

    what: str


Entry = float | tuple[float, ...] | None | NoNumber | NotFinite
"""What stands for one completion: a number; numbers by token, which a scorer takes only where it asked for them."""


def entries_of(result: Any) -> list[Entry] | Unusable:
    """A list, tuple or one-dimensional array or tensor, read; anything else is `Unusable`. Idempotent."""
    if isinstance(result, Unusable):
        return result
    if _elsewhere(result):
        return Unusable(f"a tensor on {result.device}: return `.tolist()`")
    if isinstance(result, (list, tuple)):
        return [_entry(value) for value in result]
    if hasattr(result, "ndim") and hasattr(result, "tolist"):
        if result.ndim != 1:
            return Unusable(f"an array of shape {tuple(result.shape)}")
        return [_entry(value) for value in result.tolist()]
    return Unusable(typed(result))


def _entry(value: Any) -> Entry:
    if value is None or isinstance(value, (NoNumber, NotFinite)):
        return value
    if _elsewhere(value):
        return NoNumber(f"a tensor on {value.device} (return `.item()`)")
    number = value
    if not isinstance(value, (bool, int, float)) and getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        number = value.item()  # a scalar of numpy or torch
    if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
        return _by_token(value)
    if not isinstance(number, (bool, int, float)):
        return NoNumber(typed(value))
    # abs first: an int too large for a float would raise in isfinite, and 1e300 would become infinity in float32.
    if not abs(number) <= FLOAT32_MAX or not math.isfinite(number):
        return NotFinite(repr(number) if isinstance(number, float) else f"an integer of {number.bit_length()} bits")
    return float(number)


def _by_token(values: Any) -> Entry:
    """Numbers only: the first that is none speaks for all."""
    read = [_entry(value) for value in values]
    faults = [entry for entry in read if not isinstance(entry, float)]
    if not faults:
        return tuple(entry for entry in read if isinstance(entry, float))
    return faults[0] if isinstance(faults[0], NotFinite) else NoNumber(typed(values))


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


def to_wire(entries: list[Entry] | Unusable) -> Any:
    """As JSON: numbers and null stand for themselves, the rest is an object with one key."""
    if isinstance(entries, Unusable):
        return {"unusable": entries.what}
    keys = {NoNumber: "no_number", NotFinite: "not_finite"}
    return [{keys[type(e)]: e.what} if isinstance(e, (NoNumber, NotFinite)) else e for e in entries]


def from_wire(wire: Any) -> list[Entry] | Unusable:
    """The inverse of `to_wire`."""
    if isinstance(wire, dict):
        return Unusable(wire["unusable"])
    return [_from_wire(entry) for entry in wire]


def _from_wire(entry: Any) -> Entry:
    if not isinstance(entry, dict):
        return tuple(entry) if isinstance(entry, list) else entry
    return NoNumber(entry["no_number"]) if "no_number" in entry else NotFinite(entry["not_finite"])
