"""What a project says, as results: how people agree, how well they know gold, which policy they prefer (N5.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any

from plaudit.feedback import quality
from plaudit.feedback.records import Estimated, Submission, Task
from plaudit.feedback.store import Store
from plaudit.formulas.agreement import pair_verdicts
from plaudit.formulas.intervals import clustered_interval
from plaudit.records.results import Result

COIN = 0.5
Sides = tuple[str, str]
"""(the policy, what it is compared with)."""


def findings(store: Store, equal: Mapping[Sides, int] | None = None, tasks: Sequence[Task] = ()) -> list[Result]:
    """All that can be said of a project now. `equal`: prompts on which two policies wrote the same; they are ties.
    `tasks`: as they were read, where the project keeps one of those that have the same two texts."""
    return [*labellers(store), *wins(store, [*tasks, *store.tasks()], equal or {})]


def labellers(store: Store, of: Set[str] | None = None) -> list[Result]:
    """How far people agree with each other and with gold. With task ids `of`: on those, by those who judged them."""
    submissions = store.all_submissions()
    own = [one for one in submissions if of is None or one.task_id in of]
    names, agreement = {one.person for one in own}, quality.agreement(own)
    gold = {name: share for name, share in store.gold_accuracy().items() if name in names}
    results = [
        _result("two_labellers_over_pairs", "labellers", agreement.alike_when_preferred),
        _result("verdict_alpha_over_pairs", "labellers", agreement.alpha),
    ]
    results += [_result("labeller_against_others_over_pairs", *item) for item in agreement.by_person.items()]
    results += [_result("gold_accuracy_over_pairs", *item, floor=COIN) for item in gold.items()]
    return [result for result in results if result is not None]


def _result(measure: str, subject: str, estimated: Estimated | None, floor: float | None = None) -> Result | None:
    if estimated is None or estimated.value != estimated.value:
        return None
    return Result(
        measure=measure,
        subject=subject,
        value=estimated.value,
        low=estimated.low,
        high=estimated.high,
        floor=floor,
        count=estimated.count,
        role="people",
    )


def wins(store: Store, tasks: Sequence[Task], equal: Mapping[Sides, int]) -> list[Result]:
    """Win rates of those tasks that hold two different models' answers, and how a judge's scores go with them. Several
    may have the same two texts, of other policies: a project asks for them once. While some are still open, as large a
    share of the `equal` ones counts."""
    decided = store.adjudications()
    by_task: dict[str, list[Sequence[int]]] = defaultdict(list)
    for one in store.all_submissions():
        by_task[one.task_id].append(_ranks(one))
    in_store = {task.id: task for task in store.tasks() if task.gold_ranks is None}
    by_sides: dict[Sides, dict[str, Task]] = defaultdict(dict)
    for task in tasks:
        if task.id in in_store and all(_sides(task)):
            by_sides[_sides(task)][task.id] = task
    results: list[Result] = []
    for sides, own in by_sides.items():
        verdicts: dict[str, float] = {}
        for task_id, task in own.items():
            votes = [decided[task_id].ranks] if task_id in decided else by_task[task_id]
            # The first answer is the baseline's: −1 says that the policy wins. Votes are in the order of the kept task.
            sign = 1 if in_store[task_id].answers[0].text == task.answers[0].text else -1
            if votes:
                verdicts[task_id] = -sign * sum(pair_verdicts(vote)[0] for vote in votes) / len(votes)
        ties = round(equal.get(sides, 0) * len(verdicts) / len(own))
        results += _win_rate(sides, verdicts, own, ties)
        results += _judge(sides, verdicts, own)
    return results


def _ranks(one: Submission) -> Sequence[int]:
    """Both bad, and nothing ranked, is a tie."""
    return one.judgement.ranks or (1, 1)


def _sides(task: Task) -> Sides:
    """Empty names where the answers are not those of two policies."""
    names = [answer.model for answer in task.answers]
    return (names[1], names[0]) if len(names) == 2 and all(names) and names[0] != names[1] else ("", "")


def _win_rate(sides: Sides, verdicts: Mapping[str, float], tasks: Mapping[str, Task], equal: int) -> list[Result]:
    outcomes = [*((1.0 + verdict) / 2 for verdict in verdicts.values()), *[0.5] * equal]
    prompts = [*(tasks[task_id].prompt.id for task_id in verdicts), *(f"equal {i}" for i in range(equal))]
    if not verdicts:
        return []
    low, high = clustered_interval(outcomes, prompts)
    won, lost = (sum(outcome * sign > 0.5 * sign for outcome in outcomes) for sign in (1, -1))
    return [
        Result(
            measure="people_win_rate_over_prompts",
            subject=sides[0],
            against=sides[1],
            value=sum(outcomes) / len(outcomes),
            low=low,
            high=high,
            floor=COIN,
            ceiling=1.0,
            count=len(outcomes),
            ties=len(outcomes) - won - lost,
            facts={"wins": won, "losses": lost, "equal_answers": equal},
        )
    ]


def _judge(sides: Sides, verdicts: Mapping[str, float], tasks: Mapping[str, Task]) -> list[Result]:
    """Of the tasks whose answers carry a judge's scores."""
    rights: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for task_id, verdict in verdicts.items():
        samplings: list[Mapping[str, Any]] = [answer.sampling for answer in tasks[task_id].answers]
        before, after = (sampling.get("score") for sampling in samplings)
        if verdict and isinstance(before, int | float) and isinstance(after, int | float):
            right = 0.5 if before == after else float((after > before) == (verdict > 0))
            rights[str(samplings[1].get("judge", "the judge"))].append((right, tasks[task_id].prompt.id))
    results: list[Result] = []
    for judge, pairs in rights.items():
        outcomes, prompts = zip(*pairs, strict=True)
        low, high = clustered_interval(outcomes, prompts)
        value = sum(outcomes) / len(outcomes)
        results.append(
            Result(
                measure="judge_with_people_over_prompts",
                subject=judge,
                part=f"{sides[0]} against {sides[1]}",
                value=value,
                low=low,
                high=high,
                floor=COIN,
                count=len(outcomes),
            )
        )
    return results
