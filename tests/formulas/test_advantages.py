import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.advantages import decoupled_gae, gae, mean_and_variance, moments, scale, whiten
from tests.formulas.cases import RAGGED, masks, numbers, wider
from tests.kills import kills

unit = st.floats(0.0, 1.0)


@kills(
    "formulas/advantages.py",
    old="delta = rewards[:, t] + gamma",
    new="delta = rewards[:, t - 1] + gamma",
    why="each token paid for the one before it",
)
@kills(
    "formulas/advantages.py",
    old="return advantages, advantages + values\n",
    new="returns = advantages + values\n    return advantages, returns - returns.mean()\n",
    why="returns whitened: the critic learns nothing of the level",
)
@kills(
    "formulas/advantages.py",
    old="- values[:, t]\n",
    new="- next_value\n",
    why="delta against the next value: a shift by one",
)
@kills(
    "formulas/advantages.py",
    old="return advantages, advantages + values",
    new="return advantages, advantages",
    why="returns without the value that was subtracted",
)
def test_gae_by_hand():
    rewards = torch.tensor([[0.0, 0.0, 1.0, 9.0]])
    values = torch.tensor([[0.5, 0.25, 0.75, 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    advantages, returns = gae(rewards, values, mask, gamma=0.5, gae_lambda=0.5)
    # δ = −0.375, 0.125, 0.25 (V after the last token is 0, not the 9 in the padding); γλ = 0.25.
    assert advantages.tolist() == [[-0.328125, 0.1875, 0.25, 0.0]]
    assert returns.tolist() == [[0.171875, 0.4375, 1.0, 0.0]]


@kills(
    "formulas/advantages.py", old="gamma * next_value", new="gae_lambda * next_value", why="gamma and lambda exchanged"
)
def test_gamma_and_lambda_are_not_interchangeable():
    rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.5]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    # δ_1 = 0.5; Â_0 = γ·0.5 + γλ·0.5.
    assert gae(rewards, values, mask, gamma=1.0, gae_lambda=0.5)[0].tolist() == [[0.75, 0.5]]
    assert gae(rewards, values, mask, gamma=0.5, gae_lambda=1.0)[0].tolist() == [[0.5, 0.5]]


@given(gamma=unit)
def test_lambda_one_is_monte_carlo(gamma):
    rewards, values = numbers(0, 3, 4), numbers(1, 3, 4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    _, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=1.0)
    for t in range(4):
        discounted = sum(gamma ** (s - t) * rewards[:, s] for s in range(t, 4))
        assert returns[:, t].tolist() == pytest.approx(discounted.tolist(), abs=1e-12)


@given(gamma=unit)
def test_lambda_zero_is_the_one_step_target(gamma):
    rewards, values = numbers(0, 3, 4), numbers(1, 3, 4)
    mask = torch.ones(3, 4, dtype=torch.bool)
    _, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=0.0)
    assert returns[:, :3].flatten().tolist() == pytest.approx(
        (rewards + gamma * values.roll(-1, 1))[:, :3].flatten().tolist()
    )
    assert returns[:, 3].tolist() == pytest.approx(rewards[:, 3].tolist())


@given(gamma=unit, gae_lambda=unit)
def test_a_perfect_critic_leaves_no_advantage(gamma, gae_lambda):
    rewards = numbers(0, 2, 3)
    values = torch.stack(
        [
            rewards[:, 0] + gamma * rewards[:, 1] + gamma**2 * rewards[:, 2],
            rewards[:, 1] + gamma * rewards[:, 2],
            rewards[:, 2],
        ],
        dim=1,
    )
    advantages, returns = gae(rewards, values, torch.ones(2, 3, dtype=torch.bool), gamma=gamma, gae_lambda=gae_lambda)
    assert advantages.abs().max().item() < 1e-12
    assert torch.allclose(returns, values, atol=1e-12)


@given(mask=masks, at=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_gae_ignores_unkept_columns_wherever_they_stand(mask, at, order):
    rows, columns = mask.shape
    at = min(at, columns)
    rewards, values = numbers(0, rows, columns), numbers(1, rows, columns)
    estimates = gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8)
    padded = gae(
        wider(rewards, at, 1e30), wider(values, at, torch.nan), wider(mask, at, False), gamma=0.9, gae_lambda=0.8
    )
    permutation = order.sample(range(rows), rows)
    permuted = gae(rewards[permutation], values[permutation], mask[permutation], gamma=0.9, gae_lambda=0.8)
    for plain, wide, shuffled in zip(estimates, padded, permuted, strict=True):
        assert torch.equal(wide, wider(plain, at, 0.0))
        assert torch.equal(shuffled, plain[permutation])


@kills(
    "formulas/advantages.py",
    old="next_value = torch.where(here, values[:, t], next_value)",
    new="next_value = values[:, t]",
    why="a value bootstrapped through what the mask leaves out",
)
def test_gae_of_a_row_with_a_hole_is_that_of_the_row_without_it():
    rewards, values = numbers(0, 1, 5), numbers(1, 1, 5)
    kept = torch.tensor([0, 2, 3])
    mask = torch.tensor([[True, False, True, True, False]])
    holed = gae(rewards, values, mask, gamma=0.9, gae_lambda=0.8)
    dense = gae(rewards[:, kept], values[:, kept], torch.ones(1, 3, dtype=torch.bool), gamma=0.9, gae_lambda=0.8)
    for with_hole, without in zip(holed, dense, strict=True):
        assert torch.equal(with_hole[:, kept], without)
        assert with_hole[~mask].tolist() == [0.0, 0.0]


def test_gae_of_no_columns():
    advantages, returns = gae(
        torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), gamma=1.0, gae_lambda=0.95
    )
    assert advantages.shape == returns.shape == (2, 0)


