"""The labelling store: who gets which task, what is kept, what counts."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import pytest
import sqlalchemy as sa

from plaudit.errors import UserError
from plaudit.feedback import records, tables
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Judgement, Role, StoreRefuses, StoreUnavailable, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Form, Message, Prompt
from tests.feedback.people import Clock, judge, person, project, submit, task
from tests.kills import kills


def test_what_goes_in_comes_out(tmp_path):
    turns = (Message(role="system", content="s\0", extra={"name": "x"}), Message(role="user", content="\ud800 是"))
    answers = [Candidate(text="a\0\ud800", model="m", sampling={"temperature": 0.5}), Candidate(text="b")]
    odd = Task.of(Prompt(form=Form.CHAT, turns=turns, tools=({"name": "f"},)), answers, gold_ranks=(1, 1), source="f:1")
    store = project(tmp_path, tasks=1, flags=("harmful",), scalar=True)
    assert store.add_tasks([odd, odd, task(0)]) == 1
    assert store.tasks() == [task(0), odd]
    assert Store.open(str(tmp_path / "project.db")).config == store.config
    ann = person(store, "ann")
    assignment = store.turn(ann).assignment
    said = Judgement(
        ranks=(7, 2, 7), scalar=(1, None, 7), flags={"harmful": (True, False, False)}, comment="c", seconds=1.5,
        page_version="v1",
    )  # fmt: skip
    kept = store.submit(assignment.id, ann, said, "k")
    assert kept.judgement == replace(said, ranks=(2, 1, 2))
    assert kept.order == assignment.order
    assert store.all_submissions() == store.submissions(ann) == [kept]


def test_a_person_sees_the_answers_in_an_order_of_their_own(tmp_path):
    orders = Counter()
    store = project(tmp_path, tasks=1, overlap=30)
    for number in range(30):
        who = person(store, f"p{number}")
        assignment = store.turn(who).assignment
        orders[assignment.order] += 1
        texts = [answer.text for answer in assignment.shown]
        assert texts == [assignment.task.answers[index].text for index in assignment.order]
        in_task_order = records.in_task_order("xyz", assignment.order)
        assert [in_task_order[index] for index in assignment.order] == list("xyz")
        again = store.turn(who).assignment
        assert replace(again, expires=assignment.expires) == assignment
    assert len(orders) > 4


@kills("feedback/leases.py", old="_UNKNOWN, claims < overlap)", new="_UNKNOWN)",
       why="leases don't count: everybody gets the same task")  # fmt: skip
@pytest.mark.parametrize("overlap", [1, 2])
def test_a_task_is_in_no_more_hands_than_wanted(tmp_path, overlap):
    store = project(tmp_path, tasks=3, overlap=overlap)
    people = [person(store, f"p{number}") for number in range(8)]
    first = [store.turn(who).assignment for who in people]
    held = Counter(assignment.task.id for assignment in first if assignment)
    assert held == {t.id: overlap for t in store.tasks()}
    assert [assignment is None for assignment in first] == [False] * 3 * overlap + [True] * (8 - 3 * overlap)
    for who, assignment in zip(people, first, strict=True):
        if assignment:
            submit(store, who, assignment, 1, 2, 3)
    done = store.progress()
    assert (done.complete, done.submitted, done.wanted) == (3, 3 * overlap, 3 * overlap)
    assert [store.turn(who).assignment for who in people] == [None] * 8


def test_many_at_once_share_the_tasks_out_without_a_clash(tmp_path):
    store = project(tmp_path, tasks=12, overlap=2)
    people = [person(store, f"p{number}") for number in range(6)]

    def work(who):
        while assignment := store.turn(who).assignment:
            submit(store, who, assignment, 1, 2, 3)

    threads = [threading.Thread(target=work, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    submissions = store.all_submissions()
    assert Counter(one.task_id for one in submissions) == {t.id: 2 for t in store.tasks()}
    assert len({(one.task_id, one.person) for one in submissions}) == 24
    assert [one.seq for one in submissions] == list(range(1, 25))


def test_an_expired_lease_is_free_again_and_late_work_is_kept(tmp_path):
    clock = Clock()
    store = project(tmp_path, tasks=1, clock=clock, lease_minutes=10)
    ann, bob = person(store, "ann"), person(store, "bob")
    late = store.turn(ann).assignment
    assert store.turn(bob).assignment is None
    clock.now += 601
    taken = store.turn(bob).assignment
    assert taken.task.id == late.task.id
    assert store.turn(ann).assignment is None
    submit(store, ann, late, 1, 2, 3)  # too late for the lease, in time for the store
    submit(store, bob, taken, 3, 2, 1)
    assert [one.person for one in store.all_submissions()] == ["ann", "bob"]


def test_nobody_who_comes_back_in_time_loses_a_lease_that_nobody_else_wanted(tmp_path):
    clock = Clock()
    store = project(tmp_path, tasks=1, clock=clock, lease_minutes=10)
    ann = person(store, "ann")
    first = store.turn(ann).assignment
    clock.now += 3600
    again = store.turn(ann).assignment
    assert (again.id, again.expires) == (first.id, clock.now + 600)


@kills("feedback/leases.py", old="ended.is_(None), _BEGUN, ASSIGNMENTS", new="ended.is_(None), ASSIGNMENTS",
       why="a clock set back keeps a lease for as long as it was set back")  # fmt: skip
def test_a_clock_set_back_sticks_no_lease_and_changes_no_order(tmp_path):
    clock = Clock()
    store = project(tmp_path, tasks=1, clock=clock, overlap=1)
    ann, bob = person(store, "ann"), person(store, "bob")
    first = store.turn(ann).assignment
    clock.now -= 86_400
    taken = store.turn(bob).assignment
    assert taken.task.id == first.task.id
    submit(store, bob, taken, 1, 2, 3)
    clock.now -= 3600
    reopened = store.reopen(bob, taken.task.id)
    submit(store, bob, reopened, 3, 2, 1)
    assert store.all_submissions()[0].judgement.ranks == (3, 2, 1)


def test_the_newest_counts_and_all_are_kept(tmp_path):
    store = project(tmp_path)
    ann = person(store, "ann")
    first = judge(store, ann, 1, 2, 3)
    second = judge(store, ann, 1, 1, 1)
    assert store.progress(ann).submitted == 2
    reopened = store.reopen(ann, first.task_id)
    assert reopened.previous.ranks == (1, 2, 3)
    assert reopened.order == first.order
    assert store.turn(ann).assignment.id == reopened.id  # resumed on any device
    third = submit(store, ann, reopened, 2, 1, 2)
    assert store.submissions(ann) == store.all_submissions()[::-1] == [third, second]
    counts = [(one.judgement.ranks, one.counts) for one in store.all_submissions(superseded=True)]
    assert counts == [((1, 2, 3), False), ((1, 1, 1), True), ((2, 1, 2), True)]
    assert store.progress().submitted == 2
    with pytest.raises(StoreRefuses, match="never yours"):
        store.reopen(person(store, "bob"), first.task_id)


@kills("feedback/leases.py", old="        return before or self.store(assignment, judgement, key)",
       new="        return self.store(assignment, judgement, key)",
       why="a repeated request is a second judgement, or an error")  # fmt: skip
@kills("feedback/leases.py", old="        if before and _content(", new="        if before and not _content(",
       why="a correction is acknowledged and not stored")  # fmt: skip
def test_the_same_key_twice_is_one_submission_unless_it_says_something_else(tmp_path):
    store = project(tmp_path)
    ann = person(store, "ann")
    assignment = store.turn(ann).assignment
    first = submit(store, ann, assignment, 1, 2, 3, key="k")
    assert submit(store, ann, assignment, 1, 2, 3, key="k") == first
    assert store.all_submissions(superseded=True) == [first]
    other = submit(store, ann, assignment, 3, 2, 1, key="k")
    assert other == submit(store, ann, assignment, 3, 2, 1, key="k") != first
    assert store.all_submissions() == [other]


@kills("feedback/store.py", old="shown.in_task_order(order)", new="shown", why="a vote on swapped sides is inverted")
def test_a_record_of_a_known_task_in_another_order_reaches_the_same_answers(tmp_path):
    store = project(tmp_path, tasks=0)
    first = task(1)
    store.record(first, "ann", Judgement(ranks=(1, 2, 3)), "key-ann")
    turned = Task.of(first.prompt, [first.answers[i] for i in (2, 0, 1)])
    ben = store.record(turned, "ben", Judgement(ranks=(3, 1, 2)), "key-ben")
    assert [one.judgement.ranks for one in store.all_submissions()] == [(1, 2, 3)] * 2
    assert ben.order == (2, 0, 1) and len(store.tasks()) == 1
    twins = [Candidate(text="same", model=model) for model in ("x", "y")]
    for name, answers, ranks in (("ann", twins, (1, 2)), ("ben", twins[::-1], (2, 1))):
        store.record(Task.of(first.prompt, answers), name, Judgement(ranks=ranks), f"twins-{name}")
    assert [one.judgement.ranks for one in store.all_submissions()][2:] == [(1, 2)] * 2


def test_skipped_tasks_go_to_others(tmp_path):
    store = project(tmp_path, tasks=2)
    ann, bob = person(store, "ann"), person(store, "bob")
    first = store.turn(ann).assignment
    store.skip(first.id, ann, "I don't know Chinese")
    store.skip(first.id, ann, "twice")
    assert store.turn(ann).assignment.task.id != first.task.id
    assert store.turn(bob).assignment.task.id == first.task.id
    assert [(skip.person, skip.reason) for skip in store.skips()] == [("ann", "I don't know Chinese")]
    own = store.progress(ann)
    assert (own.skipped, own.submitted, own.remaining) == (1, 0, 1)


def test_gold_is_mixed_in_as_the_seed_says_and_checks_people(tmp_path):
    store = project(tmp_path, tasks=200, overlap=2, gold_share=0.3)
    store.add_tasks([task(1000 + number, gold=(1, 2, 2)) for number in range(40)])
    gold = {t.id for t in store.tasks() if t.gold_ranks}
    ann, bob = person(store, "ann"), person(store, "bob")
    sequence = [judge(store, ann, 1, 1, 2).task_id in gold for _ in range(60)]
    assert 8 < sum(sequence) < 30
    assert sequence[:10] != sorted(sequence[:10])
    for _ in range(10):
        judge(store, bob, 1, 2, 3)
    accuracy = store.gold_accuracy()
    assert accuracy["ann"].value == pytest.approx(0.75)  # a < b right? tied (½); a < c right
    assert accuracy["bob"].value == 1.0
    assert store.progress().gold == 40


def test_people_come_and_go(tmp_path):
    store = project(tmp_path)
    token = store.invite("ann")
    assert token not in (tmp_path / "project.db").read_bytes().decode("latin1")
    ann = store.person(token)
    with pytest.raises(StoreRefuses, match="revoke it first"):
        store.invite("ann")
    assignment = store.turn(ann).assignment
    store.revoke("ann")
    assert store.person(token) is None
    with pytest.raises(StoreRefuses, match="revoked"):
        submit(store, ann, assignment, 1, 2, 3)
    bob = person(store, "bob")
    assert store.turn(bob).assignment.task.id == assignment.task.id  # freed at once
    assert store.person(store.invite("ann", Role.LEAD)) == replace(ann, role=Role.LEAD)
    assert [(one.name, one.revoked is None) for one in store.people()] == [("ann", True), ("bob", True)]
    for name in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(StoreRefuses, match="printable"):
            store.invite(name)
    with pytest.raises(StoreRefuses, match="nobody"):
        store.revoke("eve")


def test_only_their_own_tasks(tmp_path):
    store = project(tmp_path)
    ann, bob = person(store, "ann"), person(store, "bob")
    assignment = store.turn(ann).assignment
    for attempt in (lambda: submit(store, bob, assignment, 1, 2, 3), lambda: store.skip(assignment.id, bob, "")):
        with pytest.raises(StoreRefuses, match="not in your hands"):
            attempt()
    with pytest.raises(StoreRefuses, match="no lead"):
        store.adjudicate(assignment.task.id, (1, 2, 3), ann)


@pytest.mark.parametrize(
    ("options", "judgement", "reason"),
    [
        ({}, {"ranks": (1, 2)}, "needs a rank"),
        ({}, {"ranks": ()}, "needs a rank"),
        ({}, {"ranks": (1, 2, True)}, "needs a rank"),
        ({}, {"ranks": (1, 2, 3), "scalar": (1, 2, 3)}, "asks for no numbers"),
        ({"scalar": True}, {"ranks": (1, 2, 3), "scalar": (0, 2, 3)}, "from 1 to 7"),
        ({}, {"ranks": (1, 2, 3), "flags": {"bad": (True, True, True)}}, "no flag 'bad'"),
        ({"flags": ("bad",)}, {"ranks": (1, 2, 3), "flags": {"bad": (True,)}}, "yes or no for each"),
        ({}, {"ranks": (1, 2, 3), "seconds": float("nan")}, "must be a number"),
        ({}, {"ranks": (1, 2, 3), "step": 4}, "no steps"),
    ],
)
def test_a_judgement_that_does_not_fit_is_refused_and_nothing_kept(tmp_path, options, judgement, reason):
    store = project(tmp_path, **options)
    ann = person(store, "ann")
    assignment = store.turn(ann).assignment
    with pytest.raises(StoreRefuses, match=reason):
        store.submit(assignment.id, ann, Judgement(**judgement), "k")
    assert store.all_submissions() == []
    none = store.submit(assignment.id, ann, Judgement(ranks=(), none_acceptable=True), "k")
    assert none.judgement.none_acceptable


def test_two_answer_projects_take_two_answers_and_steps(tmp_path):
    store = Store.create(str(tmp_path / "p.db"), ProjectConfig(mode="eight_step"))
    with pytest.raises(StoreRefuses, match="two answers, this one has 3"):
        store.add_tasks([task(1, answers=2), task(2, answers=3)])
    assert store.tasks() == []
    store.add_tasks([task(1, answers=2), task(2, answers=2)])
    ann = person(store, "ann")
    for step, ranks in ((4, (1, 2)), (5, (2, 1))):
        assignment = store.turn(ann).assignment
        kept = store.submit(assignment.id, ann, Judgement(ranks=(), step=step), assignment.id)
        assert kept.judgement.ranks == ranks


def test_adjudication_and_disagreement(tmp_path):
    store = project(tmp_path, tasks=2, overlap=2)
    ann, bob, lead = person(store, "ann"), person(store, "bob"), person(store, "lead", Role.LEAD)
    judge(store, ann, 1, 2, 3), judge(store, ann, 1, 2, 3)
    judge(store, bob, 1, 2, 3), judge(store, bob, 3, 2, 1)
    (differing,) = store.disagreements()
    assert (differing.alike, [one.person for one in differing.submissions]) == (0.0, ["ann", "bob"])
    store.adjudicate(differing.task.id, (1, 2, 2), lead)
    store.adjudicate(differing.task.id, (2, 1, 1), lead, "on second thought")
    assert store.disagreements()[0].adjudicated.ranks == (3, 1, 1)
    agreement = store.agreement()
    assert agreement.alike.value == 0.5
    assert agreement.by_person["ann"].value == 0.5


def test_progress_by_person(tmp_path):
    clock = Clock()
    store = project(tmp_path, tasks=5, clock=clock, daily_target=7)
    ann = person(store, "ann")
    assignment = store.turn(ann).assignment
    store.submit(assignment.id, ann, Judgement(ranks=(1, 2, 3), seconds=30), "a")
    clock.now += 86_400
    assignment = store.turn(ann).assignment
    store.submit(assignment.id, ann, Judgement(ranks=(1, 2, 3), seconds=10), "b")
    store.turn(ann)
    own = store.progress(ann)
    assert (own.submitted, own.today, own.daily_target, own.remaining) == (2, 1, 7, 3)
    (row,) = store.progress().people
    assert (row.submitted, row.today, row.working, row.last_seen) == (2, 1, 1, clock.now)


def test_a_backup_is_a_project(tmp_path):
    store = project(tmp_path)
    token = store.invite("ann")
    judge(store, store.person(token), 1, 2, 3)
    store.backup(tmp_path / "b" / "backup.db")
    copy = Store.open(str(tmp_path / "b" / "backup.db"))
    assert copy.all_submissions() == store.all_submissions()
    assert copy.tasks() == store.tasks()
    judge(copy, copy.person(token), 3, 2, 1)
    assert [one.seq for one in copy.all_submissions()] == [1, 2]
    with pytest.raises(UserError, match="exists"):
        store.backup(tmp_path / "b" / "backup.db")
    assert [path.name for path in (tmp_path / "b").glob(".tmp*")] == []


def test_projects_are_told_from_other_files(tmp_path):
    path = tmp_path / "project.db"
    with pytest.raises(UserError, match="no labelling project"):
        Store.open(str(path))
    path.write_text("no data base " * 100, encoding="utf-8")
    with pytest.raises(UserError, match="no labelling project"):
        Store.open(str(path))
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(UserError, match="no labelling project"):
        Store.open(str(tmp_path / "other.db"))
    project(tmp_path / "new")
    with pytest.raises(UserError, match="already"):
        project(tmp_path / "new")


def test_older_files_are_brought_up_to_date_once_and_newer_ones_refused(tmp_path, monkeypatch):
    store = project(tmp_path)
    store.close()
    calls = []

    def add_column(connection):
        calls.append(1)
        connection.execute(sa.text("ALTER TABLE people ADD COLUMN mood TEXT"))

    old = tables.Database(str(tmp_path / "project.db"))
    old.upgrade((add_column,))
    old.upgrade((add_column,))
    assert calls == [1]
    with pytest.raises(UserError, match="newer plaudit"):
        Store.open(str(tmp_path / "project.db"))

    def broken(connection):
        connection.execute(sa.text("ALTER TABLE people ADD COLUMN second TEXT"))
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        old.upgrade((add_column, broken))
    with old.read() as connection:
        assert "second" not in [column["name"] for column in sa.inspect(connection).get_columns("people")]


# ---------------------------------------------------------------------------------------------------------- faults

KILLED = """
import sys
from plaudit.feedback.records import Judgement
from plaudit.feedback.store import Store
store = Store.open(sys.argv[1])
ann = store.person(sys.argv[2])
number = 0
while assignment := store.turn(ann).assignment:
    number += 1
    key = f"{sys.argv[3]}-{number}"
    store.submit(assignment.id, ann, Judgement(ranks=(1, 2, 3)), key)
    print(key, flush=True)
