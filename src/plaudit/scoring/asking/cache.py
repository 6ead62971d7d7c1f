"""Replies that were paid for, in one SQLite file: each is written when it comes, so that a killed run asks for the rest
alone. No torch."""

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.errors import UserError

VERSION = 1
SECONDS = 60.0
"""So long another process may be writing."""


def default_path() -> Path:
    """The same for all runs of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plaudit" / "judges.sqlite"


def key_of(request: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides about a reply: endpoint, model, messages, parameters and seed."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ReplyCache:
    """Raw bodies by key, beside what was asked."""

    connection: sqlite3.Connection

    def read(self, keys: Iterable[str]) -> dict[str, str]:
        """The bodies that are known."""
        known: dict[str, str] = {}
        for key in keys:
            if row := self.connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone():
                known[key] = row[0]
        return known

    def write(self, key: str, request: Mapping[str, Any], reply: str) -> None:
        """Committed when this returns; the first reply to a question stays."""
        row = (key, json.dumps(request, sort_keys=True), reply, time.time())
        with self.connection:
            self.connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", row)


@contextlib.contextmanager
def open_cache(path: Path) -> Generator[ReplyCache]:
    """Made where it isn't there. UserError where the file is something else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=SECONDS, check_same_thread=False)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise UserError(f"cache: {path} has version {version}, and this version of plaudit reads {VERSION}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS replies "
                "(key TEXT PRIMARY KEY, request TEXT NOT NULL, reply TEXT NOT NULL, time REAL NOT NULL)"
            )
            connection.execute(f"PRAGMA user_version = {VERSION}")
            yield ReplyCache(connection)
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"cache: {path}: {error}; name another file, or move this one away") from error
