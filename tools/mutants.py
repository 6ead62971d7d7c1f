"""Break the formulas one line at a time; the test that is named for each mistake must notice it.

    python tools/mutants.py          all of tools/mutations.py
    python tools/mutants.py kl gae   those whose file, old line or reason contains one of the words

Each mutation is applied to a copy of the checkout, never to the checkout. Exit status 1 when a mutant survives, when a
mutation no longer fits its file, or when a named test already fails without any mutation.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("src", "tests", "tools", "examples", "pyproject.toml")
SECONDS = 180
"""A mutant that runs longer is an error, not a kill: no test said what is wrong."""
PASSED, FAILED = 0, 1  # pytest's exit statuses; the others (no tests, bad import) say nothing about the mutant


@dataclass(frozen=True)
class Outcome:
    mutation: Mutation
    verdict: str
    """killed, SURVIVED or ERROR."""
    detail: str
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if not options.words or any(w in f"{m.file} {m.old} {m.why}" for w in options.words)]
    began = time.monotonic()
    with copies(options.workers) as free, ThreadPoolExecutor(options.workers) as pool:
        tests = sorted({mutation.test for mutation in chosen})
        broken = [
            test for test, fault in zip(tests, pool.map(lambda t: baseline(t, free), tests), strict=True) if fault
        ]
        for test in broken:
            print(f"ERROR     {test} fails without any mutation; nothing it says counts")
        outcomes = list(pool.map(lambda m: judge(m, free), [m for m in chosen if m.test not in broken]))
    killed = sum(outcome.verdict == "killed" for outcome in outcomes)
    print(f"{killed} of {len(chosen)} mutants killed in {time.monotonic() - began:.0f} s")
    sys.exit(0 if killed == len(chosen) > 0 else 1)


@contextmanager
def copies(count: int) -> Iterator[Queue[Path]]:
    """As many copies of the checkout as there are workers, handed out one at a time."""
    free: Queue[Path] = Queue()
    with tempfile.TemporaryDirectory(prefix="plaudit-mutants-") as folder:
        for number in range(count):
            copy = Path(folder) / str(number)
            for name in COPIED:
                source = ROOT / name
                if source.is_dir():
                    shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, copy / name)
            free.put(copy)
        yield free


def baseline(test: str, free: Queue[Path]) -> bool:
    copy = free.get()
    try:
        return run(test, copy)[0] != PASSED
    finally:
        free.put(copy)


def judge(mutation: Mutation, free: Queue[Path]) -> Outcome:
    copy = free.get()
    file = copy / mutation.file
    original = file.read_text(encoding="utf-8")
    began = time.monotonic()
    try:
        if original.count(mutation.old) != 1:
            verdict, detail = (
                "ERROR",
                f"{mutation.old!r} stands {original.count(mutation.old)} times in {mutation.file}",
            )
        else:
            file.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
            verdict, detail = read(*run(mutation.test, copy))
    finally:
        file.write_text(original, encoding="utf-8")
        free.put(copy)
    outcome = Outcome(mutation, verdict, detail, time.monotonic() - began)
    print(
        f"{outcome.verdict:9} {outcome.seconds:4.0f} s  {Path(mutation.file).stem}: {mutation.why}  [{detail}]",
        flush=True,
    )
    return outcome


def run(test: str, copy: Path) -> tuple[int, str]:
    # The copy's src comes first on the path, before the checkout that is installed in the environment.
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:randomly"]
    command += ["-p", "no:cacheprovider", "-p", "no:xdist", test]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return -1, f"no answer in {SECONDS} s"
    return done.returncode, done.stdout + done.stderr


def read(status: int, output: str) -> tuple[str, str]:
    if status == FAILED and (failed := re.search(r"^FAILED \S+?::(\S+)", output, re.MULTILINE)):
        return "killed", f"by {failed[1]}"
    if status == PASSED:
        return "SURVIVED", "no test noticed"
    return "ERROR", f"pytest ended with {status}: {output.strip().splitlines()[-1] if output.strip() else ''}"


if __name__ == "__main__":
    main()
