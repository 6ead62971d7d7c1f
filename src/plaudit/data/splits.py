"""Training and held-out rows, divided by prompt: a row's side depends on its own prompt and the seed, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from plaudit.data.clean import unit_keys
from plaudit.errors import UserError
from plaudit.records.text import Row

R = TypeVar("R", bound=Row)


def split(rows: Sequence[R], held_out_fraction: float, seed: int) -> tuple[tuple[R, ...], tuple[R, ...]]:
    """(training rows, held-out rows), each in the order given.

    All rows of one prompt (by `clean.unit_keys`) fall on one side, whatever their order and whatever other rows there
    are, so the fraction (of prompts, in [0, 1)) is met on average only. Texts with labels under one fixed prompt are
    divided by the texts. Raises UserError where one side comes out empty.
    """
    if not 0 <= held_out_fraction < 1:
        raise UserError(f"held_out_fraction must be at least 0 and below 1, it is {held_out_fraction:g}")
    train: list[R] = []
    held_out: list[R] = []
    keys = unit_keys(rows)
    for row, key in zip(rows, keys, strict=True):
        side = held_out if uniform(key, seed) < held_out_fraction else train
        side.append(row)
    if rows and held_out_fraction > 0 and not (train and held_out):
        prompts = len(set(keys))
        raise UserError(
            f"the split leaves one side empty: {len(rows)} rows with {prompts} different prompts, "
            f"held_out_fraction {held_out_fraction:g}. Give more rows, another fraction (0: none) or another seed."
        )
    return tuple(train), tuple(held_out)


def uniform(key: str, seed: int) -> float:
    """A number in [0, 1) that is a function of key and seed."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
