"""Mistakes that the experiments with a known answer must notice."""

from tools.mutation import FORMULAS, Mutation, trained

WORLD = "learning/test_exact_worlds.py::test_ppo_finds_the_optimum_of_an_exact_world"

MUTATIONS = (
    # the pole
    Mutation(
        "examples/cartpole.py",
        "cut(i, None if terminated else states[i])",
        "cut(i, None)",
        "tests/learning/test_cartpole.py",
        "a time limit taken for a fall: what would have come after is lost",
    ),
    Mutation(
        "examples/cartpole.py",
        "cut(i, None if terminated else states[i])",
        "cut(i, states[i])",
        "tests/learning/test_cartpole.py",
        "a fall taken for a time limit: falling is worth as much as going on",
    ),
    Mutation(
        "examples/cartpole.py",
        "+= GAMMA * agent.values",
        "+= agent.values",
        "tests/learning/test_cartpole.py",
        "the discount of the value after a time limit forgotten",
    ),
    # the exact worlds: whole runs, which know nothing of the code
    trained(
        "training/policy/experience",
        'kept_log_ratio(said["logprobs"], ref_logprobs, rollout.response_mask)',
        'kept_log_ratio(ref_logprobs, said["logprobs"], rollout.response_mask)',
        WORLD,
        "the KL to the reference as a bonus",
    ),
    Mutation(
        f"{FORMULAS}rewards.py",
        "rewards = -kl_coef * select(ref_kl, mask)",
        "rewards = -0.0 * select(ref_kl, mask)",
        f"tests/{WORLD}",
        "the KL to the reference forgotten",
    ),
    Mutation(
        f"{FORMULAS}rewards.py",
        "rewards = -kl_coef * select(ref_kl, mask)",
        "rewards = -0.5 * kl_coef * select(ref_kl, mask)",
        f"tests/{WORLD}",
        "half the price of the KL",
    ),
    Mutation(
        f"{FORMULAS}kl.py",
        "return select(at_least_float32(logprobs) - other_logprobs.detach(), mask)",
        "return select(other_logprobs.detach() - at_least_float32(logprobs), mask)",
        f"tests/{WORLD}",
        "the ratio upside down: what was good becomes rarer",
    ),
    # best of n
    trained(
        "evaluation/best_of_n",
        "weight *= (i - n) / (i - 1) if i > 1 else 0.0",
        "weight *= (i - n) / i if i > 1 else 0.0",
        "evaluation/test_frontier.py",
        "subsets with repetition: an answer competes with itself",
    ),
    trained(
        "evaluation/best_of_n",
        "values += [math.fsum(shared) / len(shared)] * len(shared)",
        "values += shared",
        "evaluation/test_frontier.py",
        "of answers that tie the last sampled wins",
    ),
    trained(
        "evaluation/frontier",
        "[best_of_n_mean(mine, its, n) for mine, its in zip(judged, true, strict=True)]",
        "[best_of_n_mean(its, its, n) for mine, its in zip(judged, true, strict=True)]",
        "evaluation/test_frontier.py",
        "the truth chooses its own best: nothing is ever over-optimised",
    ),
)