CUT_REWARDS, CUT_VALUES = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([[0.5, 1.0, 2.0]])
THREE = torch.ones(1, 3, dtype=torch.bool)


@kills(
    "formulas/advantages.py",
    old="select(final_values.to(values.dtype), mask.any(dim=1))",
    new="next_advantage",
    why="a time limit taken for an ending",
)
@pytest.mark.parametrize(
    ("final", "gae_lambda", "advantages", "returns"),
    [
        (None, 0.0, [1.0, 2.0, 2.0], [1.5, 3.0, 4.0]),
        (None, 1.0, [2.5, 3.0, 2.0], [3.0, 4.0, 4.0]),
        (8.0, 0.0, [1.0, 2.0, 6.0], [1.5, 3.0, 8.0]),  # δ_2 = 4 + ½·8 − 2
        (8.0, 1.0, [3.5, 5.0, 6.0], [4.0, 6.0, 8.0]),  # R̂_0 = 1 + ½·2 + ¼·4 + ⅛·8
        (8.0, 0.5, [1.875, 3.5, 6.0], [2.375, 4.5, 8.0]),
    ],
)
def test_an_episode_that_was_cut_bootstraps_by_hand(final, gae_lambda, advantages, returns):
    final_values = None if final is None else torch.tensor([final])
    found = gae(CUT_REWARDS, CUT_VALUES, THREE, gamma=0.5, gae_lambda=gae_lambda, final_values=final_values)
    assert found[0].tolist() == [advantages]
    assert found[1].tolist() == [returns]


