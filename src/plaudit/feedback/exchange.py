"""A project's judgements as data rows, and as the files of other labelling tools; and labels from such files.

| form | rows |
|---|---|
| rankings | one for each judgement: `ranks`, `labeller`, `comment`, `flags`, `seconds` |
| merged | one for each task: the labellers' ranks put together, each of them under `votes`; an adjudication decides |
| ratings | one for each number from 1 to 7, with its `labeller`: what `objective.per_labeller` normalises (N2.3) |
| label-studio | Label Studio's tasks with the Ranker's result, which holds no ties |
| argilla | Argilla's records with a ranking question; its Python SDK drops the ranks, and ties with them |
| potato | Potato's `rank_order` strings: `B,D=A,C`; its page writes no `=` |
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from plaudit.data.formats import competition_ranks
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.feedback.records import Judgement, Submission, Task
from plaudit.feedback.sources import task_of_answers
from plaudit.feedback.store import Store
from plaudit.files import atomic_write
from plaudit.formulas.agreement import pair_verdicts
from plaudit.records.text import Kind

ExportForm = Literal["rankings", "merged", "ratings", "label-studio", "argilla", "potato"]
Plain = dict[str, Any]
LOST: dict[ExportForm, str] = {
    "label-studio": "Label Studio's ranker holds no ties: tied answers stand one after the other",
    "argilla": "Argilla's server keeps ties, its Python SDK drops the ranks: read the file, not its SDK's records",
    "potato": "Potato's documentation writes ties as `=`, its own page never does: its tools may not read them",
}
"""Of the forms that can't hold ties, what becomes of them."""
_OWN: tuple[ExportForm, ...] = ("rankings", "merged", "ratings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Rows, and what the form could not hold."""

    rows: tuple[Plain, ...]
    warnings: tuple[str, ...] = ()


def rows_behind(rest: str) -> list[Plain]:
    """What `label://PROJECT`, `label://PROJECT?merged` or `label://PROJECT?ratings` holds now, as data rows.

    Raises: UserError where nobody has judged anything yet.
    """
    form: ExportForm = next((form for form in _OWN if rest.endswith(f"?{form}")), "rankings")
    store = Store.open(rest.removesuffix(f"?{form}"))
    try:
        rows = list(export(store, form).rows)
    finally:
        store.close()
    if not rows:
        raise UserError(f"label://{rest}: nobody has judged anything yet")
    return rows


def export(store: Store, form: ExportForm) -> Export:
    """All judgements that count, gold tasks' left out: they were asked to check labellers, and would count often."""
    tasks, judged = _judged(store)
    ranked = [(task, one) for task, one in judged if one.judgement.ranks]
    lost = _tied(ranked, form)
    match form:
        case "rankings":
            return Export(rows=tuple(_ranking(task, one) for task, one in ranked))
        case "merged":
            return Export(rows=tuple(_merged(tasks, ranked, store)))
        case "ratings":
            return Export(rows=tuple(row for task, one in judged for row in _ratings(task, one)))
        case "label-studio":
            return Export(rows=tuple(_label_studio(ranked)), warnings=lost)
        case "argilla":
            return Export(rows=tuple(_argilla(ranked)), warnings=lost)
        case "potato":
            return Export(rows=tuple(_potato(task, one) for task, one in ranked), warnings=lost)
    raise UserError(f"{form!r} is none of: {', '.join(get_args(ExportForm))}")


def _judged(store: Store) -> tuple[dict[str, Task], list[tuple[Task, Submission]]]:
    tasks = {task.id: task for task in store.tasks() if task.gold_ranks is None}
    return tasks, [(tasks[one.task_id], one) for one in store.all_submissions() if one.task_id in tasks]


def tied_rankings(store: Store) -> tuple[int, int]:
    """How many of the rankings that an export would hold have ties, and how many there are."""
    ranked = [one for _, one in _judged(store)[1] if one.judgement.ranks]
    return sum(map(_has_ties, ranked)), len(ranked)


def export_text(store: Store, form: ExportForm) -> tuple[Export, bytes]:
    """The same, and as a file's content: a JSON list for Label Studio, lines of JSON for all others."""
    exported = export(store, form)
    if form == "label-studio":
        text = json.dumps(exported.rows, ensure_ascii=False, indent=1) + "\n"
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in exported.rows)
    return exported, text.encode("utf-8", "backslashreplace")


