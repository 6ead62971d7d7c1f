"""The store's tables, how they came to be what they are, and transactions that are whole or not there.

SQLite: one file in WAL mode, `synchronous=FULL`, so that a commit outlives a power cut. PostgreSQL: its own durable
commits. On both there is one writer at a time, so that sequence numbers follow the order of commits.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from plaudit.data.options import NO_PASSWORD, holds_password
from plaudit.errors import UserError
from plaudit.feedback.records import StoreFull, StoreUnavailable

METADATA = sa.MetaData()
AnyRow = sa.Row[*tuple[Any, ...]]
_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts by itself in INTEGER only
_ALONE = sa.text(f"SELECT pg_advisory_xact_lock({0x706C6175})")
_FULL = re.compile("disk is full|No space left|disk I/O error|quota exceeded", re.IGNORECASE)
"""How data bases say it. (SQLite's `disk I/O error` is also what a file has that may not grow.)"""
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def _table(name: str, *columns: sa.Column[Any] | sa.Constraint | sa.Index) -> sa.Table:
    seq = sa.Column("seq", _SEQ, primary_key=True, autoincrement=True)
    return sa.Table(name, METADATA, seq, *columns, sqlite_autoincrement=True)


def _text(name: str, **more: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=more.pop("nullable", False), **more)


def _time(name: str, *, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=nullable)


VERSIONS = sa.Table("schema_version", METADATA, sa.Column("version", sa.Integer, primary_key=True), _time("applied"))
PROJECT = _table("project", _text("config"), _time("received"))
"""The newest row is the project's config."""
TASKS = _table(
    "tasks",
    _text("id", unique=True),
    _text("content"),
    sa.Column("gold", sa.Boolean, nullable=False),
    sa.Column("judged", sa.Integer, nullable=False, server_default="0"),
    sa.Index("tasks_open", "gold", "judged", "seq"),
)
"""`judged`: how many people have submitted a judgement of it."""
PEOPLE = _table(
    "people",
    _text("name", unique=True),
    _text("role"),
    _text("token_hash"),
    _time("invited"),
    _time("revoked", nullable=True),
    sa.Index("people_token", "token_hash"),
)
ASSIGNMENTS = _table(
    "assignments",
    _text("id", unique=True),
    _text("task"),
    _text("person"),
    _text("shown"),
    _time("leased"),
    _time("expires"),
    _text("ended", nullable=True),
    sa.Index("assignments_task", "task"),
    sa.Index("assignments_person", "person", "ended"),
)
"""`ended`: null while it is in somebody's hands, then submitted, skipped or expired."""
SUBMISSIONS = _table(
    "submissions",
    _text("assignment"),
    _text("task"),
    _text("person"),
    _text("key"),
    _text("shown"),
    _text("judgement"),
    _time("received"),
    sa.UniqueConstraint("person", "key"),
    sa.Index("submissions_task", "task"),
)
SKIPS = _table(
    "skips",
    _text("assignment"),
    _text("task"),
    _text("person"),
    _text("reason"),
    _time("received"),
    sa.Index("skips_person", "person"),
)
ADJUDICATIONS = _table(
    "adjudications", _text("task"), _text("person"), _text("ranks"), _text("comment"), _time("received")
)

MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = ()
"""From version 1 to 2, from 2 to 3, …: each runs once on older files. New files are made as `METADATA` says."""


_POOL: Mapping[str, int] = {"pool_size": 20, "max_overflow": 0}
"""Connections that stay open: those beyond would be opened anew for every request of a busy hour."""


def dumps(value: Any) -> str:
    """ASCII, so that whatever a model wrote (NUL, lone surrogates) is text that every data base takes."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


SERVERS = ("postgresql://", "postgresql+psycopg://", "postgres://")
"""How the address of a data base server begins."""
SQLITE = "sqlite:///"


class Database:
    """A data base file or server: `read()` and `write()` are transactions, and failures are `StoreUnavailable`."""

    def __init__(self, url: str) -> None:
        """`url`: a path, which is an SQLite file, or `postgresql://…`."""
        if holds_password(url):
            raise UserError(NO_PASSWORD)
        self.is_server = url.startswith(SERVERS)
        self.path = None if self.is_server else Path(url.removeprefix(SQLITE))
        self.name = str(sa.engine.make_url(url)) if self.is_server else str(self.path)
        self._writing = threading.Lock()
        if self.is_server:
            driver = sa.engine.make_url("postgresql://" + url.partition("://")[2]).set(drivername="postgresql+psycopg")
            self.engine = sa.create_engine(driver, isolation_level="AUTOCOMMIT", **_POOL)  # `_begun` says BEGIN
        else:
            self.engine = sa.create_engine(f"{SQLITE}{self.path}", connect_args={"timeout": 30}, **_POOL)
            event.listen(self.engine, "connect", _set_up_sqlite)

    @contextlib.contextmanager
    def read(self) -> Generator[sa.Connection]:
        """A consistent view."""
        with self._explained(), self._begun(_SNAPSHOT if self.is_server else "BEGIN") as connection:
            yield connection
            connection.commit()

    @contextlib.contextmanager
    def write(self) -> Generator[sa.Connection]:
        """Alone: nobody else writes meanwhile. Whatever raises leaves nothing behind."""
        with self._explained(), self._writing, self._begun("BEGIN" if self.is_server else "BEGIN IMMEDIATE") as begun:
            if self.is_server:  # against other processes; the lock of this one is quicker, and takes no connection
                begun.execute(_ALONE)
            yield begun
            begun.commit()

    def _begun(self, begin: str) -> sa.Connection:
        """A connection with its transaction begun. One that was lost while it lay in the pool is replaced, once."""
        for is_last in (False, True):
            connection = self.engine.connect()
            try:
                connection.exec_driver_sql(begin)
                return connection
            except BaseException as error:
                connection.close()
                if is_last or not (isinstance(error, DBAPIError) and error.connection_invalidated):
                    raise
        raise AssertionError

    def create(self, fill: Callable[[sa.Connection], None]) -> None:
        """Make all tables and `fill` them, in one transaction. Raises: UserError where there are some."""
        with self.write() as connection:
            if sa.inspect(connection).has_table(VERSIONS.name):
                raise UserError(f"{self.name}: holds a labelling project already; open it, or choose another name")
            METADATA.create_all(connection)
            connection.execute(VERSIONS.insert().values(version=1 + len(MIGRATIONS), applied=time.time()))
            fill(connection)

    def has_project(self) -> bool:
        with self.read() as connection:
            return sa.inspect(connection).has_table(VERSIONS.name)

    def upgrade(self, migrations: Sequence[Callable[[sa.Connection], None]] | None = None) -> None:
        """Bring an older file up to date, each step in a transaction of its own.

        Raises: UserError for what is no labelling project, or was made by a newer plaudit.
        """
        steps = MIGRATIONS if migrations is None else migrations
        with self.read() as connection:
            version = self._version(connection)
        if version > len(steps) + 1:
            raise UserError(f"{self.name}: was made by a newer plaudit (version {version}); update plaudit to open it")
        while version <= len(steps):
            with self.write() as connection:
                version = self._version(connection)  # another process may have been quicker
                if version <= len(steps):
                    steps[version - 1](connection)
                    version += 1
                    connection.execute(VERSIONS.insert().values(version=version, applied=time.time()))

    def _version(self, connection: sa.Connection) -> int:
        if not sa.inspect(connection).has_table(VERSIONS.name):
            raise UserError(f"{self.name}: is no labelling project")
        return connection.execute(sa.select(sa.func.max(VERSIONS.c.version))).scalar_one()

    def close(self) -> None:
        self.engine.dispose()

    @contextlib.contextmanager
    def closed_on_error(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except DBAPIError as error:
            reason = str(error.orig).strip().splitlines()[0]
            if "file is not a database" in reason:
                raise UserError(f"{self.name}: is no labelling project ({reason})") from None
            kind = StoreFull if _FULL.search(reason) else StoreUnavailable
            raise kind(f"{self.name}: {reason}. Nothing of this was saved") from error
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"{self.name}: {type(error).__name__}. Nothing of this was saved") from error


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begun` says so
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def copy_tables(source: sa.Connection, target: sa.Connection) -> None:
    """All rows of all tables, their sequence numbers with them."""
    for table in METADATA.sorted_tables:
        if table.name != "schema_version":
            for row in source.execution_options(yield_per=1000).execute(sa.select(table)):
                target.execute(table.insert().values(tuple(row)))


def steady_clock() -> Callable[[], float]:
    """Seconds since 1970 as the system's clock had them at the start, then by one that nobody sets."""
    start = time.time() - time.monotonic()
    return lambda: start + time.monotonic()
