"""One call of a benchmark: which processes to measure, in which order, until when; results in a file that a later call
goes on with.

Every measurement is a process of its own, ours and the peers' in turn, with the same weights, prompts and threads.
"""

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.environments import EnvironmentFailed, cache, has_gpu, python_of
from benchmarks.shapes import SHAPES, Shape

FORMAT = 1
ROOT = Path(__file__).resolve().parent.parent
WORKERS = Path(__file__).resolve().parent / "workers"
OURS = "plaudit"
TAG = "FIGURES "


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One process to measure."""

    case: dict[str, Any]
    """What is measured, in words and numbers for the table; the same for all sides."""
    side: str
    """`plaudit`, or the peer and its version."""
    worker: str
    """File in workers/."""
    task: dict[str, Any]
    environment: str = ""
    """A peer's, as in peers/requirements-NAME.txt; empty: this Python."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables beside the threads'."""
    processes: int = 1
    """That compute together, a share of the threads each (torchrun)."""


def arguments(name: str, about: str, argv: Sequence[str], **defaults: Any) -> argparse.Namespace:
    """The options that every benchmark has. `defaults` add options of its own: name=(default, help)."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about)
    parser.add_argument("--quick", action="store_true", help="a small model and one round: does it all run?")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/benchmarks") / f"{name}.json",
        metavar="FILE",
        help="results; a call goes on with what is there (default: %(default)s)",
    )
    parser.add_argument("--again", action="store_true", help="measure anew what FILE holds")
    parser.add_argument("--retry", action="store_true", help="try once more what failed, and keep the rest")
    parser.add_argument(
        "--budget",
        type=float,
        default=450,
        metavar="SECONDS",
        help="begin nothing that would end later; call again for the rest (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=float, default=420, metavar="SECONDS", help="of one process")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of every process; 0: one a core")
    parser.add_argument("--device", default="", help="cpu or cuda; empty: cuda where there is one")
    parser.add_argument("--no-peers", action="store_true", help="measure plaudit alone")
    for option, (default, text) in defaults.items():
        flag = f"--{option.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true", help=text)
        else:
            parser.add_argument(flag, default=default, type=type(default), help=f"{text} (default: %(default)s)")
    options = parser.parse_args(argv)
    for model in getattr(options, "models", "").split(","):
        if model and model not in SHAPES:
            parser.error(f"--models: {model!r} is none of {', '.join(SHAPES)}")
    options.threads = options.threads or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count())
    options.device = options.device or ("cuda" if has_gpu() else "cpu")
    return options


