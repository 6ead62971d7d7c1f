"""Projects with scripted people in them."""

from pathlib import Path

from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Assignment, Candidate, Judgement, Person, Role, Submission, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Prompt


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def task(number: int, answers: int = 3, gold: tuple[int, ...] | None = None) -> Task:
    texts = [f"answer {letter} to {number}" for letter in "abcdefgh"[:answers]]
    return Task.of(Prompt.of_text(f"question {number}"), [Candidate(text=text) for text in texts], gold_ranks=gold)


def project(folder: Path, tasks: int = 4, clock: Clock | None = None, **options) -> Store:
    store = Store.create(str(folder / "project.db"), ProjectConfig(**options), clock=clock)
    store.add_tasks([task(number) for number in range(tasks)])
    return store


def person(store: Store, name: str, role: Role = Role.LABELLER) -> Person:
    invited = store.person(store.invite(name, role))
    assert invited is not None
    return invited


def judge(store: Store, who: Person, *ranks: int, key: str = "") -> Submission:
    """The next task, ranked so in its own order."""
    assignment = store.turn(who).assignment
    assert assignment is not None
    return submit(store, who, assignment, *ranks, key=key)


def submit(store: Store, who: Person, assignment: Assignment, *ranks: int, key: str = "") -> Submission:
    return store.submit(assignment.id, who, Judgement(ranks=ranks), key or assignment.id)
