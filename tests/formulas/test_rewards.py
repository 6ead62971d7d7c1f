import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.rewards import (
    clipped_scores,
    dense_token_rewards,
    length_penalty,
    normalised_scores,
    penalised_unfinished,
    replaced_unfinished,
    soft_overlong_penalty,
    token_rewards,
)
from tests.formulas.cases import RAGGED, leaf, masks, numbers, poisoned, wider
from tests.kills import kills


@kills(
    "formulas/rewards.py",
    old="is_last = columns == last_index(mask).unsqueeze(1)",
    new="is_last = columns == last_index(mask).unsqueeze(1) - 1",
    why="the score one token too early",
)
@kills(
    "formulas/rewards.py",
    old="rewards = -kl_coef * select(ref_kl, mask)",
    new="rewards = kl_coef * select(ref_kl, mask)",
    why="the KL penalty as a reward",
)
@kills(
    "formulas/rewards.py",
    old="rewards = -kl_coef * select(ref_kl, mask)",
    new="rewards = -kl_coef * ref_kl",
    why="the KL of padding in the rewards",
)
@kills(
    "formulas/rewards.py",
    old="is_last = columns == last_index(mask).unsqueeze(1)",
    new="is_last = columns == mask.shape[1] - 1",
    why="the score on the last column instead of the last kept token",
)
@kills(
    "formulas/rewards.py",
    old="rewards + scores.unsqueeze(1), rewards)",
    new="scores.unsqueeze(1), rewards)",
    why="the score replaces the last token's KL instead of joining it",
)
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


