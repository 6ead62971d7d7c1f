"""The store on a PostgreSQL server that the test starts: `make postgres`."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from benchmarks.postgres import programs
from benchmarks.postgres import server as started
from plaudit.errors import UserError
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Judgement, Role, StoreUnavailable
from plaudit.feedback.store import Store
from tests.feedback.people import Clock, judge, person, submit, task
from tests.feedback.test_store import KILLED

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server():
    if programs() is None:
        pytest.skip("no PostgreSQL server programs")
    with started() as running:
        yield running


def test_everything_that_a_project_does(server, tmp_path):
    clock, url = Clock(), server.url("whole")
    assert not Store.exists(url)
    with pytest.raises(UserError, match="no labelling project"):
        Store.open(url)
    store = Store.create(url, ProjectConfig(overlap=2, gold_share=0.5), clock=clock)
    with pytest.raises(UserError, match="already"):
        Store.create(url, ProjectConfig())
    store.add_tasks([task(number) for number in range(4)] + [task(9, gold=(1, 2, 2))])
    token = store.invite("ann")
    ann, bob, lead = store.person(token), person(store, "bob"), person(store, "lead", Role.LEAD)
    first = store.turn(ann).assignment
    kept = submit(store, ann, first, 1, 1, 2)
    assert submit(store, ann, first, 3, 2, 1) == kept
    again = store.reopen(ann, first.task.id)
    submit(store, ann, again, 2, 1, 2, key="new")
    while store.turn(bob).assignment:
        judge(store, bob, 1, 2, 3)
    store.adjudicate(first.task.id, (1, 2, 3), lead)
    assert store.all_submissions()[0].judgement.ranks == (2, 1, 2)
    assert store.progress().submitted + store.progress(ann).submitted >= 5
    assert store.agreement().alike is not None
    held = store.turn(ann).assignment
    clock.now -= 86_400
    store.revoke("ann")
    assert store.person(token) is None
    assert held.task.id not in {one.task_id for one in store.all_submissions() if one.person == "ann"}
    odd = task(1)
    with pytest.raises(UserError):
        store.add_tasks([odd.__class__.of(odd.prompt, odd.answers[:1])])
    store.backup(tmp_path / "copy.db")
    copy = Store.open(str(tmp_path / "copy.db"))
    assert copy.all_submissions(superseded=True) == store.all_submissions(superseded=True)
    assert copy.tasks() == store.tasks()
    store.close()


def test_many_servers_share_the_tasks_out_without_a_clash(server):
    url = server.url("shared")
    first = Store.create(url, ProjectConfig(overlap=2))
    first.add_tasks([task(number) for number in range(20)])
    stores = [first, Store.open(url), Store.open(url)]
    people = [person(first, f"p{number}") for number in range(6)]

    def work(store: Store, who) -> None:
        while assignment := store.turn(who).assignment:
            submit(store, who, assignment, 1, 2, 3)

    threads = [threading.Thread(target=work, args=(stores[i % 3], who)) for i, who in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    submissions = first.all_submissions()
    assert Counter(one.task_id for one in submissions) == {each.id: 2 for each in first.tasks()}
    assert [one.seq for one in submissions] == sorted(one.seq for one in submissions)
    for store in stores:
        store.close()


def test_kill_of_a_client_and_of_the_server_lose_nothing_acknowledged(server):
    url = server.url("killed")
    store = Store.create(url, ProjectConfig())
    store.add_tasks([task(number) for number in range(400)])
    token = store.invite("ann")
    acknowledged = []
    for run in range(3):
        command = [sys.executable, "-c", KILLED, url, token, str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            lines = [process.stdout.readline() for _ in range(10)]
            if run == 1:
                server.stop()  # as a power cut would
                time.sleep(0.2)
                server.start()
            else:
                os.kill(process.pid, signal.SIGKILL)
            acknowledged += [line.strip() for line in [*lines, *process.stdout] if line.endswith("\n")]
            process.kill()
    keys = [one.task_id for one in store.all_submissions(superseded=True)]
    assert len(acknowledged) <= len(keys) <= len(acknowledged) + 3
    assert len(set(keys)) == len(keys)
    ann = store.person(token)
    held = store.turn(ann).assignment
    assert held is not None
    server.stop()
    with pytest.raises(StoreUnavailable, match="Nothing of this was saved"):
        store.submit(held.id, ann, Judgement(ranks=(1, 2, 3)), "k")
    server.start()
    store.submit(held.id, ann, Judgement(ranks=(1, 2, 3)), "k")
    server.stop()
    server.start()
    assert store.submit(held.id, ann, Judgement(ranks=(1, 2, 3)), "k").person == "ann"  # a lost connection is replaced
    assert len(store.all_submissions()) == len(keys) + 1
    store.close()
