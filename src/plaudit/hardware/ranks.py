"""Several processes, one computation (docs/parallel.md): the only module that knows ranks.

Every rank holds the whole model, the same data and the same order. What takes time is divided by rows: each rank takes
its share of a minibatch, of the prompts to answer, of the rows to score. What comes of it is added up or gathered, so
that afterwards every rank knows what one process would have known; nothing is averaged, since every loss is already
divided by the whole minibatch's count. A single process is a world of one, in which all of this is nothing.
"""

import atexit
import contextlib
import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from plaudit.errors import FirstFailed, RankLost, UserError
from plaudit.records.statistics import Statistics, add, from_plain, to_plain
from plaudit.tokens.batches import by_token_budget

T = TypeVar("T")

BUCKET = 2**22
"""Gradients that go into one message."""
TIMEOUT = "PLAUDIT_RANK_TIMEOUT"
"""Environment: seconds that a rank waits for the others before it gives up. The first may be asking a slow judge."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that compute together. Every method must be called by all ranks, in the same order."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    """Among the ranks of this machine: says which GPU."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.world == 1

    # ---- who does what

    def share(self, lengths: Iterable[int]) -> list[int]:
        """Which rows this rank computes, in order; every row is somebody's. Needs no message.

        Longest first, each to the rank that has the fewest tokens so far.
        """
        lengths = list(lengths)
        loads = [0] * self.world
        mine = []
        for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            rank = min(range(self.world), key=lambda r: loads[r])
            loads[rank] += lengths[row]
            if rank == self.rank:
                mine.append(row)
        return sorted(mine)

    def cuts(self, lengths: Iterable[int], budget: int) -> list[list[int]]:
        """This rank's share of the rows, cut into micro-batches of at most `budget` tokens."""
        lengths = list(lengths)
        mine = self.share(lengths)
        return [[mine[i] for i in cut] for cut in by_token_budget((lengths[row] for row in mine), budget)]

    # ---- adding up

    def sum(self, tensor: Tensor) -> Tensor:
        """Σ over ranks. Where each row is one rank's and 0 on the others, that is the row itself, bit for bit."""
        if self.is_alone:
            return tensor
        total = tensor.detach().clone()
        with _together():
            dist.all_reduce(total)
        return total

    def totals(self, *numbers: float) -> tuple[float, ...]:
        """Σ over ranks of each number, in double precision."""
        return numbers if self.is_alone else tuple(self.sum(torch.tensor(numbers, dtype=torch.float64)).tolist())

    def add_counts(self, counts: Counter[str]) -> Counter[str]:
        """Σ over ranks of each named number, in double precision; a name that a rank doesn't know counts 0 there."""
        total: Counter[str] = Counter()
        for part in self.gather(counts):
            total.update(part)
        return total

    def add(self, statistics: Statistics) -> Statistics:
        """The ranks' statistics as one; a name that a rank doesn't know has nothing to add there."""
        if self.is_alone:
            return statistics
        return add(*map(from_plain, self.gather(to_plain(statistics))))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over ranks. A parameter that no rank has a gradient for keeps none."""
        if self.is_alone:
            return
        trained = [p for p in parameters if p.requires_grad]
        holders = self.sum(torch.tensor([p.grad is not None for p in trained], dtype=torch.int64)).tolist()
        held = [p for p, count in zip(trained, holders, strict=True) if count]
        for bucket in _buckets(held):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            total = self.sum(torch.cat([grad.reshape(-1) for grad in grads]))
            for p, part in zip(bucket, total.split([p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p)

    # ---- telling each other

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in the order of ranks. Plain JSON values; floats come through unchanged, NaN too."""
        if self.is_alone:
            return [value]
        mine = torch.frombuffer(bytearray(json.dumps(value).encode("utf-8")), dtype=torch.uint8)
        with _together():
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(lengths, torch.tensor([len(mine)]))
            width = max(int(length) for length in lengths)
            parts = [torch.zeros(width, dtype=torch.uint8) for _ in range(self.world)]
            dist.all_gather(parts, nn.functional.pad(mine, (0, width - len(mine))))
        return [json.loads(part[: int(n)].numpy().tobytes()) for part, n in zip(parts, lengths, strict=True)]

    def gather_rows(self, rows: Mapping[int, Any]) -> dict[int, Any]:
        """Every row's value, from whoever computed it: {row: plain JSON value}."""
        return {row: value for part in self.gather(list(rows.items())) for row, value in part}

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each rank filled its share of the rows and left 0 elsewhere: whole tensors, also on a rank without a row."""
        if self.is_alone:
            return dict(tensors)
        shapes = {n: (list(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in tensors.items()}
        known = {name: about for part in self.gather(shapes) for name, about in part.items()}
        return {
            name: self.sum(tensors[name] if name in tensors else torch.zeros(shape, dtype=getattr(torch, dtype)))
            for name, (shape, dtype) in sorted(known.items())
        }

    def first(self, work: Callable[[], T]) -> T | None:
        """Do `work` on the first rank while the others wait; None on them. Its UserError is raised on all."""
        if not self.is_first:
            if failure := self.gather(None)[0]:
                raise FirstFailed(failure)
            return None
        try:
            result = work()
        except UserError as error:
            self.gather(str(error))
            raise
        self.gather(None)
        return result

    def ask_first(self, work: Callable[[], Any]) -> Any:
        """What `work` returns on the first rank, on all of them. Plain JSON values."""
        return self.gather(self.first(work))[0]

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return max(self.gather(number))

    def wait(self) -> None:
        """Go on when all have come here."""
        self.largest(0)

    def check_same(self, what: str, value: Any) -> None:
        """UserError where `value` (plain JSON) isn't the same on all ranks: they would no longer be one computation."""
        values = self.gather(value)
        if strange := [rank for rank, other in enumerate(values) if other != values[0]]:
            raise UserError(
                f"{what} on rank {', '.join(map(str, strange))} and on rank 0 differ, so they can't compute together. "
                "All ranks need the same files and versions; after a fault, resume from the last checkpoint."
            )