class Session:
    """Measures units, as far as the budget goes, and keeps them."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.options, self.began = name, options, time.monotonic()
        self.record = self._opened()
        peak = self._worker("peak.py", {"device": options.device}, sys.executable, {})
        self.peaks: dict[str, float] = peak["peaks"]
        self.record["machine"] = {**_machine(), **{k: peak[k] for k in ("threads", "torch", "device")}}
        self.record["peaks"] = [*self.record["peaks"], self.peaks]
        best = max(self.peaks, key=lambda name: self.peaks[name])
        told = ", ".join(f"{name} {speed / 1e9:,.0f}" for name, speed in self.peaks.items())
        print(f"matmul peak, GFLOP/s: {told}; {options.threads} threads, load {os.getloadavg()[0]:.1f}", flush=True)
        self.precision = best

    # ---- the file

    def _opened(self) -> dict[str, Any]:
        """What FILE holds of the same code on the same number of threads; otherwise it is put aside."""
        key = {
            "format": FORMAT,
            "benchmark": self.name,
            "code": code_digest(),
            "threads": self.options.threads,
            "device": self.options.device,
        }
        out: Path = self.options.out
        if out.exists():
            record = json.loads(out.read_text(encoding="utf-8"))
            if all(record.get(name) == value for name, value in key.items()):
                return record
            aside = out.with_suffix(".before.json")
            out.replace(aside)
            print(f"{out} holds other code's measurements: now {aside}", flush=True)
        return {**key, "commit": _commit(), "peaks": [], "measurements": []}

    def _save(self) -> None:
        out: Path = self.options.out
        out.parent.mkdir(parents=True, exist_ok=True)
        new = out.with_suffix(".new")
        new.write_text(json.dumps(self.record, indent=1), encoding="utf-8")
        new.replace(out)

    # ---- measuring

    def measure(self, units: Sequence[Unit], *, rounds: int) -> None:
        """Each unit once a round, ours and the peers' alternating; what FILE holds is not measured again."""
        planned = [(number, unit) for number in range(1, rounds + 1) for unit in turned(units, number)]
        if self.options.no_peers:
            planned = [(number, unit) for number, unit in planned if unit.side == OURS]
        if self.options.retry:
            self.record["measurements"] = [m for m in self.record["measurements"] if not m["failed"]]
        if self.options.again:
            self.record["measurements"] = []
        left = [(number, unit) for number, unit in planned if not self._done(number, unit)]
        for place, (number, unit) in enumerate(left):
            if self._done(number, unit):  # an earlier round of it has failed just now
                continue
            expected = self._expected(unit)
            if time.monotonic() - self.began + expected > self.options.budget and place:
                print(f"{len(planned) - len(left) + place} of {len(planned)} measured; call again for the rest")
                break
            self._one(number, unit)
        self._save()

    def _one(self, number: int, unit: Unit) -> None:
        entry = {"case": unit.case, "side": unit.side, "round": number, "load": os.getloadavg()[0]}
        began = time.monotonic()
        try:
            python = python_of(unit.environment) if unit.environment else sys.executable
            began = time.monotonic()
            figures = self._worker(unit.worker, unit.task, str(python), unit.variables, unit.processes)
            entry |= {"figures": figures, "failed": ""}
            told = "" if "seconds" not in figures else f" {[round(s['total'], 2) for s in figures['seconds']]}"
        except (EnvironmentFailed, WorkerFailed) as error:
            entry |= {"figures": {}, "failed": str(error)}
            told = f" failed: {error}"
        entry |= {"peaks": self.peaks, "wall": time.monotonic() - began}
        self.record["measurements"].append(entry)
        self._save()
        print(f"{name_of(unit.case)}, {unit.side}, round {number}:{told} ({entry['wall']:.0f} s)", flush=True)

    def _done(self, number: int, unit: Unit) -> bool:
        return any(
            m["case"] == unit.case and m["side"] == unit.side and (m["round"] == number or m["failed"])
            for m in self.record["measurements"]
        )

    def _expected(self, unit: Unit) -> float:
        """Seconds, by the same unit's last time; else by another side's; else a guess that leaves room."""
        same = [m for m in self.record["measurements"] if m["case"] == unit.case]
        own = [m["wall"] for m in same if m["side"] == unit.side]
        return own[-1] if own else 1.5 * max((m["wall"] for m in same), default=self.options.budget / 4)

    def _worker(
        self, worker: str, task: dict[str, Any], python: str, variables: dict[str, str], processes: int = 1
    ) -> dict[str, Any]:
        """The figures of one process, or of several that compute together. Raises WorkerFailed; all of them end with
        it."""
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or python == sys.executable}
        environment = {**inherited, "OMP_NUM_THREADS": str(max(1, self.options.threads // processes)), **variables}
        command, given = [python, str(WORKERS / worker)], json.dumps(task)
        with contextlib.ExitStack() as stack:
            if processes > 1:
                file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8"))
                file.write(given)
                file.flush()
                environment["PLAUDIT_BENCHMARK_TASK"] = file.name
                run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
                command = [python, *run, command[1]]
            return self._figures(command, given, environment)

    def _figures(self, command: Sequence[str], given: str, environment: dict[str, str]) -> dict[str, Any]:
        process = subprocess.Popen(
            command, env=environment, text=True, encoding="utf-8", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(given, timeout=self.options.timeout)
        except subprocess.TimeoutExpired:
            raise WorkerFailed(f"not finished in {self.options.timeout:.0f} s") from None
        finally:
            if "PLAUDIT_BENCHMARK_TASK" in environment and process.poll() is None:  # torchrun ends its own, if asked
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(40)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = [line for line in out.splitlines() if line.startswith(TAG)]
        if process.returncode or not lines:
            said = (err.strip() or out.strip() or "no output").splitlines()
            errors = [line for line in said if re.match(r"(\[rank\d+\]: )?\w*(Error|Exception)\b", line)]
            last = (errors or said)[-1]
            raise WorkerFailed(f"exit {process.returncode}: {last[:300]}")
        return json.loads(lines[-1].removeprefix(TAG))

    # ---- models

    def models(self, shape: Shape, *, end: float = 1.0, longest: int = 64) -> Path:
        """Folder with policy/ and judge/ of the shape; answers reach on average the share `end` of `longest`."""
        maker = (WORKERS / "models.py").read_bytes() + (ROOT / "benchmarks" / "shapes.py").read_bytes()
        digest = hashlib.sha256(maker + f"{shape} {end} {longest}".encode()).hexdigest()[:12]
        folder = cache() / "models" / f"{shape.name}-{digest}"
        if not (folder / "whole").exists():
            task = {"folder": str(folder), "shape": shape.name, "end": end, "longest": longest}
            self._worker("models.py", task, sys.executable, {})
        return folder


class WorkerFailed(Exception):
    """A measuring process that gave no figures."""


def turned(units: Sequence[Unit], number: int) -> Iterable[Unit]:
    """The units of each case next to each other, the side that begins changing from round to round."""
    cases = list({json.dumps(unit.case): None for unit in units})
    for case in cases:
        sides = [unit for unit in units if json.dumps(unit.case) == case]
        yield from sides if number % 2 else reversed(sides)


def name_of(case: dict[str, Any]) -> str:
    """For people: its words and whole numbers."""
    return " ".join(str(value) for value in case.values() if not isinstance(value, float))


def code_digest() -> str:
    """Of everything whose speed is measured: plaudit's source and the workers."""
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), *WORKERS.glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _commit() -> str:
    answer = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return answer.stdout.strip()


def _machine() -> dict[str, Any]:
    model = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(),
            "date": datetime.now().strftime("%Y-%m-%d")}  # fmt: skip
