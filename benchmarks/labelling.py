"""Many scripted labellers at once against the labelling server, killed now and then: how fast, and is anything lost?

    python -m benchmarks.labelling --labellers 200 --seconds 600 --kills 10
    python -m benchmarks.labelling --postgres …          the same on a PostgreSQL server that is started for it

Every labeller asks for a task, thinks, and sends a ranking, through the page's own API; a request that fails because
the server was killed is sent again with its key, as the page does. Printed as JSON: response times, the server's CPU
time for a request, and after the end what the store holds: rankings lost, twice, and leases beyond their time.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.postgres import server as postgres
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Prompt
from plaudit.web.label.project import project_access

PORT = 8377
ADDRESS = f"http://127.0.0.1:{PORT}"
LEASE_MINUTES = 30.0


@dataclass(kw_only=True)
class Tally:
    """What the labellers saw."""

    milliseconds: list[float] = field(default_factory=list)
    """Of each request that was answered."""
    acknowledged: set[str] = field(default_factory=set)
    """Keys of the rankings of which the server said that they are safe."""
    repeated: int = 0
    """Requests that were sent again."""
    refused: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labellers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--think", type=float, default=8.0, help="seconds between a task and its ranking, on average")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--postgres", action="store_true")
    known = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        if known.postgres:
            url = stack.enter_context(postgres()).url("labelling")
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="plaudit-labelling-"))
            url = str(Path(folder) / "project.db")
        print(json.dumps(measure(url, known), indent=1))


def measure(url: str, known: argparse.Namespace) -> dict[str, Any]:
    config = ProjectConfig(overlap=2, gold_share=0.0, lease_minutes=LEASE_MINUTES)
    store = Store.create(url, config)
    answers = [Candidate(text=f"An answer of some length, the {i}th of its kind. " * 8) for i in range(4)]
    store.add_tasks([Task.of(Prompt.of_text(f"Question {i}?"), answers) for i in range(known.tasks)])
    cookie = project_access(store).cookie
    tokens = [store.invite(f"labeller {i}") for i in range(known.labellers)]
    tally = Tally()
    cpu_seconds = asyncio.run(_session(url, cookie, tokens, tally, known))
    return {
        "store": "PostgreSQL" if known.postgres else "SQLite",
        **{name: getattr(known, name) for name in ("labellers", "seconds", "think", "kills")},
        **_times(tally, cpu_seconds),
        **_kept(store, tally),
    }


def _times(tally: Tally, cpu_seconds: float) -> dict[str, Any]:
    cuts = statistics.quantiles(tally.milliseconds, n=100)
    return {
        "requests": len(tally.milliseconds),
        "sent again": tally.repeated,
        "refused": tally.refused,
        "p50 ms": round(cuts[49], 1),
        "p95 ms": round(cuts[94], 1),
        "p99 ms": round(cuts[98], 1),
        "server's CPU ms a request": round(1000 * cpu_seconds / len(tally.milliseconds), 2),
        "load of the machine": round(os.getloadavg()[0], 1),
    }


def _kept(store: Store, tally: Tally) -> dict[str, Any]:
    """What is in the store, against what the labellers were told."""
    submissions = store.all_submissions(superseded=True)
    of_task = [(one.task_id, one.person) for one in submissions]
    comments = {one.judgement.comment for one in submissions}  # each labeller writes its key into the comment
    working = sum(person.working for person in store.progress().people)
    return {
        "acknowledged": len(tally.acknowledged),
        "stored": len(submissions),
        "lost": len(tally.acknowledged - comments),
        "twice": len(of_task) - len(set(of_task)),
        "leases in force": working,
        "tasks beyond overlap": sum(count > store.config.overlap for count in Counter(t for t, _ in of_task).values()),
    }


async def _session(url: str, cookie: str, tokens: Sequence[str], tally: Tally, known: argparse.Namespace) -> float:
    """The server's CPU seconds of all its lives, without its starts."""
    end = time.monotonic() + known.seconds
    process = await _started(url)
    cpu_seconds = -_cpu_seconds(process.pid)
    limits = httpx2.Limits(max_connections=len(tokens), max_keepalive_connections=len(tokens))
    async with httpx2.AsyncClient(base_url=ADDRESS, headers={"origin": ADDRESS}, limits=limits, timeout=30) as client:
        people = [asyncio.create_task(_labeller(client, cookie, t, tally, end, known.think)) for t in tokens]
        for _ in range(known.kills):
            await asyncio.sleep(known.seconds / (known.kills + 1))
            cpu_seconds += _cpu_seconds(process.pid)
            process.kill()
            process.wait()
            process = await _started(url)
            cpu_seconds -= _cpu_seconds(process.pid)
        await asyncio.gather(*people)
    cpu_seconds += _cpu_seconds(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait()
    return cpu_seconds


async def _started(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "plaudit", "label", "--project", url, "--port", str(PORT)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    async with httpx2.AsyncClient() as client:
        for _ in range(600):
            with contextlib.suppress(httpx2.TransportError):
                await client.get(ADDRESS)
                return process
            await asyncio.sleep(0.1)
    process.kill()
    raise RuntimeError("the server doesn't answer")


def _cpu_seconds(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


async def _labeller(
    client: httpx2.AsyncClient, cookie: str, token: str, tally: Tally, end: float, think: float
) -> None:
    """One person: a task, a thought, a ranking, until the time is up."""
    draw = random.Random(token)
    headers = {"cookie": f"{cookie}={token}"}
    await asyncio.sleep(draw.random() * think)
    while time.monotonic() < end:
        answer = await _answered(client, tally, "GET", "/api/next", headers, None)
        task = (answer or {}).get("assignment")
        if task is None:
            await asyncio.sleep(think)
            continue
        await asyncio.sleep(draw.expovariate(1 / think))
        key = f"{draw.getrandbits(96):024x}"
        ranks = [draw.randint(1, 4) for _ in task["answers"]]
        body = {"assignment": task["id"], "key": key, "ranks": ranks, "seconds": think, "comment": key}
        if await _answered(client, tally, "POST", "/api/submit", headers, body) is not None:
            tally.acknowledged.add(key)


async def _answered(
    client: httpx2.AsyncClient, tally: Tally, method: str, path: str, headers: dict[str, str], body: Any
) -> dict[str, Any] | None:
    """The answer, however often it takes; None where the server refuses."""
    while True:
        began = time.monotonic()
        try:
            response = await client.request(method, path, headers=headers, json=body)
        except httpx2.TransportError:
            tally.repeated += 1
            await asyncio.sleep(0.5)
            continue
        tally.milliseconds.append(1000 * (time.monotonic() - began))
        if response.status_code == 200:
            return response.json()
        tally.refused += 1
        if response.status_code < 500 and response.status_code != 429:
            return None
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    main()
