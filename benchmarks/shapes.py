"""The models that are measured: shapes with random weights, the same files for plaudit and for its peers. No torch."""

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PAD, EOS, SPECIAL = 0, 1, 2
"""Ids of the two special tokens, and how many they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder with grouped queries, a gated MLP and an output matrix tied to the embeddings."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    family: Literal["qwen2", "llama"] = "qwen2"
    context: int = 2048

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    @property
    def block_parameters(self) -> int:
        """Weights in one block's matrices."""
        attention = self.hidden * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.intermediate

    @property
    def parameters(self) -> int:
        """Weights in matrices, the embeddings once."""
        return self.layers * self.block_parameters + self.hidden * self.vocabulary


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name="S", hidden=256, intermediate=1024, layers=4, heads=4, kv_heads=2, vocabulary=4096),
        Shape(name="M", hidden=576, intermediate=1216, layers=12, heads=9, kv_heads=3, vocabulary=16384),
        # The 260 thousand parameters of the smallest storyteller: overhead is everything.
        Shape(name="story", hidden=64, intermediate=172, layers=5, heads=8, kv_heads=4, vocabulary=512, family="llama"),
        # S with the vocabulary of Qwen2: who keeps tokens × vocabulary tensors shows it here.
        Shape(name="S-wide", hidden=256, intermediate=1024, layers=4, heads=4, kv_heads=2, vocabulary=151936),
        # Shaped as a model of half a billion parameters: for GPUs.
        Shape(name="L", hidden=896, intermediate=4864, layers=24, heads=14, kv_heads=2, vocabulary=151936),
        # For tests of the benchmark itself.
        Shape(name="XS", hidden=64, intermediate=128, layers=2, heads=2, kv_heads=1, vocabulary=320, context=512),
    )
}


@dataclass(frozen=True, slots=True)
class Alphabet:
    """A byte-level vocabulary of a given size in which text is ideographs, each one token.

    Ids: two special tokens, the 256 bytes, beginnings of characters (bytes that merges pass through), characters. The
    models never write what stands before `first`, so that text and ids say the same.
    """

    beginnings: tuple[bytes, ...]
    characters: str

    @property
    def first(self) -> int:
        """The first character's id."""
        return SPECIAL + 256 + len(self.beginnings)

    def text(self, ids: Iterable[int]) -> str:
        """Text that the tokenizer reads as exactly these ids."""
        return "".join(self.characters[token - self.first] for token in ids)


@functools.cache
def alphabet(size: int) -> Alphabet:
    """As many characters as fit. No normal form of Unicode changes one of these."""
    beginnings: dict[bytes, None] = {}
    characters: list[str] = []
    blocks = (range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2F800), range(0x30000, 0x3F000))
    for code in itertools.chain(*blocks):
        encoded = chr(code).encode()
        new = [encoded[:n] for n in range(2, len(encoded)) if encoded[:n] not in beginnings]
        if SPECIAL + 256 + len(beginnings) + len(new) + len(characters) + 1 > size:
            break
        beginnings.update(dict.fromkeys(new))
        characters.append(chr(code))
    return Alphabet(tuple(beginnings), "".join(characters))