@kills(
    "formulas/rewards.py",
    old="select(token_scores, mask) - kl_coef * select(ref_kl, mask)",
    new="select(token_scores, mask) + kl_coef * select(ref_kl, mask)",
    why="token rewards with the KL as a reward",
)
@kills(
    "formulas/rewards.py",
    old="select(token_scores, mask) - kl_coef * select(ref_kl, mask)",
    new="token_scores - kl_coef * select(ref_kl, mask)",
    why="what a token judge says of padding is paid",
)
def test_dense_by_hand():
    token_scores = torch.tensor([[1.0, 2.0, 50.0], [-1.0, torch.nan, 3.0]])
    ref_kl = torch.tensor([[2.0, -4.0, torch.nan], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    assert dense_token_rewards(token_scores, ref_kl, mask, kl_coef=0.5).tolist() == [[0.0, 4.0, 0.0], [-1.5, 0.0, 2.5]]


@given(mask=masks, kl_coef=st.floats(0.0, 2.0))
def test_dense_rewards_sum_to_the_token_scores_less_beta_times_kl(mask, kl_coef):
    token_scores, ref_kl = numbers(0, *mask.shape), numbers(1, *mask.shape)
    rewards = dense_token_rewards(token_scores, ref_kl, mask, kl_coef=kl_coef)
    expected = token_scores[mask].sum().item() - kl_coef * ref_kl[mask].sum().item()
    assert rewards.sum().item() == pytest.approx(expected, abs=1e-12)
    assert rewards[~mask].abs().sum().item() == 0.0


def test_a_dense_judge_that_speaks_at_the_end_only_is_the_judge_of_responses():
    scores, ref_kl = torch.tensor([3.0, 5.0]), numbers(1, 2, 3).float()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    token_scores = torch.tensor([[0.0, 3.0, 9.0], [0.0, 0.0, 5.0]])
    found = dense_token_rewards(token_scores, ref_kl, mask, kl_coef=0.3)
    assert torch.allclose(found, token_rewards(scores, ref_kl, mask, kl_coef=0.3))


@kills(
    "formulas/rewards.py",
    old="(scores - mean) / max(std, std_floor)",
    new="scores / max(std, std_floor) - mean",
    why="the mean subtracted in the wrong units",
)
@kills(
    "formulas/rewards.py",
    old="(scores - mean) / max(std, std_floor)",
    new="(scores - mean) / min(std, std_floor)",
    why="min for max: the floor becomes a ceiling",
)
def test_normalised_by_hand():
    scores = torch.tensor([1.0, 5.0, 3.0])
    assert normalised_scores(scores, mean=3.0, std=4.0, std_floor=0.1).tolist() == [-0.5, 0.5, 0.0]
    assert normalised_scores(scores, mean=3.0, std=0.0, std_floor=0.5).tolist() == [-4.0, 4.0, 0.0]


@kills(
    "formulas/rewards.py",
    old="scores.clamp(-score_limit, score_limit)",
    new="scores.clamp(max=score_limit)",
    why="scores clipped above only",
)
def test_clipped_scores_by_hand():
    assert clipped_scores(torch.tensor([-9.0, -2.0, 0.5, 9.0]), score_limit=2.0).tolist() == [-2.0, -2.0, 0.5, 2.0]


ENDED = torch.tensor([True, False, True, False])


@kills(
    "formulas/rewards.py",
    old="torch.where(ended, scores, scores - penalty)",
    new="torch.where(ended, scores - penalty, scores)",
    why="finished responses are punished",
)
@kills(
    "formulas/rewards.py",
    old="torch.where(ended, scores, scores - penalty)",
    new="torch.where(ended, scores, scores + penalty)",
    why="a bonus for never ending",
)
@kills(
    "formulas/rewards.py",
    old="torch.where(ended, scores, torch.full_like(scores, unfinished_score))",
    new="torch.where(ended, scores, scores + unfinished_score)",
    why="a fixed score that is added",
)
def test_unfinished_by_hand():
    scores = torch.tensor([1.0, 2.0, -3.0, -4.0])
    assert penalised_unfinished(scores, ENDED, penalty=0.5).tolist() == [1.0, 1.5, -3.0, -4.5]
    assert replaced_unfinished(scores, ENDED, unfinished_score=-1.0).tolist() == [1.0, -1.0, -3.0, -1.0]


def test_no_penalty_is_no_change_bit_for_bit():
    scores = numbers(0, 4).float()
    assert torch.equal(penalised_unfinished(scores, ENDED, penalty=0.0), scores)
    lengths = torch.tensor([0, 5, 50, 500])
    assert torch.equal(scores + length_penalty(lengths, free_tokens=3, penalty_per_token=0.0), scores)


def test_a_judge_that_failed_on_an_unfinished_response_is_replaced():
    assert replaced_unfinished(torch.tensor([torch.nan]), torch.tensor([False]), unfinished_score=-1.0).item() == -1.0


@kills(
    "formulas/rewards.py",
    old="-penalty_per_token * (lengths - free_tokens).clamp(min=0)",
    new="-penalty_per_token * (lengths - free_tokens)",
    why="a bonus for short responses",
)
def test_length_penalty_by_hand():
    lengths = torch.tensor([0, 9, 10, 11, 14])
    assert length_penalty(lengths, free_tokens=10, penalty_per_token=0.25).tolist() == [0.0, 0.0, 0.0, -0.25, -1.0]


@kills(
    "formulas/rewards.py",
    old="(((max_length - buffer) - lengths) / buffer)",
    new="((max_length - lengths) / buffer)",
    why="the soft penalty begins where it should be full",
)
def test_soft_overlong_by_hand():
    lengths = torch.tensor([0, 16, 17, 19, 20, 30])
    found = soft_overlong_penalty(lengths, max_length=20, buffer=4)
    assert found.tolist() == [0.0, 0.0, -0.25, -0.75, -1.0, -1.0]


@pytest.mark.parametrize(
    ("function", "options", "match"),
    [
        (normalised_scores, {"mean": 0.0, "std": 1.0, "std_floor": 0.0}, "std_floor"),
        (clipped_scores, {"score_limit": 0.0}, "score_limit"),
        (clipped_scores, {"score_limit": -1.0}, "score_limit"),
    ],
)
def test_impossible_bounds_of_scores_are_refused(function, options, match):
    with pytest.raises(ValueError, match=match):
        function(torch.zeros(1), **options)


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="negative"):
        penalised_unfinished(torch.zeros(4), ENDED, penalty=-1.0)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (length_penalty, {"free_tokens": -1, "penalty_per_token": 1.0}),
        (length_penalty, {"free_tokens": 1, "penalty_per_token": -1.0}),
        (soft_overlong_penalty, {"max_length": 4, "buffer": 0}),
        (soft_overlong_penalty, {"max_length": 4, "buffer": 5}),
    ],
)
def test_impossible_lengths_are_refused(function, options):
    with pytest.raises(ValueError, match=function.__name__):
        function(torch.tensor([1]), **options)
