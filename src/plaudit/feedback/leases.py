"""Who has which task in hand, and what becomes of it: the rules of a labeller's turn, inside the store's transaction.

A lease is in force from when it was given until it expires. One that a clock which was set back since makes lie in the
future is none, so that no task is stuck beyond its time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from plaudit.feedback import coding
from plaudit.feedback.checks import MAX_COMMENT, checked
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Assignment, Judgement, StoreRefuses, Submission, Task
from plaudit.feedback.tables import ASSIGNMENTS, PEOPLE, SKIPS, SUBMISSIONS, TASKS, AnyRow, dumps

CLOCK_SLACK = 60.0
"""Seconds by which the clocks of several servers may differ."""
SUBMITTED, SKIPPED, EXPIRED = "submitted", "skipped", "expired"
LEVELS = 20
"""Numbers of judgements after which one question looks for tasks: data bases don't take questions of any length."""

# The questions of a turn, made once: making one costs more than asking it.
ME, NOW, WHICH, KEY = (sa.bindparam(name) for name in ("me", "now", "which", "same_key"))
_BEGUN = ASSIGNMENTS.c.leased - CLOCK_SLACK <= NOW
IN_FORCE = sa.and_(ASSIGNMENTS.c.ended.is_(None), _BEGUN, ASSIGNMENTS.c.expires > NOW)
CLAIMS = sa.or_(ASSIGNMENTS.c.ended == SUBMITTED, IN_FORCE)
DONE = sa.and_(ASSIGNMENTS.c.person == ME, sa.or_(ASSIGNMENTS.c.ended == SUBMITTED, ASSIGNMENTS.c.ended == SKIPPED))
_CLAIMING = sa.select(sa.func.count(ASSIGNMENTS.c.person.distinct())).where(CLAIMS)
_UNKNOWN = ~sa.select(ASSIGNMENTS.c.seq).where(ASSIGNMENTS.c.task == TASKS.c.id, DONE).exists()
_BY_KEY = sa.select(SUBMISSIONS).where(SUBMISSIONS.c.person == ME, SUBMISSIONS.c.key == KEY)
_BEFORE = (
    sa.select(SUBMISSIONS.c.judgement)
    .where(SUBMISSIONS.c.task == WHICH, SUBMISSIONS.c.person == ME)
    .order_by(SUBMISSIONS.c.seq.desc())
    .limit(1)
)
_ACTIVE = sa.select(PEOPLE.c.seq).where(PEOPLE.c.name == ME, PEOPLE.c.revoked.is_(None))
_IN_HAND = (
    sa.select(ASSIGNMENTS)
    .where(ASSIGNMENTS.c.person == ME, ASSIGNMENTS.c.ended.is_(None))
    .order_by(ASSIGNMENTS.c.seq.desc())
)
_TASK = sa.select(TASKS.c.content).where(TASKS.c.id == WHICH)
_ASSIGNMENT = sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.id == WHICH)
_COUNT_DONE = sa.select(sa.func.count()).where(DONE)
_FIRST_GOLD = sa.select(TASKS).where(TASKS.c.gold, _UNKNOWN).order_by(TASKS.c.seq).limit(1)
_OTHERS = _CLAIMING.where(ASSIGNMENTS.c.task == WHICH, ASSIGNMENTS.c.person != ME)
_IS_GOLD = sa.select(TASKS.c.gold).where(TASKS.c.id == WHICH)
_END = ASSIGNMENTS.update().where(ASSIGNMENTS.c.id == WHICH).values(ended=sa.bindparam("how"))
_RENEW = ASSIGNMENTS.update().where(ASSIGNMENTS.c.id == WHICH).values(leased=NOW, expires=sa.bindparam("until"))
_JUDGED = TASKS.update().where(TASKS.c.id == WHICH).values(judged=TASKS.c.judged + 1)
_LEASE, _SUBMIT = ASSIGNMENTS.insert(), SUBMISSIONS.insert()


