"""Two hundred scripted labellers at the labelling page, while its server is killed: how quick, and is anything lost?

    python -m benchmarks labelling                                      ten minutes and ten `kill -9` on SQLite, then
                                                                        on a PostgreSQL server that it starts itself
    python -m benchmarks labelling --only sqlite --seconds 60 --kills 2     a shorter look at one of them

Each labeller asks for a task, thinks (exponential, `--think` seconds on average), and sends; a send without an answer
is repeated with the same key, as the page does it. Afterwards the store is compared with what was acknowledged.
Latencies are the labellers', of requests to a server that was up; how long a killed one was away is told beside them.
It ends with a JSON record and a table, and with status 1 where something was lost, doubled or stuck, or was too slow.
"""

import argparse
import asyncio
import contextlib
import json
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import postgres
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Prompt
from plaudit.web.label.project import project_access
from plaudit.web.label.views import order_words

LEASE_MINUTES = 0.5
RETRY = 0.5
"""Seconds between tries of a send that wasn't answered."""
P95_MS = 150
"""What the slowest twentieth of all answered requests may begin with."""
DATABASES = ("sqlite", "postgresql")


@dataclass(slots=True)
class Tally:
    """What the labellers saw."""

    acknowledged: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)
    """(labeller, task, ranks as sent) of every send that was answered with 200."""
    seconds: list[float] = field(default_factory=list)
    """Of each answered request."""
    refused: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    downtimes: list[float] = field(default_factory=list)


class Server:
    """`plaudit label` in a process of its own, always on the same port."""

    def __init__(self, url: str) -> None:
        self.url = url
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "plaudit", "label", self.url, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def up(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(0.02)


class Labeller:
    """One connection, kept open, as a browser does it."""

    def __init__(self, name: str, cookie: str, port: int, tally: Tally, think: float) -> None:
        self.name, self.cookie, self.port, self.tally, self.think = name, cookie, port, tally, think
        self.random = random.Random(name)
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def work(self, until: float) -> None:
        await asyncio.sleep(self.random.uniform(0, self.think))
        task = (await self.answered("GET", "/api/next"))["assignment"]
        while task and time.monotonic() < until:
            await asyncio.sleep(self.random.expovariate(1 / self.think))
            ranks = [self.random.randint(1, 4) for _ in task["answers"]]
            key = f"{self.name}-{task['id']}"
            body = {"assignment": task["id"], "key": key, "ranks": ranks, "seconds": self.think}
            answer = await self.answered("POST", "/api/submit", body)
            self.tally.acknowledged.append((self.name, task["task"], tuple(ranks)))
            task = answer["assignment"]
        if self.streams:
            self.streams[1].close()

    async def answered(self, method: str, path: str, body: dict | None = None) -> dict:
        """Again and again until there is an answer."""
        while True:
            begin = time.perf_counter()
            try:
                status, value = await asyncio.wait_for(self.request(method, path, body), 20)
            except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError):
                self.tally.unanswered += 1
                self.streams = None
                await asyncio.sleep(RETRY)
                continue
            self.tally.seconds.append(time.perf_counter() - begin)
            if status == 200:
                return value
            self.tally.refused[status] += 1
            await asyncio.sleep(RETRY)

    async def request(self, method: str, path: str, body: dict | None) -> tuple[int, dict]:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        content = json.dumps(body).encode() if body is not None else b""
        host = f"127.0.0.1:{self.port}"
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nCookie: {self.cookie}\r\n"
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(answer.split("content-length: ")[1].split("\r\n")[0])
        return int(answer.split()[1]), json.loads(await reader.readexactly(length))


async def storm(server: Server, labellers: list[Labeller], seconds: float, kills: int, tally: Tally) -> None:
    await server.up()
    until = time.monotonic() + seconds
    work = asyncio.gather(*(labeller.work(until) for labeller in labellers))
    for index in range(kills):
        await asyncio.sleep(seconds / (kills + 1) * random.Random(index).uniform(0.5, 1.0))
        server.kill()
        begin = time.monotonic()
        server.start()
        await server.up()
        tally.downtimes.append(time.monotonic() - begin)
    await work


