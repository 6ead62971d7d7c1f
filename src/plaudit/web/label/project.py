"""`plaudit label`: a project is made or opened, people get links, what they said goes out."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from plaudit.config.load import load_config
from plaudit.data.formats import prompt_row
from plaudit.errors import UserError
from plaudit.feedback.exchange import export as exported_as
from plaudit.feedback.exchange import write_export
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Judgement, Role, Task
from plaudit.feedback.sources import tasks_of
from plaudit.feedback.store import Store
from plaudit.feedback.tables import SERVERS, SQLITE
from plaudit.feedback.verdicts import leave_verdicts
from plaudit.files import safe_name
from plaudit.records.text import Kind
from plaudit.report.table import print_table
from plaudit.telemetry.console import say, warn
from plaudit.web.app import build
from plaudit.web.label.lead import export_form
from plaudit.web.label.routes import label_routes
from plaudit.web.label.writing import prompts_of, writing
from plaudit.web.security import Access, cookie_name
from plaudit.web.serve import PORT, listening, serve

SUFFIX = ".db"
LEAD = "lead"
"""The name of whoever makes a project."""


def is_project(name: str) -> bool:
    return name.endswith(SUFFIX) or name.startswith((*SERVERS, SQLITE))


def project_named(name: str, sources: Sequence[str] = ()) -> str:
    """The project that is meant: the named one, else by its sources' name, else the only one in this folder."""
    if name:
        return name
    if sources:
        first = Path(sources[0])
        return safe_name((first.name.split(".")[0] or first.resolve().name) + SUFFIX)
    here = sorted(path.name for path in Path().glob(f"*{SUFFIX}"))
    if len(here) == 1:
        return here[0]
    choices = f"there are {', '.join(here)}" if here else "there is none in this folder"
    raise UserError(f"which labelling project? {choices}; say --project FILE{SUFFIX}")


def open_project(url: str, options: Mapping[str, Any]) -> Store:
    """The project there is, with these options from now on, or a new one."""
    config = load_config(ProjectConfig, dict(options))
    if Store.exists(url):
        store = Store.open(url)
        if options:
            store.configure(replace(store.config, **{name: getattr(config, name) for name in options}))
        return store
    return Store.create(url, config)


def label(
    url: str,
    sources: Sequence[str],
    options: Mapping[str, Any],
    *,
    gold: Sequence[str] = (),
    samples: int = 0,
    prompts: Sequence[str] = (),
    sampling: Mapping[str, Any] | None = None,
    address: Mapping[str, Any] | None = None,
) -> None:
    """Add what the sources hold to the project, then serve its pages until a signal.

    Raises: UserError for bad sources, before anything is made or served.
    """
    runs = [Path(source) for source in sources if samples and Path(source).is_dir()]
    tasks = [task for path in gold for task in tasks_of(Path(path), gold=True)]
    known = {task.id for task in tasks}
    tasks += [task for s in sources if Path(s) not in runs for task in tasks_of(Path(s)) if task.id not in known]
    if not Store.exists(url) and not (tasks or runs):
        raise UserError(f"{url}: there is no such project; name a file or a run with answers: plaudit label DATA")
    writers = [(run, prompts_of(run, prompts)) for run in runs]
    store = open_project(url, options)
    if tasks:
        say(f"{store.add_tasks(tasks)} of {len(tasks)} tasks are new in {store.name}")
    started = [_writer(store.config, url, run, files, samples, sampling or {}) for run, files in writers]
    try:
        serve_project(store, arriving=lambda: any(alive() for alive, _ in started), **(address or {}))
    finally:
        for _, kill in started:
            kill()
        leave_verdicts(store)


def _writer(
    config: ProjectConfig, url: str, run: Path, files: Sequence[str], samples: int, sampling: Mapping[str, Any]
) -> tuple[Callable[[], bool], Callable[[], None]]:
    if config.mode != "rank" and samples != 2:
        raise UserError(f"mode {config.mode} compares two answers: --samples 2")
    model = run / "model" if (run / "model").is_dir() else run
    return writing(url, str(model), files, samples=samples, **sampling)


def serve_project(
    store: Store,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    public: str = "",
    arriving: Callable[[], bool] = lambda: False,
    invite: Sequence[str] = (),
) -> None:
    """The pages, until a signal. `public`: the address under which people reach it through a proxy or a tunnel."""
    access = project_access(store, host, public)
    app = build(label_routes(store, arriving), access)

    with listening(host, port) as (listener, address):

        def ready() -> None:
            print(f"{store.name}: {len(store.tasks())} tasks at {public or address}, until Ctrl-C", flush=True)
            print(lead_link(store, public or address), flush=True)
            for name in invite:
                print(f"{name}: {link(public or address, store.invite(name))}", flush=True)

        serve(app, listener, ready)


