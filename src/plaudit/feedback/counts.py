"""How far people and projects are: counts and medians out of the tables."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from plaudit.feedback.leases import SKIPPED, SUBMITTED, Desk
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import OwnProgress, PersonProgress, ProjectProgress, Role
from plaudit.feedback.tables import ASSIGNMENTS, PEOPLE, SKIPS, SUBMISSIONS, TASKS, AnyRow

_RECENT = 50
"""Submissions of which a labeller's median time is made."""


def of_person(connection: sa.Connection, name: str, config: ProjectConfig, now: float) -> OwnProgress:
    def count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
        return connection.execute(sa.select(sa.func.count(table.c.task.distinct())).where(*conditions)).scalar_one()

    is_open = sa.and_(TASKS.c.gold == sa.false(), TASKS.c.judged < config.overlap)
    ended = sa.and_(ASSIGNMENTS.c.person == name, ASSIGNMENTS.c.ended.in_((SUBMITTED, SKIPPED)))
    still_open = sa.select(TASKS.c.seq).where(TASKS.c.id == ASSIGNMENTS.c.task, is_open).exists()
    every = connection.execute(sa.select(sa.func.count()).select_from(TASKS).where(is_open)).scalar_one()
    mine = SUBMISSIONS.c.person == name
    recent = sa.select(SUBMISSIONS.c.judgement).where(mine).order_by(SUBMISSIONS.c.seq.desc()).limit(_RECENT)
    return OwnProgress(
        submitted=count(SUBMISSIONS, mine),
        today=count(SUBMISSIONS, mine, SUBMISSIONS.c.received >= _midnight(now)),
        daily_target=config.daily_target,
        skipped=count(SKIPS, SKIPS.c.person == name),
        median_seconds=_median_seconds(connection.execute(recent).all()),
        remaining=every - count(ASSIGNMENTS, ended, still_open),
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
        people=_people(connection, rows, config, now),
    )


def _people(
    connection: sa.Connection, rows: Sequence[AnyRow], config: ProjectConfig, now: float
) -> tuple[PersonProgress, ...]:
    by_person: dict[str, list[AnyRow]] = defaultdict(list)
    for row in rows:
        by_person[row.person].append(row)
    skips = sa.select(SKIPS.c.person, sa.func.count(SKIPS.c.task.distinct())).group_by(SKIPS.c.person)
    in_force = Desk(connection, config, now).in_force()
    working = sa.select(ASSIGNMENTS.c.person, sa.func.count()).where(in_force).group_by(ASSIGNMENTS.c.person)
    skipped: dict[str, int] = dict(connection.execute(skips).all())
    in_hand: dict[str, int] = dict(connection.execute(working).all())
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
