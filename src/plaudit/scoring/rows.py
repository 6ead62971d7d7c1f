"""The rows of one call to a reward function, and what it may answer for each."""

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from plaudit.records.text import Form, Group, Prompt
from plaudit.runs.errors import UserError

FLOAT32_MAX = torch.finfo(torch.float32).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One response with what belongs to it; `index` is its place in the flat batch."""

    index: int
    prompt: Prompt
    response: str
    response_ids: tuple[int, ...] | None
    columns: Mapping[str, Any]

    def __str__(self) -> str:
        prompt, response = shortened(self.prompt.text), shortened(self.response)
        return f"row {self.index} (prompt {self.prompt.id} {prompt}, response {response})"

    def turns(self) -> tuple[Any, Any]:
        """The prompt and completion as TRL writes them: two strings, or two fresh lists of messages."""
        if self.prompt.form is not Form.CHAT:
            return self.prompt.turns[0].content, self.response
        messages = [{"role": turn.role, "content": turn.content} for turn in self.prompt.turns]
        begun = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else ""
        return messages, [{"role": "assistant", "content": begun + self.response}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Stands where a row's number should be."""

    kind: Literal["raised", "not_finite"]
    reason: str
    cause: BaseException | None = None


def rows_of(groups: Sequence[Group]) -> list[Row]:
    """All responses in order. Raises ValueError where a group's ids are neither absent nor one tuple a response."""
    rows: list[Row] = []
    for group in groups:
        ids: Sequence[tuple[int, ...] | None] = group.response_ids or [None] * len(group.responses)
        if len(ids) != len(group.responses):
            raise ValueError(f"prompt {group.prompt.id}: {len(ids)} lists of ids for {len(group.responses)} responses")
        for text, text_ids in zip(group.responses, ids, strict=True):
            row = Row(index=len(rows), prompt=group.prompt, response=text, response_ids=text_ids, columns=group.columns)
            rows.append(row)
    return rows


def read_result(result: Any, name: str, rows: Sequence[Row]) -> list[float | Failure | None]:
    """What a call returned, one entry a row. UserError for anything but a flat list of numbers and None, as long."""
    refuse = f"reward function {name!r} must return one number (or None) for each of the {len(rows)} completions"
    if isinstance(result, torch.Tensor) and result.device.type != "cpu":
        raise UserError(f"{refuse}, not a tensor on {result.device}: return `.tolist()`")
    if isinstance(result, (list, tuple)):
        entries = list(result)
    elif hasattr(result, "ndim") and hasattr(result, "tolist"):
        if result.ndim != 1:
            raise UserError(f"{refuse}, not an array of shape {tuple(result.shape)}")
        entries = result.tolist()
    else:
        raise UserError(f"{refuse}, not {_typed(result)}")
    if len(entries) != len(rows):
        raise UserError(f"{refuse}; it returned {len(entries)}")
    return [_entry(value, name, row) for value, row in zip(entries, rows, strict=True)]


def _entry(value: Any, name: str, row: Row) -> float | Failure | None:
    if value is None:
        return None
    number = value
    if isinstance(value, torch.Tensor) and value.device.type != "cpu":
        raise UserError(f"reward function {name!r}: {row}: returned a tensor on {value.device}: return `.item()`")
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)) and value.ndim == 0:
        number = value.item()
    if not isinstance(number, (bool, int, float)):
        raise UserError(f"reward function {name!r}: {row}: returned {_typed(value)} where a number belongs")
    # abs first: an int too large for a float would raise in isfinite, and 1e300 would become infinity in float32.
    if not abs(number) <= FLOAT32_MAX or not math.isfinite(number):
        what = repr(number) if isinstance(number, float) else f"an integer of {number.bit_length()} bits"
        return Failure(kind="not_finite", reason=f"returned {what}, which is no finite float32 number")
    return float(number)


def _typed(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:59] + '…'}"


def shortened(text: str, limit: int = 60) -> str:
    """The text's beginning in quotes, on one line."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def described(error: BaseException) -> str:
    """`ValueError: why (file.py:12 in reward)`: the exception and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
