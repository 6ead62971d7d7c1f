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
    """`split_files` of one file."""
    ((train, held_out),) = split_files([rows], held_out_fraction, seed)
    return train, held_out


def split_files(
    files: Sequence[Sequence[R]], held_out_fraction: float, seed: int, paths: Sequence[str] = ()
) -> list[tuple[tuple[R, ...], tuple[R, ...]]]:
    """(training rows, held-out rows) of each file, each in the order given.

    All rows of one prompt (by `clean.unit_keys`) fall on one side, whatever their order and whatever other rows there
    are, so the fraction (of prompts, in [0, 1)) is met on average only. Texts with labels under one fixed prompt are
    divided by the texts. Raises UserError where one side comes out empty over all files together; a small file may
    well give nothing to one of them.
    """
    if not 0 <= held_out_fraction < 1:
        raise UserError(f"held_out_fraction must be at least 0 and below 1, it is {held_out_fraction:g}")
    keys = [unit_keys(rows) for rows in files]
    parts: list[tuple[tuple[R, ...], tuple[R, ...]]] = []
    for rows, own in zip(files, keys, strict=True):
        aside = [uniform(key, seed) < held_out_fraction for key in own]
        train = tuple(row for row, held in zip(rows, aside, strict=True) if not held)
        parts.append((train, tuple(row for row, held in zip(rows, aside, strict=True) if held)))
    count = sum(map(len, files))
    if count and held_out_fraction > 0 and not (any(train for train, _ in parts) and any(held for _, held in parts)):
        prompts = len({key for one in keys for key in one})
        where = f" in {', '.join(paths)}" if paths else ""
        raise UserError(
            f"the split leaves one side empty: {count} rows with {prompts} different prompts{where}, held_out_fraction "
            f"{held_out_fraction:g}. Give more rows, another fraction or another seed; `held_out_fraction: 0` trains "
            "on all and measures nothing; `held_out` names files that are measured on."
        )
    return parts


def uniform(key: str, seed: int) -> float:
    """A number in [0, 1) that is a function of key and seed."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
