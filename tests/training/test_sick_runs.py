"""Runs made sick on purpose: each says what it has. Real models of a few letters, real training."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase as LETTERS
from typing import Any

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.evaluation.options import RewardEvalConfig
from plaudit.evaluation.reward_eval import reward_eval
from plaudit.models.options import ModelConfig
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig, RewardModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy.config import Evaluation, PPOConfig
from plaudit.training.policy.loop import optimise
from plaudit.training.policy.options import AdaptiveKL, Clip, FixedKL
from plaudit.training.policy.participants import participants
from tests.training import scripted, test_reward, test_sft
from tests.training.tiny import jsonl, model_folder

JUDGES = """
calls = []


def likes_a(completions, **columns):
    return [float(text.count("a") - text.count("b")) for text in completions]


def likes_b(completions, **columns):
    return [float(text.count("b")) for text in completions]


def likes_length(completions, **columns):
    return [float(len(text)) for text in completions]


def likes_brevity(completions, **columns):
    return [-float(len(text)) for text in completions]


def likes_sameness(completions, **columns):
    return [float(sum(a == b for a, b in zip(text, text[1:]))) for text in completions]


def constant(completions, **columns):
    return [1.0] * len(completions)


def shy(completions, **columns):
    return [None if "c" in text[:2] else float(len(text)) for text in completions]


def broken(completions, **columns):
    if any("c" in text[:2] for text in completions):
        raise ValueError("no c, please")
    return [float(len(text)) for text in completions]


def far(completions, **columns):
    return [100.0 + len(text) for text in completions]


def sours(completions, **columns):
    calls.append(1)
    return [float(len(text)) - len(calls) for text in completions]


def likes_worthless(completions, **columns):
    worth = dict(zip("abcdefgh", (2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -2.0, 0.0)))
    return [-sum(worth[letter] for letter in text) for text in completions]


def huge(completions, **columns):
    return [1e30 * (-1.0) ** i for i, _ in enumerate(completions)]
"""
FAST = OptimConfig(learning_rate=3e-2, eps=1e-5, schedule="constant")
BOMB = OptimConfig(learning_rate=1.0, schedule="constant")
SLOW = OptimConfig(learning_rate=3e-3, eps=1e-5, schedule="constant")
STILL = OptimConfig(learning_rate=0.0, schedule="constant")


def judged(folder: Path, name: str, **options: Any) -> FunctionConfig:
    (folder / "judges.py").write_text(JUDGES, encoding="utf-8")
    policy = {"on_error": "value", "error_value": 0.0, **options}
    return FunctionConfig(function=f"{folder / 'judges.py'}:{name}", isolate=False, **policy)


def config_of(
    folder: Path, judge: str = "likes_a", *, letters: str = "abc", longest: int = 12, **options: Any
) -> PPOConfig:
    """Twelve iterations of 16 answers of all letters alike, each of which ends with one chance in so many."""
    sizes = {"iterations": 12, "prompts_per_iteration": 16, "optim": FAST, "kl": FixedKL(coef=0.1)}
    path = model_folder(folder / "sft", letters=letters, context=longest + 16, spread=0.05)
    sizes |= {"model": ModelConfig(path=path), "sampling": SamplingConfig(max_new_tokens=longest)}
    sizes["rewards"] = (judged(folder, judge),)
    return scripted.config(folder, **{**sizes, **options})


def ppo(folder: Path, judge: str = "likes_a", **options: Any) -> Path:
    return scripted.run(folder, config_of(folder, judge, **options))


def sft(folder: Path, rows: list[dict], **options: Any) -> Path:
    model = ModelConfig(path=model_folder(folder / "m"))
    sizes = {"minibatch_size": 4, "held_out_fraction": 0.25, "epochs": 4}
    return test_sft.train(folder, test_sft.config(folder, rows, model=model, **{**sizes, **options}))


def reward(folder: Path, rows: list[dict], **options: Any) -> Path:
    sizes = {"minibatch_size": 4, "held_out_fraction": 0.3, "epochs": 2}
    return test_reward.train(folder, test_reward.config(folder, rows, **{**sizes, **options}))


def eval_reward(folder: Path, rows: list[dict], judge: FunctionConfig | RewardModelConfig) -> Path:
    chosen = RewardEvalConfig(data=(DataConfig(path=jsonl(folder / "rows.jsonl", rows)),), models=(judge,))
    with Run.create(folder / "run", "reward_eval", chosen) as run:
        reward_eval(chosen, run)
    return folder / "run"


def pairs(count: int, *, better: str) -> list[dict]:
    """The better answer by chance, the longer one, or the one that is worth more."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for row in test_reward.rankings(count, answers=2):
        one, two = row["responses"]
        match better:
            case "longer":
                one, two = one + "bc", two[:1]
            case "chance" if int(torch.randint(2, (), generator=generator)):
                one, two = two, one
            case "worth" if test_reward.worth(two) > test_reward.worth(one):
                one, two = two, one
        rows.append({"prompt": row["prompt"], "chosen": one, "rejected": two})
    return rows


