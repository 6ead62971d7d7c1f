import pytest
import torch
from jaxtyping import TypeCheckError

from plaudit.formulas.masks import (
    at_least_float32,
    last_index,
    masked_mean,
    masked_sum,
    select,
    weighted_sum,
)
from tests.formulas.cases import leaf
from tests.kills import kills

X = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
MASK = torch.tensor([[True, False, True], [False, True, False]])


@kills(
    "formulas/masks.py",
    old="return torch.where(mask, x, torch.full_like(x, fill))",
    new="return torch.where(~mask, x, torch.full_like(x, fill))",
    why="mask polarity: padding counts and text does not",
)
def test_select_keeps_where_true_and_fills_elsewhere():
    assert select(X, MASK).tolist() == [[1.0, 0.0, 4.0], [0.0, 16.0, 0.0]]
    assert select(X, MASK, fill=-1.0).tolist() == [[1.0, -1.0, 4.0], [-1.0, 16.0, -1.0]]


def test_select_before_a_nonlinearity_keeps_gradients_finite():
    x = leaf(torch.tensor([1.0, 1e30]))
    select(x, torch.tensor([True, False])).exp().sum().backward()
    assert x.grad.tolist() == pytest.approx([2.718281828, 0.0])


@kills(
    "formulas/masks.py",
    old="return masked_sum(x, mask) / mask.sum().clamp(min=1)",
    new="return masked_sum(x, mask) / mask.numel()",
    why="a mean over padding too: diluted by the share of padding",
)
def test_masked_sum_and_mean_count_the_kept_only():
    assert masked_sum(X, MASK).item() == 21.0
    assert masked_mean(X, MASK).item() == 7.0
    assert masked_mean(X[0], torch.tensor([False, False, True])).item() == 4.0


def test_masked_mean_of_flags_of_any_rank():
    assert masked_mean(torch.tensor([3.0, 5.0, 9.0]), torch.tensor([True, True, False])).item() == 4.0


def test_nothing_kept_is_zero_with_zero_gradient():
    x = leaf(X)
    mean = masked_mean(x, torch.zeros_like(MASK))
    mean.backward()
    assert mean.item() == 0.0
    assert masked_sum(X, torch.zeros_like(MASK)).item() == 0.0
    assert x.grad.abs().max().item() == 0.0


@kills("formulas/masks.py", old=".amax(dim=1)", new=".amax(dim=1) - 1", why="the last token off by one")
def test_last_index_of_right_padding_holes_empty_rows():
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]).bool()
    assert last_index(mask).tolist() == [1, 2, -1, 3, 0]


def test_last_index_without_columns():
    assert last_index(torch.zeros(2, 0, dtype=torch.bool)).tolist() == [-1, -1]


def test_at_least_float32_raises_half_precision_only():
    assert at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.ones(1, dtype=torch.float16)).dtype == torch.float32
    assert at_least_float32(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


def test_shapes_and_dtypes_are_checked_in_tests():
    with pytest.raises(TypeCheckError):
        masked_sum(X, MASK.float())
    with pytest.raises(TypeCheckError):
        masked_sum(X, MASK[:, :2])


@kills(
    "formulas/masks.py",
    old="(select(weights.detach(), mask).to(x.dtype) * select(x, mask)).sum()",
    new="(weights.detach().to(x.dtype) * x).sum()",
    why="a weighted sum that trusts the weights to be 0 on NaN",
)
def test_weighted_sum_by_hand():
    x, weights = torch.tensor([[1.0, 2.0], [torch.nan, 5.0]]), torch.tensor([[0.5, 2.0], [1.0, torch.inf]])
    mask = torch.tensor([[True, True], [False, False]])
    assert weighted_sum(x, weights, mask).item() == 4.5
    assert weighted_sum(x, weights, torch.zeros_like(mask)).item() == 0.0