ALONE = Ranks()


@functools.cache
def start() -> Ranks:
    """This process's ranks: what torchrun says in the environment, or a world of one. Messages go by gloo on the CPU,
    by nccl between GPUs. Raises: UserError where the others can't be reached."""
    return join(os.environ)


def join(environ: Mapping[str, str]) -> Ranks:
    """Read RANK, WORLD_SIZE, LOCAL_RANK, and meet the others at MASTER_ADDR and MASTER_PORT."""
    if "RANK" not in environ or "MASTER_ADDR" not in environ:
        return ALONE
    try:
        rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        ranks = Ranks(rank, world, int(environ.get("LOCAL_RANK", rank)))
        timeout = float(environ.get(TIMEOUT, "1800"))
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the environment says RANK, but WORLD_SIZE, LOCAL_RANK or {TIMEOUT} is wrong: {error}"
        ) from error
    if ranks.is_alone:
        return ALONE
    gpus = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", rank=rank, world_size=world, timeout=timedelta(seconds=timeout)
        )
    except (RuntimeError, ValueError) as error:
        where = f"{environ['MASTER_ADDR']}:{environ.get('MASTER_PORT', '?')}"
        raise UserError(f"rank {rank} can't reach the other {world - 1} at {where}: {_short(error)}") from error
    atexit.register(_leave)
    return ranks


def _buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Neighbours of one type and device, up to `BUCKET` numbers together: a message costs more than a small tensor."""
    buckets: list[list[nn.Parameter]] = []
    used = 0
    for p in parameters:
        last = buckets[-1][-1] if buckets else None
        alike = last is not None and (last.dtype, last.device) == (p.dtype, p.device)
        if not alike or used + p.numel() > BUCKET:
            buckets.append([])
            used = 0
        buckets[-1].append(p)
        used += p.numel()
    return buckets


def fingerprint(parameters: Iterable[Tensor]) -> list[int]:
    """One whole number a tensor, of its bits: whatever the order in which a machine adds, equal tensors agree."""
    kinds = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return [int(p.detach().view(kinds[p.element_size()]).sum(dtype=torch.int64)) for p in parameters]


@contextlib.contextmanager
def _together() -> Generator[None]:
    """A message among all; where it fails, somebody is gone."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"another rank of this run ended or doesn't answer ({_short(error)}); its own message, if there is one, "
            "says why. `plaudit resume` goes on from the last checkpoint. Where a rank was only slow, "
            f"{TIMEOUT}=7200 in the environment waits that many seconds for it."
        ) from error


def _short(error: BaseException) -> str:
    """The message without the file of the library that it comes from, nor what that advises."""
    message = str(error).partition("\n")[0].partition(". ")[0]
    return (message.partition("] ")[2] or message)[:160]


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
