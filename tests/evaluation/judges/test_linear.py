"""The minimum that L-BFGS must find, where it is known."""

import math

import pytest
import torch

from plaudit.evaluation.judges.floors import fit, logistic, squared_error, word_table
from tests.kills import kills


def table(dense: torch.Tensor) -> torch.Tensor:
    words = [f"f{j}" for j in range(dense.shape[1])]
    return word_table([dict(zip(words, row.tolist(), strict=True)) for row in dense], words)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@kills(
    "evaluation/judges/floors.py",
    old="columns @ by_row + ridge * w",
    new="columns @ by_row + 2 * ridge * w",
    why="the floor is held back twice as much as was asked",
)
def test_squared_errors_end_at_the_normal_equations():
    dense, labels, ridge = normal(12, 3), normal(12, seed=1), torch.tensor([0.0, 2.0, 5.0], dtype=torch.float64)
    expected = torch.linalg.solve(dense.T @ dense + torch.diag(ridge), dense.T @ labels)
    assert fit(table(dense), labels, ridge, squared_error).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_an_unpenalised_offset_is_the_log_odds_of_the_share():
    signs = torch.tensor([1.0] * 6 + [-1.0] * 2, dtype=torch.float64)
    (offset,) = fit(table(torch.ones(8, 1)), signs, torch.zeros(1, dtype=torch.float64), logistic)
    assert offset.item() == pytest.approx(math.log(3.0), abs=1e-6)


def test_a_start_saves_steps_and_changes_nothing():
    dense, signs = normal(40, 5), normal(40, seed=1).sign()
    ridge = torch.full((5,), 0.5, dtype=torch.float64)
    cold = fit(table(dense), signs, ridge, logistic)
    warm = fit(table(dense), signs, ridge, logistic, start=normal(5, seed=2))
    assert warm.tolist() == pytest.approx(cold.tolist(), abs=1e-5)


def test_words_stand_in_their_columns_and_unknown_ones_in_none():
    rows = [{"a": 2.0, "x": 9.0}, {}, {"b": -1.0, "a": 3.0}]
    assert word_table(rows, ["b", "a", "c"]).to_dense().tolist() == [[0.0, 2.0, 0.0], [0.0] * 3, [-1.0, 3.0, 0.0]]
    assert word_table(rows, []).shape == (3, 0)
