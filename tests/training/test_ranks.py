"""Several processes train as one does: the same gradients, metrics and answers; they stop together and none hangs."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.config.load import dump_yaml
from plaudit.runs.checkpoints import latest_checkpoint, step_of
from plaudit.runs.records import read_rollouts
from tests.faults.stages import CONFIGS
from tests.kills import kills
from tests.training.ranks_worker import RESUMED
from tests.training.tiny import metrics, same_weights, weights

CLOSE = 1e-5


PARTS = {
    "test_the_gradient_of_a_minibatch_is_the_same_on_every_number_of_ranks": "gradients",
    "test_a_run_is_the_same_on_every_number_of_ranks": "runs",
    "test_the_command_line_speaks_once": "faults",
    "test_a_rank_that_dies_or_hangs_ends_the_others": "faults",
    "test_a_signal_to_one_rank_stops_all_at_the_same_step": "faults",
}
"""What the worker must have done for each test."""


@pytest.fixture(scope="module")
def worked(request, tmp_path_factory, warm) -> tuple[Path, list[dict[str, Any]], str]:
    """What the worker did, once for all tests that were asked for, and what ended it early."""
    folder = tmp_path_factory.mktemp("ranks")
    worker = Path(__file__).with_name("ranks_worker.py")
    wanted = {PARTS.get(getattr(item, "originalname", "")) for item in request.session.items} - {None}
    answer = subprocess.run(
        [warm / "python", str(worker), str(folder), *sorted(wanted)], capture_output=True, text=True, timeout=500
    )
    return folder, [json.loads(line) for line in answer.stdout.splitlines()], answer.stderr * bool(answer.returncode)


def facts(worked, done: str) -> list[dict[str, Any]]:
    assert not worked[2], worked[2]
    return [fact for fact in worked[1] if fact["done"] == done]


@kills(
    "training/reward/objective.py",
    old="    return budget.machine.ranks.add_counts(sums)",
    new="    return sums",
    why="the first rank's share of the loss is logged as the whole",
)
@kills(
    "training/likelihood.py",
    old="sum(len(response) for _, response in rows)",
    new="sum(len(rows[i][1]) for i in machine.ranks.share(len(p) + len(r) for p, r in rows))",
    why="each rank divides by its own tokens: means of ragged parts, added up",
)
def test_the_gradient_of_a_minibatch_is_the_same_on_every_number_of_ranks(worked):
    """However the rows are ordered, cut and laid out; and each rank had only a part of it."""
    worlds = facts(worked, "gradients")
    assert [(fact["world"], len(fact["seen"][0])) for fact in worlds] == [(2, 12 + 9 + 8), (3, 10)]
    for fact in worlds:
        for case in zip(*fact["seen"], strict=True):
            for seen in case:
                assert seen["off"] < CLOSE, seen["what"]
                assert flat(seen["said"]) == close(flat(seen["alone_said"])), seen["what"]
                assert seen["said"] == case[0]["said"]
            if "one row" in seen["what"]:
                assert sorted(seen["part_off"] for seen in case) == [0.0] + [1.0] * (fact["world"] - 1)
            else:
                assert min(seen["part_off"] for seen in case) > 0.1, seen["what"]


@kills(
    "training/optim.py",
    old="    ranks.sum_gradients(parameters)",
    new="    ranks.wait()",
    why="every rank steps by its own gradient",
)
@kills(
    "training/policy/scored.py",
    old="    return machine.ranks.gather_tensors(out)",
    new="    return out",
    why="log-probs and values of the other ranks' rows are 0",
)
@pytest.mark.parametrize("stage", RESUMED)
def test_a_run_is_the_same_on_every_number_of_ranks(worked, stage):
    """Also where it was begun on two and went on on one, or the other way round."""
    folder = worked[0] / "runs" / stage
    said = {fact["name"]: fact["said"] for fact in facts(worked, "run") if fact["stage"] == stage}
    assert list(said) == ["one", "two", *RESUMED[stage]]
    worlds = {"one": 1, "two": 2}
    for name, sessions in said.items():
        *before, last = [worlds[word] for word in name.split("-then-")]
        assert sessions == [["stopped"] * world for world in before] + [["done"] * last]
        assert_alike(folder / "one", folder / name)
    if "two-then-two" in said:  # the same number of ranks: bit for bit
        assert metrics(folder / "two-then-two") == metrics(folder / "two")
        assert same_weights(folder / "two-then-two" / "model", folder / "two" / "model")


def assert_alike(one: Path, other: Path) -> None:
    lines, others = metrics(one), metrics(other)
    assert len(lines) == len(others) > 2
    for line, its in zip(lines, others, strict=True):
        assert its == pytest.approx(line, rel=CLOSE, abs=1e-6)
    for made in ("model", "best"):
        assert (one / made).is_dir() == (other / made).is_dir()
        ours, theirs = weights(one / made), weights(other / made)
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(theirs[name], ours[name], rtol=1e-4, atol=1e-5) for name in ours)
    summaries = [json.loads((folder / "summary.json").read_text(encoding="utf-8")) for folder in (one, other)]
    assert flat(summaries[1]) == close(flat(summaries[0]))
    written = [sorted((folder / "rollouts").glob("*")) for folder in (one, other)]
    assert len(written[0]) == len(written[1])
    for ours, theirs in zip(*written, strict=True):
        rows, others = read_rollouts(ours), read_rollouts(theirs)
        assert [row["response"] for row in rows] == [row["response"] for row in others]
        assert flat(others) == close(flat(rows), rel=1e-3)  # four digits are written


@pytest.mark.parametrize(
    "device",
    [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)],
)
@pytest.mark.parametrize("stage", CONFIGS)
def test_torchrun(tmp_path, stage, device):
    """The launcher itself; on GPUs messages go by nccl."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    config = tmp_path / "config.yaml"
    config.write_text(dump_yaml(CONFIGS[stage](tmp_path)), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for ranks in ("1", "2"):
        words = [*launcher, ranks, "-m", "plaudit", stage, str(config), "--out", str(tmp_path / ranks)]
        answer = subprocess.run(
            [*words, "--device.device", device], capture_output=True, text=True, timeout=300, check=False
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count("report: ") == 1
    for line, other in zip(metrics(tmp_path / "1"), metrics(tmp_path / "2"), strict=True):
        assert other == pytest.approx(line, rel=1e-4, abs=1e-5)


def close(expected: dict[str, Any], rel: float = CLOSE) -> dict[str, Any]:
    """Numbers nearly, all else exactly."""
    return {
        name: pytest.approx(value, rel=rel, abs=rel / 10) if isinstance(value, float) else value
        for name, value in expected.items()
    }


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values by their path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, f"{name}/{key}").items()}
    return {name: value}


