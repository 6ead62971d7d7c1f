"""How far labellers agree with each other and with what is known, out of the submissions that count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from plaudit.feedback.records import (
    Adjudication,
    Disagreement,
    Estimated,
    LabellersAgreement,
    Submission,
    Task,
)
from plaudit.formulas import agreement as formulas

Votes = dict[str, dict[str, tuple[int, ...]]]
"""Task → labeller → ranks."""


def votes_of(submissions: Sequence[Submission]) -> Votes:
    """Without those that gave no order (none acceptable, nothing ranked)."""
    votes: Votes = defaultdict(dict)
    for one in submissions:
        if one.judgement.ranks:
            votes[one.task_id][one.person] = one.judgement.ranks
    return dict(votes)


def agreement(submissions: Sequence[Submission]) -> LabellersAgreement:
    shared = {task: votes for task, votes in votes_of(submissions).items() if len(votes) > 1}
    units = formulas.units_of(shared)
    people = {name: formulas.against_others(units, name) for name in sorted({n for v in shared.values() for n in v})}
    alone = {task: formulas.alike(formulas.units_of({task: votes})) for task, votes in shared.items()}
    shares = {task: numbers[0] for task, numbers in alone.items() if numbers}
    return LabellersAgreement(
        alike=_estimated(formulas.alike(units)),
        alike_when_preferred=_estimated(formulas.alike(units, preferred=True)),
        alpha=_estimated(formulas.verdict_alpha(units)),
        by_person={name: Estimated(*numbers) for name, numbers in people.items() if numbers},
        by_task=dict(sorted(shares.items(), key=lambda item: item[1])),
    )


def gold_accuracy(tasks: Sequence[Task], submissions: Sequence[Submission]) -> dict[str, Estimated]:
    gold = {task.id: task.gold_ranks for task in tasks if task.gold_ranks is not None}
    votes = votes_of([one for one in submissions if one.task_id in gold])
    names = sorted({name for each in votes.values() for name in each})
    shares = {name: formulas.accuracy({t: v[name] for t, v in votes.items() if name in v}, gold) for name in names}
    return {name: Estimated(*numbers) for name, numbers in shares.items() if numbers}


def disagreements(
    tasks: Sequence[Task], submissions: Sequence[Submission], adjudicated: Mapping[str, Adjudication]
) -> list[Disagreement]:
    by_id = {task.id: task for task in tasks}
    by_task: dict[str, list[Submission]] = defaultdict(list)
    for one in submissions:
        by_task[one.task_id].append(one)
    differing = [(task, share) for task, share in agreement(submissions).by_task.items() if share < 1]
    return [
        Disagreement(task=by_id[task], submissions=tuple(by_task[task]), alike=share, adjudicated=adjudicated.get(task))
        for task, share in differing
    ]


def _estimated(numbers: tuple[float, float, float, int] | None) -> Estimated | None:
    return Estimated(*numbers) if numbers else None
