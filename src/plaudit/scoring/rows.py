"""The rows of one call to a reward function, and what it may answer for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.records.text import Form, Group, Prompt
from plaudit.runs.errors import UserError
from plaudit.scoring.results import Entry, NoNumber, NotFinite, Unusable, entries_of

FailureKind = Literal["raised", "timed_out", "died", "not_finite"]


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

    kind: FailureKind
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
    entries = entries_of(result)
    if isinstance(entries, Unusable):
        raise UserError(f"{refuse}, not {entries.what}")
    if len(entries) != len(rows):
        raise UserError(f"{refuse}; it returned {len(entries)}")
    return [_outcome(entry, name, row) for entry, row in zip(entries, rows, strict=True)]


def _outcome(entry: Entry, name: str, row: Row) -> float | Failure | None:
    if isinstance(entry, NoNumber):
        raise UserError(f"reward function {name!r}: {row}: returned {entry.what} where a number belongs")
    if isinstance(entry, NotFinite):
        return Failure(kind="not_finite", reason=f"returned {entry.what}, which is no finite float32 number")
    return entry


def shortened(text: str, limit: int = 60) -> str:
    """The text's beginning in quotes, on one line."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
