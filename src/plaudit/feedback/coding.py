"""Records as the text that the store's columns hold, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from plaudit.feedback.records import Adjudication, Candidate, Judgement, Submission, Task
from plaudit.feedback.tables import dumps
from plaudit.records.text import Form, Message, Prompt


def task_text(task: Task) -> str:
    prompt = task.prompt
    return dumps(
        {
            "form": prompt.form.value,
            "turns": [turn.to_plain() for turn in prompt.turns],
            "tools": list(prompt.tools),
            "answers": [{"text": a.text, "model": a.model, "sampling": dict(a.sampling)} for a in task.answers],
            "gold_ranks": task.gold_ranks,
            "source": task.source,
        }
    )


def read_task(task_id: str, text: str) -> Task:
    plain = json.loads(text)
    turns = tuple(_message(turn) for turn in plain["turns"])
    gold = plain["gold_ranks"]
    return Task(
        id=task_id,
        prompt=Prompt(form=Form(plain["form"]), turns=turns, tools=tuple(plain["tools"])),
        answers=tuple(Candidate(**answer) for answer in plain["answers"]),
        gold_ranks=None if gold is None else tuple(gold),
        source=plain["source"],
    )


def _message(plain: Mapping[str, Any]) -> Message:
    extra = {key: value for key, value in plain.items() if key not in ("role", "content")}
    return Message(role=plain["role"], content=plain["content"], extra=extra)


def judgement_text(judgement: Judgement) -> str:
    return dumps(
        {
            "ranks": judgement.ranks,
            "none_acceptable": judgement.none_acceptable,
            "step": judgement.step,
            "scalar": judgement.scalar,
            "flags": {name: list(values) for name, values in judgement.flags.items()},
            "comment": judgement.comment,
            "seconds": judgement.seconds,
            "page_version": judgement.page_version,
        }
    )


def read_judgement(text: str) -> Judgement:
    plain = json.loads(text)
    flags = {name: tuple(values) for name, values in plain.pop("flags").items()}
    ranks, scalar = tuple(plain.pop("ranks")), tuple(plain.pop("scalar"))
    return Judgement(ranks=ranks, scalar=scalar, flags=flags, **plain)


def read_submission(row: Any, *, counts: bool = True) -> Submission:
    """A row of the table `submissions`."""
    return Submission(
        seq=row.seq,
        assignment_id=row.assignment,
        task_id=row.task,
        person=row.person,
        judgement=read_judgement(row.judgement),
        order=tuple(json.loads(row.shown)),
        received=row.received,
        counts=counts,
    )


def read_adjudication(row: Any) -> Adjudication:
    """A row of the table `adjudications`."""
    ranks = tuple(json.loads(row.ranks))
    return Adjudication(
        seq=row.seq, task_id=row.task, person=row.person, ranks=ranks, comment=row.comment, received=row.received
    )
