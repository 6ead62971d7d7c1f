"""examples/ppo_loop.py is what `plaudit ppo` does: the same numbers, iteration by iteration."""

import subprocess

import pytest

from examples import ppo_loop
from plaudit.engines.options import SamplingConfig
from plaudit.models.options import ModelConfig
from plaudit.records.text import Prompt
from plaudit.training.options import OptimConfig
from tests.architecture.repo import ROOT
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.tiny import hf, ids, metrics, model_folder


@kills(
    "examples/ppo_loop.py",
    old="(policy_loss + VALUE_COEF * value_loss).backward()",
    new="(policy_loss + value_loss).backward()",
    why="the page that students read teaches another loss than the library runs",
)
def test_the_page_and_the_command_come_to_the_same_numbers(tmp_path):
    model = ModelConfig(path=model_folder(tmp_path / "model", letters="abc", spread=0.3, layers=2))
    chosen = config(
        tmp_path,
        model=model,
        sampling=SamplingConfig(max_new_tokens=ppo_loop.MAX_NEW_TOKENS),
        optim=OptimConfig(learning_rate=ppo_loop.PEAK_RATE, eps=ppo_loop.ADAM_EPS),
        prompts_per_iteration=ppo_loop.PROMPTS_PER_ITERATION,
        iterations=4,
    )
    command = metrics(run(tmp_path, chosen))
    prompts = [(Prompt.of_text(text).id, [0, *ids(text, "abc")]) for text in ("a", "cb", "bac")]
    page = ppo_loop.train(hf(model.path), prompts, ppo_loop.letters, iterations=4, seed=0)
    assert len(page) == len(command)
    for mine, line in zip(page, command, strict=True):
        assert mine == pytest.approx({key: line[f"ppo/{key}"] for key in mine}, rel=1e-4, abs=2e-5)
    assert command[-1]["ppo/score_over_responses"] > command[0]["ppo/score_over_responses"]
    assert command[-1]["ppo/kl_ref_over_responses"] > 0.1


def test_it_stays_a_page():
    assert len((ROOT / "examples" / "ppo_loop.py").read_text(encoding="utf-8").splitlines()) <= 150


def test_it_runs_by_itself(warm):
    told = subprocess.run(
        [warm / "python", str(ROOT / "examples" / "ppo_loop.py"), "--iterations", "2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[:2] for line in told.stdout.splitlines()] == [["1", "score"], ["2", "score"]]
