"""PPO on models of a few letters: a reward function in a file, a config, a run."""

from pathlib import Path

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.models.options import ModelConfig
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.loop import ppo
from tests.training.tiny import jsonl, model_folder

JUDGE = '''
seen = []


def letters(completions, completion_ids, **columns):
    """Likes a, dislikes b, and does not mind length."""
    seen.append(completion_ids)
    return [float(text.count("a") - text.count("b")) for text in completions]


def shy(completions, **columns):
    """Abstains on every answer that holds a c."""
    return [None if "c" in text else float(len(text)) for text in completions]


def mute(completions, **columns):
    return [None] * len(completions)


calls = []


def exploding(completions, **columns):
    """From its third call on, numbers whose square is beyond float32."""
    calls.append(1)
    return [1e30 if len(calls) > 2 else 1.0] * len(completions)


def stumbling(completions, **columns):
    calls.append(1)
    return [1e30 if len(calls) == 2 else 1.0] * len(completions)
'''


def judge(folder: Path, name: str = "letters") -> FunctionConfig:
    path = folder / "judge.py"
    path.write_text(JUDGE, encoding="utf-8")
    return FunctionConfig(function=f"{path}:{name}", isolate=False)  # tests look into the module


def config(folder: Path, function: str = "letters", *, spread: float = 0.3, **options) -> PPOConfig:
    """Three prompts, eight rollouts an iteration, answers of at most four letters out of abc."""
    model = options.pop("model", None) or ModelConfig(path=model_folder(folder / "sft", letters="abc", spread=spread))
    prompts = jsonl(folder / "prompts.jsonl", [{"prompt": "a"}, {"prompt": "cb"}, {"prompt": "bac"}])
    chosen = {
        "prompts": (DataConfig(path=prompts),),
        "rewards": (judge(folder, function),),
        "model": model,
        "sampling": SamplingConfig(max_new_tokens=4),
        "optim": OptimConfig(learning_rate=1e-2, eps=1e-5, schedule="constant"),
        "iterations": 2,
        "prompts_per_iteration": 8,
        "epochs": 2,
        "minibatches": 2,
    }
    return PPOConfig(**{**chosen, **options})


def run(folder: Path, chosen: PPOConfig, name: str = "run") -> Path:
    with Run.create(folder / name, "ppo", chosen) as run:
        ppo(chosen, run)
    return folder / name
