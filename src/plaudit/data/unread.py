"""What rows say that nobody reads: columns, keys of turns, answers of conversations. It is counted, and told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plaudit.data.formats import prompt_parts, turns_column
from plaudit.data.kinds import ANSWERED, ANSWERS, COMPARISON_COLUMNS, CONTEXTS, QUESTIONS, Raw
from plaudit.data.turns import ROLES, is_absent, unread_keys
from plaudit.records.text import Kind, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What rows say that nobody reads."""

    columns: Mapping[str, int]
    """Columns, and how many rows have each."""
    turn_keys: Mapping[str, int]
    """Keys of turns, and how many turns have each."""
    answers: tuple[int, int] | None = None
    """Of conversations with several answers: how many answers are learned, and how many there are."""

    def notes(self) -> list[str]:
        notes = [f"columns not used: {', '.join(self.columns)}"] if self.columns else []
        if self.turn_keys:
            notes.append("turns' keys not used: " + ", ".join(f"{key} ({n})" for key, n in self.turn_keys.items()))
        if self.answers:
            learned, every = self.answers
            notes.append(f"conversations: {learned} of {every} answers {'is' if learned == 1 else 'are'} learned")
        return notes


def unread(raws: Sequence[tuple[str, Raw]], kind: Kind, rows: Sequence[Row]) -> Unread:
    """What the file says that `rows`, which were read from it as `kind`, don't keep."""
    wheres = Counter(row.where for row in rows)
    columns: Counter[str] = Counter()
    turn_keys: Counter[str] = Counter()
    every = 0
    for where, row in raws:
        if where not in wheres:
            continue
        read = _read_columns(row, kind)
        columns.update(column for column, value in row.items() if column not in read and not is_absent(value))
        turn_keys.update(_unread_turn_keys(row, kind))
        if kind is Kind.DEMONSTRATION:
            every += _count_answers(row)
    several = kind is Kind.DEMONSTRATION and (len(rows) != every or every > len(wheres))
    return Unread(columns=columns, turn_keys=turn_keys, answers=(len(rows), every) if several else None)


def _read_columns(raw: Raw, kind: Kind) -> set[str]:
    """The columns of a row that reading it as `kind` looks at. Rankings, candidates and prompts keep all the
    others: they go to reward functions."""
    if kind in (Kind.PROMPT, Kind.RANKING, Kind.CANDIDATES):
        return set(raw)
    if kind is Kind.TEXT:
        return {"text", "prompt_rendered"}
    own = {Kind.COMPARISON: COMPARISON_COLUMNS, Kind.DEMONSTRATION: ANSWERS}.get(kind, (*ANSWERED, "responses"))
    return {*prompt_parts(raw, kind), *own}


def _unread_turn_keys(raw: Raw, kind: Kind) -> list[str]:
    """Keys of the turns in a row that nobody reads when it is read as `kind`, one for each turn that has it."""
    learned = turns_column(raw) if kind is Kind.DEMONSTRATION else ""
    in_prompt = ("messages", *CONTEXTS, *QUESTIONS, "history")
    keys = [k for c in in_prompt for k in unread_keys(raw.get(c), extras=True, trained=c == learned)]
    demonstrated = kind is Kind.DEMONSTRATION
    keys += [k for c in ANSWERS for k in unread_keys(raw.get(c), extras=demonstrated, trained=demonstrated)]
    for column in ("chosen", "rejected", "responses"):
        turns = raw.get(column)
        if isinstance(turns, list) and column != "responses":
            keys += unread_keys(turns[:-1], extras=True, trained=False)
        keys += unread_keys(turns[-1:] if isinstance(turns, list) else turns, extras=False, trained=False)
    return keys


def _count_answers(raw: Raw) -> int:
    """How many answers a demonstration holds: those of its conversation, or the one that has a column of its own."""
    turns = raw.get(turns_column(raw))
    if not isinstance(turns, list):
        return 1
    roles = [turn.get("role") or turn.get("from") for turn in turns if isinstance(turn, Mapping)]
    return sum(ROLES.get(role) == "assistant" for role in roles if isinstance(role, str))
