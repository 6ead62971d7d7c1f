"""The stages from Python: in memory and in a folder, with objects where a path may stand."""

import copy
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import plaudit as pl
from plaudit.doctor.examined import overheard
from plaudit.runs.folder import Run
from plaudit.telemetry.log import read_metrics
from tests.kills import kills

PROMPTS = ["The cat", "The dog", "A bird", "My fish"]
DEMONSTRATIONS = [{"prompt": prompt, "response": f"{prompt} sat on the mat."} for prompt in PROMPTS]
TINY = {"model_tiny_hidden_size": 32, "model_tiny_layers": 1, "model_tiny_vocabulary": 300}
SHORT = {"iterations": 2, "prompts_per_iteration": 4, "minibatches": 2, "epochs": 1, "sampling_max_new_tokens": 8}


def brief(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
    return [-len(completion) / 10 for completion in completions]


@pytest.fixture(scope="module")
def tuned() -> pl.RunRecord:
    return pl.sft("tiny", DEMONSTRATIONS, epochs=10, minibatch_size=4, held_out_fraction=0.3, **TINY)


@pytest.fixture
def policy(tuned: pl.RunRecord) -> pl.Policy:
    return tuned.policy


def weights(policy: pl.Policy) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in policy.hf.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def test_fine_tuning_in_memory(tuned: pl.RunRecord) -> None:
    assert tuned.finished and tuned.folder is None and tuned.stage == "sft"
    assert tuned.results and "_repr_html_" in dir(tuned.results) and tuned.results._repr_html_()
    assert tuned.metrics[-1]["sft/loss_over_tokens"] < tuned.metrics[1]["sft/loss_over_tokens"]
    assert "sft: finished" in repr(tuned) and tuned._repr_html_()
    answers = tuned.policy.generate(["The cat", "The cat"], max_new_tokens=8)
    assert answers == tuned.policy.generate(["The cat", "The cat"], max_new_tokens=8)
    assert len(answers) == 2


@kills(
    "api/stages.py",
    old="            trained = policy if inplace else policy.copy()\n",
    new="            trained = policy\n",
    why="the policy that the user compares with afterwards has been trained too",
)
def test_the_policy_that_is_handed_in_stays_as_it_is(policy: pl.Policy) -> None:
    before = weights(policy)
    run = pl.ppo(policy, PROMPTS, brief, **SHORT)
    assert same(weights(policy), before) and not same(weights(run.policy), before)
    assert run.finished and sorted(run.rollouts) == [1, 2]
    assert {row["prompt"] for row in run.rollouts[1]} == set(PROMPTS)
    assert run.metrics[0]["ppo/score_over_responses"] < 0
    mine = policy.copy()
    again = pl.ppo(mine, PROMPTS, brief, inplace=True, **SHORT)
    assert again.policy.hf is mine.hf and same(weights(mine), weights(run.policy))


def test_adapters_stay_with_the_policy_that_is_trained_in_place(policy: pl.Policy, tmp_path: Path) -> None:
    mine = policy.copy()
    run = pl.ppo(mine, PROMPTS, brief, inplace=True, model_train="lora", optim_learning_rate=1e-2, **SHORT)
    saved = pl.Policy.load(mine.save(tmp_path / "mine"))
    assert same(weights(saved), weights(run.policy.copy())) and not same(weights(saved), weights(policy))


def test_a_folder_is_the_commands_and_the_same_call_goes_on(policy: pl.Policy, tmp_path: Path) -> None:
    out = tmp_path / "run"
    memory = pl.ppo(policy, PROMPTS, brief, **SHORT)

    def stops(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        if len(read_metrics(out)) == 1:
            signal.raise_signal(signal.SIGINT)
        return brief(prompts, completions)

    stops.__name__ = "brief"
    with pytest.raises(KeyboardInterrupt):
        pl.ppo(policy, PROMPTS, stops, out=out, **SHORT)
    assert len(read_metrics(out)) == 1
    run = pl.ppo(policy, PROMPTS, brief, out=out, **SHORT)
    assert run.folder == out and run.finished
    key = "ppo/score_over_responses"
    assert [line[key] for line in run.metrics] == [line[key] for line in memory.metrics]
    assert same(weights(run.policy), weights(memory.policy))
    assert same(weights(pl.Policy.load(out / "model")), weights(memory.policy))
    finished = pl.ppo(policy, PROMPTS, brief, out=out, **SHORT)
    assert finished.results == run.results and same(weights(finished.policy), weights(run.policy))
    with pytest.raises(pl.UserError, match=r"changes what is being trained: kl\.coef"):
        pl.ppo(policy, PROMPTS, brief, out=out, kl_coef=0.3, **SHORT)
    longer = pl.ppo(policy, PROMPTS, brief, out=out, **{**SHORT, "iterations": 3})
    assert len(longer.metrics) == 3
    with pytest.raises(pl.UserError, match="changed since the run"):
        pl.ppo(policy, PROMPTS[:2] * 2 + ["x"], brief, out=out, **{**SHORT, "iterations": 4})
    with pytest.raises(pl.UserError, match="holds a run of ppo"):
        pl.sft("tiny", DEMONSTRATIONS, out=out)


def test_answers_are_collected_ranked_learned_from_and_the_judge_judged(policy: pl.Policy, tmp_path: Path) -> None:
    collected = pl.collect(policy, PROMPTS, brief, samples=3, sampling_max_new_tokens=8)
    assert {tuple(sorted(row)) for row in collected.rankings} == {("prompt", "ranks", "responses")}
    trained = pl.reward(policy, collected.rankings, epochs=1, minibatch_size=2, held_out_fraction=0.0)
    scores = trained.model.score(["The cat", "The dog"], ["short", "a very long answer"])
    assert all(isinstance(score, float) for score in scores)
    saved = pl.RewardModel.load(trained.model.save(tmp_path / "judge"))
    assert saved.score(["The cat", "The dog"], ["short", "a very long answer"]) == pytest.approx(scores)
    measured = pl.evaluate_reward([trained.model, brief], collected.rankings)
    assert {result.subject for result in measured.results} >= {"reward_model", "brief"}
    run = pl.ppo(policy, PROMPTS, [(trained.model, 0.5), brief], **SHORT)
    assert "ppo/part/brief_over_responses" in run.metrics[0]
    compared = pl.compare({"before": policy, "after": run.policy}, PROMPTS, trained.model, sampling_max_new_tokens=8)
    assert {sample["policy"] for sample in compared.samples} == {"after"}
    assert {result.subject for result in compared.results} == {"before", "after"}
    assert compared.config["policies"]["after"] == "<python object policies.after Policy>"


def test_a_run_in_memory_can_be_reported_and_saved(policy: pl.Policy, tmp_path: Path) -> None:
    run = pl.ppo(policy, PROMPTS, brief, **SHORT)
    with pytest.raises(pl.UserError, match="say where the report goes"):
        run.report()
    report = run.report(tmp_path / "report.html")
    assert "The cat" in report.read_text(encoding="utf-8")
    folder = run.save(tmp_path / "kept")
    assert read_metrics(folder) == run.metrics and Run.exists(folder)
    assert same(weights(pl.Policy.load(folder / "model")), weights(run.policy))
    with pytest.raises(pl.UserError, match="already holds a run"):
        run.save(folder)


@pytest.fixture
def listening() -> Iterator[None]:
    """Python's own handler of SIGINT, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_an_interrupt_in_a_notebook_comes_back_with_the_run(
    policy: pl.Policy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The work's thread never sees the interrupt; the step is finished, saved, and the run returned."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    main = threading.current_thread()
    seen: list[threading.Thread] = []

    def stops(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:
        seen.append(threading.current_thread())
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)  # Python's own handler: KeyboardInterrupt in the main thread
            threading.Event().wait(0.5)
        return brief(prompts, completions)

    stops.__name__ = "brief"
    before = signal.getsignal(signal.SIGINT)
    out = tmp_path / "run"
    run = pl.ppo(policy, PROMPTS, stops, out=out, **{**SHORT, "iterations": 50})
    assert signal.getsignal(signal.SIGINT) is before and main not in seen
    assert not run.finished and 1 <= len(run.metrics) < 50
    assert run.policy.generate(["The cat"], max_new_tokens=4)
    monkeypatch.undo()
    so_far = len(run.metrics)
    done = pl.ppo(policy, PROMPTS, brief, out=out, **{**SHORT, "iterations": so_far + 1})
    assert done.finished and len(done.metrics) == so_far + 1


def test_a_transformers_model_becomes_a_policy(policy: pl.Policy) -> None:
    wrapped = pl.Policy(copy.deepcopy(policy.hf), policy.tokenizer)
    assert wrapped.generate(PROMPTS, max_new_tokens=8) == policy.generate(PROMPTS, max_new_tokens=8)
    assert "LlamaForCausalLM" in repr(wrapped)


def test_rows_of_a_file_in_hand(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"question": "a", "chosen": "b", "rejected": "c"}\n' * 3)
    rows = pl.load_data(file, limit=2, columns={"question": "prompt"})
    assert rows == [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2
    assert pl.load_data(rows, "comparison") == rows
    with pytest.raises(pl.UserError, match="column `response` is missing"):
        pl.load_data(rows, "verdict")


def test_a_call_is_looked_over_like_a_command() -> None:
    pairs = [
        {"prompt": "the cat", "chosen": "a", "rejected": "b"},
        {"prompt": "the cat", "chosen": "b", "rejected": "a"},
    ]
    messages: list[str] = []
    with overheard(messages):
        pl.evaluate_reward(brief, pairs * 10)
    assert any("contradict themselves or an earlier one" in message for message in messages)
