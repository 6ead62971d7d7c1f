import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.advantages import moments
from plaudit.formulas.value_losses import explained_variance, value_losses
from tests.formulas.cases import RAGGED, leaf, masks, numbers, wider
from tests.kills import kills


def loss_of(values, old_values, returns, mask, value_clip_range=0.2, num_tokens=None):
    num_tokens = mask.sum() if num_tokens is None else num_tokens
    losses = value_losses(values, old_values, returns, mask, value_clip_range=value_clip_range)
    return losses.sum() / max(int(num_tokens), 1)


def test_by_hand():
    # Old values 0, band ±0.5.
    values = leaf(torch.tensor([[1.0, 1.0, -1.0, 0.25, 9.0]]))
    returns = torch.tensor([[2.0, 0.0, -2.0, 1.25, 9.0]])
    mask = torch.tensor([[True, True, True, True, False]])
    loss = loss_of(values, torch.zeros(1, 5), returns, mask, value_clip_range=0.5)
    # ½·1.5² (clipped at 0.5), ½·1² (clipping would lessen it), ½·1.5² (clipped at −0.5), ½·1² (inside).
    assert loss.item() == pytest.approx((1.125 + 0.5 + 1.125 + 0.5) / 4)
    loss.backward()
    assert (4 * values.grad).flatten().tolist() == pytest.approx([0.0, 1.0, 0.0, -1.0, 0.0])


@kills(
    "formulas/value_losses.py",
    old="return torch.maximum(unclipped, clipped)",
    new="return torch.minimum(unclipped, clipped)",
    why="min for max: clipping makes the critic's loss smaller",
)
@kills(
    "formulas/value_losses.py",
    old="unclipped = 0.5 * (values - returns).square()",
    new="unclipped = (values - returns).square()",
    why="the half forgotten: value_coef means something else",
)
@kills(
    "formulas/value_losses.py",
    old="values.clamp(old_values - value_clip_range, old_values + value_clip_range)",
    new="values.clamp(returns - value_clip_range, returns + value_clip_range)",
    why="the band around the return instead of the old value",
)
def test_losses_per_token_by_hand():
    values, returns = torch.tensor([[1.0, 1.0, 9.0]]), torch.tensor([[2.0, 0.0, 9.5]])
    mask = torch.tensor([[True, True, False]])
    losses = value_losses(values, torch.zeros(1, 3), returns, mask, value_clip_range=0.5)
    assert losses.tolist() == [[1.125, 0.5, 0.0]]


def test_the_band_is_around_the_old_value():
    loss = loss_of(torch.tensor([[3.0]]), torch.tensor([[2.0]]), torch.tensor([[4.0]]), torch.tensor([[True]]), 0.5)
    assert loss.item() == pytest.approx(0.5 * 1.5**2)


def test_zero_means_no_clipping():
    values, returns = torch.tensor([[3.0, 0.0]]), torch.tensor([[5.0, 1.0]])
    loss = loss_of(values, torch.full((1, 2), -7.0), returns, torch.ones(1, 2, dtype=torch.bool), 0.0)
    assert loss.item() == 1.25  # (½·4 + ½·1) / 2


@given(value_clip_range=st.floats(0.01, 3.0))
def test_never_smaller_than_without_clipping(value_clip_range):
    tensors = [numbers(seed, 4, 5) for seed in range(3)]
    clipped = loss_of(*tensors, RAGGED, value_clip_range).item()
    assert clipped >= loss_of(*tensors, RAGGED, 0.0).item() - 1e-12


def test_rounding_inside_the_band_does_not_count_as_clipping():
    old = numbers(0, 50, 40).float()
    values = old + 0.1 * numbers(1, 50, 40).float().clamp(-1, 1)
    seen = values, old, numbers(2, 50, 40).float(), torch.ones(50, 40, dtype=torch.bool)
    assert torch.equal(value_losses(*seen, value_clip_range=0.2), value_losses(*seen, value_clip_range=0.0))


@kills(
    "formulas/value_losses.py",
    old="returns = select(returns.detach(), mask)",
    new="returns = select(returns, mask)",
    why="a gradient into the returns",
)
def test_gradient_flows_into_values_only():
    tensors = [leaf(numbers(seed, 4, 5)) for seed in range(3)]
    loss_of(*tensors, RAGGED).backward()
    assert tensors[0].grad.abs().max().item() > 0.0
    assert tensors[1].grad is None
    assert tensors[2].grad is None


