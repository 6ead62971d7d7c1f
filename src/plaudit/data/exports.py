"""Rows as labelling tools export them, Argilla's and Label Studio's, rewritten into columns that `kinds` knows.

| tool | judgement | becomes |
|---|---|---|
| Argilla | a ranking question: names of fields in order, or [{value, rank}] | a ranking of the fields' texts |
| Argilla | a label question whose answer names a field (or says tie) | a ranking of the fields named alike |
| Argilla | rating questions | a rating of the answer, the questions' names as aspects |
| Label Studio | `pairwise`: left or right; `choices` that say so | a ranking of two |
| Label Studio | `ranker`: ids of `items` in order | a ranking of the items |
| Potato | `label_annotations` with a `rank_order` such as `B,D=A,C` beside `responses` | a ranking of these |
| Label Studio | `rating`; `choices` otherwise | a rating; a verdict's `label` (`accept` names the words for yes) |

Every annotator's judgement is a row of its own: none is averaged away. Drafts and discarded answers are not judgements;
a record without any is left out and counted. The other fields stay as they are, so that what nobody reads is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from plaudit.data.kinds import ANSWERS, Raw
from plaudit.data.turns import RowDropped, RowError

NOT_JUDGED = "that nobody has judged"
_NO_JUDGEMENT = ("draft", "discarded")
_SIDES = {"left": 0, "right": 1}
_TIES = ("tie", "equal", "both", "same", "neither")
_ANSWER_FIELDS = (*ANSWERS, "answer", "generation", "text")


@dataclass(slots=True, kw_only=True)
class Annotation:
    """What one annotator said of one record."""

    ranks: dict[str, float] = field(default_factory=dict)
    """By name of the field, or id of the item; 1 is best."""
    labels: dict[str, str] = field(default_factory=dict)
    """By question."""
    scores: dict[str, float] = field(default_factory=dict)
    """By question."""


def exported(raw: Raw) -> list[Raw]:
    """The judgements in an exported record, a row each; the row itself where it is no export. RowDropped where nobody
    has judged it, RowError where a judgement can't be read."""
    if isinstance(raw.get("data"), Mapping) and isinstance(raw.get("annotations"), list):
        fields = {**raw["data"]}
        judgements = dict(_label_studio(raw["annotations"]))
    elif isinstance(raw.get("fields"), Mapping) and isinstance(raw.get("responses"), Mapping):
        fields = {**raw["fields"]}
        judgements = _argilla(raw["responses"])
    elif isinstance(raw.get("label_annotations"), Mapping) and isinstance(raw.get("responses"), list):
        return [_potato(raw)]
    elif questions := _flat_questions(raw):
        own = tuple(f"{question}." for question in questions)
        fields = {k: v for k, v in raw.items() if k not in questions and not k.startswith(own)}
        judgements = _argilla(questions)
    else:
        return [raw]
    rows = [row for labeller, judgement in judgements.items() for row in _rows(fields, labeller, judgement)]
    if not rows:
        raise RowDropped(NOT_JUDGED)
    return rows


# ------------------------------------------------------------------------------------------------------------- Argilla


def _flat_questions(raw: Raw) -> dict[str, list[Any]]:
    """question -> its answers as [{value, user_id, status}]: columns of that shape, or `question.responses` beside
    `question.responses.users` and `question.responses.status`."""
    questions: dict[str, list[Any]] = {}
    for column, value in raw.items():
        if column.endswith(".responses") and isinstance(value, list):
            users = raw.get(f"{column}.users") or [None] * len(value)
            states = raw.get(f"{column}.status") or [None] * len(value)
            answers = zip(value, users, states, strict=False)
            questions[column.removesuffix(".responses")] = [
                {"value": v, "user_id": user, "status": state} for v, user, state in answers
            ]
        elif isinstance(value, list) and value and all(_is_answer(one) for one in value):
            questions[column] = value
    return questions


