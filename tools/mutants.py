"""Break the code one line at a time; the test that carries `@kills` for that mistake must notice it.

    python tools/mutants.py          every mutation of tests/
    python tools/mutants.py kl gae   those whose file, test, old line or reason contains one of the words

Each mutation is applied to a copy of the checkout, never to the checkout. Exit status 1 when a mutant survives, when a
mutation no longer fits its file, or when a test already fails without any mutation. The libraries are imported once;
each mutant then runs in a fork of this process, so that it costs its test and not torch's import.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "benchmarks", "tests", "tools", "examples", "pyproject.toml")
SECONDS = 180
"""A mutant that runs longer is an error, not a kill: no test said what is wrong."""
PASSED, FAILED, LATE = 0, 1, -1
"""pytest's exit statuses, and ours for a test that was stopped; pytest's others (no tests, bad import) say nothing."""


@dataclass(frozen=True)
class Mutation:
    """What one `@kills(file, old=…, new=…, why=…)` says, and the test that carries it (`tests/a/test_b.py::test_c`)."""

    file: str
    old: str
    new: str
    why: str
    test: str

    @property
    def path(self) -> str:
        """From the root of the checkout."""
        inside = f"src/plaudit/{self.file}"
        return inside if (ROOT / inside).is_file() else self.file

    def fits(self, source: str) -> bool:
        return source.count(self.old) == 1 and self.old != self.new and bool(self.why)

    def has(self, words: Sequence[str]) -> bool:
        text = f"{self.file} {self.test} {self.old} {self.why}"
        return not words or any(word in text for word in words)


@dataclass(frozen=True)
class Task:
    """One run of pytest: of a test as it is (no mutation), or of a test against its mutant."""

    test: str
    mutation: Mutation | None = None


@dataclass(frozen=True)
class Outcome:
    task: Task
    status: int
    output: str
    seconds: float


# -------------------------------------------------------------------------------------------- the decorators are read


def mutations(folder: Path = ROOT / "tests") -> list[Mutation]:
    """In the order of the files and of the tests in them; nothing is imported."""
    return [mutation for path in sorted(folder.rglob("test_*.py")) for mutation in mutations_of(path)]


def mutations_of(path: Path) -> Iterator[Mutation]:
    source = path.read_text(encoding="utf-8")
    if "kills(" not in source:
        return
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for test in ast.parse(source).body:
        for mark in test.decorator_list if isinstance(test, ast.FunctionDef) else ():
            if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "kills":
                options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in mark.keywords}
                yield Mutation(file=ast.literal_eval(mark.args[0]), test=f"{name}::{test.name}", **options)


# ---------------------------------------------------------------------------------------------------- the mutants run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    chosen = [mutation for mutation in mutations() if mutation.has(options.words)]
    began = time.monotonic()
    baseline = [Task(test) for test in dict.fromkeys(mutation.test for mutation in chosen)]
    broken = {outcome.task.test for outcome in run_all(baseline, options.workers) if outcome.status != PASSED}
    for test in sorted(broken):
        print(f"ERROR     {test} fails without any mutation; nothing it says counts")
    killed = 0
    tasks = [Task(mutation.test, mutation) for mutation in chosen if mutation.test not in broken]
    for outcome in run_all(tasks, options.workers):
        verdict, detail = read(outcome.status, outcome.output)
        killed += verdict == "killed"
        mutation = outcome.task.mutation
        print(f"{verdict:9} {outcome.seconds:4.0f} s  {mutation.file}: {mutation.why}  [{detail}]", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed in {time.monotonic() - began:.0f} s")
    sys.exit(0 if killed == len(chosen) > 0 else 1)


def read(status: int, output: str) -> tuple[str, str]:
    if status == FAILED and (failed := re.search(r"^FAILED \S+?::(\S+)", output, re.MULTILINE)):
        return "killed", f"by {failed[1]}"
    if status == PASSED:
        return "SURVIVED", "no test noticed"
    if status == LATE:
        return "ERROR", f"no answer in {SECONDS} s"
    return "ERROR", f"ended with {status}: {output.strip().splitlines()[-1] if output.strip() else ''}"


def run_all(tasks: Iterable[Task], workers: int) -> Iterator[Outcome]:
    """As many at once as there are copies of the checkout; the outcomes come in the order in which they end."""
    _import_once()
    waiting = list(reversed(list(tasks)))
    with tempfile.TemporaryDirectory(prefix="plaudit-mutants-") as folder:
        free = [_copy(Path(folder) / str(number)) for number in range(min(workers, len(waiting)))]
        running: dict[object, SimpleNamespace] = {}
        while waiting or running:
            while waiting and free:
                started = _start(waiting.pop(), free.pop())
                running[started.process.sentinel] = started
            connection.wait(list(running), timeout=1)
            for sentinel, started in list(running.items()):
                late = time.monotonic() - started.began > SECONDS
                if started.process.is_alive() and not late:
                    continue
                free.append(started.copy)
                yield _end(running.pop(sentinel), late)


def _import_once() -> None:
    """What nearly every test needs, but no plugin of pytest and nothing of plaudit: those belong to each mutant."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    import beartype
    import peft
    import pytest
    import torch
    import transformers

    del beartype, peft, pytest, torch, transformers


def _copy(copy: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / name)
    return copy


def _start(task: Task, copy: Path) -> SimpleNamespace:
    if task.mutation:
        file = copy / task.mutation.path
        original = file.read_text(encoding="utf-8")
        if not task.mutation.fits(original):
            raise SystemExit(f"{task.mutation.old!r} doesn't stand exactly once in {task.mutation.path}")
        file.write_text(original.replace(task.mutation.old, task.mutation.new), encoding="utf-8")
    child = get_context("fork").Process(target=_test, args=(task.test, copy))
    child.start()
    return SimpleNamespace(task=task, copy=copy, process=child, began=time.monotonic())


def _test(test: str, copy: Path) -> None:
    """The child: pytest in the copy, whose src comes before the checkout that is installed in the environment."""
    os.setsid()
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    sys.path[:] = [str(copy / "src"), *(p for p in sys.path if Path(p).resolve() not in (ROOT, ROOT / "tools"))]
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import pytest

    plugins = ["no:randomly", "no:cacheprovider", "no:xdist"]
    options = ["-x", "-q", "--no-header", "--tb=no", *(f"-p{plugin}" for plugin in plugins)]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # libraries that are imported already
    status = pytest.main([*options, test])
    sys.stdout.flush()
    os._exit(int(status))


def _end(started: SimpleNamespace, late: bool) -> Outcome:
    task, child = started.task, started.process
    if late:
        os.killpg(child.pid, signal.SIGKILL)
    child.join()
    if task.mutation:
        shutil.copy2(ROOT / task.mutation.path, started.copy / task.mutation.path)
    output = (started.copy / "output").read_text(encoding="utf-8", errors="replace")
    seconds = time.monotonic() - started.began
    return Outcome(task, LATE if late else child.exitcode, output, seconds)


if __name__ == "__main__":
    main()
