"""Several processes: who computes what, and that everybody knows the whole of it afterwards."""

import json
import math
import subprocess
from pathlib import Path

import pytest
import torch

from plaudit.errors import UserError
from plaudit.hardware import machine as device
from plaudit.hardware import ranks as parallel
from plaudit.hardware.machine import machine
from plaudit.hardware.options import DeviceConfig
from plaudit.hardware.ranks import ALONE, Ranks, fingerprint, join
from tests.kills import kills

# ------------------------------------------------------------------------------------------------- who does what

LENGTHS = [[5, 1, 9, 9, 3, 2, 2], [7], [], [4] * 8, [0, 0, 0], [100, 1, 1, 1, 1, 1], list(range(50))]


@kills(
    "hardware/ranks.py",
    old="            if rank == self.rank:",
    new="            if rank <= self.rank:",
    why="a row counted by two ranks",
)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_every_row_is_one_ranks(lengths, world):
    shares = [Ranks(rank, world).share(iter(lengths)) for rank in range(world)]
    assert sorted(row for share in shares for row in share) == list(range(len(lengths)))
    assert all(share == sorted(share) for share in shares)


@kills(
    "hardware/ranks.py",
    old="            loads[rank] += lengths[row]",
    new="            loads[rank] += 1",
    why="shares of equal row counts: a rank with the long rows holds up the others",
)
@pytest.mark.parametrize("world", [2, 3, 8])
def test_shares_weigh_nearly_the_same(world):
    lengths = [1 + 37 * i % 101 for i in range(200)]
    loads = [sum(lengths[row] for row in Ranks(rank, world).share(lengths)) for rank in range(world)]
    assert max(loads) - min(loads) <= 1 + min(lengths)


def test_one_long_row_is_weighed_against_many_short_ones():
    assert [Ranks(rank, 2).share([1, 6, 1, 1, 1, 1]) for rank in (0, 1)] == [[1], [0, 2, 3, 4, 5]]


def test_micro_batches_keep_the_budget_and_the_rows_numbers():
    lengths = [5, 1, 9, 9, 3, 2, 2]
    assert ALONE.cuts(lengths, 10) == [[0, 1], [2], [3], [4, 5, 6]]
    cuts = [Ranks(rank, 2).cuts(lengths, 10) for rank in (0, 1)]
    assert sorted(row for rank in cuts for cut in rank for row in cut) == list(range(7))
    assert all(sum(lengths[i] for i in cut) <= 10 for rank in cuts for cut in rank)
    assert min(map(len, cuts)) > 1


# ------------------------------------------------------------------------------------------------- a world of one


def test_alone_everything_is_what_it_was():
    x = torch.ones(3)
    assert ALONE.sum(x) is x
    assert ALONE.add({}) == {}
    assert ALONE.totals(0.1, 2.0) == (0.1, 2.0)
    assert ALONE.gather((1,)) == [(1,)]
    assert ALONE.gather_rows({3: "a"}) == {3: "a"}
    assert ALONE.gather_tensors({"x": x})["x"] is x
    assert ALONE.first(lambda: x) is x
    assert ALONE.ask_first(lambda: x) is x
    assert ALONE.largest(7) == 7
    p = torch.nn.Parameter(x)
    p.grad = x
    ALONE.sum_gradients([p])
    assert p.grad is x
    ALONE.wait()
    ALONE.check_same("anything", 1)


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    "environ", [{}, {"RANK": "3", "WORLD_SIZE": "8"}, {**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}]
)
def test_without_torchrun_or_with_one_process_there_is_nobody_else(environ):
    assert join(environ) is ALONE


@pytest.mark.parametrize("wrong", [{"RANK": "one"}, {"WORLD_SIZE": ""}, {parallel.TIMEOUT: "soon"}])
def test_an_environment_that_says_nonsense(wrong):
    with pytest.raises(UserError, match="WORLD_SIZE"):
        join({**TORCHRUN, **wrong})


# ------------------------------------------------------------------------------------------------- which machine


def test_every_rank_has_its_own_gpu(monkeypatch):
    set_to = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", set_to.append)
    assert device._own(torch.device("cuda"), Ranks(5, 8, local_rank=1)) == torch.device("cuda", 1)
    assert set_to == [1]
    assert device._own(torch.device("cuda", 3), ALONE) == torch.device("cuda", 3)
    assert device._own(torch.device("cpu"), Ranks(1, 2, 1)) == torch.device("cpu")
    with pytest.raises(UserError, match="can't share cuda:0"):
        device._own(torch.device("cuda", 0), Ranks(0, 2))
    with pytest.raises(UserError, match="no GPU number 2"):
        device._own(torch.device("cuda"), Ranks(2, 3, local_rank=2))


@pytest.mark.parametrize(("config", "environ", "expected"), [(0, None, 1), (3, None, 3), (0, "2", None)])
def test_threads_of_a_rank(monkeypatch, config, environ, expected):
    asked: list[int] = []
    monkeypatch.setattr(device, "start", lambda: Ranks(0, 2))
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if environ is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", environ)
    place = machine(DeviceConfig(device="cpu", threads=config))
    assert asked == ([] if expected is None else [expected])
    assert str(place).endswith(", 2 ranks")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int8])
