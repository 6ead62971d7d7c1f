"""Rows of public files that are shaped otherwise than `kinds` tells, rewritten before anything else looks at them.

| shape | becomes |
|---|---|
| `response1`, `response2`, `majority` or `annotations` (0 tie; 1, 2 the better) | `responses`, `ranks`, `votes` |
| `responses` [{text, model}], `reviews` [{model_1, model_2, score_1, score_2}] | a ranking of two answers a review |
| `chosen` and `rejected`, lists of texts | a ranking: all chosen on place 1, all rejected behind them |
| a conversation and `rejected_response`, one or several | a ranking: the last answer on place 1 |
| a conversation and `rejected_messages` | `chosen` and `rejected` |
| a conversation that ends in an answer, and `label` | the turns before, `response` and `label` |
| exports of labelling tools | see `exports` |

The first is PandaLM's (annotations are three people's votes), the second Vicuna's, where a judge compared some pairs of
the answers: pairs that nobody compared are not made up, so that the answers of a prompt get no common order. The third
is RewardBench 2's. Those with a conversation are ms-swift's.
Two options of a file work here too: `prompt` for rows without one, and `accept` for labels that are words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plaudit.data.exports import exported
from plaudit.data.kinds import ANSWERS, CONTEXTS, QUESTIONS, Raw, ends_in_answer
from plaudit.data.turns import RowError, type_name

_TWO = ("response1", "response2")
_RANKS = {0: [1, 1], 1: [1, 2], 2: [2, 1]}
"""Which of two is better -> their places."""
_VERDICTS = ("true", "false", "1", "0", "1.0", "0.0")
"""Labels, in small letters, that judge the answer; other words may say anything of a conversation."""


def reshaped(raw: Raw, columns: Iterable[str], kind: str = "auto") -> list[Raw]:
    """The row, or the rows, in our columns; itself where it has no such shape. `columns` are the file's, `kind` is what
    its rows are said to be. RowError says what is wrong with a row that has one."""
    names = set(columns)
    if {*_TWO} <= names and names & {"majority", "annotations"} and "responses" not in names:
        return [_two_answers(raw)]
    if {"responses", "reviews"} <= names:
        return _reviews(raw)
    if all(_are_texts(raw.get(side)) for side in ("chosen", "rejected")):
        rest = {name: value for name, value in raw.items() if name not in ("chosen", "rejected")}
        ranks = [1] * len(raw["chosen"]) + [2] * len(raw["rejected"])
        return [{**rest, "responses": [*raw["chosen"], *raw["rejected"]], "ranks": ranks}]
    if turns := _answered_conversation(raw):
        if kind in ("auto", "comparison", "ranking") and (lacking := _lacks_rejected(raw, names)):
            raise RowError(lacking, "is null or missing: there is nothing that the answer is better than")
        return [_last_answer(raw, turns, kind)]
    return exported(raw)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _answered_conversation(raw: Raw) -> str:
    """The column of a conversation that ends in an answer, where no other column holds prompt or answers."""
    if any(raw.get(column) is not None for column in (*QUESTIONS, *ANSWERS, "chosen", "responses")):
        return ""
    column = next((c for c in (*CONTEXTS, "messages") if raw.get(c) is not None), "")
    return column if column and ends_in_answer(raw[column]) and len(raw[column]) > 1 else ""


def _lacks_rejected(raw: Raw, columns: set[str]) -> str:
    """The column of rejected answers that the file has and this row has not."""
    named = [column for column in ("rejected_response", "rejected_messages") if column in columns]
    return named[0] if named and all(raw.get(column) is None for column in named) else ""


def _last_answer(raw: Raw, column: str, kind: str) -> Raw:
    """The last answer in a column of its own where something is said of it, or stands against it; a file said to hold
    demonstrations is let alone, and one said to hold ratings has them in `score` or `scores`."""
    *before, answer = raw[column]
    rejected = raw.get("rejected_response")
    rest = {name: value for name, value in raw.items() if name not in ("rejected_response", "rejected_messages")}
    if kind not in ("auto", "comparison", "ranking"):
        judged = kind in ("verdict", "rating")
    elif raw.get("rejected_messages") is not None:
        del rest[column]
        return {**rest, "chosen": raw[column], "rejected": raw["rejected_messages"]}
    elif rejected is not None:
        others = rejected if isinstance(rejected, list) else [rejected]
        if kind == "comparison" and len(others) == 1:
            return {**rest, column: before, "chosen": answer, "rejected": others[0]}
        return {**rest, column: before, "responses": [answer, *others], "ranks": [1] + [2] * len(others)}
    else:
        judged = kind == "auto" and str(raw.get("label")).lower() in _VERDICTS
    return {**raw, column: before, "response": answer} if judged else raw


def _two_answers(raw: Raw) -> Raw:
    for column in _TWO:
        if not isinstance(raw.get(column), str):
            raise RowError(column, f"must be a string, not {type_name(raw.get(column))}")
    votes = raw.get("annotations")
    if votes is not None and not (isinstance(votes, list) and votes):
        raise RowError("annotations", "must be a list of votes, each 0 (tie), 1 or 2")
    rankings = [_ranks(vote, "annotations") for vote in votes or ()]
    majority = raw.get("majority")
    if majority is None and not rankings:
        raise RowError("majority", "neither `majority` nor `annotations` says which answer is better")
    new = {name: value for name, value in raw.items() if name not in (*_TWO, "annotations", "majority")}
    new["responses"] = [raw[column] for column in _TWO]
    new["ranks"] = _ranks(majority, "majority") if majority is not None else _most(votes or ())
    return {**new, "votes": rankings} if rankings else new


def _ranks(vote: Any, column: str) -> list[int]:
    if isinstance(vote, bool) or vote not in _RANKS:
        raise RowError(column, f"must be 0 (tie), 1 or 2, not {vote!r:.40}")
    return list(_RANKS[vote])


def _most(votes: Sequence[int]) -> list[int]:
    """What most say, more than for any other verdict; a tie where there is no such verdict."""
    counts = sorted(((votes.count(vote), vote) for vote in _RANKS), reverse=True)
    return list(_RANKS[counts[0][1] if counts[0][0] > counts[1][0] else 0])


def _reviews(raw: Raw) -> list[Raw]:
    texts = _texts_by_model(raw.get("responses"))
    reviews = raw.get("reviews")
    if not isinstance(reviews, list) or not reviews:
        raise RowError("reviews", f"must be a list of comparisons, not {type_name(reviews) if not reviews else 'this'}")
    rest = {name: value for name, value in raw.items() if name not in ("responses", "reviews")}
    return [{**rest, "responses": _reviewed(review, texts)} for review in reviews]


def _texts_by_model(responses: Any) -> dict[str, str]:
    if not isinstance(responses, list):
        raise RowError("responses", f"must be a list, not {type_name(responses)}")
    texts: dict[str, str] = {}
    for index, item in enumerate(responses):
        model, text = (item.get("model"), item.get("text")) if isinstance(item, Mapping) else (None, None)
        if not isinstance(model, str) or not isinstance(text, str):
            raise RowError("responses", f"item {index} (counted from 0) has no `model` and `text` for its reviews")
        if model in texts:
            raise RowError("responses", f"two items are by the model {model!r}, so reviews can't tell them apart")
        texts[model] = text
    return texts


def _reviewed(review: Any, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    if not isinstance(review, Mapping):
        raise RowError("reviews", f"a review must be an object, not {type_name(review)}")
    answers = []
    for number in (1, 2):
        model = review.get(f"model_{number}")
        if model not in texts:
            raise RowError("reviews", f"`model_{number}` is {model!r:.40}, of which `responses` has no answer")
        answers.append({"text": texts[model], "model": model, "score": review.get(f"score_{number}")})
    return answers


def with_prompt(raw: Raw, prompt: str) -> Raw:
    """The row with the fixed prompt. RowError where it has a prompt of its own."""
    own = next((c for c in (*CONTEXTS, *QUESTIONS, "messages") if raw.get(c) is not None), None)
    if own:
        raise RowError(own, "the row has a prompt of its own, so the option `prompt` would have no effect")
    return {**raw, "prompt": prompt}


def with_verdicts(raw: Raw, accept: Sequence[str]) -> tuple[Raw, set[str]]:
    """The row with true and false for its labels (its answers' labels too), and the labels seen."""
    labels: set[str] = set()

    def with_bool(item: Any) -> Any:
        if not isinstance(item, Mapping) or item.get("label") is None:
            return item
        labels.add(str(item["label"]))
        return {**item, "label": str(item["label"]) in accept}

    new = with_bool(raw)
    if isinstance(raw.get("responses"), list):
        new = {**new, "responses": [with_bool(item) for item in raw["responses"]]}
    return new, labels
