"""Wilson's interval for trials that come in clusters."""

import random

import pytest

from plaudit.formulas.intervals import clustered_interval


def wilson(successes: float, trials: float, z: float = 1.96) -> tuple[float, float]:
    """The textbook form, for a number of trials that need not be whole."""
    p = successes / trials
    centre, spread = p + z * z / (2 * trials), z * (p * (1 - p) / trials + z * z / (4 * trials**2)) ** 0.5
    return (centre - spread) / (1 + z * z / trials), (centre + spread) / (1 + z * z / trials)


def test_one_outcome_a_cluster_is_wilson_within_a_factor():
    outcomes = [1.0] * 60 + [0.0] * 40
    # The sample variance divides by C − 1: as good as 99 trials.
    assert clustered_interval(outcomes, range(100)) == pytest.approx(wilson(0.6 * 99, 99))


def test_copies_of_an_outcome_are_one_trial():
    outcomes = [1.0] * 60 + [0.0] * 40
    clusters = list(range(100))
    assert clustered_interval(outcomes * 7, clusters * 7) == pytest.approx(clustered_interval(outcomes, clusters))


def test_by_hand_with_two_clusters():
    # Means 1 and 1/2 of two each: p = 3/4, e = ±1/2, V = 2 · (1/4 + 1/4) / 16 = 1/16, n_eff = (3/16) / (1/16) = 3.
    assert clustered_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "b"]) == pytest.approx(wilson(2.25, 3))


def test_even_clusters_never_claim_more_trials_than_there_are():
    # Every prompt has one right and one wrong: no spread between prompts at all.
    outcomes, clusters = [1.0, 0.0] * 10, [i // 2 for i in range(20)]
    assert clustered_interval(outcomes, clusters) == pytest.approx(wilson(10, 20))


def test_all_right_counts_prompts_not_pairs():
    low, high = clustered_interval([1.0] * 60, [i // 6 for i in range(60)])
    assert high == 1.0
    assert low == pytest.approx(10 / (10 + 1.96**2))
    assert clustered_interval([0.0] * 60, [i // 6 for i in range(60)]) == pytest.approx((0.0, 1.0 - low))


def test_one_cluster_is_one_trial_and_none_is_no_knowledge():
    assert clustered_interval([1.0, 0.0, 1.0, 0.0], ["a"] * 4) == pytest.approx(wilson(0.5, 1))
    assert clustered_interval([], []) == (0.0, 1.0)


def test_a_wider_z_is_a_wider_interval():
    outcomes, clusters = [1.0, 0.0, 1.0, 1.0], [0, 1, 2, 3]
    narrow, wide = clustered_interval(outcomes, clusters, z=1.0), clustered_interval(outcomes, clusters, z=2.0)
    assert wide[0] < narrow[0] < 0.75 < narrow[1] < wide[1]


def test_it_holds_the_truth_about_as_often_as_it_says():
    # Prompts differ in difficulty, four pairs each: the interval that takes all pairs for independent fails too often.
    generator = random.Random(0)
    held = naive = 0
    for _ in range(400):
        outcomes, clusters = [], []
        for prompt in range(40):
            difficulty = generator.choice((0.2, 0.9))
            outcomes += [float(generator.random() < difficulty) for _ in range(4)]
            clusters += [prompt] * 4
        low, high = clustered_interval(outcomes, clusters)
        held += low <= 0.55 <= high
        low, high = wilson(sum(outcomes), len(outcomes))
        naive += low <= 0.55 <= high
    assert 0.92 <= held / 400 <= 0.98
    assert naive / 400 < 0.88
