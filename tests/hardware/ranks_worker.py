"""Processes that compute together, without torchrun: torch is imported once, then one child is forked a rank.

python ranks_worker.py FOLDER prints what each of three ranks saw, as JSON.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from plaudit.errors import UserError
from plaudit.hardware import ranks as parallel
from plaudit.hardware.ranks import Ranks

NAN = float("nan")


def start(
    world: int, work: Callable[[Ranks], Any], folder: Path, environ: Mapping[str, str] | None = None
) -> list[int]:
    """Fork the ranks of one world; their process ids. What `work` returns is left in FOLDER/rank-N.json, what they say
    in FOLDER/rank-N.txt; they exit with 0, or with the number that `work` gave to `sys.exit`."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pids = []
    for rank in range(world):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 70
        try:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
            os.environ |= {parallel.TIMEOUT: "45", **(environ or {})}
            said = os.open(folder / f"rank-{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            result = work(parallel.start())
            (folder / f"rank-{rank}.json").write_text(json.dumps(result), encoding="utf-8")
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pids


def codes(pids: list[int], patience: float = 90.0) -> list[int]:
    """Each rank's exit code, −signal where one ended it; those that still live after `patience` are killed."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + patience
    while len(ended) < len(pids):
        for pid in set(pids) - set(ended):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                ended[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        time.sleep(0.01)
    return [ended[pid] for pid in pids]


def together(
    world: int, work: Callable[[Ranks], Any], folder: Path, environ: Mapping[str, str] | None = None
) -> list[Any]:
    """What `work` returns on each rank."""
    ended = codes(start(world, work, folder, environ))
    said = [(folder / f"rank-{rank}.txt").read_text(encoding="utf-8") for rank in range(world)]
    assert ended == [0] * world, said
    return [json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in range(world)]


def everything(ranks: Ranks) -> dict[str, Any]:
    """Each method once, on numbers that differ from rank to rank."""
    from plaudit.records.statistics import Max, Sum, to_plain

    me = ranks.rank
    seen: dict[str, Any] = {"rank": me, "first": ranks.is_first, "share": ranks.share([5, 1, 9, 9, 3, 2, 2])}
    seen["sum"] = ranks.sum(torch.tensor([1.5, 10.0]) * (me + 1)).tolist()
    seen["totals"] = ranks.totals(0.1, 2.0**60 if me == 0 else 1.0)
    rows = torch.zeros(3)
    rows[me] = [0.1, NAN, -3e-39][me]
    seen["rows"] = ranks.sum(rows).tolist()
    statistics = {"tokens": Sum(10.0**me), "largest": Max(10.0**me)}
    seen["add"] = to_plain(ranks.add(statistics | ({"lone": Sum(0.5)} if me == 1 else {})))
    seen["counts"] = ranks.add_counts(Counter({"a": -0.5 - me} if me else {}))
    seen["gather"] = ranks.gather({"é" * me: [me, 0.1 + me, NAN]})
    seen["gather_rows"] = sorted(ranks.gather_rows({me: "a" * me, 10 - me: None}).items())
    mine = {} if me == 2 else {"x": torch.tensor([[1.0 + me]]), "n": torch.tensor([me], dtype=torch.int64)}
    seen["gather_tensors"] = {name: t.tolist() for name, t in ranks.gather_tensors(mine).items()}
    seen["largest"] = ranks.largest([3, 15, 2][me])
    done: list[int] = []
    seen["first_returns"] = ranks.first(lambda: done.append(me) or "done")
    seen["ask_first"] = ranks.ask_first(lambda: {"asked": me})
    seen["did"] = done
    return seen | {"errors": errors(ranks), "gradients": gradients(ranks)}


def errors(ranks: Ranks) -> list[list[str]]:
    def refuse() -> None:
        raise UserError(f"rank {ranks.rank} refuses")

    found = []
    for work in (
        lambda: ranks.first(refuse),
        lambda: ranks.check_same("the weather", "rain" if ranks.rank == 1 else "sun"),
        lambda: ranks.check_same("the weather", {"sun": [1, 2.5]}),
    ):
        try:
            work()
            found.append(["", ""])
        except UserError as error:
            found.append([type(error).__name__, str(error)])
    return found


def gradients(ranks: Ranks) -> list[Any]:
    """Four parameters: all have a gradient, one rank has, none has, and one of another type."""
    parameters = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(3)]
    parameters += [torch.nn.Parameter(torch.zeros(3, dtype=torch.float64)), torch.nn.Parameter(torch.zeros(1))]
    parameters[0].grad = torch.full((2, 2), 1.0 + ranks.rank)
    if ranks.rank == 2:
        parameters[1].grad = torch.arange(4.0).reshape(2, 2)
    parameters[3].grad = torch.full((3,), 1e-9, dtype=torch.float64) + ranks.rank
    parameters[4].requires_grad_(False)
    ranks.sum_gradients(iter(parameters))
    return [None if p.grad is None else p.grad.tolist() for p in parameters]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(together(3, everything, Path(sys.argv[1]))))
