"""What is wrong with rows that parse: useless ones are dropped by rule, odd ones are kept; both are counted.

The rules
- a comparison whose two answers are equal (but for surrounding white space) teaches nothing: dropped;
- a demonstration with an empty answer would teach silence, an empty text nothing: dropped;
- an empty answer that somebody compared, ranked or rated is a judgement like any other: kept, counted;
- a repeated row may be meant (a weight, a second labeller): kept, counted;
- a ranking with one answer or with all answers tied gives no pair: kept, counted (its loss skips it);
- in a ranking, equal answers on different places contradict themselves: kept, counted (their pair is never built).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from plaudit.records.text import Candidates, Comparison, Demonstration, Form, Ranking, Rating, Row, Text, Verdict

# Reasons are worded to follow a number: "3 with chosen equal to rejected".
SAME_ANSWERS = "with chosen equal to rejected"
EMPTY_DEMONSTRATION = "with an empty answer to learn from"
EMPTY_TEXT = "with an empty text"

EMPTY_REPLY = "with an empty reply"
DUPLICATE = "repeating an earlier row"
NO_PAIR = "without a pair (one answer, or all tied)"
TIES = "with ties"
CONTRADICTION = "with equal answers on different places"
OPPOSITE = "judging the same two answers the other way round than an earlier row"
PROMPT_REPEATED = "with the prompt repeated at the beginning of an answer"
CONTROLS = "with control tokens spelled as text"

_USUAL_CONTROLS = r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:bos|eos|pad|start_of_turn|end_of_turn)>|<\uff5c[^<>\n]{1,40}\uff5c>"
_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


# -------------------------------------------------------------------------------------- one row: dropped or counted


def drop_reason(row: Row) -> str:
    """Why the rules leave this row out; empty = it stays."""
    match row:
        case Comparison() if row.chosen == row.rejected or row.chosen.strip() == row.rejected.strip():
            return SAME_ANSWERS
        case Demonstration() if not row.response.strip() and not row.extra:
            return EMPTY_DEMONSTRATION
        case Text() if not row.text.strip():
            return EMPTY_TEXT
    return ""


def drop_useless(rows: Iterable[Row]) -> tuple[tuple[Row, ...], dict[str, int]]:
    """The rows that stay, and how many were left out for which reason."""
    useful: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        reason = drop_reason(row)
        if reason:
            dropped[reason] += 1
        else:
            useful.append(row)
    return tuple(useful), dict(dropped)


def count_oddities(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows are odd in which way, though they stay."""
    counted: Counter[str] = Counter()
    for row in rows:
        if any(not answer or answer.isspace() for answer in answers(row)) and not isinstance(row, Demonstration):
            counted[EMPTY_REPLY] += 1
        if isinstance(row, Ranking):
            counted.update(_oddities_of_ranking(row))
        counted[PROMPT_REPEATED] += _repeats_prompt(row)
    counted[OPPOSITE] = len(opposites(rows))
    repeats = len(duplicates(rows))
    counted[DUPLICATE] = repeats
    return {reason: count for reason, count in counted.items() if count}


def _oddities_of_ranking(row: Ranking) -> list[str]:
    ranks = set(row.ranks)
    oddities = [TIES] if len(ranks) < len(row.ranks) else []
    if len(ranks) < 2:
        oddities.append(NO_PAIR)
    if len(set(zip(row.responses, row.ranks, strict=True))) > len(set(row.responses)):
        oddities.append(CONTRADICTION)
    return oddities


def _repeats_prompt(row: Row) -> bool:
    """Where prompts of a few letters ("Hi") are repeated, that says nothing."""
    question = "" if isinstance(row, Text) else row.prompt.turns[-1].content.strip()
    return len(question) > 4 and any(answer.lstrip().startswith(question) for answer in answers(row))


def opposites(rows: Sequence[Row]) -> list[str]:
    """Where rows stand that say the opposite of an earlier one: B over A after A over B, no after yes."""
    verdicts: dict[tuple[Hashable, ...], int] = {}
    wheres: list[str] = []
    for row in rows:
        opposed = [verdicts.setdefault(what, verdict) == -verdict for what, verdict in _judgements(row) if verdict]
        wheres += [row.where] if any(opposed) else []
    return wheres


def _judgements(row: Row) -> Iterator[tuple[tuple[Hashable, ...], int]]:
    """What is judged, and how: +1 or -1."""
    match row:
        case Comparison():
            yield (row.prompt, *sorted((row.chosen, row.rejected))), 1 if row.chosen < row.rejected else -1
        case Ranking():
            for (a, rank_a), (b, rank_b) in combinations(sorted(zip(row.responses, row.ranks, strict=True)), 2):
                yield (row.prompt, a, b), ((rank_a < rank_b) - (rank_a > rank_b)) * (a != b)
        case Verdict():
            yield (row.prompt, row.response), 1 if row.label else -1


