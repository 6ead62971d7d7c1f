"""The minimum that L-BFGS must find, where it is known."""

import math

import pytest
import torch

from plaudit.evaluation.judges.linear import LogisticLoss, SquaredError, WordTable, fit
from tests.kills import kills


def table(dense: torch.Tensor) -> WordTable:
    words = [f"f{j}" for j in range(dense.shape[1])]
    return WordTable.of([dict(zip(words, row.tolist(), strict=True)) for row in dense], words)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_squared_errors_end_at_the_normal_equations():
    dense, labels, ridge = normal(12, 3), normal(12, seed=1), torch.tensor([0.0, 2.0, 5.0], dtype=torch.float64)
    expected = torch.linalg.solve(dense.T @ dense + torch.diag(ridge), dense.T @ labels)
    assert fit(table(dense), labels, ridge, SquaredError()).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_an_unpenalised_offset_is_the_log_odds_of_the_share():
    signs = torch.tensor([1.0] * 6 + [-1.0] * 2, dtype=torch.float64)
    (offset,) = fit(table(torch.ones(8, 1)), signs, torch.zeros(1, dtype=torch.float64), LogisticLoss())
    assert offset.item() == pytest.approx(math.log(3.0), abs=1e-6)


def test_a_start_saves_steps_and_changes_nothing():
    dense, signs = normal(40, 5), normal(40, seed=1).sign()
    ridge = torch.full((5,), 0.5, dtype=torch.float64)
    cold = fit(table(dense), signs, ridge, LogisticLoss())
    warm = fit(table(dense), signs, ridge, LogisticLoss(), start=normal(5, seed=2))
    assert warm.tolist() == pytest.approx(cold.tolist(), abs=1e-5)


@kills(
    "evaluation/judges/linear.py",
    old="row=number[self.row[entries]]",
    new="row=self.row[entries].clamp(max=int(chosen.sum()) - 1)",
    why="some rows of a table keep their old numbers and meet other rows' labels",
)
def test_some_rows_of_a_table_are_those_rows():
    dense, weights = normal(6, 3), normal(3, seed=1)
    chosen = torch.tensor([True, False, True, False, False, True])
    assert table(dense).rows(chosen).times(weights).tolist() == pytest.approx((dense[chosen] @ weights).tolist())
    assert table(dense).transposed_times(normal(6)).tolist() == pytest.approx((dense.T @ normal(6)).tolist())
