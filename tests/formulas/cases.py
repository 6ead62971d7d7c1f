"""Ragged masks and poison, shared by the tests of the formulas."""

import torch
from hypothesis import strategies as st
from torch import Tensor

POISONS = (float("nan"), float("inf"), -float("inf"), 1e30)

RAGGED = torch.tensor(
    [
        [True, True, True, False, False],
        [True, False, True, True, False],  # a hole: a token that the policy did not choose
        [False, False, False, False, False],  # an empty response
        [False, True, True, True, True],
    ]
)


def numbers(seed: int, *shape: int) -> Tensor:
    """Standard normal float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def poisoned(x: Tensor, mask: Tensor, poison: float) -> Tensor:
    """x with `poison` wherever the mask is False."""
    return torch.where(mask, x, torch.full_like(x, poison))


def leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def wider(x: Tensor, at: int, fill: float) -> Tensor:
    """x [B R] with one more column in front of column `at`."""
    column = torch.full((x.shape[0], 1), fill).to(x.dtype)
    return torch.cat([x[:, :at], column, x[:, at:]], dim=1)


masks = st.tuples(st.integers(1, 4), st.integers(0, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    ).map(lambda rows: torch.tensor(rows, dtype=torch.bool).reshape(shape))
)
"""Bool [B R] of any pattern, R = 0 and empty rows among them."""