def project_access(store: Store, host: str = "127.0.0.1", public: str = "") -> Access:
    """Whoever has a link of this project, under the names by which it is reached."""
    names = {name.lower() for name in (host, urlsplit(public).hostname) if name}
    return Access(
        identify=store.person,
        cookie=cookie_name(os.path.abspath(store.name)),
        names=frozenset(names),
        to_network=host not in ("127.0.0.1", "::1", "localhost"),
        https=public.startswith("https:"),
    )


def link(address: str, token: str) -> str:
    return f"{address.rstrip('/')}/l/{token}"


def lead_link(store: Store, address: str) -> str:
    """One line with a link for the lead, where none was given out yet; else how to get another."""
    if any(person.role is Role.LEAD and person.revoked is None for person in store.people()):
        again = f"plaudit label revoke {LEAD}; plaudit label invite {LEAD} --lead"
        return f"lead: the link from before still works (a new one: {again})"
    return f"lead: {link(address, store.invite(LEAD, Role.LEAD))}"


def invite(url: str, name: str, *, lead: bool, public: str, port: int | None = None) -> str:
    """The link of a new person. It is shown once: the project keeps only its fingerprint."""
    token = Store.open(url).invite(name, Role.LEAD if lead else Role.LABELLER)
    if not (public or port):
        say(f"the link takes port {PORT}; where the pages are served elsewhere, say --port or --public here too")
    return link(public or f"http://127.0.0.1:{port or PORT}", token)


def results(store: Store) -> None:
    """What people say of the policies that they compared: printed, and left in the comparison's folder."""
    left = leave_verdicts(store)
    if not left:
        raise UserError(
            f"{store.name}: nobody has compared the policies of a run that is here: plaudit label runs/compare"
        )
    for folder in left:
        print_table(folder)
        say(f"{folder}/people.json holds it; plaudit report {folder} shows it beside the judges'")


def export(url: str, form: str, out: str) -> None:
    """What people said, into a file or to standard output. Raises: UserError for an unknown form."""
    store = Store.open(url)
    if out:
        exported = write_export(store, Path(out), export_form(form))
        say(f"{len(exported.rows)} rows in {out}")
    else:
        exported = exported_as(store, export_form(form))
        for row in exported.rows:
            print(json.dumps(row, ensure_ascii=False))
    for warning in exported.warnings:
        warn(warning)


def demo(address: Mapping[str, Any]) -> None:
    """Eight small tasks that two made-up labellers have begun, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="plaudit-label-") as folder:
        store = demo_project(Path(folder) / "demo.db")
        serve_project(store, invite=("you",), **address)
        store.close()


def demo_project(path: Path) -> Store:
    text = (resources.files("plaudit.web.label") / "demo.json").read_text(encoding="utf-8")
    guidelines = (
        "**Helpful** answers first: right, to the point, safe.\n\n- A wrong answer is worse than a short one.\n"
    )
    guidelines += "- If two are equally good, *tie* them."
    store = Store.create(str(path), ProjectConfig(name="plaudit label --demo", guidelines=guidelines, overlap=3))
    tasks = [_demo_task(row, f"demo:{number}") for number, row in enumerate(json.loads(text), 1)]
    store.add_tasks(tasks)
    for task in tasks[:6]:
        by_length = sorted(range(4), key=lambda i: -len(task.answers[i].text))
        careful = task.gold_ranks or tuple(by_length.index(i) + 1 for i in range(4))
        hasty = tuple(2 if rank == 3 else rank for rank in careful[::-1]) if len(task.prompt.text) % 2 else careful
        for name, ranks, seconds in (("Ada (made up)", careful, 41.0), ("Ben (made up)", hasty, 17.0)):
            store.record(task, name, Judgement(ranks=ranks, seconds=seconds), f"demo-{task.id}")
    return store


def _demo_task(row: Mapping[str, Any], where: str) -> Task:
    prompt = prompt_row({"prompt": row["prompt"]}, Kind.PROMPT, where).prompt
    answers = [Candidate(text=text) for text in row["responses"]]
    return Task.of(prompt, answers, gold_ranks=row.get("gold_ranks"), source=where)
