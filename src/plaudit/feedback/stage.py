"""The stage `label` of a pipeline: tasks go into a store, people work on them, the run waits until enough is there."""

from __future__ import annotations

import time
from dataclasses import replace

from plaudit.data.sources import read_raw
from plaudit.errors import UserError
from plaudit.feedback.exchange import export
from plaudit.feedback.findings import findings
from plaudit.feedback.options import LabelConfig
from plaudit.feedback.sources import read_tasks
from plaudit.feedback.store import Store
from plaudit.feedback.verdicts import equal_answers
from plaudit.files import write_json
from plaudit.runs.folder import Run
from plaudit.telemetry.console import say
from plaudit.telemetry.summary import summary

PROJECT = "project.db"
RANKINGS = "rankings.jsonl"


def label(config: LabelConfig, run: Run) -> None:
    """Put the tasks where people find them, wait, leave their rankings (rankings.jsonl) and how far they agree.

    A run that was stopped goes on with the same store: nothing that people did is asked of them again.
    """
    url = config.store or str(run.folder / PROJECT)
    store = _store(url, config)
    try:
        tasks = [task for source in config.data for task in read_tasks(source)]
        new = store.add_tasks([*tasks, *(task for source in config.gold for task in read_tasks(source, gold=True))])
        sources = (*config.data, *config.gold)
        run.check_data(dict(item for one in sources for item in read_raw(one).fingerprints.items()))
        if run.latest() is None:
            with run.checkpoint(0) as folder:  # from here on the run is one that can be gone on with
                write_json(folder / "labels.json", {"store": store.name})
        wanted = config.judgements or store.progress().wanted
        say(f"{len(tasks)} tasks ({new} new), {wanted} judgements wanted. People rank by: plaudit label {url}")
        _wait(store, wanted, config, run)
        exported = export(store, "merged" if config.merged else "rankings")
        run.write_rows(RANKINGS, exported.rows)
        results = findings(store, equal_answers(config.data), tasks)
        progress = store.progress()
        people = sum(person.submitted > 0 for person in progress.people)
        run.finish(summary(results, rankings=len(exported.rows), judgements=progress.submitted, labellers=people))
    finally:
        store.close()


def _store(url: str, config: LabelConfig) -> Store:
    project = replace(config.project, seed=config.seed)
    if not Store.exists(url):
        return Store.create(url, project)
    store = Store.open(url)
    if store.config != project:
        store.configure(project)
    return store


def _wait(store: Store, wanted: int, config: LabelConfig, run: Run) -> None:
    done = store.progress().submitted
    with run.progress(wanted, start=min(done, wanted)) as progress:
        while done < wanted:
            if not config.wait:
                raise UserError(
                    f"{done} of {wanted} judgements are there. People rank by: plaudit label {store.name}; "
                    f"then go on: plaudit resume {run.folder}"
                )
            run.check_stop()
            time.sleep(config.poll_seconds)
            done = store.progress().submitted
            progress.update(min(done, wanted), {})
