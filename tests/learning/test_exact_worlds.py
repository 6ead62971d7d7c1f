"""PPO against worlds that can be solved exactly (tests/learning/exact.py): how near J* it comes, and with which KL."""

import math

import pytest

from plaudit.formulas.optimum import Optimum, kl_regularised_optimum
from plaudit.training.options import OptimConfig
from plaudit.training.policy.options import AdaptiveTrust, Clip, Surrogate
from tests.kills import kills
from tests.learning import exact
from tests.training.tiny import model_folder

REACHED = 0.97
"""Of the way from J_ref to J*."""
NEAR = 0.4
"""Nats between KL(π ‖ π_ref) and KL(π* ‖ π_ref)."""
OBJECTIVES = {
    "clip": {"objective": Clip()},
    "trust-region KL": {"objective": Surrogate(), "trust": AdaptiveTrust()},
    "both": {"objective": Clip(), "trust": AdaptiveTrust()},
}


def optimum_of(reference: exact.Logprobs, rewards: exact.Rewards) -> Optimum:
    """Over whole answers, by the library's own formula."""
    return kl_regularised_optimum([reference[y] for y in rewards], list(rewards.values()), exact.BETA)


def assert_solved(folder, rewards: exact.Rewards) -> None:
    reference, policy = exact.answer_logprobs(folder / "sft"), exact.answer_logprobs(folder / "run" / "model")
    best = exact.best_by_dynamic_programming(reference, rewards)
    start, reached = exact.stands(reference, reference, rewards), exact.stands(policy, reference, rewards)
    progress = (reached.objective - start.objective) / (best.objective - start.objective)
    assert best.objective - start.objective > 0.4, "there must be something to win"
    assert reached.objective <= best.objective + 1e-9, "more than the optimum: J is not what it says"
    assert progress >= REACHED, f"J {reached.objective:.3f}, J* {best.objective:.3f}, J_ref {start.objective:.3f}"
    assert abs(reached.kl - best.kl) <= NEAR, f"KL {reached.kl:.3f}, KL* {best.kl:.3f}"


def test_the_optimum_of_whole_answers_is_that_of_token_by_token(tmp_path):
    """Two ways that share nothing: a partition function over 341 answers, and values from the last token backwards."""
    reference = exact.answer_logprobs(model_folder(tmp_path, letters="ab", spread=0.5, width=16))
    rewards = exact.drawn_rewards(0)
    assert len(rewards) == len(reference) == 341
    assert math.fsum(map(math.exp, reference.values())) == pytest.approx(1.0, abs=1e-6)
    whole, stepwise = optimum_of(reference, rewards), exact.best_by_dynamic_programming(reference, rewards)
    assert whole.mass == pytest.approx(1.0, abs=1e-6)
    assert stepwise.objective == pytest.approx(whole.objective, abs=1e-6)
    assert stepwise.kl == pytest.approx(whole.kl, abs=1e-6)
    assert exact.stands(reference, reference, rewards).objective == pytest.approx(whole.reference, abs=1e-6)


def test_what_is_missing_to_the_optimum_is_the_divergence_from_it(tmp_path):
    """J* − J(π) = β KL(π ‖ π*) for any π, here that of another random network; so no π can exceed J*."""
    reference = exact.answer_logprobs(model_folder(tmp_path / "a", letters="ab", spread=0.5, width=16))
    policy = exact.answer_logprobs(model_folder(tmp_path / "b", letters="ab", spread=0.5, width=16, seed=1))
    rewards = exact.drawn_rewards(1)
    best = exact.best_by_dynamic_programming(reference, rewards)
    log_optimal = {y: reference[y] + (r - best.objective) / exact.BETA for y, r in rewards.items()}
    assert math.fsum(map(math.exp, log_optimal.values())) == pytest.approx(1.0, abs=1e-6)
    missing = exact.BETA * math.fsum(math.exp(policy[y]) * (policy[y] - log_optimal[y]) for y in rewards)
    assert missing > 0.1
    assert best.objective - exact.stands(policy, reference, rewards).objective == pytest.approx(missing, abs=1e-6)


@kills(
    "training/policy/scored.py",
    old='kept_log_ratio(policy["logprobs"], ref["logprobs"], rollout.response_mask)',
    new='kept_log_ratio(ref["logprobs"], policy["logprobs"], rollout.response_mask)',
    why="the KL to the reference as a bonus",
)
@kills(
    "formulas/rewards.py",
    old="rewards = -kl_coef * select(ref_kl, mask)",
    new="rewards = -0.0 * select(ref_kl, mask)",
    why="the KL to the reference forgotten",
)
@kills(
    "formulas/rewards.py",
    old="rewards = -kl_coef * select(ref_kl, mask)",
    new="rewards = -0.5 * kl_coef * select(ref_kl, mask)",
    why="half the price of the KL",
)
@kills(
    "formulas/kl.py",
    old="return select(at_least_float32(logprobs) - other_logprobs.detach(), mask)",
    new="return select(other_logprobs.detach() - at_least_float32(logprobs), mask)",
    why="the ratio upside down: what was good becomes rarer",
)
def test_ppo_finds_the_optimum_of_an_exact_world(tmp_path):
    """One world in seconds; all five, with every objective, are among the slow tests."""
    quick = {"iterations": 30, "prompts_per_iteration": 192, "optim": OptimConfig(learning_rate=5e-3, eps=1e-5)}
    assert_solved(tmp_path, exact.solve(tmp_path, seed=2, **quick))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ppo_finds_the_optimum_of_every_world(tmp_path, objective, seed):
    assert_solved(tmp_path, exact.solve(tmp_path, seed, **OBJECTIVES[objective]))