def test_a_fingerprint_notices_the_last_bit(dtype):
    one = torch.arange(1, 7).reshape(2, 3).to(dtype)
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    other = one.clone()
    other.view(bits)[1, 1] += 1
    assert fingerprint([one, one.T]) == 2 * fingerprint([one.clone()])
    assert fingerprint([other]) != fingerprint([one])


# ------------------------------------------------------------------------------------------------- three processes


@pytest.fixture(scope="module")
def worked(tmp_path_factory, warm):
    """Three ranks, once for all tests."""
    worker = Path(__file__).with_name("ranks_worker.py")
    answer = subprocess.run(
        [warm / "python", str(worker), str(tmp_path_factory.mktemp("ranks"))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return answer


def seen_by_three(worked):
    """What each saw; a failure of the tests that ask, not of a fixture."""
    assert worked.returncode == 0, worked.stderr
    return json.loads(worked.stdout)


def same(three, name):
    """What all ranks saw alike."""
    assert json.dumps(three[1][name]) == json.dumps(three[0][name])
    assert json.dumps(three[2][name]) == json.dumps(three[0][name])
    return three[0][name]


def test_ranks_know_who_they_are(worked):
    three = seen_by_three(worked)
    assert [(seen["rank"], seen["first"]) for seen in three] == [(0, True), (1, False), (2, False)]
    assert [seen["share"] for seen in three] == [Ranks(rank, 3).share([5, 1, 9, 9, 3, 2, 2]) for rank in range(3)]


@kills(
    "hardware/ranks.py",
    old="        return add(*map(from_plain, self.gather(to_plain(statistics))))",
    new="        return statistics",
    why="each rank's own statistics, by which they then stop at different times",
)
def test_sums_are_sums_and_no_means(worked):
    three = seen_by_three(worked)
    assert same(three, "sum") == [9.0, 60.0]
    assert same(three, "totals") == [pytest.approx(0.3), 2.0**60 + 2]  # in float32 the 2 would be lost
    assert same(three, "add") == {"tokens": ["Sum", 111.0], "largest": ["Max", 100.0], "lone": ["Sum", 0.5]}
    assert same(three, "counts") == {"a": -4.0}


def test_a_row_comes_through_bit_for_bit(worked):
    three = seen_by_three(worked)
    first, second, third = same(three, "rows")
    assert first == torch.tensor(0.1).item()
    assert math.isnan(second)
    assert third == torch.tensor(-3e-39).item() != 0


def test_what_is_gathered_stands_in_the_order_of_ranks(worked):
    three = seen_by_three(worked)
    told = same(three, "gather")
    assert [list(part) for part in told] == [[""], ["é"], ["éé"]]
    assert [part["é" * rank][:2] for rank, part in enumerate(told)] == [[0, 0.1], [1, 1.1], [2, 2.1]]
    assert math.isnan(told[2]["éé"][2])
    assert same(three, "gather_rows") == [[0, ""], [1, "a"], [2, "aa"], [8, None], [9, None], [10, None]]
    assert same(three, "gather_tensors") == {"x": [[3.0]], "n": [1]}  # the third rank had no row and knew no name
    assert same(three, "largest") == 15


def test_the_first_works_and_the_others_hear_of_it(worked):
    three = seen_by_three(worked)
    assert [seen["first_returns"] for seen in three] == ["done", None, None]
    assert [seen["did"] for seen in three] == [[0], [], []]
    assert same(three, "ask_first") == {"asked": 0}


def test_one_ranks_mistake_is_everybodys(worked):
    three = seen_by_three(worked)
    refused, strange, alike = zip(*(seen["errors"] for seen in three), strict=True)
    assert refused == tuple([kind, "rank 0 refuses"] for kind in ("UserError", "FirstFailed", "FirstFailed"))
    assert all(kind == "UserError" and "the weather on rank 1 and on rank 0 differ" in said for kind, said in strange)
    assert alike == (["", ""],) * 3


@kills(
    "hardware/ranks.py",
    old="        held = [p for p, count in zip(trained, holders, strict=True) if count]",
    new="        held = [p for p in trained if p.grad is not None]",
    why="a rank without rows leaves the sum to the others: they wait for ever, or add up the wrong parameters",
)
@kills(
    "hardware/ranks.py",
    old="                p.grad = part.view_as(p)",
    new="                p.grad = part.view_as(p) / self.world",
    why="gradients averaged over ranks, as DistributedDataParallel does: a mean of sums that were divided already",
)
def test_gradients_are_added_up(worked):
    """Also where only one rank has one; where none has, none comes into being (AdamW would decay the weight)."""
    three = seen_by_three(worked)
    whole, lonely, none, double, frozen = same(three, "gradients")
    assert whole == [[6.0, 6.0], [6.0, 6.0]]
    assert lonely == [[0.0, 1.0], [2.0, 3.0]]
    assert none is None and frozen is None
    assert double == pytest.approx([3 + 3e-9] * 3, abs=1e-14, rel=0)
