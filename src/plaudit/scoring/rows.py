"""The responses that a reward function is called with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.records.text import Form, Group, Prompt


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


def rows_of(groups: Sequence[Group]) -> list[ResponseRow]:
    """All responses in order. Raises ValueError where a group's ids are neither absent nor one tuple a response."""
    rows: list[ResponseRow] = []
    for group in groups:
        ids = group.response_ids or [None] * len(group.responses)
        if len(ids) != len(group.responses):
            raise ValueError(f"prompt {group.prompt.id}: {len(ids)} lists of ids for {len(group.responses)} responses")
        for text, own in zip(group.responses, ids, strict=True):
            index, prompt, columns = len(rows), group.prompt, group.columns
            rows.append(ResponseRow(index=index, prompt=prompt, response=text, response_ids=own, columns=columns))
    return rows


def shortened(text: str, limit: int = 60) -> str:
    """The text's beginning in quotes, on one line."""
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