@given(gamma=unit, gae_lambda=unit)
def test_each_row_has_its_own_end(gamma, gae_lambda):
    """Bootstrapping is γ V_T on the last *kept* reward: rows that end (0) are as without, empty rows stay 0."""
    rewards, values = numbers(0, 4, 5), numbers(1, 4, 5)
    final_values = torch.tensor([2.0, 0.0, torch.nan, -3.0]).double()
    found = gae(rewards, values, RAGGED, gamma=gamma, gae_lambda=gae_lambda, final_values=final_values)
    paid = rewards.clone()
    paid[0, 2] += gamma * 2.0
    paid[3, 4] -= gamma * 3.0
    expected = gae(paid, values, RAGGED, gamma=gamma, gae_lambda=gae_lambda)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_no_final_value_is_that_of_zero_bit_for_bit():
    rewards, values = numbers(0, 4, 5), numbers(1, 4, 5)
    plain = gae(rewards, values, RAGGED, gamma=0.9, gae_lambda=0.8)
    zero = gae(rewards, values, RAGGED, gamma=0.9, gae_lambda=0.8, final_values=torch.zeros(4))
    assert all(torch.equal(one, other) for one, other in zip(plain, zero, strict=True))


@kills(
    "formulas/advantages.py",
    old="gamma=gamma, gae_lambda=policy_lambda",
    new="gamma=gamma, gae_lambda=critic_lambda",
    why="the policy with the critic's lambda",
)
@kills(
    "formulas/advantages.py",
    old="gamma=gamma, gae_lambda=critic_lambda",
    new="gamma=gamma, gae_lambda=policy_lambda",
    why="the critic with the policy's lambda",
)
def test_decoupled_by_hand():
    advantages, returns = decoupled_gae(CUT_REWARDS, CUT_VALUES, THREE, gamma=0.5, policy_lambda=0.0, critic_lambda=1.0)
    assert advantages.tolist() == [[1.0, 2.0, 2.0]]
    assert returns.tolist() == [[3.0, 4.0, 4.0]]
    cut = decoupled_gae(
        CUT_REWARDS,
        CUT_VALUES,
        THREE,
        gamma=0.5,
        policy_lambda=1.0,
        critic_lambda=0.0,
        final_values=torch.tensor([8.0]),
    )
    assert [x.tolist() for x in cut] == [[[3.5, 5.0, 6.0]], [[1.5, 3.0, 8.0]]]


