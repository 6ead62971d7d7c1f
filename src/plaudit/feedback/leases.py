"""Who has which task in hand: the rules by which tasks are shared out, inside the store's write transaction.

A lease is in force from when it was given until it expires. One that a clock which was set back since makes lie in the
future is none, so that no task is stuck beyond its time.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from plaudit.feedback import coding
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Assignment, StoreRefuses, Task
from plaudit.feedback.tables import ASSIGNMENTS, SUBMISSIONS, TASKS, AnyRow, dumps

CLOCK_SLACK = 60.0
"""Seconds by which the clocks of several servers may differ."""
SUBMITTED, SKIPPED, EXPIRED = "submitted", "skipped", "expired"


@dataclass(frozen=True, slots=True)
class Desk:
    """One write transaction, with the project's rules and the time."""

    connection: sa.Connection
    config: ProjectConfig
    now: float

    def resumed(self, name: str) -> Assignment | None:
        """What this person has in hand already, its lease renewed; what they lost meanwhile is ended."""
        mine = sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.person == name, ASSIGNMENTS.c.ended.is_(None))
        for row in self.connection.execute(mine.order_by(ASSIGNMENTS.c.seq.desc())).all():
            in_force = row.leased - CLOCK_SLACK <= self.now < row.expires
            if in_force or self._has_room(row.task, name):
                return self.renewed(row)
            end(self.connection, row.id, EXPIRED)
        return None

    def drawn(self, name: str) -> Assignment | None:
        """A task for this person: gold where the seed says so, else the first that still wants a judgement."""
        ended = ASSIGNMENTS.c.ended.in_((SUBMITTED, SKIPPED))
        done = sa.select(sa.func.count()).where(ASSIGNMENTS.c.person == name, ended)
        count = self.connection.execute(done).scalar_one()
        is_gold = random.Random(f"{self.config.seed} gold {name} {count}").random() < self.config.gold_share
        row = self.first_open(name, gold=True) if is_gold else None
        row = row or self.first_open(name, gold=False)
        return self.hand_out(name, coding.read_task(row.id, row.content)) if row else None

    def first_open(self, name: str, *, gold: bool) -> AnyRow | None:
        """Tasks that lack least come first, those in the order in which they were added: a question to the index for
        each number of judgements, so that thousands of tasks cost no more than ten."""
        query = sa.select(TASKS.c.id, TASKS.c.content).where(TASKS.c.gold == gold, not_done_by(name))
        query = query.order_by(TASKS.c.seq).limit(1)
        if gold:
            return self.connection.execute(query).first()
        open_to = query.where(self._claims() < self.config.overlap)
        levels = (open_to.where(TASKS.c.judged == judged) for judged in reversed(range(self.config.overlap)))
        return next((row for level in levels if (row := self.connection.execute(level).first())), None)

    def in_force(self) -> sa.ColumnElement[bool]:
        leased, expires = ASSIGNMENTS.c.leased - CLOCK_SLACK, ASSIGNMENTS.c.expires
        return sa.and_(ASSIGNMENTS.c.ended.is_(None), leased <= self.now, expires > self.now)

    def _claims(self) -> sa.ScalarSelect[int]:
        """How many people judged a task or have it in hand."""
        claims = sa.or_(ASSIGNMENTS.c.ended == SUBMITTED, self.in_force())
        people = sa.select(sa.func.count(ASSIGNMENTS.c.person.distinct()))
        return people.where(ASSIGNMENTS.c.task == TASKS.c.id, claims).scalar_subquery()

    def _has_room(self, task_id: str, name: str) -> bool:
        """Whether this person may have the task beside all others who claim it."""
        claims = sa.or_(ASSIGNMENTS.c.ended == SUBMITTED, self.in_force())
        others = sa.select(sa.func.count(ASSIGNMENTS.c.person.distinct())).where(
            ASSIGNMENTS.c.task == task_id, ASSIGNMENTS.c.person != name, claims
        )
        is_gold = self.connection.execute(sa.select(TASKS.c.gold).where(TASKS.c.id == task_id)).scalar_one()
        return is_gold or self.connection.execute(others).scalar_one() < self.config.overlap

    def hand_out(self, name: str, task: Task) -> Assignment:
        """A new lease, the answers in the order that seed, labeller and task decide."""
        order = list(range(len(task.answers)))
        random.Random(f"{self.config.seed} order {name} {task.id}").shuffle(order)
        return self.assignment(self.lease(name, task, order))

    def lease(self, name: str, task: Task, order: Sequence[int]) -> AnyRow:
        assignment_id = secrets.token_hex(8)
        values = {"id": assignment_id, "task": task.id, "person": name, "shown": dumps(list(order)), "ended": None}
        self.connection.execute(ASSIGNMENTS.insert().values(leased=self.now, expires=self._expiry(), **values))
        return self.connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.id == assignment_id)).one()

    def renewed(self, row: AnyRow) -> Assignment:
        same = ASSIGNMENTS.update().where(ASSIGNMENTS.c.id == row.id)
        self.connection.execute(same.values(leased=self.now, expires=self._expiry()))
        return self.assignment(row)

    def _expiry(self) -> float:
        return self.now + 60.0 * self.config.lease_minutes

    def assignment(self, row: AnyRow) -> Assignment:
        own = sa.select(SUBMISSIONS.c.judgement).where(
            SUBMISSIONS.c.task == row.task, SUBMISSIONS.c.person == row.person
        )
        before = self.connection.execute(own.order_by(SUBMISSIONS.c.seq.desc()).limit(1)).scalar()
        return Assignment(
            id=row.id,
            person=row.person,
            task=task_of(self.connection, row.task),
            order=tuple(json.loads(row.shown)),
            expires=self._expiry(),
            previous=coding.read_judgement(before) if before else None,
        )


def not_done_by(name: str) -> sa.ColumnElement[bool]:
    """Of a task: this person has neither judged nor skipped it."""
    mine = sa.select(ASSIGNMENTS.c.seq).where(
        ASSIGNMENTS.c.task == TASKS.c.id, ASSIGNMENTS.c.person == name, ASSIGNMENTS.c.ended.in_((SUBMITTED, SKIPPED))
    )
    return ~mine.exists()


def task_of(connection: sa.Connection, task_id: str) -> Task:
    """Raises: StoreRefuses where there is none."""
    text = connection.execute(sa.select(TASKS.c.content).where(TASKS.c.id == task_id)).scalar()
    if text is None:
        raise StoreRefuses(f"there is no task {task_id!r:.40}")
    return coding.read_task(task_id, text)


def assignment_of(connection: sa.Connection, assignment_id: str, name: str) -> AnyRow:
    """Raises: StoreRefuses where there is none, or where it is another's."""
    row = connection.execute(sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.id == assignment_id)).first()
    if row is None or row.person != name:
        raise StoreRefuses("this task is not in your hands; ask for the next one")
    return row


def end(connection: sa.Connection, assignment_id: str, how: str) -> None:
    connection.execute(ASSIGNMENTS.update().where(ASSIGNMENTS.c.id == assignment_id).values(ended=how))
