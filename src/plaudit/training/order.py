"""Which rows a step sees. An order is recomputed from its name, so a stream's place is one number (docs/resume.md)."""

from collections.abc import Sequence
from functools import lru_cache

from plaudit.errors import UserError
from plaudit.hardware.randomness import derive_seed, permutation


def weighted(sizes: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> list[int]:
    """The rows of one epoch, shuffled, as indices into the sources laid end to end (N1.1).

    A weight says how often each row of its source is seen in an epoch: 2 twice, 0.5 every other row, drawn anew
    each epoch.
    """
    chosen: list[int] = []
    start = 0
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        count = round(size * weight)
        whole, rest = divmod(count, size) if size else (0, 0)
        once = list(range(start, start + size))
        drawn = permutation(size, seed, "weight", source, epoch)[:rest]
        chosen += once * whole + [start + i for i in drawn]
        start += size
    return [chosen[i] for i in permutation(len(chosen), seed, "shuffle", epoch)]


def shuffled(position: int, size: int, seed: int, *names: object) -> int:
    """What stands at a position of a shuffle of 0 … size − 1 that is named as `permutation`'s, without the list of it.

    A Feistel network over the smallest even number of bits, walked until it is inside (Black & Rogaway 2002).
    """
    half = max((size - 1).bit_length() + 1, 2) // 2
    mask = (1 << half) - 1
    while True:
        left, right = position >> half, position & mask
        for turn in range(6):
            left, right = right, left ^ (derive_seed(seed, *names, turn, right) & mask)
        position = left << half | right
        if position < size:
            return position


def steps_per_epoch(sizes: Sequence[int], weights: Sequence[float], minibatch_size: int) -> int:
    """Optimiser steps in one epoch; the last minibatch may be smaller."""
    rows = sum(round(n * w) for n, w in zip(sizes, weights, strict=True))
    if not rows:
        raise UserError("data: the weights leave no row in an epoch; raise them")
    return -(-rows // minibatch_size)


@lru_cache(maxsize=2)
def of_epoch(sizes: tuple[int, ...], weights: tuple[float, ...], seed: int, epoch: int) -> tuple[int, ...]:
    """`weighted`, remembered from step to step."""
    return tuple(weighted(sizes, weights, seed, epoch))


def minibatch(order: Sequence[int], minibatch_size: int, index: int) -> list[int]:
    return list(order[index * minibatch_size : (index + 1) * minibatch_size])


def endless(n: int, position: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Items `position` … `position + count − 1` of an endless stream of shuffled passes, as (index, pass)."""
    items: list[tuple[int, int]] = []
    while len(items) < count:
        epoch, offset = divmod(position + len(items), n)
        rows = permutation(n, seed, "stream", epoch)[offset : offset + count - len(items)]
        items += [(row, epoch) for row in rows]
    return items