"""


def test_kill_loses_nothing_that_was_acknowledged_and_nothing_is_there_twice(tmp_path):
    store = project(tmp_path, tasks=60)
    token = store.invite("ann")
    acknowledged = []
    for run in range(2):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "project.db"), token, str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            lines = [process.stdout.readline() for _ in range(7 + run)]
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += [line.strip() for line in [*lines, *process.stdout] if line.endswith("\n")]
    kept = store.all_submissions(superseded=True)
    with store._db.read() as connection:
        keys = list(connection.execute(sa.select(tables.SUBMISSIONS.c.key)).scalars())
    assert set(acknowledged) <= set(keys)
    assert len(keys) <= len(acknowledged) + 2  # at most the one in flight, each time
    assert len({one.task_id for one in kept}) == len(kept) == store.progress().submitted
    assert store.turn(store.person(token)).assignment is not None


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path):
    store = project(tmp_path, tasks=2)
    ann = person(store, "ann")
    assignment = store.turn(ann).assignment

    def full(connection, record):
        connection.execute(f"PRAGMA max_page_count={connection.execute('PRAGMA page_count').fetchone()[0]}")

    store.close()
    sa.event.listen(store._db.engine, "connect", full)
    long = Judgement(ranks=(1, 2, 3), comment="x" * 20_000)
    with pytest.raises(StoreUnavailable, match=r"project.db: database or disk is full. Nothing of this was saved"):
        store.submit(assignment.id, ann, long, "k")
    sa.event.remove(store._db.engine, "connect", full)
    store.close()
    assert store.all_submissions() == []
    assert store.progress(ann).submitted == 0
    store.submit(assignment.id, ann, long, "k")
    assert len(store.all_submissions()) == 1
