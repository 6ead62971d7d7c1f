"""`Store`: a labelling project: its tasks, its people, who has what in hand, and what was submitted.

Nothing that was submitted is ever changed or deleted. Of one person's submissions for a task the newest counts, by the
store's own sequence numbers. `submit` returns after the commit, so what it returned survives `kill -9` and power cuts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Self, overload

import sqlalchemy as sa

from plaudit.config.load import load_config, to_plain
from plaudit.errors import UserError
from plaudit.feedback import coding, counts, quality
from plaudit.feedback.checks import MAX_COMMENT, check_task, checked, checked_ranks
from plaudit.feedback.leases import EXPIRED, Desk, task_of
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import (
    Adjudication,
    Assignment,
    Disagreement,
    Estimated,
    Invited,
    Judgement,
    LabellersAgreement,
    OwnProgress,
    Person,
    ProjectProgress,
    Role,
    Skip,
    StoreRefuses,
    Submission,
    Task,
    Turn,
)
from plaudit.feedback.tables import (
    ADJUDICATIONS,
    ASSIGNMENTS,
    PEOPLE,
    PROJECT,
    SKIPS,
    SUBMISSIONS,
    TASKS,
    Database,
    copy_tables,
    dumps,
    steady_clock,
)
from plaudit.files import make_folder, sync_path, temp_beside

_BY_TOKEN = sa.select(PEOPLE).where(PEOPLE.c.token_hash == sa.bindparam("hash"), PEOPLE.c.revoked.is_(None))


class Store:
    """One labelling project. Safe to use from several threads, and from several processes at once."""

    def __init__(self, database: Database, clock: Callable[[], float] | None = None) -> None:
        self._db = database
        self._now = clock or steady_clock()
        self._open_tasks = counts.OpenTasks()
        with self._db.read() as connection:
            text = connection.execute(sa.select(PROJECT.c.config).order_by(PROJECT.c.seq.desc()).limit(1)).scalar_one()
        self.config = load_config(ProjectConfig, json.loads(text))

    # ------------------------------------------------------------------------------------------- the project itself

    @classmethod
    def create(cls, url: str, config: ProjectConfig, *, clock: Callable[[], float] | None = None) -> Self:
        """A new project. `url`: a path (an SQLite file) or `postgresql://user@host/name`.

        Raises: UserError where a project is there already.
        """
        database = Database(url)
        if database.path is not None:
            make_folder(database.path.parent)
        with database.closed_on_error():
            database.create(lambda connection: _write_config(connection, config))
            return cls(database, clock)

    @classmethod
    def exists(cls, url: str) -> bool:
        """Whether there is a project, of whichever version."""
        database = Database(url)
        if database.path is not None and not database.path.is_file():
            return False
        try:
            return database.has_project()
        finally:
            database.close()

    @classmethod
    def open(cls, url: str, *, clock: Callable[[], float] | None = None) -> Self:
        """An existing project; one of an older plaudit is brought up to date. Raises: UserError where there is none."""
        database = Database(url)
        if database.path is not None and not database.path.is_file():
            raise UserError(f"{url}: there is no labelling project; `plaudit label DATA` makes one")
        with database.closed_on_error():
            database.upgrade()
            return cls(database, clock)

    @property
    def name(self) -> str:
        """Its path or URL; no password is taken in one."""
        return self._db.name

    def configure(self, config: ProjectConfig) -> None:
        """Other options from now on; what they were before stays in the store."""
        with self._db.write() as connection:
            _write_config(connection, config)
        self.config = config

    def backup(self, path: Path | str) -> None:
        """The whole project as it is now, in a new SQLite file that opens as a project, while people go on working.

        Raises: UserError where the file exists.
        """
        path = Path(path)
        if path.exists():
            raise UserError(f"{path}: exists; name another file for the backup")
        make_folder(path.parent)
        temp = temp_beside(path)
        try:
            copy = Database(str(temp))
            with self._db.read() as source:
                copy.create(lambda connection: copy_tables(source, connection))
            copy.close()
            os.replace(temp, path)
            sync_path(path.parent)
        finally:
            for left in path.parent.glob(temp.name + "*"):
                left.unlink()

    def close(self) -> None:
        self._db.close()

    # --------------------------------------------------------------------------------------------------------- tasks

    def add_tasks(self, tasks: Sequence[Task]) -> int:
        """How many are new: a task whose prompt and answers are there already is passed over.

        Raises: StoreRefuses for a task that this project's page can't show; then none is added.
        """
        for task in tasks:
            check_task(task, self.config)
        with self._db.write() as connection:
            return _insert_tasks(connection, tasks)

    def tasks(self) -> list[Task]:
        """All, gold among them, in the order in which they came."""
        with self._db.read() as connection:
            rows = connection.execute(sa.select(TASKS.c.id, TASKS.c.content).order_by(TASKS.c.seq))
            return [coding.read_task(row.id, row.content) for row in rows]

    def task(self, task_id: str) -> Task:
        """Raises: StoreRefuses where there is none."""
        with self._db.read() as connection:
            return task_of(connection, task_id)

    # -------------------------------------------------------------------------------------------------------- people

    def invite(self, name: str, role: Role = Role.LABELLER) -> str:
        """The token of this person's link. It is shown once: only its hash is kept.

        Raises: StoreRefuses where the name is in use (`revoke` first to give the same person a new link).
        """
        token = secrets.token_urlsafe(24)
        values = {"role": Role(role).value, "token_hash": _hash(token), "invited": self._now(), "revoked": None}
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise StoreRefuses(f"{name!r:.60}: a name must be printable, and 1 to 200 characters long")
        with self._db.write() as connection:
            row = connection.execute(sa.select(PEOPLE).where(PEOPLE.c.name == name)).first()
            if row is not None and row.revoked is None:
                raise StoreRefuses(f"{name} has a link already; revoke it first, then invite again")
            if row is None:
                connection.execute(PEOPLE.insert().values(name=name, **values))
            else:
                connection.execute(PEOPLE.update().where(PEOPLE.c.name == name).values(**values))
        return token

    def revoke(self, name: str) -> None:
        """End this person's link at once, and free what is in their hands; what they submitted stays."""
        with self._db.write() as connection:
            active = PEOPLE.update().where(PEOPLE.c.name == name, PEOPLE.c.revoked.is_(None))
            if not connection.execute(active.values(revoked=self._now())).rowcount:
                raise StoreRefuses(f"{name}: nobody of that name has a link")
            mine = ASSIGNMENTS.update().where(ASSIGNMENTS.c.person == name, ASSIGNMENTS.c.ended.is_(None))
            connection.execute(mine.values(ended=EXPIRED))

    def person(self, token: str) -> Person | None:
        """Whose link this is; None where it is nobody's, or was revoked."""
        with self._db.read() as connection:
            row = connection.execute(_BY_TOKEN, {"hash": _hash(token)}).first()
        return Person(name=row.name, role=Role(row.role)) if row else None

    def people(self) -> list[Invited]:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(PEOPLE).order_by(PEOPLE.c.seq))
            return [Invited(name=r.name, role=Role(r.role), invited=r.invited, revoked=r.revoked) for r in rows]

    # ---------------------------------------------------------------------------------------------------------- work

    def turn(self, person: Person, act: Callable[[Desk], object] = lambda _: None) -> Turn:
        """Do something at this person's desk (submit, skip), then hand them the task in their hands, else a new one:
        one transaction, which is on disk once this returns.

        Asked again (a reload, another device) it is the same task, its lease renewed. A task is in the hands of, or
        judged by, at most `overlap` people; gold tasks come to everybody, at places that only the seed decides.
        """
        with self._at_desk(person) as desk:
            act(desk)
            return Turn(desk.next(), self._progress(desk.connection, person))

    def submit(self, assignment_id: str, person: Person, judgement: Judgement, key: str) -> Submission:
        """Store a judgement; it is safe once this returns. The same judgement twice with the same `key` is one
        submission.

        A lease that ran out meanwhile doesn't matter: what somebody worked on is kept. A second submission with another
        key is a correction: it counts, the first stays.
        Raises: StoreRefuses where the assignment is another's, or the judgement doesn't fit the task.
        """
        with self._at_desk(person) as desk:
            return desk.submit(assignment_id, lambda _: judgement, key)

    def skip(self, assignment_id: str, person: Person, reason: str) -> None:
        """Pass on a task: this person isn't asked again. A judgement that they sent of it before stays."""
        with self._at_desk(person) as desk:
            desk.skip(assignment_id, reason)

    def reopen(self, person: Person, task_id: str) -> Assignment:
        """A task that this person submitted or skipped, once more, with what they said of it.

        Raises: StoreRefuses where they did neither.
        """
        with self._at_desk(person) as desk:
            mine = sa.select(ASSIGNMENTS).where(ASSIGNMENTS.c.person == person.name, ASSIGNMENTS.c.task == task_id)
            last = desk.connection.execute(mine.order_by(ASSIGNMENTS.c.seq.desc()).limit(1)).first()
            if last is None:
                raise StoreRefuses("this task was never yours, so it can't be reopened")
            if last.ended is None:
                return desk.renewed(last)
            return desk.hand_out(task_of(desk.connection, task_id), desk.judged_before(task_id))

    def submissions(self, person: Person) -> list[Submission]:
        """This person's that count, the newest first."""
        with self._db.read() as connection:
            query = sa.select(SUBMISSIONS).where(SUBMISSIONS.c.person == person.name)
            rows = connection.execute(query.order_by(SUBMISSIONS.c.seq.desc())).all()
        newest = {row.task: row for row in reversed(rows)}
        return [coding.read_submission(row) for row in rows if newest[row.task] is row]

    def record(self, task: Task, name: str, judgement: Judgement, key: str) -> Submission:
        """A judgement that came without a page (a vote in a chat, an imported label): the task is added if it is new.

        `key` as in `submit`. The answers count as shown in this task's order, which may not be that of the same task in
        the store.
        """
        shown = checked(judgement, task, self.config)
        check_task(task, self.config)
        with self._db.write() as connection:
            desk = Desk(connection, self.config, self._now(), name)
            _insert_tasks(connection, [task])
            known = task_of(connection, task.id)
            order = known.places_of(task.answers)
            own = shown.in_task_order(order)
            before, key = desk.repeated(task.id, own, key)
            if before is not None:
                return before
            leased = Assignment(
                id=desk.lease(known, order)["id"],
                person=name,
                task=known,
                order=order,
                expires=desk.now,
                previous=desk.judged_before(task.id),
            )
            return desk.store(leased, own, key)

    # ---------------------------------------------------------------------------------------------------------- lead

    def all_submissions(self, *, superseded: bool = False) -> list[Submission]:
        """Everybody's that count, in the order in which they came; the `superseded` ones too where asked."""
        with self._db.read() as connection:
            rows = connection.execute(sa.select(SUBMISSIONS).order_by(SUBMISSIONS.c.seq)).all()
        newest = {(row.task, row.person): row.seq for row in rows}
        counting = [(row, newest[row.task, row.person] == row.seq) for row in rows]
        return [coding.read_submission(row, counts=counts) for row, counts in counting if counts or superseded]

    def skips(self) -> list[Skip]:
        with self._db.read() as connection:
            rows = connection.execute(sa.select(SKIPS).order_by(SKIPS.c.seq))
            return [Skip(task_id=r.task, person=r.person, reason=r.reason, received=r.received) for r in rows]

    def adjudicate(self, task_id: str, ranks: Sequence[int], person: Person, comment: str = "") -> Adjudication:
        """A lead's decision about a task: it stands for all votes in the merged export; the newest counts."""
        with self._at_desk(person) as desk:
            connection = desk.connection
            if person.role is not Role.LEAD:
                raise StoreRefuses(f"{person.name} is no lead: only leads adjudicate")
            own = checked_ranks(ranks, len(task_of(connection, task_id).answers))
            values = {"task": task_id, "person": person.name, "ranks": dumps(own), "comment": comment[:MAX_COMMENT]}
            connection.execute(ADJUDICATIONS.insert().values(received=desk.now, **values))
            newest = sa.select(ADJUDICATIONS).order_by(ADJUDICATIONS.c.seq.desc()).limit(1)
            return coding.read_adjudication(connection.execute(newest).one())

    def adjudications(self) -> dict[str, Adjudication]:
        """Task → the decision that counts."""
        with self._db.read() as connection:
            rows = connection.execute(sa.select(ADJUDICATIONS).order_by(ADJUDICATIONS.c.seq))
            return {row.task: coding.read_adjudication(row) for row in rows}

    @overload
    def progress(self) -> ProjectProgress: ...
    @overload
    def progress(self, person: Person) -> OwnProgress: ...
    def progress(self, person: Person | None = None) -> ProjectProgress | OwnProgress:
        """How far this labeller is; of nobody in particular: the project, and each person in it."""
        with self._db.read() as connection:
            if person is None:
                return counts.of_project(connection, self.config, self._now())
            return self._progress(connection, person)

    def agreement(self) -> LabellersAgreement:
        """How far labellers agree on the tasks that they share, gold among them."""
        return quality.agreement(self.all_submissions())

    def gold_accuracy(self) -> dict[str, Estimated]:
        """Labeller → share of the pairs of gold tasks, apart from those whose gold ranks tie, in which they are right;
        own ties count half."""
        return quality.gold_accuracy(self.tasks(), self.all_submissions())

    def disagreements(self) -> list[Disagreement]:
        """Tasks with two judgements or more that differ, those that differ most first."""
        return quality.disagreements(self.tasks(), self.all_submissions(), self.adjudications())

    # ------------------------------------------------------------------------------------------------------- insides

    def _progress(self, connection: sa.Connection, person: Person) -> OwnProgress:
        return counts.of_person(connection, person.name, self.config, self._now(), self._open_tasks)

    @contextlib.contextmanager
    def _at_desk(self, person: Person) -> Generator[Desk]:
        """A write transaction. Raises: StoreRefuses for somebody whose link was revoked."""
        with self._db.write() as connection:
            desk = Desk(connection, self.config, self._now(), person.name)
            desk.check_active()
            yield desk


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _write_config(connection: sa.Connection, config: ProjectConfig) -> None:
    connection.execute(PROJECT.insert().values(config=dumps(to_plain(config)), received=time.time()))


def _insert_tasks(connection: sa.Connection, tasks: Sequence[Task]) -> int:
    known = set(connection.execute(sa.select(TASKS.c.id)).scalars())
    new = {task.id: task for task in tasks if task.id not in known}
    rows = [
        {"id": task.id, "content": coding.task_text(task), "gold": task.gold_ranks is not None} for task in new.values()
    ]
    if rows:
        connection.execute(TASKS.insert(), rows)
    return len(rows)
