"""One small run of each stage that trains, for the tests that interrupt it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.models.options import ModelConfig, SeparateCritic
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.stages import STAGES
from plaudit.training.options import OptimConfig, SFTConfig
from plaudit.training.policy.config import PPOConfig
from plaudit.training.reward.options import RewardConfig
from tests.training.tiny import jsonl, model_folder

STEADY = OptimConfig(learning_rate=1e-2, schedule="constant")
"""So that a run of twice the length begins as the shorter one."""
WORDS = [a + b for a in "abcdefgh" for b in "abc"]


def sft(folder: Path, **options: Any) -> SFTConfig:
    """Six steps, measured every two, saved every four."""
    rows = [{"prompt": word, "completion": word[::-1]} for word in WORDS]
    return SFTConfig(
        data=(DataConfig(path=jsonl(folder / "demonstrations.jsonl", rows)),),
        model=ModelConfig(path=model_folder(folder / "m")),
        **{
            "held_out_fraction": 0.2,
            "minibatch_size": 7,
            "epochs": 2,
            "evaluate_every": 2,
            "save_every": 4,
            "optim": STEADY,
            **options,
        },
    )


def reward(folder: Path, **options: Any) -> RewardConfig:
    """Eight steps, measured every three, saved every three."""
    rows = [{"prompt": w, "responses": ["a", w, "ch"], "ranks": [1 + (w > "d"), 3, 2 - (w > "d")]} for w in WORDS]
    reference = [{"prompt": w, "completion": "b"} for w in WORDS[:3]]
    return RewardConfig(
        data=(DataConfig(path=jsonl(folder / "rankings.jsonl", rows)),),
        model=ModelConfig(path=model_folder(folder / "m")),
        reference=(DataConfig(path=jsonl(folder / "reference.jsonl", reference)),),
        **{
            "held_out_fraction": 0.2,
            "minibatch_size": 5,
            "epochs": 2,
            "evaluate_every": 3,
            "save_every": 3,
            "optim": STEADY,
            **options,
        },
    )


def ppo(folder: Path, **options: Any) -> PPOConfig:
    """Three iterations of six steps, saved every four: in the middle of an iteration too."""
    return PPOConfig(
        prompts=(DataConfig(path=jsonl(folder / "prompts.jsonl", [{"prompt": word} for word in WORDS[:5]])),),
        model=ModelConfig(path=model_folder(folder / "m", spread=0.2)),
        **{
            "rewards": (FunctionConfig(function=f"{Path(__file__).with_name('letters.py')}:letters"),),
            "critic": SeparateCritic(),
            "sampling": SamplingConfig(max_new_tokens=3, temperature=0.8),
            "iterations": 3,
            "prompts_per_iteration": 8,
            "epochs": 3,
            "minibatches": 2,
            "save_every": 4,
            "optim": STEADY,
            **options,
        },
    )


CONFIGS: dict[str, Callable[..., Any]] = {"sft": sft, "reward": reward, "ppo": ppo}


def train(stage: str, config: Any, folder: Path, prepare: Callable[[Run], None] = lambda run: None) -> None:
    """Begin a run, or go on with it."""
    with Run.open(folder) if Run.exists(folder) else Run.create(folder, stage, config) as run:
        prepare(run)
        STAGES[stage].function(config, run)
