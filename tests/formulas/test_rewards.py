import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.rewards import token_rewards
from tests.formulas.cases import RAGGED, leaf, masks, numbers, poisoned, wider


def test_by_hand():
    scores = torch.tensor([3.0, -1.0, 7.0])
    log_ratio = torch.tensor([[1.0, 2.0, -4.0], [0.5, 5.0, 5.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    rewards = token_rewards(scores, log_ratio, mask, kl_coef=0.5)
    # Row 0: −½·1, −½·2, −½·(−4) + 3. Row 1: −½·½ − 1 on its only token. Row 2 is empty: its score goes nowhere.
    assert rewards.tolist() == [[-0.5, -1.0, 5.0], [-1.25, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_without_kl_the_score_stands_alone_on_the_last_kept_token():
    rewards = token_rewards(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4, 5), RAGGED, kl_coef=0.0)
    assert rewards.nonzero().tolist() == [[0, 2], [1, 3], [3, 4]]
    assert [rewards[0, 2], rewards[1, 3], rewards[3, 4]] == [1.0, 2.0, 4.0]


@given(mask=masks, kl_coef=st.floats(0.0, 2.0))
def test_a_rows_rewards_sum_to_score_less_beta_times_sequence_kl(mask, kl_coef):
    rows, columns = mask.shape
    scores, log_ratio = numbers(0, rows), numbers(1, rows, columns)
    rewards = token_rewards(scores, log_ratio, mask, kl_coef=kl_coef)
    for row in range(rows):
        kept = [log_ratio[row, t].item() for t in range(columns) if mask[row, t]]
        expected = scores[row].item() - kl_coef * sum(kept) if kept else 0.0
        assert rewards[row].sum().item() == pytest.approx(expected, abs=1e-12)


@given(mask=masks, at=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_padding_and_the_order_of_rows_change_nothing(mask, at, order):
    rows, columns = mask.shape
    at = min(at, columns)
    scores, log_ratio = numbers(0, rows), numbers(1, rows, columns)
    rewards = token_rewards(scores, log_ratio, mask, kl_coef=0.1)
    padded = token_rewards(scores, wider(log_ratio, at, torch.nan), wider(mask, at, False), kl_coef=0.1)
    assert torch.equal(padded, wider(rewards, at, 0.0))
    permutation = order.sample(range(rows), rows)
    permuted = token_rewards(scores[permutation], log_ratio[permutation], mask[permutation], kl_coef=0.1)
    assert torch.equal(permuted, rewards[permutation])


def test_gradient_is_one_on_the_score_and_minus_beta_on_kept_log_ratios():
    scores, log_ratio = leaf(torch.zeros(4)), leaf(torch.zeros(4, 5))
    token_rewards(scores, log_ratio, RAGGED, kl_coef=0.25).sum().backward()
    assert scores.grad.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert torch.equal(log_ratio.grad, poisoned(torch.full((4, 5), -0.25), RAGGED, 0.0))