def spelled_controls(rows: Sequence[Row], tokens: Iterable[str] = ()) -> tuple[int, list[str]]:
    """How many rows spell control tokens as text, and which they spell: those of `tokens`, or where none are given
    the usual ones. What is rendered is left out: there they are meant."""
    words = sorted(tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, words)) if words else _USUAL_CONTROLS)
    spellings: Counter[str] = Counter()
    count = 0
    for row in rows:
        form = row.form if isinstance(row, Text) else row.prompt.form
        texts = [row.text] if isinstance(row, Text) else [turn.content for turn in row.prompt.turns]
        own = answers(row) if form is Form.RENDERED else (*texts, *answers(row))
        spelled = {match for text in own for match in pattern.findall(text)}
        spellings.update(spelled)
        count += bool(spelled)
    return count, [token for token, _ in spellings.most_common(3)]


def answers(row: Row) -> tuple[str, ...]:
    """The answers that a row holds, none for prompts and texts."""
    match row:
        case Demonstration() | Rating() | Verdict():
            return (row.response,)
        case Comparison():
            return (row.chosen, row.rejected)
        case Ranking() | Candidates():
            return row.responses
    return ()


# ------------------------------------------------------------------------------------------------ between the rows


def content(row: Row) -> str:
    """All that a row says, without where it stood (and what rankings and candidates carry along): equal for repeated
    rows only."""
    is_bare = not isinstance(row, Ranking | Candidates)
    return repr(replace(row, where="") if is_bare else replace(row, where="", columns={}))


def duplicates(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    """(where it stood first, where it stands again) of every row that repeats an earlier one."""
    first: dict[str, str] = {}
    repeats: list[tuple[str, str]] = []
    for row in rows:
        key = content(row)
        if key in first:
            repeats.append((first[key], row.where))
        else:
            first[key] = row.where
    return tuple(repeats)


def normalise(text: str) -> str:
    """Letters and digits only, lower case: what two spellings of one prompt have in common.

    Composed and decomposed letters, full-width and half-width ones count as equal (NFKC). A text without any letter or
    digit is its own normal form, so that `???` and `!!!` stay two prompts.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _NOT_LETTER_OR_DIGIT.sub("", text.lower()) or text.strip()


def prompt_key(row: Row) -> str:
    """What decides on which side of a split a row falls: the normalised prompt, or the text where there is no prompt.

    Of a conversation it is the beginning only, up to the first user turn: later states of one dialogue contain its
    earlier answers, so they must stay on one side.
    """
    if isinstance(row, Text):
        return normalise(row.text)
    turns = row.prompt.turns
    opening = next((index for index, turn in enumerate(turns) if turn.role == "user"), len(turns) - 1)
    return normalise("\n".join(turn.content for turn in turns[: opening + 1]))


def unit_keys(rows: Sequence[Row]) -> list[str]:
    """For each row what decides on which side of a split it falls: `prompt_key`; or, where all rows judge single
    answers to one and the same prompt (texts with labels, under a fixed prompt), the normalised answer."""
    keys = [prompt_key(row) for row in rows]
    if len(set(keys)) == 1 and all(isinstance(row, Rating | Verdict) for row in rows):
        return [normalise(answer) for row in rows for answer in answers(row)]
    return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Prompts (by `unit_keys`) that two sets of rows have in common."""

    prompts: int
    """Different prompts that both sides have."""
    rows: tuple[int, int]
    """Rows with such a prompt, on the first and on the second side."""
    examples: tuple[tuple[str, str], ...]
    """Up to five pairs of places, (first side, second side)."""


def overlap(first: Sequence[Row], second: Sequence[Row]) -> Overlap:
    """What two sets of rows (training and held-out, say) share: a model that saw one has seen part of the other."""
    rows = [*first, *second]
    both = [(key, row.where) for key, row in zip(unit_keys(rows), rows, strict=True)]
    return overlap_of_keys(both[: len(first)], both[len(first) :])


def overlap_of_keys(first: Sequence[tuple[str, str]], second: Sequence[tuple[str, str]]) -> Overlap:
    """`overlap` of rows of which the keys, and where each stands, are known already."""
    where_first, where_second = dict(reversed(first)), dict(reversed(second))  # the first place of each key stays
    shared = [key for key in dict(first) if key in where_second]
    common = set(shared)
    return Overlap(
        prompts=len(shared),
        rows=(sum(key in common for key, _ in first), sum(key in common for key, _ in second)),
        examples=tuple((where_first[key], where_second[key]) for key in shared[:5]),
    )