def verify(store: Store, tally: Tally) -> dict[str, int]:
    """What must be 0, counted: lost, twice, changed, and tasks that nobody would get any more."""
    stored = store.all_submissions(superseded=True)
    by_task = {(one.person, one.task_id): one for one in stored}
    orders = {key: one.order for key, one in by_task.items()}
    changed = 0
    for person, task, ranks in tally.acknowledged:
        if (one := by_task.get((person, task))) is not None:
            shown = [one.judgement.ranks[index] for index in orders[person, task]]
            changed += order_words(ranks) != order_words(shown)
    acknowledged = {(person, task) for person, task, _ in tally.acknowledged}
    time.sleep(60 * LEASE_MINUTES + 1)
    store.invite("afterwards")
    person = next(p for p in store.people() if p.name == "afterwards")
    waiting, handed = store.progress(person).remaining, 0
    while handed < waiting and (assignment := store.turn(person).assignment) is not None:
        store.skip(assignment.id, person, "looked at")
        handed += 1
    return {
        "acknowledged and lost": len(acknowledged - set(by_task)),
        "stored twice": len(stored) - len(by_task),
        "acknowledged with other ranks": changed,
        "tasks stuck in a lease": waiting - handed,
    }


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """An SQLite file, or a PostgreSQL server of our own (Debian's; as root it runs as `postgres`)."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "project.db")
    else:
        with postgres.server() as server:
            yield server.url("labelling")


def measure(arguments: argparse.Namespace, url: str) -> dict:
    store = Store.create(url, ProjectConfig(overlap=3, gold_share=0, lease_minutes=LEASE_MINUTES))
    answers = [Candidate(text=f"Answer {letter}: " + "some words of an answer " * 20) for letter in "abcd"]
    wanted = int(1.3 * arguments.labellers * arguments.seconds / arguments.think / 3) + arguments.labellers
    store.add_tasks([Task.of(Prompt.of_text(f"Prompt {i}"), answers) for i in range(wanted)])
    tally, server, access = Tally(), Server(url), project_access(store)
    names = [f"labeller {i}" for i in range(arguments.labellers)]
    cookies = [f"{access.cookie}={store.invite(name)}" for name in names]
    labellers = [Labeller(n, c, server.port, tally, arguments.think) for n, c in zip(names, cookies, strict=True)]
    begin, used = time.monotonic(), _servers_seconds()
    try:
        asyncio.run(storm(server, labellers, arguments.seconds, arguments.kills, tally))
    finally:
        server.kill()
    lasted = time.monotonic() - begin
    used = _servers_seconds() - used
    cuts = [1000 * cut for cut in statistics.quantiles(tally.seconds, n=100)]
    record = {
        "labellers": len(names),
        "submissions": len(tally.acknowledged),
        "per_second": round(len(tally.acknowledged) / lasted, 1),
        **{f"p{share}_ms": round(cuts[share - 1], 1) for share in (50, 95, 99)},
        "server_cpu_ms_a_request": round(1000 * used / len(tally.seconds), 1),
        "kills": len(tally.downtimes),
        "longest_downtime_s": round(max(tally.downtimes, default=0.0), 1),
        "unanswered_and_repeated": tally.unanswered,
        "refused": dict(tally.refused),
        "must_be_0": verify(store, tally),
    }
    store.close()
    failures = [f"{count} {what}" for what, count in record["must_be_0"].items() if count]
    if record["p95_ms"] >= P95_MS:
        failures.append(f"p95 is {record['p95_ms']} ms, not below {P95_MS}")
    if record["kills"] < arguments.kills:
        failures.append(f"only {record['kills']} of {arguments.kills} kills")
    return record | {"failures": failures}


def _servers_seconds() -> float:
    """CPU seconds of the page's servers that have ended (start-up is in it; PostgreSQL's own processes are not)."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def table(records: dict[str, dict]) -> str:
    columns = ("submissions", "p50_ms", "p95_ms", "p99_ms", "server_cpu_ms_a_request", "kills", "longest_downtime_s")
    head = ["database", *columns, "lost, twice, changed, stuck", "verdict"]
    rows = []
    for kind, record in records.items():
        verdict = "FAIL: " + "; ".join(record["failures"]) if record["failures"] else "pass"
        zeros = ", ".join(str(count) for count in record["must_be_0"].values())
        rows.append([kind, *(record[name] for name in columns), zeros, verdict])
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks labelling", description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=DATABASES, help="this data base (default: both)")
    parser.add_argument("--labellers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600, help="on each data base")
    parser.add_argument("--think", type=float, default=10.0, help="seconds between tasks, on average")
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers end as well
    records = {}
    for kind in (arguments.only,) if arguments.only else DATABASES:
        with database(kind) as url:
            print(f"{kind}: {arguments.labellers} labellers for {arguments.seconds:g} s", file=sys.stderr, flush=True)
            records[kind] = measure(arguments, url)
    print(json.dumps(records, indent=2))
    print(table(records))
    failed = [kind for kind, record in records.items() if record["failures"]]
    print(f"FAIL: {', '.join(failed)}" if failed else "PASS: nothing lost, doubled or stuck, and quick enough")
    sys.exit(bool(failed))
