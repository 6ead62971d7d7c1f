import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.schedules import adapted_kl_coef, adapted_trust_kl_coef, learning_rate
from tests.kills import kills


def rates(shape, total, warmup):
    return [learning_rate(step, total, peak=8.0, warmup_steps=warmup, shape=shape) for step in range(total + 2)]


@kills(
    "formulas/schedules.py",
    old="peak * (step + 1) / warmup_steps",
    new="peak * step / warmup_steps",
    why="a first step of rate 0",
)
def test_linear_by_hand():
    assert rates("linear", 4, 0) == [8.0, 6.0, 4.0, 2.0, 0.0, 0.0]
    assert rates("linear", 6, 2) == [4.0, 8.0, 8.0, 6.0, 4.0, 2.0, 0.0, 0.0]


def test_cosine_by_hand():
    assert rates("cosine", 4, 0) == pytest.approx([8.0, 4 + 4 * 0.5**0.5, 4.0, 4 - 4 * 0.5**0.5, 0.0, 0.0])
    assert rates("cosine", 4, 2) == pytest.approx([4.0, 8.0, 8.0, 4.0, 0.0, 0.0])


def test_constant_by_hand():
    assert rates("constant", 3, 2) == [4.0, 8.0, 8.0, 8.0, 8.0]


@given(st.sampled_from(["linear", "cosine", "constant"]), st.integers(1, 50), st.data())
def test_every_step_that_is_taken_has_a_positive_rate_up_to_the_peak(shape, total, data):
    warmup = data.draw(st.integers(0, total))
    taken = rates(shape, total, warmup)[:total]
    assert 0.0 < min(taken) <= max(taken) <= 8.0
    assert taken[:warmup] == sorted(taken[:warmup])
    assert taken[warmup:] == sorted(taken[warmup:], reverse=True)


def test_all_warm_up():
    assert rates("linear", 2, 2) == [4.0, 8.0, 0.0, 0.0]


@pytest.mark.parametrize(("step", "total", "warmup"), [(-1, 4, 0), (0, 4, -1), (0, 4, 5)])
def test_impossible_steps_are_refused(step, total, warmup):
    with pytest.raises(ValueError, match="learning_rate"):
        learning_rate(step, total, peak=1.0, warmup_steps=warmup, shape="linear")


@kills(
    "formulas/schedules.py",
    old="kl / target_kl - 1.0",
    new="1.0 - kl / target_kl",
    why="adaptive KL that pushes the wrong way",
)
@pytest.mark.parametrize(
    ("kl", "episodes", "expected"),
    [
        (6.0, 100, 0.5),  # on target
        (6.6, 100, 0.5 * 1.01),  # 10 % above, a tenth of the horizon
        (5.4, 100, 0.5 * 0.99),
        (60.0, 100, 0.5 * 1.02),  # the error is cut at 20 %
        (0.0, 100, 0.5 * 0.98),
        (60.0, 1000, 0.5 * 1.2),
    ],
)
def test_adapted_kl_coef_by_hand(kl, episodes, expected):
    found = adapted_kl_coef(0.5, kl, target_kl=6.0, horizon=1000, num_episodes=episodes)
    assert found == pytest.approx(expected)


def test_adapted_kl_coef_with_a_small_target_and_the_shortest_horizon():
    assert adapted_kl_coef(1.0, 1.0, target_kl=0.5, horizon=1, num_episodes=1) == pytest.approx(1.2)


@pytest.mark.parametrize(("target_kl", "horizon"), [(0.0, 10), (-1.0, 10), (6.0, 0)])
def test_adapted_kl_coef_refuses_no_target(target_kl, horizon):
    with pytest.raises(ValueError, match="adapted_kl_coef"):
        adapted_kl_coef(0.5, 1.0, target_kl=target_kl, horizon=horizon, num_episodes=1)


@kills(
    "formulas/schedules.py",
    old="if kl > 1.5 * target_kl:",
    new="if kl < 1.5 * target_kl:",
    why="a trust region that tightens when it is kept",
)
@kills(
    "formulas/schedules.py",
    old="kl < target_kl / 1.5",
    new="kl < target_kl * 1.5",
    why="a trust region without its dead zone",
)
@pytest.mark.parametrize(
    ("kl", "expected"), [(3.01, 1.0), (3.0, 0.5), (2.0, 0.5), (1.34, 0.5), (1.33, 0.25), (0.0, 0.25)]
)
def test_adapted_trust_kl_coef_by_hand(kl, expected):
    assert adapted_trust_kl_coef(0.5, kl, target_kl=2.0) == expected


def test_adapted_trust_kl_coef_refuses_no_target():
    with pytest.raises(ValueError, match="target_kl"):
        adapted_trust_kl_coef(0.5, 1.0, target_kl=0.0)