def test_equal_lambdas_are_not_decoupled():
    rewards, values = numbers(0, 4, 5), numbers(1, 4, 5)
    one = gae(rewards, values, RAGGED, gamma=0.9, gae_lambda=0.8)
    two = decoupled_gae(rewards, values, RAGGED, gamma=0.9, policy_lambda=0.8, critic_lambda=0.8)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_moments_by_hand():
    x = torch.tensor([[1.0, 2.0, 50.0], [-4.0, 50.0, 50.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert moments(x, mask).tolist() == [3.0, -1.0, 21.0]
    assert moments(x, mask).dtype == torch.float64


def test_moments_square_in_float64():
    x = torch.full((2,), 1e30)
    assert moments(x, torch.tensor([True, True]))[2].item() == pytest.approx(2e60, rel=1e-6)


@kills(
    "formulas/advantages.py",
    old="(total_square / count - mean.square())",
    new="(total_square / count)",
    why="the raw second moment for the variance",
)
def test_mean_and_variance_by_hand():
    mean, variance = mean_and_variance(torch.tensor([4.0, 8.0, 24.0], dtype=torch.float64))
    assert (mean.item(), variance.item()) == (2.0, 2.0)  # of 0, 2, 2, 4: the population's, not 8/3


def test_mean_and_variance_of_nothing():
    mean, variance = mean_and_variance(torch.zeros(3, dtype=torch.float64))
    assert (mean.item(), variance.item()) == (0.0, 0.0)


def test_variance_is_never_negative():
    x = torch.full((1000,), 0.1)
    assert mean_and_variance(moments(x, torch.ones(1000, dtype=torch.bool)))[1].item() >= 0.0
    assert mean_and_variance(torch.tensor([3.0, 3.0, 2.9999999], dtype=torch.float64))[1].item() == 0.0


@kills(
    "formulas/advantages.py",
    old="_standardised(x, mask, count_sum_sumsq, std_floor) + mean",
    new="_standardised(x, mask, count_sum_sumsq, std_floor)",
    why="whitened rewards lose their mean",
)
@kills(
    "formulas/advantages.py",
    old="return _standardised(x, mask, count_sum_sumsq, std_floor).to(x.dtype)",
    new="return scale(x, mask, count_sum_sumsq, std_floor=std_floor)",
    why="whitened advantages keep their mean (torchtune's inverted flag)",
)
def test_whiten_and_scale_by_hand():
    x = torch.tensor([[0.0, 4.0, 99.0], [6.0, 99.0, 99.0], [6.0, 99.0, 99.0]])
    mask = torch.tensor([[True, True, False], [True, False, False], [True, False, False]])
    # Mean 4, variance (16 + 0 + 4 + 4) / 4 = 6.
    found = whiten(x, mask, moments(x, mask), std_floor=1e-3)
    s = 6**0.5
    assert found.flatten().tolist() == pytest.approx([-4 / s, 0, 0, 2 / s, 0, 0, 2 / s, 0, 0])
    scaled = scale(x, mask, moments(x, mask), std_floor=1e-3)
    assert scaled.flatten().tolist() == pytest.approx([4 - 4 / s, 4, 0, 4 + 2 / s, 0, 0, 4 + 2 / s, 0, 0])
    assert found.dtype == scaled.dtype == x.dtype


@given(mask=masks)
def test_whitened_has_mean_zero_and_deviation_one_over_the_kept(mask):
    x = 3.0 * numbers(0, *mask.shape) + 5.0
    whitened = whiten(x, mask, moments(x, mask), std_floor=1e-9)
    kept = whitened[mask]
    assert whitened[~mask].tolist() == [0.0] * int((~mask).sum())
    if kept.numel() >= 2:
        assert kept.mean().item() == pytest.approx(0.0, abs=1e-9)
        assert kept.square().mean().item() == pytest.approx(1.0)
    elif kept.numel() == 1:
        assert kept.item() == 0.0


@given(mask=masks, cut=st.integers(0, 4))
def test_moments_of_the_parts_add_up_to_those_of_the_whole(mask, cut):
    x = numbers(0, *mask.shape)
    parts = moments(x[:cut], mask[:cut]) + moments(x[cut:], mask[cut:])
    whole = moments(x, mask)
    assert parts.tolist() == pytest.approx(whole.tolist())
    split = torch.cat(
        [whiten(x[:cut], mask[:cut], parts, std_floor=0.1), whiten(x[cut:], mask[cut:], parts, std_floor=0.1)]
    )
    assert torch.allclose(split, whiten(x, mask, whole, std_floor=0.1), atol=1e-9)


@kills(
    "formulas/advantages.py",
    old="variance.sqrt().clamp(min=std_floor)",
    new="variance.sqrt()",
    why="whitening without a floor: noise becomes advantage",
)
def test_the_floor_keeps_noise_noise():
    x = torch.tensor([1.0, 1.0 + 2e-4], dtype=torch.float64)
    mask = torch.tensor([True, True])
    assert whiten(x, mask, moments(x, mask), std_floor=1e-2).tolist() == pytest.approx([-1e-2, 1e-2])
    assert scale(x, mask, moments(x, mask), std_floor=1e-2).tolist() == pytest.approx([0.9901, 1.0101])
    equal = torch.full((4, 5), 1e4)
    assert whiten(equal, RAGGED, moments(equal, RAGGED), std_floor=1e-3).abs().max().item() < 1e-6


@pytest.mark.parametrize("function", [whiten, scale])
@pytest.mark.parametrize("std_floor", [0.0, -1.0])
def test_a_floor_of_zero_is_refused(function, std_floor):
    with pytest.raises(ValueError, match="std_floor"):
        function(torch.ones(1), torch.tensor([True]), torch.ones(3, dtype=torch.float64), std_floor=std_floor)
