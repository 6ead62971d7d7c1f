"""Worlds whose every answer can be listed: five tokens, at most four steps, a random reward for each whole answer.

The policy may write <s>, </s>, <unk>, a and b. </s> ends an answer; one that has not ended after four tokens is cut and
judged as it is. So there are 1 + 4 + 16 + 64 answers that end and 4⁴ = 256 that are cut, 341 in all, and their
probabilities sum to 1. Every token is worth something by itself and behind its predecessor, drawn at random, so that a
policy must know what it wrote and how long it is; a world has its own rewards and its own random π_ref.

An answer's reward isn't an independent draw, though that would be simpler: exact gradient ascent on J, without any
sampling, then leaves networks of this size at 0.72 to 0.97 of the way (600 steps of Adam, ten worlds), so that failing
would say nothing about PPO. Here it comes to 0.99 in 200 steps.

J(π) = Σ_y π(y) (r(y) − β log π(y)/π_ref(y)) is summed over all of them, with transformers alone.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.models.options import ModelConfig
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.loop import ppo
from plaudit.training.policy.options import FixedKL
from tests.training.tiny import END, hf, ids, jsonl, model_folder

TOKENS, STEPS, BETA = 5, 4, 0.3
Answer = tuple[int, ...]
Logprobs = dict[Answer, float]
"""Of whole answers, nats."""
Rewards = dict[Answer, float]


def answers() -> list[Answer]:
    """All of them, in a fixed order."""
    others = [token for token in range(TOKENS) if token != END]
    ended = [(*body, END) for n in range(STEPS) for body in itertools.product(others, repeat=n)]
    return [*ended, *itertools.product(others, repeat=STEPS)]


def drawn_rewards(seed: int) -> Rewards:
    """r(y) = ½ (Σ_t a[y_t] + Σ_t b[y_{t−1}, y_t]), a and b drawn from N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    alone = torch.randn(TOKENS, generator=generator).tolist()
    behind = torch.randn(TOKENS, TOKENS, generator=generator).tolist()
    return {
        y: 0.5 * (sum(alone[t] for t in y) + sum(behind[s][t] for s, t in itertools.pairwise(y))) for y in answers()
    }


@torch.no_grad()
def answer_logprobs(folder: Path | str) -> Logprobs:
    """log π(y) of every answer to the prompt "a", nats, as transformers alone computes it."""
    model, prompt, out = hf(folder), [0, *ids("a", "ab")], {}
    for length, same in itertools.groupby(answers(), key=len):
        listed = list(same)
        logits = model(input_ids=torch.tensor([[*prompt, *answer] for answer in listed])).logits.double()
        predicting = logits[:, len(prompt) - 1 : len(prompt) + length - 1].log_softmax(-1)
        logprobs = predicting.gather(2, torch.tensor(listed).unsqueeze(2)).sum((1, 2))
        out |= dict(zip(listed, logprobs.tolist(), strict=True))
    return out


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a policy stands, exactly."""

    objective: float
    """J = E r − β KL."""
    kl: float
    """KL(π ‖ π_ref), nats per answer."""


def stands(policy: Logprobs, reference: Logprobs, rewards: Rewards) -> Point:
    assert abs(sum(map(math.exp, policy.values())) - 1.0) < 1e-5
    score = math.fsum(math.exp(policy[y]) * rewards[y] for y in rewards)
    kl = math.fsum(math.exp(policy[y]) * (policy[y] - reference[y]) for y in rewards)
    return Point(objective=score - BETA * kl, kl=kl)


def best_by_dynamic_programming(reference: Logprobs, rewards: Rewards) -> Point:
    """J* and KL* from the last token backwards, without a partition function over answers.

    What a prefix is worth, V = β log Σ_v π_ref(v | prefix) e^{V(prefix v)/β}, where a whole answer is worth its reward;
    and what its best continuation costs, K = Σ_v π*(v | prefix) (log π*(v)/π_ref(v) + K(prefix v)).
    """

    def below(prefix: Answer) -> tuple[float, float, float]:
        """(mass of the reference, V, K) of everything that begins so."""
        if prefix in rewards:
            return math.exp(reference[prefix]), rewards[prefix], 0.0
        children = [below((*prefix, token)) for token in range(TOKENS)]
        mass = math.fsum(m for m, _, _ in children)
        worth = BETA * math.log(math.fsum(m / mass * math.exp(v / BETA) for m, v, _ in children))
        own = [m / mass * math.exp((v - worth) / BETA) for m, v, _ in children]
        cost = math.fsum(p * (math.log(p / (m / mass)) + k) for p, (m, _, k) in zip(own, children, strict=True))
        return mass, worth, cost

    _, objective, kl = below(())
    return Point(objective=objective, kl=kl)


def solve(folder: Path, seed: int, **options) -> Rewards:
    """Let the real `ppo` loose on world number `seed`; its rewards."""
    rewards = drawn_rewards(seed)
    (folder / "judge.py").write_text(
        f"WORTH = {rewards!r}\n\n\n"
        "def worth(completion_ids, **columns):\n"
        "    return [WORTH[tuple(ids)] for ids in completion_ids]\n",
        encoding="utf-8",
    )
    config = PPOConfig(
        prompts=(DataConfig(path=jsonl(folder / "prompts.jsonl", [{"prompt": "a"}])),),
        rewards=(FunctionConfig(function=f"{folder / 'judge.py'}:worth"),),
        model=ModelConfig(path=model_folder(folder / "sft", letters="ab", spread=0.15, width=32, layers=2, seed=seed)),
        sampling=SamplingConfig(max_new_tokens=STEPS),
        kl=FixedKL(coef=BETA),
        seed=seed,
        **{
            "optim": OptimConfig(learning_rate=3e-3, eps=1e-5),
            "iterations": 100,
            "prompts_per_iteration": 128,
            "epochs": 4,
            "minibatches": 2,
            "value_coef": 0.5,
            "value_clip_range": 0.0,
            "save_every": 10**6,
            "keep_rollouts": 1,
            **options,
        },
    )
    with Run.create(folder / "run", "ppo", config) as run:
        ppo(config, run)
    return rewards