def by_chance(count: int) -> list[dict]:
    """Answers that say nothing of their prompts."""
    generator = torch.Generator().manual_seed(0)
    return [{"prompt": row["prompt"], "completion": test_reward.word(generator)} for row in test_reward.rankings(count)]


def beyond_its_judge(folder: Path) -> Path:
    """The judge has seen answers of three letters; the policy finds longer ones."""
    model = reward(folder, pairs(60, better="worth"), epochs=4, optim=SLOW) / "model"
    (folder / "ppo").mkdir()
    judge = RewardModelConfig(path=str(model), name="judge")
    return ppo(folder / "ppo", rewards=(judge,), letters="abcdefgh", kl=FREE, iterations=16)


def read_in_part(folder: Path) -> Path:
    """The judge has room for twelve tokens, the policy writes up to twenty-four."""
    small = ModelConfig(path=model_folder(folder / "small", width=32, context=12))
    model = reward(folder, pairs(40, better="worth"), model=small, optim=SLOW) / "model"
    (folder / "ppo").mkdir()
    judge = RewardModelConfig(path=str(model), name="judge")
    return ppo(folder / "ppo", rewards=(judge,), letters="abcdefgh", optim=STILL, longest=24, iterations=3)


def sampled_by_another(folder: Path) -> Path:
    """The engine never gets the trained weights: what is learnt from is the start's, further and further away."""
    chosen = config_of(folder, "likes_a", letters="abc", kl=FREE, iterations=10)
    with Run.create(folder / "run", "ppo", chosen) as run:
        who = participants(chosen, run)
        engine = build_engine(copy.deepcopy(who.actor.policy), who.language, check_stop=run.check_stop)
        optimise(replace(who, engine=engine), chosen, run)
    return folder / "run"


def watched_by_another(folder: Path) -> Path:
    """On held-out prompts another judge likes what the policy forgets."""
    path = jsonl(folder / "held-out.jsonl", [{"prompt": letter} for letter in "abc"])
    held_out = Evaluation(prompts=(DataConfig(path=path),), every=1, samples=8, truth=(judged(folder, "likes_b"),))
    return ppo(folder, evaluation=held_out, optim=SLOW, iterations=20)


def exaggerated(folder: Path) -> Path:
    rows = pairs(40, better="worth")
    model = reward(folder, rows, optim=STILL) / "model"
    (folder / "eval").mkdir()
    return eval_reward(folder / "eval", rows, RewardModelConfig(path=str(model), weight=1e4))


