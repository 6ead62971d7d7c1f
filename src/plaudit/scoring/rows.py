"""The responses that a reward function is called with, and what it may return for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from plaudit.errors import UserError
from plaudit.records.text import Form, Group, Prompt
from plaudit.scoring.results import Entry, NoNumber, NotFinite, Unusable, entries_of, typed


class FailureKind(StrEnum):
    """Why a row has no number; the value is the word in metrics."""

    RAISED = "raised"
    TIMED_OUT = "timed_out"
    DIED = "died"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRow:
    """One response with what belongs to it; `index` is its index in the flat batch."""

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
        messages = [turn.to_plain() for turn in self.prompt.turns]
        begun = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else ""
        return messages, [{"role": "assistant", "content": begun + self.response}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Stands where a row's number should be."""

    kind: FailureKind
    reason: str
    cause: BaseException | None = None


def rows_of(groups: Sequence[Group]) -> list[ResponseRow]:
    """All responses in order. Raises ValueError where a group's ids are neither absent nor one tuple a response."""
    rows: list[ResponseRow] = []
    for group in groups:
        ids: Sequence[tuple[int, ...] | None] = group.response_ids or [None] * len(group.responses)
        if len(ids) != len(group.responses):
            raise ValueError(f"prompt {group.prompt.id}: {len(ids)} lists of ids for {len(group.responses)} responses")
        for text, text_ids in zip(group.responses, ids, strict=True):
            row = ResponseRow(
                index=len(rows), prompt=group.prompt, response=text, response_ids=text_ids, columns=group.columns
            )
            rows.append(row)
    return rows


RowOutcome = float | tuple[float, ...] | Failure | None
"""What became of a row: its number, its numbers by token, a failure, no opinion."""


def read_result(result: Any, name: str, rows: Sequence[ResponseRow]) -> list[RowOutcome]:
    """What a call returned, one number (or None) a row. UserError for anything but a flat list of them, as long."""
    wanted = f"one number (or None) for each of the {len(rows)} completions"
    entries = zip(_entries(result, name, rows, wanted), rows, strict=True)
    return [_outcome(NoNumber(typed(list(e))) if isinstance(e, tuple) else e, name, row) for e, row in entries]


def read_token_result(result: Any, name: str, rows: Sequence[ResponseRow]) -> list[RowOutcome]:
    """The same for a function that judges by token: a list per row, one number for each of its `completion_ids`."""
    wanted = f"a list of numbers (or None) for each of the {len(rows)} completions, one for each of its tokens"
    outcomes: list[RowOutcome] = []
    for entry, row in zip(_entries(result, name, rows, wanted), rows, strict=True):
        if isinstance(entry, float):
            raise UserError(f"reward function {name!r}: {row}: returned {entry} where a list by token belongs")
        ids = row.response_ids or ()
        if isinstance(entry, tuple) and len(entry) != len(ids):
            raise UserError(
                f"reward function {name!r}: {row}: returned {len(entry)} numbers for {len(ids)} tokens "
                "(`completion_ids`)"
            )
        outcomes.append(_outcome(entry, name, row))
    return outcomes


def _entries(result: Any, name: str, rows: Sequence[ResponseRow], wanted: str) -> list[Entry]:
    entries = entries_of(result)
    if isinstance(entries, Unusable):
        raise UserError(f"reward function {name!r} must return {wanted}, not {entries.what}")
    if len(entries) != len(rows):
        raise UserError(f"reward function {name!r} must return {wanted}; it returned {len(entries)}")
    return entries


def _outcome(entry: Entry, name: str, row: ResponseRow) -> RowOutcome:
    if isinstance(entry, NoNumber):
        raise UserError(f"reward function {name!r}: {row}: returned {entry.what} where a number belongs")
    if isinstance(entry, NotFinite):
        return Failure(kind=FailureKind.NOT_FINITE, reason=f"returned {entry.what}, which is no finite float32 number")
    return entry


def shortened(text: str, limit: int = 60) -> str:
    """The text's beginning in quotes, on one line."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
