"""The people of the tiny world: the demonstrator, whose answers SFT learns from, and the labeller, who ranks answers.

What both go by, and how, is told in `plaudit.data.tinyworld`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from plaudit.data.tinyworld import Case, Question, Slots, choices, parse, read_prompt, render, worth

COMPETENCE = 0.8
"""The demonstrator's inverse temperature, per unit of worth: 0 picks at random, infinity picks the best."""


def demonstrator(prompt: Question) -> dict[str, dict[str, float]]:
    """The demonstrator's probability of each choice of each slot; the slots are independent given the prompt."""
    return _demonstrator(read_prompt(prompt))


def _demonstrator(case: Case) -> dict[str, dict[str, float]]:
    table = {}
    for slot, options in choices(case).items():
        weights = [math.exp(COMPETENCE * worth(case, slot, option)) for option in options]
        table[slot] = {option: weight / sum(weights) for option, weight in zip(options, weights, strict=True)}
    return table


def demonstrate(prompt: Question, rng: random.Random) -> str:
    """One answer of the demonstrator."""
    case = read_prompt(prompt)
    return render(case, choose(case, rng))


def choose(case: Case, rng: random.Random) -> Slots:
    """The five choices of one answer of the demonstrator."""
    table = _demonstrator(case)
    return Slots(**{slot: rng.choices(list(p), weights=list(p.values()))[0] for slot, p in table.items()})


def demo_logprob(prompt: Question, text: str) -> float:
    """The demonstrator's log-probability of a whole answer, in nats; -inf for what it never writes."""
    slots = parse(prompt, text)
    if slots is None:
        return -math.inf
    return math.fsum(math.log(p[getattr(slots, slot)]) for slot, p in demonstrator(prompt).items())


def demo_entropy(prompt: Question) -> float:
    """Entropy of the demonstrator's answer to `prompt`, in nats per answer: no model's expected negative
    log-likelihood of a demonstration (its end included) is below this (N1.1)."""
    return -math.fsum(p * math.log(p) for table in demonstrator(prompt).values() for p in table.values())


def rank(rewards: Sequence[float], rng: random.Random) -> list[int]:
    """The labeller's places of answers with these true rewards: 1 = best, no ties.

    Sorting r + Gumbel noise samples a Plackett-Luce ranking: first place is a softmax of the rewards, second place a
    softmax of those that are left, and so on (N3.4). ValueError for a reward that isn't finite.
    """
    _require_finite(rewards)
    noisy = [reward + _gumbel(rng) for reward in rewards]
    order = sorted(range(len(noisy)), key=lambda i: -noisy[i])
    ranks = [0] * len(noisy)
    for position, i in enumerate(order, start=1):
        ranks[i] = position
    return ranks


def _require_finite(rewards: Sequence[float]) -> None:
    for i, reward in enumerate(rewards):
        if not math.isfinite(reward):
            raise ValueError(f"reward {i} is {reward}; rewards must be finite")


def _gumbel(rng: random.Random) -> float:
    u = rng.random()
    while u == 0.0:  # log 0; once in 2^53 draws
        u = rng.random()
    return -math.log(-math.log(u))


def pair_probability(reward_i: float, reward_j: float) -> float:
    """How often the labeller puts i before j: sigmoid(r_i - r_j), whatever else it ranks with them (N3.1)."""
    difference = reward_i - reward_j
    if difference >= 0:
        return 1.0 / (1.0 + math.exp(-difference))
    return math.exp(difference) / (1.0 + math.exp(difference))
