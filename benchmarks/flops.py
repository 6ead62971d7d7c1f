"""Floating-point operations that matrices need at least: the floors that measured seconds are compared with.

A product of [m, k] and [k, n] counts 2·m·k·n. Attention counts what causal masks leave: a token and those before it.
Backward counts twice its forward. Element-wise work, norms, softmax and the optimiser count nothing: what they cost
is the distance to the floor. No torch.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from benchmarks.shapes import Shape

Critic = Literal["shared", "separate"]


def blocks(shape: Shape, lengths: Iterable[int]) -> int:
    """One forward of whole sequences through all blocks, without embeddings and output matrix.

    Σ over sequences of n tokens, per block: 2·n·(weights) + 4·(n(n+1)/2)·(heads · head width), the latter for scores
    and weighted values of each token with itself and those before it.
    """
    width = shape.heads * shape.head_width
    return sum(shape.layers * (2 * n * shape.block_parameters + 2 * n * (n + 1) * width) for n in lengths)


def output(shape: Shape, tokens: int) -> int:
    """The output matrix on so many tokens: 2 · tokens · hidden · vocabulary."""
    return 2 * tokens * shape.hidden * shape.vocabulary


def sampling(shape: Shape, prompts: Sequence[int], responses: Sequence[int]) -> int:
    """Write responses of these lengths: every token but the last through the blocks once, logits for each response
    token."""
    lengths = [prompt + response - 1 for prompt, response in zip(prompts, responses, strict=True)]
    return blocks(shape, lengths) + output(shape, sum(responses))


def sampling_groups(shape: Shape, prompts: Sequence[int], responses: Sequence[Sequence[int]]) -> int:
    """As `sampling`, several responses to each prompt: the prompt runs once."""
    whole = sum(sampling(shape, [p] * len(group), group) for p, group in zip(prompts, responses, strict=True))
    again = sum((len(group) - 1) * blocks(shape, [p]) for p, group in zip(prompts, responses, strict=True))
    return whole - again


def ppo_iteration(
    shape: Shape, prompts: Sequence[int], responses: Sequence[int], *, epochs: int, critic: Critic
) -> dict[str, int]:
    """PPO with nothing done twice, the judge and the reference frozen and of the policy's shape.

    sample: one pass, which also gives π_old and, with a shared critic, V.
    score:  reference (logits on response tokens) and judge; with a separate critic its values too.
    update: `epochs` × forward and backward (3 forwards) of the policy, logits on response tokens; a separate critic's
            blocks as well. The critic's own head, one column, counts nothing.
    """
    lengths = [p + r for p, r in zip(prompts, responses, strict=True)]
    trunk, logits = blocks(shape, lengths), output(shape, sum(responses))
    apart = trunk if critic == "separate" else 0
    return {
        "sample": sampling(shape, prompts, responses),
        "score": trunk + logits + trunk + apart,
        "update": 3 * epochs * (trunk + logits + apart),
    }


def fine_tuning(shape: Shape, lengths: Sequence[int], targets: int) -> int:
    """Forward and backward of SFT: logits on `targets` tokens."""
    return 3 * (blocks(shape, lengths) + output(shape, targets))


def reward_training(shape: Shape, prompts: Sequence[int], answers: Sequence[Sequence[int]]) -> int:
    """Forward and backward of a reward model: each prompt once, its answers after it; the head counts nothing."""
    width = shape.heads * shape.head_width
    total = 0
    for prompt, lengths in zip(prompts, answers, strict=True):
        new = sum(lengths)
        pairs = prompt * (prompt + 1) // 2 + sum(n * prompt + n * (n + 1) // 2 for n in lengths)
        total += shape.layers * (2 * (prompt + new) * shape.block_parameters + 4 * pairs * width)
    return 3 * total


def ranking_gain(answers: int, prompt: float, response: float) -> float:
    """By how much a ranking of K answers can be cheaper in one pass than as K(K−1)/2 pairs of whole sequences:
    K(K−1)(P + R) / (P + K·R)."""
    return answers * (answers - 1) * (prompt + response) / (prompt + answers * response)
