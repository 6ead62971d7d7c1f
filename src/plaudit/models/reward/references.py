"""The answers that a row brings along for judges that compare: what a lone answer, as in PPO, is compared with."""

from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.errors import UserError
from plaudit.records.text import Group, PromptRow

REFERENCES = "references"
"""Their data column: one string or several."""


def references_of(columns: Mapping[str, Any]) -> list[str]:
    """The row's reference answers; none where the column is missing or empty. UserError for anything but text."""
    value = columns.get(REFERENCES)
    texts = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise UserError(f"the column {REFERENCES!r} must hold one answer or a list of them, not {wrong[0]!r}")
    return texts


def check_references(rows: Sequence[PromptRow]) -> None:
    """Before any model loads: UserError naming the first row whose column holds anything else."""
    for index, row in enumerate(rows):
        try:
            references_of(row.columns)
        except UserError as error:
            raise UserError(f"{row.where or f'row {index}'}: {error}") from error


def refuse_lone(groups: Sequence[Group]) -> None:
    """UserError naming the first prompt with a single answer and nothing to compare it with."""
    for group in groups:
        if len(group.responses) == 1 and not references_of(group.columns):
            raise UserError(
                f"prompt {group.prompt.id}: this reward model can't judge one answer alone; give the row answers to "
                f"compare it with, in the column {REFERENCES!r}"
            )
