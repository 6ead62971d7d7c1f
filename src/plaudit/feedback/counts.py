"""How far people and projects are: counts and medians out of the tables."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from plaudit.feedback.leases import DONE, IN_FORCE, ME
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import OwnProgress, PersonProgress, ProjectProgress, Role
from plaudit.feedback.tables import ASSIGNMENTS, PEOPLE, SKIPS, SUBMISSIONS, TASKS, AnyRow

_RECENT = 50
"""Submissions of which a labeller's median time is made."""


def _number(column: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count(column)).where(*conditions).scalar_subquery()


_OPEN = sa.and_(TASKS.c.gold == sa.false(), TASKS.c.judged < sa.bindparam("overlap"))
_MINE = SUBMISSIONS.c.person == ME
_OWN = sa.select(
    _number(SUBMISSIONS.c.task.distinct(), _MINE).label("submitted"),
    _number(SUBMISSIONS.c.task.distinct(), _MINE, SUBMISSIONS.c.received >= sa.bindparam("midnight")).label("today"),
    _number(SKIPS.c.task.distinct(), SKIPS.c.person == ME).label("skipped"),
    _number(
        ASSIGNMENTS.c.task.distinct(),
        DONE,
        sa.select(TASKS.c.seq).where(TASKS.c.id == ASSIGNMENTS.c.task, _OPEN).exists(),
    ).label("done"),
)
"""A person's progress in one question, made once. (`exists`: SQLite would begin a join at the many open tasks.)"""
_MANY = 500
"""From so many on, the number of open tasks may be `_OLD` seconds old: counting them takes milliseconds."""
_OLD = 5.0


class OpenTasks:
    """How many tasks want another judgement, kept between turns where they are many."""

    def __init__(self) -> None:
        self._known = (0, 0.0)

    def count(self, connection: sa.Connection, config: ProjectConfig, now: float) -> int:
        number, counted = self._known
        if number < _MANY or not 0 <= now - counted < _OLD:
            question = sa.select(sa.func.count()).select_from(TASKS).where(_OPEN)
            number = connection.execute(question, {"overlap": config.overlap}).scalar_one()
            self._known = (number, now)
        return number


def of_person(
    connection: sa.Connection, name: str, config: ProjectConfig, now: float, open_tasks: OpenTasks
) -> OwnProgress:
    values = {"me": name, "overlap": config.overlap, "midnight": _midnight(now)}
    row = connection.execute(_OWN, values).one()
    return OwnProgress(
        submitted=row.submitted,
        today=row.today,
        daily_target=config.daily_target,
        skipped=row.skipped,
        remaining=open_tasks.count(connection, config, now) - row.done,
    )


def of_project(connection: sa.Connection, config: ProjectConfig, now: float) -> ProjectProgress:
    rows = connection.execute(_newest(sa.true())).all()
    tasks = connection.execute(sa.select(TASKS.c.gold, TASKS.c.judged)).all()
    judged = [min(row.judged, config.overlap) for row in tasks if not row.gold]
    return ProjectProgress(
        tasks=len(judged),
        gold=len(tasks) - len(judged),
        wanted=len(judged) * config.overlap,
        submitted=sum(judged),
        complete=judged.count(config.overlap),
        last_hour=sum(row.received >= now - 3600 for row in rows),
        people=_people(connection, rows, now),
    )


def _people(connection: sa.Connection, rows: Sequence[AnyRow], now: float) -> tuple[PersonProgress, ...]:
    by_person: dict[str, list[AnyRow]] = defaultdict(list)
    for row in rows:
        by_person[row.person].append(row)
    skips = sa.select(SKIPS.c.person, sa.func.count(SKIPS.c.task.distinct())).group_by(SKIPS.c.person)
    working = sa.select(ASSIGNMENTS.c.person, sa.func.count()).where(IN_FORCE).group_by(ASSIGNMENTS.c.person)
    skipped: dict[str, int] = dict(connection.execute(skips).all())
    in_hand: dict[str, int] = dict(connection.execute(working, {"now": now}).all())
    roles = {row.name: Role(row.role) for row in connection.execute(sa.select(PEOPLE).order_by(PEOPLE.c.seq))}
    names = dict.fromkeys([*roles, *by_person])  # imported labels have people without links
    return tuple(
        PersonProgress(
            name=name,
            role=roles.get(name, Role.LABELLER),
            submitted=len(own := by_person[name]),
            today=sum(row.received >= _midnight(now) for row in own),
            skipped=skipped.get(name, 0),
            median_seconds=_median_seconds(own[-_RECENT:]),
            last_seen=max((row.received for row in own), default=None),
            working=in_hand.get(name, 0),
        )
        for name in names
    )


def _newest(condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Submissions that count, oldest first."""
    newest = (
        sa.select(sa.func.max(SUBMISSIONS.c.seq)).where(condition).group_by(SUBMISSIONS.c.task, SUBMISSIONS.c.person)
    )
    return sa.select(SUBMISSIONS).where(SUBMISSIONS.c.seq.in_(newest)).order_by(SUBMISSIONS.c.seq)


def _median_seconds(rows: Sequence[AnyRow]) -> float | None:
    seconds = [float(json.loads(row.judgement)["seconds"]) for row in rows]
    return statistics.median(seconds) if seconds else None


def _midnight(now: float) -> float:
    """The last midnight by the server's clock."""
    day = time.localtime(now)
    return time.mktime((day.tm_year, day.tm_mon, day.tm_mday, 0, 0, 0, 0, 0, -1))
