"""PPO with every option on, stopped wherever it may be stopped, goes on as if it had not been."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plaudit.data.options import DataConfig
from plaudit.models.options import AdapterCritic, LoRA, SeparateCritic
from plaudit.runs.checkpoints import latest_checkpoint
from plaudit.scoring.options import FunctionConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.options import (
    GAE,
    AdaptiveKL,
    AdaptiveTrust,
    Brakes,
    Clip,
    Exclude,
    FixedLength,
    Overlong,
    PenalisedUnfinished,
    PerToken,
    Ptx,
    ReferenceNormalisation,
    ReplacedUnfinished,
    RewardWhitening,
    RunningNormalisation,
    SequenceMean,
    Shaping,
    Surrogate,
    Truncate,
    Whitening,
)
from tests.faults import stages
from tests.faults.stages import WORDS, train
from tests.faults.test_resume import assert_same, stopped
from tests.kills import kills
from tests.training.tiny import jsonl, metrics

STEEP = OptimConfig(learning_rate=3e-2, max_skipped=1000)
"""Linear to 0, so that a step which is counted wrongly has another rate."""


def text(folder: Path) -> DataConfig:
    return DataConfig(path=jsonl(folder / "text.jsonl", [{"text": word * 2} for word in WORDS[:7]]))


def first(folder: Path) -> PPOConfig:
    """The exact KL in the reward, both controllers, running moments, every brake, text beside."""
    return stages.ppo(
        folder,
        critic=SeparateCritic(head="mlp"),
        critic_warmup=1,
        objective=Clip(clip_range_high=0.3, dual_clip=3.0),
        trust=AdaptiveTrust(coef=0.1, target=0.003),
        aggregation=SequenceMean(),
        kl=AdaptiveKL(coef=0.2, target=0.1, horizon=50, estimator="full"),
        entropy_coef=0.01,
        shaping=Shaping(
            normalise=RunningNormalisation(),
            score_limit=2.0,
            unfinished=PenalisedUnfinished(penalty=0.5),
            length=PerToken(price=0.05, free_tokens=1),
            whiten=RewardWhitening(),
        ),
        sampler_mismatch=Truncate(),
        advantage=GAE(whitening=Whitening(over="minibatch"), critic_gae_lambda=1.0),
        ptx=Ptx(data=(text(folder),), coef=0.3, rows=3),
        brakes=Brakes(max_approx_kl=0.1, max_mean_ratio=1.5),
        optim=STEEP,
        iterations=4,
        save_every=4,
    )


def second(folder: Path) -> PPOConfig:
    """Adapters, the KL as a loss, moments of the reference, responses that the sampler's mismatch leaves out."""
    base = stages.ppo(folder)
    return replace(
        base,
        model=replace(base.model, train=LoRA(rank=2, alpha=4)),
        critic=AdapterCritic(head="mlp"),
        objective=Surrogate(),
        trust=AdaptiveTrust(coef=0.1, target=0.003),
        aggregation=FixedLength(),
        kl=AdaptiveKL(coef=0.2, target=0.1, horizon=50, estimator="k3", into="loss"),
        shaping=Shaping(
            normalise=ReferenceNormalisation(), unfinished=ReplacedUnfinished(score=-1.0), length=Overlong(buffer=2)
        ),
        sampler_mismatch=Exclude(by="response", low=0.9, high=1.1),
        ptx=Ptx(data=(text(folder),), coef=0.3, rows=2),
        optim=STEEP,
        iterations=4,
        save_every=3,
    )


def third(folder: Path) -> PPOConfig:
    """Minibatches whose loss is infinite: they are left out and counted."""
    judge = folder / "judge.py"
    judge.write_text(
        "def letters(completions, **columns):\n"
        "    return [1e30 if text.startswith(('c', 'd')) else float(text.count('a')) for text in completions]\n",
        encoding="utf-8",
    )
    rewards = (FunctionConfig(function=f"{judge}:letters"),)
    return stages.ppo(folder, optim=STEEP, iterations=4, rewards=rewards)


CONFIGS = {"first": first, "second": second, "third": third}
ALL = pytest.mark.parametrize("which", list(CONFIGS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    made: dict[str, Any] = {}
    for which, build in CONFIGS.items():
        folder = tmp_path_factory.mktemp(which)
        made[which] = (build(folder), folder / "whole")
        train("ppo", made[which][0], folder / "whole")
    return made


def test_the_first_run_uses_what_it_has(whole):
    lines = metrics(whole["first"][1])
    assert lines[0]["ppo/ratio_max"] == pytest.approx(1.0, abs=1e-5)  # the warm-up
    assert len({line["ppo/kl_coef"] for line in lines}) > 2
    assert len({line["ppo/trust_kl_coef"] for line in lines}) > 1
    assert any(line["ppo/minibatches"] < 6 for line in lines[1:])
    assert all("ppo/ptx_loss_over_tokens" in line for line in lines[1:])


def test_the_second_run_uses_what_it_has(whole):
    lines = metrics(whole["second"][1])
    assert len({line["ppo/trust_kl_coef"] for line in lines}) > 1
    assert all("ppo/kl_loss_over_tokens" in line for line in lines)


def test_the_third_run_left_some_minibatches_out(whole):
    lines = metrics(whole["third"][1])
    assert 0 < lines[0]["ppo/skipped_updates"] < lines[-1]["ppo/skipped_updates"] < 24


@kills(
    "training/policy/cursor.py",
    old="kl=moved.kl if config.kl.kind",
    new="kl=start.kl if config.kl.kind",
    why="the adaptive β forgotten at a resume",
)
@kills(
    "training/policy/cursor.py",
    old='scores_seen=RunningMoments(**saved["scores_seen"]),',
    new="scores_seen=RunningMoments(),",
    why="the running moments forgotten at a resume",
)
@pytest.mark.parametrize(
    ("which", "call"),
    [
        pytest.param(which, call, marks=[] if (index + place) % 3 == 2 else [pytest.mark.slow])
        for index, which in enumerate(CONFIGS)
        for place, call in enumerate((9, 17, 24))
    ],
)
def test_it_goes_on_exactly(whole, tmp_path, which, call):
    config, uninterrupted = whole[which]
    assert stopped("ppo", config, tmp_path / "run", call)
    train("ppo", config, tmp_path / "run")
    assert_same(uninterrupted, tmp_path / "run")


SELDOM = [pytest.param(which, marks=pytest.mark.slow) for which in ("second", "third")]


@pytest.mark.parametrize("which", ["first", *SELDOM])
def test_it_goes_on_exactly_again_and_again(whole, tmp_path, which):
    config, uninterrupted = whole[which]
    sessions = 1
    while stopped("ppo", config, tmp_path / "run", 9):
        sessions += 1
        assert sessions < 40
    assert sessions > 3
    assert_same(uninterrupted, tmp_path / "run")


def test_the_state_holds_what_moved(whole, tmp_path):
    config, _ = whole["first"]
    assert stopped("ppo", config, tmp_path / "run", 20)
    state = json.loads((latest_checkpoint(tmp_path / "run") / "state.json").read_text(encoding="utf-8"))
    cursor = state["cursor"]
    assert cursor["iteration"] >= 1
    assert cursor["scores_seen"]["count"] >= 8
    assert cursor["coefficients"]["kl"] > 0