# ------------------------------------------------------------------------------------------------- the command line


def test_the_command_line_speaks_once(worked):
    new, again, finished, extended, alone = facts(worked, "command")
    for call in (new, finished, extended):
        assert call["codes"] == [0, 0]
        assert "report: " in call["said"][0]
        assert call["said"][1] == ""
    assert ", 2 ranks" in new["said"][0]
    assert len(metrics(worked[0] / "faults" / "run")) == 10
    assert again["codes"] == [2, 2]
    assert "already holds a run" in again["said"][0]
    assert again["said"][1] == ""
    assert alone["codes"] == [2, 2]
    assert "reward_eval is the work of one process; torchrun is for sft, collect, reward, ppo" in alone["said"][0]


def test_a_rank_that_dies_or_hangs_ends_the_others(worked):
    struck = {fact["name"]: fact for fact in facts(worked, "struck")}
    for name in ("killed", "hung"):
        assert struck[name]["codes"] == [2, -signal.SIGKILL]
        assert struck[name]["seconds"] < 25
        assert "another rank of this run ended or doesn't answer (" in struck[name]["said"]
    assert "resume" in struck["killed"]["said"]


@kills(
    "runs/folder.py",
    old="        if signum := self.ranks.largest(self.signals.requested):",
    new="        if signum := self.signals.requested:",
    why="a signal stops one rank, and the others wait for it",
)
def test_a_signal_to_one_rank_stops_all_at_the_same_step(worked):
    (told,) = (fact for fact in facts(worked, "struck") if fact["name"] == "told")
    assert told["codes"] == [128 + signal.SIGTERM] * 2
    run = worked[0] / "faults" / "told"
    assert f"plaudit resume {run}" in told["said"]
    saved = latest_checkpoint(run)
    assert saved is not None
    assert step_of(saved) == metrics(run)[-1]["step"]
