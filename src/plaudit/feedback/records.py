"""What goes in and out of a labelling store. Answers are counted in the task's own order everywhere but in `order`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self, TypeVar

from plaudit.errors import UserError
from plaudit.records.text import Prompt

T = TypeVar("T")


class StoreRefuses(UserError):
    """Something that this person may not do, or a judgement that doesn't fit its task: nothing was saved."""


class StoreUnavailable(UserError):
    """The data base can't take it now (connection lost, a lock): nothing was saved, trying again may help."""


class StoreFull(StoreUnavailable):
    """No room on its disk: nothing was saved."""


class Role(StrEnum):
    LABELLER = "labeller"
    LEAD = "lead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer that people judge."""

    text: str
    model: str = ""
    """Who wrote it: never shown to labellers."""
    sampling: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """How it was sampled: temperature, seed …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A prompt and its answers, to be judged."""

    id: str
    """16 hex digits of prompt and answers, whatever their order: the same task added twice is one (`Task.of`)."""
    prompt: Prompt
    answers: tuple[Candidate, ...]
    gold_ranks: tuple[int, ...] | None = None
    """What is known to be right, for checking labellers; 1 = best, ties share a rank."""
    source: str = ""
    """Where it comes from: file and line."""

    @classmethod
    def of(
        cls, prompt: Prompt, answers: Sequence[Candidate], *, gold_ranks: Sequence[int] | None = None, source: str = ""
    ) -> Self:
        facts = json.dumps([prompt.id, *sorted(answer.text for answer in answers)])
        task_id = hashlib.sha256(facts.encode()).hexdigest()[:16]
        gold = tuple(gold_ranks) if gold_ranks is not None else None
        return cls(id=task_id, prompt=prompt, answers=tuple(answers), gold_ranks=gold, source=source)

    def places_of(self, answers: Sequence[Candidate]) -> tuple[int, ...]:
        """Where each of these answers, the same ones in any order, stands in this task; of equal texts that of the same
        model."""
        left = list(range(len(self.answers)))
        order = list[int]()
        for answer in answers:
            same = [i for i in left if self.answers[i].text == answer.text]
            order.append(min(same, key=lambda i: self.answers[i].model != answer.model))
            left.remove(order[-1])
        return tuple(order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with a link."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """A person as the lead sees them."""

    name: str
    role: Role
    invited: float
    """Seconds since 1970."""
    revoked: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a labeller says of a task."""

    ranks: tuple[int, ...]
    """Of each answer, 1 = best, ties share a rank; gaps don't matter. May be empty where none is acceptable."""
    none_acceptable: bool = False
    step: int = 0
    """Mode `eight_step`: 1 (the task's first answer is far better) to 8 (the second one is); 0 in other modes."""
    scalar: tuple[int | None, ...] = ()
    """1–7 for each answer, None where a labeller left one out; empty where the project doesn't ask."""
    flags: Mapping[str, tuple[bool, ...]] = field(default_factory=dict, hash=False)
    """Flag → yes or no for each answer."""
    comment: str = ""
    seconds: float = 0.0
    """Spent on the task, as the page measured it."""
    page_version: str = ""
    """That with which the page was served; of what came without a page, how it came."""

    def in_task_order(self, order: Sequence[int]) -> Judgement:
        """A judgement of answers as they were shown (`Assignment.order`) as one of the task's own."""
        return replace(
            self,
            ranks=in_task_order(self.ranks, order),
            step=mirrored(self.step, order),
            scalar=in_task_order(self.scalar, order),
            flags={name: in_task_order(values, order) for name, values in self.flags.items()},
        )


def in_task_order(shown: Sequence[T], order: Sequence[int]) -> tuple[T, ...]:
    """One value for each position of the page → one for each of the task's answers; none stays none."""
    if not shown:
        return ()
    if len(shown) != len(order):
        raise StoreRefuses(f"{len(shown)} values for {len(order)} answers")
    by_answer = dict(zip(order, shown, strict=True))
    return tuple(by_answer[index] for index in range(len(order)))


def mirrored(step: int, order: Sequence[int]) -> int:
    """1 to 8 between the answers as shown <-> between the task's own: the same way back. 0 is no step."""
    return 9 - step if step and tuple(order) == (1, 0) else step


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task in somebody's hands until `expires`."""

    id: str
    person: str
    task: Task
    order: tuple[int, ...]
    """Which answer stands at each position of the page: `order[0]` is the index of the one shown first."""
    expires: float
    """Seconds since 1970."""
    previous: Judgement | None = None
    """What this person submitted before, where the task was reopened."""

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """The answers as they stand on the page."""
        return tuple(self.task.answers[index] for index in self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A judgement that is safely stored."""

    seq: int
    """The store's own count: a higher one came later, whatever clocks say."""
    assignment_id: str
    task_id: str
    person: str
    judgement: Judgement
    order: tuple[int, ...]
    """As shown to this person (`Assignment.order`)."""
    received: float
    """Seconds since 1970."""
    counts: bool = True
    """False where the same person submitted a newer one for this task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A task that somebody passed on, and why."""

    task_id: str
    person: str
    reason: str
    received: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjudication:
    """What a lead decided about a task on which people differ; the newest counts."""

    seq: int
    task_id: str
    person: str
    ranks: tuple[int, ...]
    comment: str
    received: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProgress:
    """What a labeller sees of their own work."""

    submitted: int
    today: int
    """Tasks submitted since midnight (the server's)."""
    daily_target: int
    skipped: int
    remaining: int
    """Tasks that still wait for somebody and that this person has neither judged nor skipped."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a labeller gets when they come, or have sent something."""

    assignment: Assignment | None
    """None where nothing waits for them."""
    progress: OwnProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonProgress:
    name: str
    role: Role
    submitted: int
    today: int
    skipped: int
    median_seconds: float | None
    last_seen: float | None
    """When the last submission came; seconds since 1970."""
    working: int
    """Tasks in their hands now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectProgress:
    tasks: int
    """Without gold."""
    gold: int
    wanted: int
    """Judgements: tasks × overlap."""
    submitted: int
    """Judgements that count, without those of gold tasks; never more than `overlap` of a task."""
    complete: int
    """Tasks with all the judgements that they want."""
    last_hour: int
    """Judgements received in the last 60 minutes."""
    people: tuple[PersonProgress, ...]


@dataclass(frozen=True, slots=True)
class Estimated:
    """A share or coefficient with its 95 % interval, and how much it rests on."""

    value: float
    low: float
    high: float
    count: int
    """Pairs of answers, or of verdicts, that were compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabellersAgreement:
    """How far people agree; None where nobody shares a task. `formulas.agreement` says what each number is."""

    alike: Estimated | None
    """Pairs of labellers: how often the same verdict of {<, =, >}."""
    alike_when_preferred: Estimated | None
    """The same where both prefer one of the two answers: InstructGPT's 72.6 % is comparable."""
    alpha: Estimated | None
    """Krippendorff's α of the verdicts."""
    by_person: Mapping[str, Estimated]
    """Each labeller against the majority of the others."""
    by_task: Mapping[str, float]
    """Task → share of equal verdicts, of the tasks with two labellers or more; lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A task with everything that was said of it."""

    task: Task
    submissions: tuple[Submission, ...]
    """Those that count."""
    alike: float
    adjudicated: Adjudication | None
