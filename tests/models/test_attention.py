"""Packed attention against attention written out, row by row, and its layout against what it promises."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from plaudit.models import causal
from plaudit.models.attention import (
    BEYOND,
    PACKED,
    WASTE,
    attention_implementation,
    packed_attention,
    segments,
)
from plaudit.models.causal import causal_attention
from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import pack
from tests.kills import kills
from tests.models.tiny import build, relative_difference

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=9)


def by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """One row, head by head, token by token: [H L D] and [Hkv L D] → [L H D], in float64."""
    heads, length, size = query.shape
    shared = heads // key.shape[0]
    out = torch.zeros(length, heads, size, dtype=torch.float64)
    for head in range(heads):
        for t in range(length):
            seen = key[head // shared, : t + 1] @ query[head, t] * scale
            out[t, head] = seen.softmax(0) @ value[head // shared, : t + 1]
    return out


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """|a − b| ÷ |b|."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("scaling", [None, 0.7])
def test_each_row_attends_to_its_own_past(kv_heads, scaling):
    lengths = (3, 1, 7, 7, 2, 6, 1)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, sum(lengths), 8, generator=generator, dtype=torch.float64)
        for heads in (4, kv_heads, kv_heads)
    )
    out, weights = packed_attention(
        torch.nn.Module(), query, key, value, None, segments=segments(lengths), scaling=scaling
    )
    assert weights is None
    assert out.shape == (1, sum(lengths), 4, 8)
    begin = 0
    for length in lengths:
        row = slice(begin, begin + length)
        alone = by_hand(query[0, :, row], key[0, :, row], value[0, :, row], scaling or 8**-0.5)
        torch.testing.assert_close(out[0, row], alone, atol=1e-12, rtol=1e-12)
        begin += length