FREE = FixedKL(coef=0.0)
LONG = [*by_chance(8), *({"prompt": "abcdefgh"[i % 8], "completion": "hgfedcba" * 2} for i in range(24))]
SICK: dict[str, Callable[[Path], Path]] = {
    "kl_far": lambda folder: ppo(folder, optim=BOMB, kl=FREE, longest=64, iterations=4),
    "ratio_high": lambda folder: ppo(folder, letters=LETTERS, optim=BOMB, epochs=4, iterations=2),
    "scores_alike": lambda folder: ppo(folder, "constant", iterations=3),
    "judge_abstains": lambda folder: ppo(folder, "shy", optim=STILL, iterations=3),
    "part_fails": lambda folder: ppo(folder, "broken", optim=STILL, iterations=3),
    "answers_cut": lambda folder: ppo(folder, "likes_length", optim=STILL, longest=2, iterations=9),
    "answers_grow": lambda folder: ppo(folder, "likes_length", kl=FREE, longest=24),
    "answers_vanish": lambda folder: ppo(folder, "likes_brevity", longest=24),
    "entropy_collapsed": lambda folder: ppo(folder, kl=FREE, iterations=20),
    "answers_repeat": lambda folder: ppo(folder, "likes_sameness", kl=FREE, iterations=20, longest=16),
    "critic_blind": lambda folder: ppo(folder, "likes_length", optim=STILL, iterations=18),
    "scores_off_zero": lambda folder: ppo(folder, "far", iterations=1),
    "part_falls": lambda folder: ppo(
        folder, rewards=(judged(folder, "likes_a"), judged(folder, "likes_b", weight=0.0)), optim=SLOW, iterations=20
    ),
    "judge_beyond_training": beyond_its_judge,
    "score_falls": lambda folder: ppo(folder, "sours", optim=STILL, iterations=14),
    "score_bought": lambda folder: ppo(
        folder,
        kl=AdaptiveKL(coef=0.02, target=0.1, horizon=16),
        optim=replace(FAST, learning_rate=1e-2),
        iterations=18,
        prompts_per_iteration=32,
    ),
    "second_judge_falls": watched_by_another,
    "judge_reads_part": read_in_part,
    "kl_negative": sampled_by_another,
    "sampler_differs": sampled_by_another,
    "pair_loss_rises": lambda folder: reward(folder, pairs(60, better="worth"), optim=BOMB),
    "clip_high": lambda folder: ppo(folder, objective=Clip(clip_range=1e-4), iterations=3),
    "steps_skipped": lambda folder: ppo(folder, "huge", epochs=1, iterations=1),
    "rows_left_out": lambda folder: sft(folder, LONG, max_length=12, too_long="drop", epochs=1),
    "rows_cut": lambda folder: sft(folder, LONG, max_length=12, too_long="truncate", epochs=1),
    "loss_rises": lambda folder: sft(folder, LONG, optim=BOMB),
    "held_out_loss_rises": lambda folder: sft(folder, by_chance(24), epochs=40, optim=FAST),
    "end_not_learned": lambda folder: sft(folder, by_chance(32), optim=STILL),
    "judge_below_floor": lambda folder: reward(folder, pairs(40, better="worth"), optim=STILL),
    "judge_overfits": lambda folder: reward(folder, pairs(40, better="chance"), epochs=30, optim=SLOW),
    "one_side_longer": lambda folder: reward(folder, pairs(40, better="longer"), optim=FAST),
    "judge_opposite": lambda folder: eval_reward(folder, pairs(60, better="worth"), judged(folder, "likes_worthless")),
    "judge_miscalibrated": exaggerated,
}


BESIDES = {
    "ratio_high": {
        "clip_high",
        "kl_far",
    },  # once the updates have left the trust region; how far, hosts round differently
    "kl_far": {"scores_alike", "answers_cut"},  # one answer is left, and it has no end
    "answers_grow": {"answers_cut"},
    "answers_vanish": {"scores_alike"},  # all are empty
    "entropy_collapsed": {"answers_grow", "answers_cut", "answers_repeat", "scores_alike"},  # a, a, a …
    "answers_repeat": {"answers_cut", "entropy_collapsed", "scores_alike", "critic_blind"},
    "part_falls": {"answers_cut", "answers_grow", "answers_repeat"},
    "score_bought": {"answers_cut", "answers_grow", "answers_repeat"},
    "second_judge_falls": {"answers_cut", "answers_grow", "answers_repeat"},
    "kl_negative": {"sampler_differs"},
    "sampler_differs": {"kl_negative"},
    "pair_loss_rises": {"judge_surer_than_right", "judge_below_floor"},  # it is destroyed
    "rows_cut": {"end_not_learned"},
    "loss_rises": {"held_out_loss_rises", "end_not_learned"},
    "judge_beyond_training": {"answers_cut", "critic_blind"},
    "judge_overfits": {"judge_surer_than_right", "judge_below_floor"},
    "judge_miscalibrated": {"judge_below_floor"},  # it is untrained
}
"""What comes of a sickness, and is named too."""
LONG_RUNS = {
    "score_bought", "second_judge_falls", "judge_reads_part", "kl_negative", "sampler_differs", "pair_loss_rises",
    "answers_cut", "answers_grow", "answers_vanish", "entropy_collapsed", "answers_repeat", "critic_blind",
    "part_falls", "score_falls", "held_out_loss_rises", "judge_overfits", "judge_beyond_training",
}  # fmt: skip


@pytest.mark.parametrize("rule", [pytest.param(r, marks=[pytest.mark.slow] if r in LONG_RUNS else []) for r in SICK])
def test_a_sick_run_names_its_sickness(tmp_path: Path, rule: str) -> None:
    health = Run.open(SICK[rule](tmp_path)).summary["health"]
    found = {one["rule"] for one in health["findings"]}
    assert {rule} <= found <= {rule} | BESIDES.get(rule, set())
    assert health["level"] in ("warning", "alarm")


def test_a_healthy_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run.open(ppo(tmp_path, "likes_length", optim=SLOW, iterations=3)).close()
    assert "health: healthy" in capsys.readouterr().err