def _is_answer(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value and "user_id" in value


def _argilla(questions: Mapping[str, Any]) -> dict[str, Annotation]:
    judgements: dict[str, Annotation] = {}
    for question, answers in questions.items():
        for number, answer in enumerate(answers or ()):
            value = answer.get("value")
            if value is None or answer.get("status") in _NO_JUDGEMENT:
                continue
            one = judgements.setdefault(str(answer.get("user_id") or number), Annotation())
            if isinstance(value, list):
                one.ranks |= _ranking(value, question)
            elif isinstance(value, str):
                one.labels[question] = value
            else:
                one.scores[question] = value
    return judgements


def _ranking(value: list[Any], question: str) -> dict[str, float]:
    if all(isinstance(name, str) for name in value):
        return {name: float(rank) for rank, name in enumerate(value, 1)}
    if all(isinstance(v, Mapping) and isinstance(v.get("value"), str) and "rank" in v for v in value):
        return {v["value"]: v["rank"] for v in value}
    raise RowError(question, "a ranking must be a list of names, or of {value, rank}")


# -------------------------------------------------------------------------------------------------------- Label Studio


def _label_studio(annotations: list[Any]) -> Iterator[tuple[str, Annotation]]:
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled") or not annotation.get("result"):
            continue
        one = Annotation()
        for result in annotation["result"]:
            value, name = result.get("value") or {}, str(result.get("from_name", "annotations"))
            if "selected" in value:
                one.labels[name] = str(value["selected"])
            elif "rating" in value:
                one.scores[name] = value["rating"]
            elif "choices" in value:
                one.labels[name] = ", ".join(map(str, value["choices"]))
            elif "ranker" in value:
                order = value["ranker"]
                buckets = order.values() if isinstance(order, Mapping) else [order]
                one.ranks |= _ranking(next(iter(buckets)), name)
        who = annotation.get("completed_by") or number
        yield str(who.get("email") or who.get("id") if isinstance(who, Mapping) else who), one


# -------------------------------------------------------------------------------------------------------------- Potato


def _potato(raw: Raw) -> Raw:
    """Letters name the responses; commas divide ranks, `=` ties."""
    schemes = [one for one in raw["label_annotations"].values() if isinstance(one, Mapping) and "rank_order" in one]
    if not schemes:
        raise RowDropped(NOT_JUDGED)
    buckets = [bucket.split("=") for bucket in str(schemes[0]["rank_order"]).split(",")]
    ranks = {letter.strip(): rank for rank, bucket in enumerate(buckets, 1) for letter in bucket}
    names = [chr(ord("A") + i) for i in range(len(raw["responses"]))]
    if sorted(ranks) != names:
        raise RowError("label_annotations", f"`rank_order` must name {', '.join(names)} once each")
    rest = {column: value for column, value in raw.items() if column not in ("label_annotations", "user_id", "id")}
    return {**rest, "ranks": [ranks[name] for name in names], "labeller": str(raw.get("user_id", ""))}


# ---------------------------------------------------------------------------------------------------------------- both


def _rows(fields: dict[str, Any], labeller: str, judgement: Annotation) -> Iterator[Raw]:
    texts: dict[str, Any] = {name: text for name, text in fields.items() if isinstance(text, str)}
    if judgement.ranks:
        items = {str(item.get("id")): item for item in fields.get("items") or () if isinstance(item, Mapping)}
        texts |= {name: item.get("body") or item.get("text") or item.get("html") for name, item in items.items()}
        yield _ranked({**fields, "items": None} if items else fields, texts, judgement.ranks, labeller)
    rest: dict[str, str] = {}
    for label in judgement.labels.values():
        ranks = _preferred(texts, label)
        if ranks:
            yield _ranked(fields, texts, ranks, labeller)
        else:
            rest["label"] = label
    if judgement.scores or rest:
        name = next((name for name in _ANSWER_FIELDS if name in texts), "")
        if not name:
            raise RowError("response", f"none of the fields is the answer that was judged ({', '.join(fields)})")
        others = {column: value for column, value in fields.items() if column != name}
        scores = judgement.scores
        numbers = {"scores": scores} if len(scores) > 1 else dict(zip(["score"], scores.values(), strict=False))
        yield {**others, "response": texts[name], **rest, **numbers, "labeller": labeller}


def _ranked(fields: Mapping[str, Any], texts: Mapping[str, Any], ranks: Mapping[str, float], labeller: str) -> Raw:
    for name in ranks:
        if not isinstance(texts.get(name), str):
            raise RowError("ranks", f"the ranking names {name!r}, of which there is no text")
    others = {column: value for column, value in fields.items() if column not in ranks}
    own = {"responses": [texts[name] for name in ranks], "ranks": list(ranks.values()), "labeller": labeller}
    return {**others, **own}


def _preferred(texts: Mapping[str, Any], label: str) -> dict[str, float]:
    """The ranks that a label gives the fields named alike (`response_1`, `response_2`); {} where it gives none."""
    groups: dict[str, list[str]] = {}
    for name in texts:
        groups.setdefault(re.sub(r"[-_ ]?(\d+|[a-zA-Z])$", "", name), []).append(name)
    for names in groups.values():
        word = label.strip().lower()
        if len(names) == 2 and (word in _SIDES or word in _TIES):
            better = _SIDES.get(word)  # the left one is the first by name, whatever order a data base gave the fields
            return {name: 1.0 if better in (None, index) else 2.0 for index, name in enumerate(sorted(names))}
        if len(names) > 1 and label in names:
            return {name: 1.0 if name == label else 2.0 for name in names}
    return {}
