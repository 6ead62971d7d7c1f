"""`critic: null`: REINFORCE on the same loop. What is the critic's is nowhere: parameters, metrics, columns."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from plaudit.formulas.statistics import RunningMoments
from plaudit.models.options import LoRA, ModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy.estimation import agreement, estimate
from plaudit.training.policy.options import FixedKL, Returns, Whitening
from plaudit.training.policy.shaping import shape
from tests.faults.stages import train
from tests.faults.test_resume import assert_same, stopped
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.test_ppo import scored_of, scripted
from tests.training.tiny import metrics, model_folder, rollouts

BARE = {"critic": None, "advantage": Returns()}


@kills(
    "training/policy/estimation.py",
    old="reward_to_go(rewards, mask, gamma=gamma), None",
    new="rewards, None",
    why="a token is worth its own reward, not what follows from it",
)
def test_a_token_is_worth_what_follows_it(tmp_path):
    """β = 0.1, γ = ½: rewards −0.05, 2.1 | 0, −0.02, −1.03; the third judge abstained."""
    rollout, scores = scripted()
    scored = scored_of(rollout, scores, values=None)
    chosen = config(tmp_path, kl=FixedKL(coef=0.1), critic=None, advantage=Returns(gamma=0.5, whitening=None))
    rewards, _ = shape(scored, chosen, kl_coef=0.1, scores_seen=RunningMoments())
    found = estimate(scored, rewards, agreement(scored, chosen), chosen)
    assert found.advantages[0].tolist() == pytest.approx([1.0, 2.1, 0, 0], abs=1e-6)
    assert found.advantages[1].tolist() == pytest.approx([-0.2675, -0.535, -1.03, 0], abs=1e-6)
    assert found.advantages[2].tolist() == [0] * 4
    assert (found.old_values, found.returns) == (None, None)
    white = replace(chosen, advantage=Returns(gamma=0.5, whitening=Whitening()))
    whitened = estimate(scored, rewards, agreement(scored, white), white).advantages[found.response_mask]
    assert (whitened.mean().item(), whitened.std(correction=0).item()) == (pytest.approx(0, abs=1e-6), pytest.approx(1))


def test_answers_to_one_prompt_are_one_group(tmp_path):
    rollout, scores = scripted()
    chosen = config(tmp_path, samples_per_prompt=2, **BARE)
    scored = scored_of(rollout, scores, values=None)
    rewards = torch.zeros(3, 4)
    assert estimate(scored, rewards, agreement(scored, chosen), chosen).group_ids.tolist() == [0, 0, 1]


@pytest.mark.parametrize("train", ["full", "lora"])
def test_the_critic_is_nowhere(tmp_path, train):
    model = ModelConfig(path=model_folder(tmp_path / "sft", letters="abc", spread=0.3))
    model = replace(model, train=LoRA(rank=2)) if train == "lora" else model
    with_critic, without = (
        run(tmp_path, config(tmp_path, model=model, save_every=4, **options), name)
        for name, options in (("with", {}), ("without", BARE))
    )
    one, other = metrics(with_critic)[0], metrics(without)[0]
    assert {key.removeprefix("ppo/") for key in one.keys() - other.keys()} == {
        "value_over_tokens",
        "return_over_tokens",
        "explained_variance",
        "value_loss_over_tokens",
        "value_clip_fraction_over_tokens",
    }
    assert not other.keys() - one.keys()
    assert {"value", "return"} <= rollouts(with_critic, 1)[0]["tokens"].keys()
    assert {"value", "return"}.isdisjoint(rollouts(without, 1)[0]["tokens"])
    names = [load_file(f / "checkpoints" / "000008" / "weights.safetensors").keys() for f in (with_critic, without)]
    assert {name for name in names[0] - names[1] if "value_head" not in name} == set()
    assert names[1] < names[0]


def test_it_learns_and_goes_on_exactly(tmp_path):
    chosen = config(tmp_path, iterations=4, optim=OptimConfig(learning_rate=3e-2), prompts_per_iteration=32, **BARE)
    whole = run(tmp_path, chosen, "whole")
    scores = [line["ppo/score_over_responses"] for line in metrics(whole)]
    assert scores[-1] > scores[0] + 0.5
    assert stopped("ppo", chosen, tmp_path / "run", 9)
    train("ppo", chosen, tmp_path / "run")
    assert_same(whole, tmp_path / "run")
