"""Which kind of data a file holds, told by its columns.

`NEEDS` says which (docs/data.md has an example of each). "A prompt" is `prompt` or `instruction` (+ `input`, appended
after a blank line), `messages`, `conversation(s)`, or the row itself as a bare `{role, content}` message. A string that
is a transcript of `Human:` and `Assistant:` becomes chat turns; in a row with `prompt_rendered: true` it is taken as it
is, role tokens and all. Other shapes of public files are rewritten into these columns first (`shapes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plaudit.data.turns import ROLES
from plaudit.errors import UserError
from plaudit.records.text import Kind

Raw = Mapping[str, Any]

NEEDS: dict[Kind, str] = {
    Kind.DEMONSTRATION: "a prompt and `completion` (or `response`, `output`); or `messages` that end in an answer",
    Kind.TEXT: "`text`",
    Kind.COMPARISON: "`chosen` and `rejected`, and a prompt unless the two begin alike",
    Kind.RANKING: "a prompt, `responses` and `ranks` or `best`; or `responses` as [{text, score}]",
    Kind.RATING: "a prompt, `response` and `score` or `scores`; or `responses` as [{text, scores}]",
    Kind.VERDICT: "a prompt, `response` and `label` (true or false); or `responses` as [{text, label}]",
    Kind.CANDIDATES: "a prompt and `responses` that nobody has ranked: texts, or [{text, model, sampling}]",
    Kind.PROMPT: "`prompt` (or `instruction`, `messages`, or role + content)",
}

CONTEXTS = ("conversations", "conversation")
QUESTIONS = ("prompt", "instruction")
ANSWERS = ("completion", "response", "output")
COMPARISON_COLUMNS = ("chosen", "rejected", "margin")
ANSWERED = (*ANSWERS, "score", "scores", "labeller", "label")

LABELS = {"label", "score", "scores"}
LABELLED_TEXTS = "read with these texts as answers by `columns: {text: response}` and a `prompt` for all of them"
"""What may be done where `LABELS` stand beside plain texts."""


def samples(raws: Sequence[Raw]) -> dict[str, Any]:
    """Column -> its value that says most: of all rows the first that tells an answered conversation or judged
    responses, else the first that isn't null; None where all are. The order of the rows makes no difference to that."""
    firsts: dict[str, Any] = {}
    for raw in raws:
        for column, value in raw.items():
            if value is not None and _tells(column, value) > _tells(column, firsts.get(column)):
                firsts[column] = value
            firsts.setdefault(column, value)
    return firsts


def _tells(column: str, value: Any) -> int:
    """How much a value says of its file's kind: nothing, something, or all."""
    if value is None:
        return 0
    if column in (*CONTEXTS, "messages"):
        return 2 if ends_in_answer(value) else 1
    return 2 if column == "responses" and _kind_of_items(value) else 1


def candidates(sample: Mapping[str, Any]) -> tuple[Kind, ...]:
    """The kinds that these columns (as `samples` gives them) can mean, most telling columns first."""
    has = {column for column, value in sample.items() if value is not None}
    kinds: list[Kind] = []
    if {"chosen", "rejected"} <= has:
        kinds.append(Kind.COMPARISON)
    if "responses" in has:
        kinds += _kind_of_responses(sample)
    message = {"role", "content"} <= has
    if has.intersection(ANSWERS) and (has.intersection((*CONTEXTS, *QUESTIONS, "messages")) or message):
        kinds += _kinds_of_answer(has)
    if (
        not kinds
        and isinstance(sample.get("responses"), list)
        and has.intersection((*CONTEXTS, *QUESTIONS, "messages"))
    ):
        kinds.append(Kind.CANDIDATES)
    if kinds:
        return tuple(kinds)
    dialogues = ("messages",) if has.intersection(QUESTIONS) else (*CONTEXTS, "messages")
    present = [sample[column] for column in dialogues if sample.get(column)]
    if any(ends_in_answer(turns) or not _last_role(turns) for turns in present):  # unreadable: each row says why
        return (Kind.DEMONSTRATION,)
    if has.intersection((*CONTEXTS, *QUESTIONS, "messages")) or message:
        return (Kind.PROMPT,)
    return (Kind.TEXT,) if "text" in has else ()


