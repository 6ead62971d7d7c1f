"""Attention over packed rows, registered with transformers under the name `plaudit_packed`.

All linear layers work on the packed line, without padding. Attention alone lays the rows out side by side,
padded on the right: a causal query never looks to its right, so real tokens never see padding and no mask is needed.
Rows are sorted into buckets of similar length, so that little of that square is wasted.

Several answers may share one prompt, which then runs once: a branch's tokens look at the prompt's and at their own
earlier ones, never at another branch.
"""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from plaudit.models.causal import causal_attention
from plaudit.models.weights import HFModel

PACKED = "plaudit_packed"
WASTE = 1.25
"""A bucket's square may hold at most this many times its real tokens before a new bucket starts."""
BEYOND = frozenset({"softcap", "sliding_window", "s_aux", "position_bias"})
"""What some models add to attention. On two short rows of small weights its lack might go unnoticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """Segments that go on where another one ends, side by side."""

    queries: Int[Tensor, "n L"]
    """Packed positions of the branches' own tokens, padded as in `Segments.buckets`."""
    keys: Int[Tensor, "n K"]
    """Packed positions of the stem, then of the branch itself."""
    mask: Bool[Tensor, "n 1 L K"]
    """True where a query may look: at all of its stem, at itself and what is before it in its branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Which packed tokens attend to each other: to the earlier ones of their own row."""

    buckets: tuple[Int[Tensor, "_ _"], ...]
    """Packed positions, a row a line; beyond a row's end its last position is repeated (never attended to)."""
    branches: tuple[Branches, ...]
    restore: Int[Tensor, " T"]
    """For each packed token, where its output stands among the buckets' and branches' outputs laid end to end."""


def segments(
    lengths: Sequence[int],
    device: torch.device | str = "cpu",
    stems: Sequence[int] | None = None,
    num_tokens: int | None = None,
) -> Segments:
    """The layout for segments of these lengths, in the order in which they are packed.

    `stems[i]` is the segment that segment i goes on from, or −1 where i begins a sequence (the default for all). Where
    the line has `num_tokens`, tokens that nobody reads follow; what they attend to is any number.
    """
    stems = stems if stems is not None else [-1] * len(lengths)
    starts = [0, *accumulate(lengths)][:-1]
    restore, offset = torch.zeros(num_tokens or sum(lengths), dtype=torch.long), 0
    buckets: list[Tensor] = []
    branches: list[Branches] = []
    for group in alike([i for i, stem in enumerate(stems) if stem < 0], lengths):
        square, keep = _square(group, starts, lengths)
        buckets.append(square.to(device))
        restore[square[keep]] = offset + torch.arange(square.numel()).reshape(square.shape)[keep]
        offset += square.numel()
    for group in alike([i for i, stem in enumerate(stems) if stem >= 0 and lengths[i]], lengths):
        square, keep = _square(group, starts, lengths)
        stem, visible = _square([stems[i] for i in group], starts, lengths)
        width = square.shape[1]
        own = torch.ones(width, width, dtype=torch.bool).tril().expand(len(group), -1, -1)
        mask = torch.cat([visible.unsqueeze(1).expand(-1, width, -1), own], dim=2).unsqueeze(1)
        keys = torch.cat([stem, square], dim=1)
        branches.append(Branches(queries=square.to(device), keys=keys.to(device), mask=mask.to(device)))
        restore[square[keep]] = offset + torch.arange(square.numel()).reshape(square.shape)[keep]
        offset += square.numel()
    return Segments(buckets=tuple(buckets), branches=tuple(branches), restore=restore.to(device))


def alike(indices: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Segments of similar length together, the longest first."""
    groups: list[list[int]] = []
    real = 0
    for i in sorted(indices, key=lambda i: lengths[i], reverse=True):
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= WASTE * (real + lengths[i]):
            groups[-1].append(i)
            real += lengths[i]
        else:
            groups.append([i])
            real = lengths[i]
    return groups


def _square(
    group: Sequence[int], starts: Sequence[int], lengths: Sequence[int]
) -> tuple[Int[Tensor, "n L"], Bool[Tensor, "n L"]]:
    """Packed positions of the group's segments, padded on the right by each one's last, and which of them are real."""
    columns = torch.arange(max(lengths[i] for i in group))
    first = torch.tensor([starts[i] for i in group]).unsqueeze(1)
    size = torch.tensor([lengths[i] for i in group]).unsqueeze(1)
    return first + torch.minimum(columns, size - 1), columns < size


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """query [1 H T D], key and value [1 Hkv T D] → [1 T H D], causal inside each row; across rows only to a stem.

    Raises: NotImplementedError where the model asks for more than that, which `Trunk` takes as "not packed".
    """
    if unknown := sorted(name for name in BEYOND & options.keys() if options[name] is not None):
        raise NotImplementedError(f"packed attention has no {', '.join(unknown)}")
    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    heads, head_dim = query.shape[1:]
    kv_heads = key.shape[1]
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    flat = torch.cat([x.reshape(x.shape[0], -1).to(dtype) for x in (query, key, value)], dim=1)
    outputs = []
    for bucket in segments.buckets:
        rows, width = bucket.shape
        square = flat.index_select(0, bucket.reshape(-1)).view(rows, width, heads + 2 * kv_heads, head_dim)
        q, k, v = square.transpose(1, 2).split([heads, kv_heads, kv_heads], dim=1)
        attended = causal_attention(q, k, v, scaling)
        outputs.append(attended.transpose(1, 2).reshape(rows * width, heads * head_dim))
    for branch in segments.branches:
        (rows, width), visible = branch.queries.shape, branch.keys.shape[1]
        q = flat[:, : heads * head_dim].index_select(0, branch.queries.reshape(-1))
        q = q.view(rows, width, heads, head_dim).transpose(1, 2)
        kv = flat[:, heads * head_dim :].index_select(0, branch.keys.reshape(-1))
        k, v = kv.view(rows, visible, 2 * kv_heads, head_dim).transpose(1, 2).split(kv_heads, dim=1)
        attended = scaled_dot_product_attention(
            q, k, v, attn_mask=branch.mask, scale=scaling, enable_gqa=kv_heads != heads
        )
        outputs.append(attended.transpose(1, 2).reshape(rows * width, heads * head_dim))
    line = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return line.index_select(0, segments.restore).view(1, -1, heads, head_dim), None


@contextlib.contextmanager
def attention_implementation(hf: HFModel, name: str | None) -> Generator[None]:
    """Inside the block the model attends by the named implementation."""
    config = hf.config.get_text_config()
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


AttentionInterface.register(PACKED, packed_attention)