@given(mask=masks, cut=st.integers(0, 4))
def test_microbatches_add_up_to_the_minibatch(mask, cut):
    old, returns, start = (numbers(seed, *mask.shape) for seed in range(3))
    num_tokens = int(mask.sum())
    whole, split = leaf(start), leaf(start)
    loss = loss_of(whole, old, returns, mask, num_tokens=num_tokens)
    loss.backward()
    total = 0.0
    for part in (slice(0, cut), slice(cut, None)):
        part_loss = loss_of(split[part], old[part], returns[part], mask[part], num_tokens=num_tokens)
        part_loss.backward()
        total += part_loss.item()
    assert total == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(split.grad, whole.grad, atol=1e-12)


@given(mask=masks, at=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_padding_and_the_order_of_rows_change_nothing(mask, at, order):
    tensors = [numbers(seed, *mask.shape) for seed in range(3)]
    at = min(at, mask.shape[1])
    loss = loss_of(*tensors, mask)
    permutation = order.sample(range(mask.shape[0]), mask.shape[0])
    padded = loss_of(*(wider(x, at, torch.nan) for x in tensors), wider(mask, at, False))
    permuted = loss_of(*(x[permutation] for x in tensors), mask[permutation])
    for other in (padded, permuted):
        assert other.item() == pytest.approx(loss.item(), abs=1e-12)


def test_half_precision_values_are_raised():
    values = torch.ones(1, 1, dtype=torch.bfloat16)
    loss = loss_of(values, 0.5 * values, torch.full((1, 1), 2.0), torch.tensor([[True]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.5 * 1.3**2, rel=1e-6)  # bfloat16 would clip at 0.69921875
    assert loss_of(values, values, values, torch.tensor([[True]]), 0.0).dtype == torch.float32


def test_an_empty_batch_is_zero_everywhere():
    values = leaf(numbers(0, 4, 5))
    loss = loss_of(values, numbers(1, 4, 5), numbers(2, 4, 5), torch.zeros(4, 5, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad.abs().max().item() == 0.0


def test_a_negative_range_is_refused():
    with pytest.raises(ValueError, match="value_clip_range"):
        loss_of(*[torch.zeros(1, 1)] * 3, torch.tensor([[True]]), value_clip_range=-0.2)


MASK = torch.tensor([True, True, True, True, False])
RETURNS = torch.tensor([1.0, 2.0, 3.0, 4.0, torch.nan])


@kills(
    "formulas/value_losses.py",
    old="1.0 - error_variance / variance",
    new="error_variance / variance",
    why="unexplained variance",
)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 2.5, 2.5, 4.5], 0.8),  # errors ±½: 1 − 0.25 / 1.25
        ([1.0, 2.0, 3.0, 4.0], 1.0),
        ([8.0, 9.0, 10.0, 11.0], 1.0),  # a constant bias is not variance
        ([7.0, 7.0, 7.0, 7.0], 0.0),
        ([4.0, 3.0, 2.0, 1.0], -3.0),
    ],
)
def test_explained_variance_by_hand(values, expected):
    errors = RETURNS - torch.tensor([*values, torch.nan])
    found = explained_variance(moments(errors, MASK), moments(RETURNS, MASK))
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e4, 4321.1, -4321.1])
def test_constant_returns_leave_nothing_to_explain(level):
    returns, mask = torch.full((999,), level, dtype=torch.float64), torch.ones(999, dtype=torch.bool)
    assert explained_variance(moments(returns - numbers(0, 999), mask), moments(returns, mask)).item() == 0.0


def test_small_variance_far_from_zero_is_explained_all_the_same():
    returns = 1000.0 + 0.01 * numbers(0, 999)
    mask = torch.ones(999, dtype=torch.bool)
    found = explained_variance(moments((returns - 1000.0) / 2, mask), moments(returns, mask))
    assert found.item() == pytest.approx(0.75, abs=1e-3)


def test_explained_variance_of_nothing_is_zero():
    nothing = torch.zeros(3, dtype=torch.float64)
    assert explained_variance(nothing, nothing).item() == 0.0
