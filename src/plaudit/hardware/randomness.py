"""Uniform numbers that depend on what is sampled, never on when or where (docs/resume.md).

A token's uniform is a function of (seed, prompt id, sample index, position): the same whatever the slot, the batch,
the rank, or a resume in between. Nothing here or anywhere uses torch's global generator.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = -7046029254386353131
"""2⁶⁴ ÷ golden ratio as a signed 64-bit number: the Weyl step of SplitMix64 (Steele, Lea & Flood 2014)."""


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(seed, "shuffle", epoch)`."""
    text = "\x1f".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """An explicit CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def permutation(n: int, seed: int, *names: object) -> list[int]:
    """A shuffle of 0 … n−1 that one can recompute from its name: a stream's position is then a single number."""
    return torch.randperm(n, generator=generator(seed, *names)).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleKey:
    """What a sampled token's uniform depends on, beside the seed and the position: never the slot or the batch."""

    prompt_id: str
    sample_index: int


def bases(keys: Sequence[SampleKey], seed: int) -> Int[Tensor, " N"]:
    """One 64-bit start per response."""
    return torch.tensor([derive_seed(seed, key.prompt_id, key.sample_index) for key in keys], dtype=torch.long)


def uniforms(base: Int[Tensor, " N"], position: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """SplitMix64 of the base at a position, as float64 in [0, 1)."""
    z = base + (position + 1) * _GOLDEN
    z = (z ^ _shift_right(z, 30)) * -4658895280553007687
    z = (z ^ _shift_right(z, 27)) * -7723592293110705685
    z = z ^ _shift_right(z, 31)
    return _shift_right(z, 11).double() * 2.0**-53


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's `>>` carries the sign along."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