def write_export(store: Store, path: Path, form: ExportForm) -> Export:
    """The same into a file, whole or not there."""
    exported, content = export_text(store, form)
    atomic_write(path, content)
    return exported


# ------------------------------------------------------------------------------------------------------ plaudit's own


def _ranking(task: Task, one: Submission) -> Plain:
    judgement = one.judgement
    more = {
        "comment": judgement.comment,
        "flags": {k: list(v) for k, v in judgement.flags.items()},
        "step": judgement.step,
    }
    if judgement.none_acceptable:
        more["none_acceptable"] = True
    return {
        **_prompt(task),
        "responses": _texts(task),
        "ranks": list(judgement.ranks),
        "labeller": one.person,
        "seconds": judgement.seconds,
        "task": task.id,
        **({"models": models} if any(models := [answer.model for answer in task.answers]) else {}),
        **{name: value for name, value in more.items() if value},
    }


def _merged(tasks: dict[str, Task], ranked: Sequence[tuple[Task, Submission]], store: Store) -> Iterator[Plain]:
    decided = store.adjudications()
    votes: dict[str, list[Submission]] = defaultdict(list)
    for task, one in ranked:
        votes[task.id].append(one)
    for task_id in tasks:
        if task_id not in votes and task_id not in decided:
            continue
        own = [list(one.judgement.ranks) for one in votes[task_id]]
        task = tasks[task_id]
        ranks = decided[task_id].ranks if task_id in decided else merged_ranks(own)
        yield {
            **_prompt(task),
            "responses": _texts(task),
            "ranks": list(ranks),
            "votes": own,
            "labellers": [one.person for one in votes[task_id]],
            **({"adjudicated_by": decided[task_id].person} if task_id in decided else {}),
            "task": task_id,
        }


def merged_ranks(votes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Several rankings of the same answers as one: by each answer's wins less losses in all pairs of all votes (Borda's
    count, where a tie is half a win)."""
    count = len(votes[0])
    balance = [0] * count
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    for vote in votes:
        for (i, j), verdict in zip(pairs, pair_verdicts(vote), strict=True):
            balance[i] += verdict
            balance[j] -= verdict
    return competition_ranks([-each for each in balance])


def _ratings(task: Task, one: Submission) -> Iterator[Plain]:
    for answer, number in zip(task.answers, one.judgement.scalar, strict=False):
        if number is not None:
            yield {**_prompt(task), "response": _sound(answer.text), "score": number, "labeller": one.person}


def _prompt(task: Task) -> Plain:
    return json.loads(_sound(json.dumps(task.prompt.to_columns(), ensure_ascii=False)))


def _texts(task: Task) -> list[str]:
    return [_sound(answer.text) for answer in task.answers]


def _sound(text: str) -> str:
    """Without what no data file may hold: NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


# -------------------------------------------------------------------------------------------------------- other tools


def _has_ties(one: Submission) -> bool:
    return len(set(one.judgement.ranks)) < len(one.judgement.ranks)


def _tied(ranked: Sequence[tuple[Task, Submission]], form: ExportForm) -> tuple[str, ...]:
    count = sum(_has_ties(one) for _, one in ranked) if form in LOST else 0
    return (f"{count} of {len(ranked)} rankings have ties. {LOST[form]}",) if count else ()


