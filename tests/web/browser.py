"""A real browser in front of a real server: helpers of the browser tests."""

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Role, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Prompt
from plaudit.web.app import build
from plaudit.web.label.project import link, project_access
from plaudit.web.label.routes import label_routes
from plaudit.web.serve import listening

CHROMIUM = os.environ.get("PLAUDIT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = os.environ.get("PLAUDIT_SCREENSHOTS", "")
"""A folder for the documentation's pictures; empty: none are kept."""


class Site:
    """A labelling project that is served."""

    def __init__(self, store: Store, address: str) -> None:
        self.store, self.address = store, address

    def invite(self, name: str, role: Role = Role.LABELLER) -> str:
        return link(self.address, self.store.invite(name, role))

    def ranks(self) -> list[dict[str, int]]:
        """Of each judgement that counts: answer -> rank."""
        tasks = {task.id: task for task in self.store.tasks()}
        return [
            {answer.text: rank for answer, rank in zip(tasks[one.task_id].answers, one.judgement.ranks, strict=True)}
            for one in self.store.all_submissions()
        ]


@contextlib.contextmanager
def running(app: Starlette) -> Iterator[str]:
    """In a thread, as `serve` would in a process of its own; its address."""
    with listening("127.0.0.1", 0) as (listener, address):
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="on"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join(10)


@contextlib.contextmanager
def served(store: Store) -> Iterator[Site]:
    with running(build(label_routes(store), project_access(store))) as address:
        try:
            yield Site(store, address)
        finally:
            store.close()


def project(folder, prompts=("Prompt 0", "Prompt 1", "Prompt 2"), answers=("one", "two", "three"), **options) -> Store:
    store = Store.create(str(folder / "p.db"), ProjectConfig(**{"gold_share": 0.0, **options}))
    store.add_tasks([Task.of(Prompt.of_text(text), [Candidate(text=answer) for answer in answers]) for text in prompts])
    return store
