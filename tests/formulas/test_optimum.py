"""The optimum of KL-regularised search: closed forms, brute force over the simplex, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.formulas.optimum import Optimum, kl_regularised_optimum, mean_optimum


def test_optimum_of_two_answers_in_closed_form() -> None:
    """pi_ref = 1/2 each, r = (log 3, 0), beta = 1: the weights are 3 : 1, J* = log(4/2)."""
    best = kl_regularised_optimum([math.log(0.5)] * 2, [math.log(3), 0.0], 1.0)
    assert best.objective == pytest.approx(math.log(2))
    assert best.reference == pytest.approx(math.log(3) / 2)
    assert best.score == pytest.approx(0.75 * math.log(3))
    assert best.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert best.mass == pytest.approx(1.0)
    assert best.gain == pytest.approx(math.log(2) - math.log(3) / 2)
    assert best.progress(math.log(3) / 2) == pytest.approx(0.0)
    assert best.progress(math.log(2)) == pytest.approx(1.0)


def test_optimum_of_a_gaussian_reward() -> None:
    """r ~ N(1, 0.5^2) under the reference: J* = mu + s^2 / 2 beta, E* r = mu + s^2 / beta, KL = s^2 / 2 beta^2."""
    grid = [i / 100 for i in range(-500, 601)]
    density = [-((r - 1.0) ** 2) / (2 * 0.25) for r in grid]
    log_z = math.log(math.fsum(map(math.exp, density)))
    best = kl_regularised_optimum([d - log_z for d in density], grid, 0.4)
    assert best.objective == pytest.approx(1.0 + 0.25 / 0.8, abs=1e-9)
    assert best.score == pytest.approx(1.0 + 0.25 / 0.4, abs=1e-9)
    assert best.kl == pytest.approx(0.25 / (2 * 0.16), abs=1e-9)
    assert best.reference == pytest.approx(1.0, abs=1e-9)


def test_optimum_renormalises_and_says_how_much_was_listed() -> None:
    whole = kl_regularised_optimum([math.log(0.25), math.log(0.75)], [2.0, -1.0], 0.5)
    part = kl_regularised_optimum([math.log(0.1), math.log(0.3), -math.inf], [2.0, -1.0, 99.0], 0.5)
    assert part.mass == pytest.approx(0.4)
    assert (part.objective, part.reference, part.kl) == pytest.approx((whole.objective, whole.reference, whole.kl))


numbers = st.floats(-5, 5, allow_nan=False)


@given(
    logits=st.lists(numbers, min_size=3, max_size=3),
    rewards=st.lists(numbers, min_size=3, max_size=3),
    beta=st.floats(0.2, 5),
)
def test_no_policy_beats_the_optimum(logits: list[float], rewards: list[float], beta: float) -> None:
    """Brute force: J = E r - beta KL of every policy on a grid over the simplex of three answers."""
    z = math.fsum(map(math.exp, logits))
    ref = [math.exp(x) / z for x in logits]
    best = kl_regularised_optimum([math.log(p) for p in ref], rewards, beta)

    def objective(policy: list[float]) -> float:
        kl = sum(p * math.log(p / q) for p, q in zip(policy, ref, strict=True) if p > 0)
        return sum(p * r for p, r in zip(policy, rewards, strict=True)) - beta * kl

    assert best.objective >= best.reference - 1e-9
    assert best.reference == pytest.approx(objective(ref), abs=1e-9)
    assert best.objective == pytest.approx(best.score - beta * best.kl, abs=1e-9)
    grid = [objective([i / 20, j / 20, (20 - i - j) / 20]) for i in range(21) for j in range(21 - i)]
    assert max(grid) <= best.objective + 1e-9
    tilted = [p * math.exp(r / beta) for p, r in zip(ref, rewards, strict=True)]
    assert objective([t / math.fsum(tilted) for t in tilted]) == pytest.approx(best.objective, abs=1e-8)


@pytest.mark.parametrize(
    ("logprobs", "rewards", "beta", "message"),
    [
        ([], [], 1.0, "at least one"),
        ([0.0], [1.0, 2.0], 1.0, "2 and 1"),
        ([0.0], [1.0], 0.0, "kl_coef > 0"),
        ([0.0], [1.0], math.nan, "kl_coef > 0"),
        ([0.0], [math.inf], 1.0, "finite"),
        ([0.0, 0.0], [1.0, 1.0], 1.0, "different answers"),
        ([-math.inf], [1.0], 1.0, "different answers"),
        ([math.nan], [1.0], 1.0, "different answers"),
    ],
)
def test_optimum_refuses(logprobs: list[float], rewards: list[float], beta: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kl_regularised_optimum(logprobs, rewards, beta)


def test_nothing_to_gain_has_no_progress() -> None:
    assert math.isnan(kl_regularised_optimum([0.0], [1.0], 1.0).progress(1.0))


def test_mean_optimum() -> None:
    one = Optimum(objective=2.0, reference=1.0, score=3.0, kl=1.0, mass=1.0)
    two = Optimum(objective=5.0, reference=2.0, score=6.0, kl=2.0, mass=0.5)
    mean = mean_optimum([one, two])
    assert mean == Optimum(objective=3.5, reference=1.5, score=4.5, kl=1.5, mass=0.75)
    assert mean.progress(2.5) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="at least one"):
        mean_optimum([])