def _by_task(ranked: Sequence[tuple[Task, Submission]]) -> Iterator[tuple[Task, list[Submission]]]:
    by_task: dict[str, list[Submission]] = defaultdict(list)
    for task, one in ranked:
        by_task[task.id].append(one)
    tasks = {task.id: task for task, _ in ranked}
    yield from ((tasks[task_id], own) for task_id, own in by_task.items())


def letters(task: Task) -> list[str]:
    return [chr(ord("A") + i) for i in range(len(task.answers))]


def _best_first(task: Task, one: Submission) -> list[str]:
    ranks = one.judgement.ranks
    return [name for _, name in sorted(zip(ranks, letters(task), strict=True))]


def _label_studio(ranked: Sequence[tuple[Task, Submission]]) -> Iterator[Plain]:
    for task, submissions in _by_task(ranked):
        items = [{"id": name, "body": text} for name, text in zip(letters(task), _texts(task), strict=True)]
        annotations = [
            {
                "completed_by": {"email": one.person},
                "lead_time": one.judgement.seconds,
                "result": [
                    {
                        "from_name": "rank",
                        "to_name": "items",
                        "type": "ranker",
                        "value": {"ranker": {"rank": _best_first(task, one)}},
                    }
                ],
            }
            for one in submissions
        ]
        yield {"data": {**_prompt(task), "items": items}, "annotations": annotations}


def _argilla(ranked: Sequence[tuple[Task, Submission]]) -> Iterator[Plain]:
    for task, submissions in _by_task(ranked):
        names = [f"response_{i}" for i in range(1, len(task.answers) + 1)]
        responses = [
            {
                "user_id": one.person,
                "status": "submitted",
                "value": [{"value": name, "rank": rank} for name, rank in zip(names, one.judgement.ranks, strict=True)],
            }
            for one in submissions
        ]
        fields = {**_prompt(task), **dict(zip(names, _texts(task), strict=True))}
        yield {"id": task.id, "fields": fields, "responses": {"ranking": responses}}


def _potato(task: Task, one: Submission) -> Plain:
    ordered = sorted(zip(one.judgement.ranks, letters(task), strict=True))
    order = ",".join("=".join(name for _, name in tied) for _, tied in groupby(ordered, key=lambda pair: pair[0]))
    return {
        "id": task.id,
        **_prompt(task),
        "responses": _texts(task),
        "user_id": one.person,
        "label_annotations": {"ranking": {"rank_order": order}},
    }


# ------------------------------------------------------------------------------------------------------------- import


def import_labels(store: Store, config: DataConfig) -> tuple[int, int]:
    """Rankings of a file (plaudit's own rows, or any export that `data` reads) as tasks and submissions: how many of
    each are new. The same file twice adds nothing.

    A labeller is the row's `labeller`, else `imported`. They get no link, and can't go on under that name before they
    are invited.
    """
    rows = load(config, Kind.RANKING).rows
    known = {task.id: task for task in store.tasks()}
    before, count = len(known), len(store.all_submissions(superseded=True))
    for row in rows:
        task = task_of_answers(row, row.responses, {}, row.ranks)
        if task is None or task.gold_ranks is None:
            continue
        by_text = dict(zip((answer.text for answer in task.answers), task.gold_ranks, strict=True))
        task = known.setdefault(task.id, Task.of(row.prompt, task.answers, source=row.where))
        ranks = tuple(by_text[answer.text] for answer in task.answers)
        name = str(row.columns.get("labeller") or "imported")
        seconds = row.columns.get("seconds")
        judgement = Judgement(
            ranks=ranks,
            comment=str(row.columns.get("comment") or ""),
            seconds=float(seconds) if isinstance(seconds, int | float) else 0.0,
            page_version="import",
        )
        facts = json.dumps([task.id, name, ranks, judgement.comment])
        store.record(task, name, judgement, f"import-{hashlib.sha256(facts.encode()).hexdigest()[:32]}")
    return len(known) - before, len(store.all_submissions(superseded=True)) - count