def _kind_of_responses(sample: Mapping[str, Any]) -> list[Kind]:
    if sample.get("ranks") is not None or sample.get("best") is not None:
        return [Kind.RANKING]
    return _kind_of_items(sample["responses"])


def _kind_of_items(items: Any) -> list[Kind]:
    first = items[0] if isinstance(items, Sequence) and items else None
    if not isinstance(first, Mapping):
        return []
    if first.get("score") is not None or first.get("rank") is not None:
        return [Kind.RANKING]
    if first.get("scores") is not None:
        return [Kind.RATING]
    return [Kind.VERDICT] if first.get("label") is not None else []


def _kinds_of_answer(has: set[str]) -> list[Kind]:
    kinds = [Kind.RATING] if has.intersection(("score", "scores")) else []
    if "label" in has:
        kinds.append(Kind.VERDICT)
    return kinds or [Kind.DEMONSTRATION]


def ends_in_answer(turns: Any) -> bool:
    return _last_role(turns) == "assistant"


def _last_role(turns: Any) -> str:
    """Whose the last turn is; empty where that can't be read."""
    last = turns[-1] if isinstance(turns, list) and turns else None
    role = (last.get("role") or last.get("from")) if isinstance(last, Mapping) else None
    return ROLES.get(role, "") if isinstance(role, str) else ""


def recognise(sample: Mapping[str, Any], wanted: Sequence[Kind] = (), *, source: str = "the rows") -> Kind:
    """The one kind of a file with these columns (`samples`). Where several fit, one that is `wanted` is taken.

    Raises UserError, with the columns found and what each kind needs, if none fits or the choice is the user's.
    """
    kinds = candidates(sample)
    if not kinds:
        raise UserError(f"{source}: no kind of data is told by the columns {listed(sample)}.\n{needs(Kind)}\n{RENAME}")
    _check_one_of(sample, QUESTIONS, source)
    kind = next((kind for kind in wanted if kind in kinds), kinds[0])
    unranked = kind in (Kind.PROMPT, Kind.CANDIDATES) and kind not in wanted
    if unranked and sample.get("responses") and Kind.RANKING in wanted:
        return Kind.RANKING  # what its responses lack, each row says
    if len(kinds) > 1 and kind not in wanted and Kind.PROMPT not in wanted:  # prompts are read alike from all kinds
        words = " or ".join(k.value for k in kinds)
        raise UserError(
            f"{source}: the columns {listed(sample)} fit several kinds ({words}). "
            f"Say which is meant, such as `kind: {kinds[0].value}`."
        )
    if kind in (Kind.DEMONSTRATION, Kind.RATING, Kind.VERDICT):
        _check_one_of(sample, ANSWERS, source)
    return kind


RENAME = "If a column has another name, map it: `columns: {its name: plaudit's name}`."
_COLUMNS_SHOWN = 20


def needs(kinds: Sequence[Kind] | type[Kind]) -> str:
    """One aligned line per kind: what its rows must have."""
    return "\n".join(f"  {kind.value:<13} needs {NEEDS[kind]}" for kind in kinds)


def listed(columns: Iterable[str]) -> str:
    names = list(columns)
    more = f" and {len(names) - _COLUMNS_SHOWN} more" if len(names) > _COLUMNS_SHOWN else ""
    return ", ".join(names[:_COLUMNS_SHOWN]) + more if names else "(none)"


def _check_one_of(sample: Mapping[str, Any], names: Sequence[str], source: str) -> None:
    present = [name for name in names if sample.get(name) is not None]
    if len(present) > 1:
        raise UserError(
            f"{source}: {' and '.join(f'`{name}`' for name in present)} mean the same to plaudit; columns found: "
            f"{listed(sample)}. Rename the one that is not meant: `columns: {{{present[-1]}: other_{present[-1]}}}`."
        )