def test_gradients_reach_each_token_of_a_row_and_no_other_row():
    lengths = (2, 5, 3)
    tensors = [torch.randn(1, 2, 10, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    query, key, value = (x.requires_grad_() for x in tensors)
    out, _ = packed_attention(torch.nn.Module(), query, key, value, None, segments=segments(lengths))
    out[0, 2:7].square().sum().backward()
    for x in (query, key, value):
        felt = x.grad[0].abs().sum((0, 2)) > 0
        assert not felt[:2].any()
        assert not felt[7:].any()
    assert (value.grad[0].abs().sum((0, 2)) > 0)[2:7].all()


@given(LENGTHS)
def test_segments_hold_each_token_once_and_little_else(lengths):
    layout = segments(lengths)
    flat = torch.cat([bucket.reshape(-1) for bucket in layout.buckets])
    assert flat[layout.restore].tolist() == list(range(sum(lengths)))
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    rows = sorted(tuple(line) for bucket in layout.buckets for line in bucket.tolist())
    assert len(rows) == len(lengths)
    for line, start, length in zip(rows, starts, lengths, strict=True):
        assert list(line[:length]) == list(range(start, start + length))
        assert set(line[length:]) <= {start + length - 1}
    for bucket in layout.buckets:
        assert bucket.numel() <= WASTE * len(set(bucket.flatten().tolist()))


def test_rows_of_one_length_are_one_bucket_and_far_lengths_are_two():
    assert [tuple(b.shape) for b in segments([4, 4, 4]).buckets] == [(3, 4)]
    assert [tuple(b.shape) for b in segments([2, 9, 9]).buckets] == [(2, 9), (1, 2)]


@pytest.mark.parametrize("option", sorted(BEYOND))
def test_what_packing_lacks_is_refused(option):
    x = torch.zeros(1, 2, 3, 4)
    run = {"segments": segments([3]), option: None}
    packed_attention(torch.nn.Module(), x, x, x, None, **run)
    with pytest.raises(NotImplementedError, match=option):
        packed_attention(torch.nn.Module(), x, x, x, None, **run | {option: 2.0})


def test_the_implementation_is_switched_for_the_block_only():
    model = build("llama")
    with pytest.raises(RuntimeError), attention_implementation(model, PACKED):
        assert model.config._attn_implementation == PACKED
        raise RuntimeError
    assert model.config._attn_implementation == "sdpa"


def test_a_packed_line_is_not_one_long_row():
    """The rows of this line, read as one text, would say something else: the layout is needed."""
    model = build("llama gqa")
    ids = torch.tensor([[1, 5, 9, 2, 7, 4]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]])
    with torch.no_grad(), attention_implementation(model, PACKED):
        packed, whole = (
            model.model(ids, position_ids=positions, use_cache=False, segments=segments(n)).last_hidden_state[0]
            for n in ([3, 3], [6])
        )
    assert relative_difference({"": packed[:3]}, {"": whole[:3]}) < 1e-6
    assert relative_difference({"": packed[3:]}, {"": whole[3:]}) > 1e-2


@kills("models/causal.py", old=".triu(1), -math.inf", new=".triu(2), -math.inf", why="a token sees the next one")
@kills("models/causal.py", old=" - _rows(shared, begin, end))", new=")", why="the softmax's own part of the gradient")
@pytest.mark.parametrize(("heads", "kv_heads", "scale"), [(4, 2, None), (3, 3, 0.3), (6, 2, None)])
def test_long_rows_attend_as_torchs_own_kernel_in_value_and_gradient(heads, kv_heads, scale):
    """130 tokens: four blocks and a short one."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, 130, 8), (2, kv_heads, 130, 8), (2, kv_heads, 130, 8)]
    tensors = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    weight = torch.randn(shapes[0], generator=generator)
    own = causal_attention(*tensors, scale)
    assert "_Causal" in own.grad_fn.next_functions[0][0].name()
    torchs = scaled_dot_product_attention(*tensors, is_causal=True, scale=scale, enable_gqa=heads != kv_heads)
    torch.testing.assert_close(own, torchs, atol=1e-5, rtol=1e-5)
    mine, wanted = (torch.autograd.grad((out * weight).sum(), tensors) for out in (own, torchs))
    torch.testing.assert_close(mine, wanted, atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        assert causal_attention(*tensors, scale).equal(torchs)


@kills("models/attention.py", old=".to(dtype) for x in (query, key, value)", new=" for x in (query, key, value)",
       why="queries and keys stay in fp32, which the faster attention doesn't take")  # fmt: skip
@pytest.mark.parametrize("length", [20, 140])
def test_a_model_learns_in_bf16_what_it_learns_in_fp32(length, monkeypatch):
    """Its turned queries and keys come in fp32 where its values come in bf16."""
    asked: list[torch.dtype] = []
    monkeypatch.setattr(
        causal, "_pays", lambda query, count, pays=causal._pays: asked.append(query.dtype) or pays(query, count)
    )
    trunk = Trunk(build("llama"))
    rows = pack([[1, 2, 3], [4, 5]], [[(7 * i + 3) % 11 for i in range(length)], [6, 7, 8, 9]])
    gradients, logprobs = [], []
    for is_half in (False, True):
        asked.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_half):
            logprobs.append(trunk(rows, {"logprobs"})["logprobs"])
        gradients.append(torch.autograd.grad(logprobs[-1].sum(), list(trunk.parameters())))
    assert set(asked) == {torch.bfloat16}
    assert off(logprobs[1], logprobs[0]) < 0.01
    assert all(off(x, y) < 0.05 for x, y in zip(*reversed(gradients), strict=True))


def test_what_the_faster_attention_would_keep_beyond_its_budget_goes_to_torchs_kernel(monkeypatch):
    monkeypatch.setattr(causal, "BUDGET", 1)
    tensors = [torch.randn(1, 2, 130, 8, requires_grad=True) for _ in range(3)]
    assert "_Causal" not in causal_attention(*tensors, None).grad_fn.name()