@functools.cache
def _open_tasks(overlap: int) -> tuple[sa.Select[Any], ...]:
    """Tasks that lack least come first, those in the order in which they were added: a question to the index for each
    number of judgements, asked one after the other until there is one, so that thousands of tasks cost no more than
    ten."""
    claims = _CLAIMING.where(ASSIGNMENTS.c.task == TASKS.c.id).scalar_subquery()
    wanted = sa.select(TASKS.c.seq).where(TASKS.c.gold == sa.false(), _UNKNOWN, claims < overlap)
    first = wanted.order_by(TASKS.c.seq).limit(1)
    levels = [first.where(TASKS.c.judged == judged).scalar_subquery() for judged in reversed(range(overlap))]
    parts = [levels[start : start + LEVELS] for start in range(0, overlap, LEVELS)]
    return tuple(sa.select(TASKS).where(TASKS.c.seq == sa.func.coalesce(sa.null(), *part)) for part in parts)


@dataclass(frozen=True, slots=True)
class Desk:
    """One write transaction of one person's, with the project's rules and the time."""

    connection: sa.Connection
    config: ProjectConfig
    now: float
    name: str

    def ask(self, question: sa.Executable, **values: Any) -> sa.CursorResult[Any]:
        return self.connection.execute(question, {"me": self.name, **values})

    def check_active(self) -> None:
        """Raises: StoreRefuses for somebody whose link was revoked."""
        if self.ask(_ACTIVE).first() is None:
            raise StoreRefuses(f"the link of {self.name} was revoked")

    # ------------------------------------------------------------------------------------------------ the next task

    def next(self) -> Assignment | None:
        """The task in this person's hands, else a new one; None where nothing waits for them."""
        return self._resumed() or self._drawn()

    def _resumed(self) -> Assignment | None:
        """What this person has in hand already, its lease renewed; what they lost meanwhile is ended."""
        for row in self.ask(_IN_HAND).all():
            in_force = row.leased - CLOCK_SLACK <= self.now < row.expires
            if in_force or self._has_room(row.task):
                return self.renewed(row)
            self._end(row.id, EXPIRED)
        return None

    def _drawn(self) -> Assignment | None:
        """A task for this person: gold where the seed says so, else the first that still wants a judgement."""
        row = self.ask(_FIRST_GOLD).first() if self._gold_is_due() else None
        for question in _open_tasks(self.config.overlap):
            row = row or self.ask(question, now=self.now).first()
        return self.hand_out(coding.read_task(row.id, row.content)) if row else None

    def _gold_is_due(self) -> bool:
        if not self.config.gold_share:
            return False
        count = self.ask(_COUNT_DONE).scalar_one()
        return random.Random(f"{self.config.seed} gold {self.name} {count}").random() < self.config.gold_share

    def _has_room(self, task_id: str) -> bool:
        """Whether this person may have the task beside all others who claim it."""
        is_gold = self.ask(_IS_GOLD, which=task_id).scalar_one()
        return is_gold or self.ask(_OTHERS, which=task_id, now=self.now).scalar_one() < self.config.overlap

    def hand_out(self, task: Task, previous: Judgement | None = None) -> Assignment:
        """A new lease, the answers in the order that seed, labeller and task decide."""
        order = list(range(len(task.answers)))
        random.Random(f"{self.config.seed} order {self.name} {task.id}").shuffle(order)
        row = self.lease(task, order)
        return self._assignment(row["id"], task, order, previous)

    def lease(self, task: Task, order: Sequence[int]) -> dict[str, Any]:
        """What the table has of it now."""
        row = {"id": secrets.token_hex(8), "task": task.id, "person": self.name, "shown": dumps(list(order))}
        self.connection.execute(_LEASE, {**row, "leased": self.now, "expires": self._expiry(), "ended": None})
        return row

    def renewed(self, row: AnyRow) -> Assignment:
        self.ask(_RENEW, which=row.id, now=self.now, until=self._expiry())
        return self.assignment(row)

    def _expiry(self) -> float:
        return self.now + 60.0 * self.config.lease_minutes

    def assignment(self, row: AnyRow) -> Assignment:
        """What a row of the table says, with the task and what this person said of it before."""
        task = task_of(self.connection, row.task)
        return self._assignment(row.id, task, json.loads(row.shown), self.judged_before(row.task))

    def judged_before(self, task_id: str) -> Judgement | None:
        text = self.ask(_BEFORE, which=task_id).scalar()
        return coding.read_judgement(text) if text else None

    def _assignment(self, which: str, task: Task, order: Sequence[int], previous: Judgement | None) -> Assignment:
        return Assignment(
            id=which, person=self.name, task=task, order=tuple(order), expires=self._expiry(), previous=previous
        )

    # ------------------------------------------------------------------------------------------- what becomes of it

    def submit(self, assignment_id: str, read: Callable[[Assignment], Judgement], key: str) -> Submission:
        """Store what `read` makes of the assignment. The same `key` twice is one submission (`repeated`).

        Raises: StoreRefuses where the assignment is another's, or the judgement doesn't fit the task.
        """
        assignment = self.assignment(self.own(assignment_id))
        judgement = checked(read(assignment), assignment.task, self.config)
        before, key = self.repeated(assignment.task.id, judgement, key)
        return before or self.store(assignment, judgement, key)

    def repeated(self, task_id: str, judgement: Judgement, key: str) -> tuple[Submission | None, str]:
        """What was stored by this key already; else None, and the key under which to store.

        A used key with another judgement is no repetition: it gets a key of its own, so that nothing is acknowledged
        which isn't there.
        """
        content = _content(task_id, judgement)
        before = self.by_key(key)
        if before and _content(before.task_id, before.judgement) != content:
            key = f"{key} {hashlib.sha256(content.encode()).hexdigest()[:16]}"
            before = self.by_key(key)
        return before, key

    def store(self, assignment: Assignment, judgement: Judgement, key: str) -> Submission:
        """Insert a submission, and count it."""
        values = {"assignment": assignment.id, "task": assignment.task.id, "person": self.name, "key": key}
        text, shown = coding.judgement_text(judgement), dumps(list(assignment.order))
        row = {"judgement": text, "shown": shown, "received": self.now, **values}
        seq = self.connection.execute(_SUBMIT, row).inserted_primary_key
        assert seq is not None
        self._end(assignment.id, SUBMITTED)
        if assignment.previous is None:
            self.ask(_JUDGED, which=assignment.task.id)
        return Submission(
            seq=seq[0],
            assignment_id=assignment.id,
            task_id=assignment.task.id,
            person=self.name,
            judgement=judgement,
            order=assignment.order,
            received=self.now,
        )

    def skip(self, assignment_id: str, reason: str) -> None:
        """This person isn't asked again. A judgement that they sent of it before stays."""
        row = self.own(assignment_id)
        if row.ended == SKIPPED:
            return
        values = {"assignment": row.id, "task": row.task, "person": self.name, "reason": reason[:MAX_COMMENT]}
        self.connection.execute(SKIPS.insert().values(received=self.now, **values))
        self._end(row.id, SKIPPED)

    def by_key(self, key: str) -> Submission | None:
        row = self.ask(_BY_KEY, same_key=key).first()
        return coding.read_submission(row) if row else None

    def own(self, assignment_id: str) -> AnyRow:
        """Raises: StoreRefuses where there is none, or where it is another's."""
        row = self.ask(_ASSIGNMENT, which=assignment_id).first()
        if row is None or row.person != self.name:
            raise StoreRefuses("this task is not in your hands; ask for the next one")
        return row

    def _end(self, assignment_id: str, how: str) -> None:
        self.ask(_END, which=assignment_id, how=how)


def _content(task_id: str, judgement: Judgement) -> str:
    """What makes two judgements the same, however long somebody looked at the page."""
    return dumps([task_id, coding.judgement_text(replace(judgement, seconds=0.0, page_version=""))])


def task_of(connection: sa.Connection, task_id: str) -> Task:
    """Raises: StoreRefuses where there is none."""
    text = connection.execute(_TASK, {"which": task_id}).scalar()
    if text is None:
        raise StoreRefuses(f"there is no task {task_id!r:.40}")
    return coding.read_task(task_id, text)
