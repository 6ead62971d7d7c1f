"""What a run remembers: weights, moments, cursor and tensors bit for bit; a log that ends where the weights do."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from plaudit.data.options import DataConfig
from plaudit.errors import SaveFailed, StopRequested, UserError
from plaudit.records.text import PromptRow
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics
from plaudit.training import optim, state
from plaudit.training.options import OptimConfig
from tests.kills import kills
from tests.training.tiny import jsonl


def network(seed: int, width: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        module(torch.full((2, 3), 0.1 * step + 1)).square().mean().backward()
        optim.step(optimizer, OptimConfig(), step=step, total_steps=9, loss=0.0)


@kills(
    "training/state.py",
    old='"metrics_lines": run.metrics_lines}',
    new='"metrics_lines": 0}',
    why="a resumed run forgets its log",
)
def test_a_restored_run_goes_on_bit_for_bit(tmp_path):
    whole, first, second = network(1), network(1), network(2)
    whole_optimizer, first_optimizer, second_optimizer = (
        optim.adamw(m.parameters(), OptimConfig()) for m in (whole, first, second)
    )
    train(whole, whole_optimizer, range(6))
    train(first, first_optimizer, range(4))
    tensors = {"x": torch.rand(3, 2).T, "keep": torch.tensor([True, False]), "ids": torch.tensor([[7]])}
    facts = {"step": 4, "best": 0.1 + 0.2, "list": [1e-17]}
    with Run.create(tmp_path / "run", "sft", {}) as run:
        for step in range(4):
            run.log(step, {"loss_over_tokens": 1.0})
        state.save(run, 4, first, first_optimizer, facts, tensors)
        run.log(4, {"loss_over_tokens": 2.0})  # after the checkpoint: a resumed run writes it again
    with Run.open(tmp_path / "run") as run:
        found, extra = state.restore(run, second, second_optimizer)
        assert run.metrics_lines == 4
    assert found == facts
    assert extra.keys() == tensors.keys()
    assert all(torch.equal(extra[k], tensors[k]) and extra[k].dtype == tensors[k].dtype for k in tensors)
    train(second, second_optimizer, range(4, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_without_a_checkpoint_a_run_begins_again_and_its_log_too(tmp_path):
    with Run.create(tmp_path / "run", "sft", {}) as run:
        run.log(1, {"loss_over_tokens": 1.0})
    module = network(0)
    with Run.open(tmp_path / "run") as run:
        assert state.restore(run, module, optim.adamw(module.parameters(), OptimConfig())) == ({}, {})
    assert read_metrics(tmp_path / "run") == []


@pytest.mark.parametrize(
    "other", [network(0, width=5), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(1, 1))]
)
def test_another_models_checkpoint_is_the_users_mistake(tmp_path, other):
    module = network(0)
    with Run.create(tmp_path / "run", "sft", {}) as run:
        state.save(run, 1, module, optim.adamw(module.parameters(), OptimConfig()), {"step": 1})
        with pytest.raises(UserError, match="keeps its model"):
            state.restore(run, other, optim.adamw(other.parameters(), OptimConfig()))


@pytest.mark.parametrize(
    ("error", "lines", "saved"),
    [
        (StopRequested(15), 0, True),
        (UserError("x"), 2, True),
        (UserError("x"), 0, False),  # nothing was learned, and the folder may be used again
        (SaveFailed("x"), 2, False),
        (OSError(), 2, False),
    ],
)
def test_a_stop_and_a_mistake_on_the_way_save_first(error, lines, saved):
    calls, run = [], SimpleNamespace(saves=True, metrics_lines=lines, folder="runs/x")
    with pytest.raises(type(error)), state.saved_on_stop(lambda: calls.append(1), run):
        raise error
    assert bool(calls) is saved


# ------------------------------------------------------------------------------------------------------ fingerprints


@pytest.fixture
def source(tmp_path):
    return DataConfig(path=jsonl(tmp_path / "prompts.jsonl", [{"prompt": "one"}, {"prompt": "two"}]))


def trained_run(tmp_path, source) -> None:
    with Run.create(tmp_path / "run", "ppo", {}) as run:
        (rows,) = state.load_data(run, [source], PromptRow)
        assert [row.prompt.text for row in rows] == ["one", "two"]
        with run.checkpoint(1) as folder:
            (folder / "x").write_text("x", encoding="utf-8")


def test_the_same_data_are_read_again(tmp_path, source):
    trained_run(tmp_path, source)
    with Run.open(tmp_path / "run") as run:
        assert len(run.provenance["data"][source.path]) == 64
        state.load_data(run, [source], PromptRow)


def test_changed_data_stop_a_resumed_run_unless_they_are_meant(tmp_path, source):
    trained_run(tmp_path, source)
    jsonl(tmp_path / "prompts.jsonl", [{"prompt": "one"}, {"prompt": "three"}])
    with Run.open(tmp_path / "run") as run, pytest.raises(UserError, match=r"prompts\.jsonl: changed since.*--change"):
        state.load_data(run, [source], PromptRow)
    with Run.open(tmp_path / "run", change=True) as run:
        state.load_data(run, [source], PromptRow)
    with Run.open(tmp_path / "run") as run:  # now these are the run's data
        state.load_data(run, [source], PromptRow)


def test_before_the_first_checkpoint_nothing_was_learned_from_the_old_data(tmp_path, source):
    with Run.create(tmp_path / "run", "ppo", {}) as run:
        state.load_data(run, [source], PromptRow)
        jsonl(tmp_path / "prompts.jsonl", [{"prompt": "three"}])
        state.load_data(run, [source], PromptRow)
        with run.checkpoint(1) as folder:
            (folder / "x").write_text("x", encoding="utf-8")
        state.load_data(run, [source], PromptRow)


def test_a_file_that_is_new_to_the_run_is_added(tmp_path, source):
    trained_run(tmp_path, source)
    other = DataConfig(path=jsonl(tmp_path / "other.jsonl", [{"prompt": "x"}]))
    with Run.open(tmp_path / "run") as run:
        state.load_data(run, [source, other], PromptRow)
        assert run.provenance["data"].keys() == {source.path, other.path}


def test_a_step_that_is_not_taken_ends_no_run_in_memory():
    run = Run.memory("sft", {})
    with run:
        state.keep_batch(run, 3, {"ids": torch.ones(2)}, {"loss": "nan"})
    (event,) = run.files.events
    assert event["message"] == "optimiser step 4 was not taken: NaN or infinity."
