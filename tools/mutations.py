"""The one-line mistakes that people make in RLHF code, and the test file that must notice each (`make mutants`)."""

from tools import (
    mutations_data,
    mutations_encoders,
    mutations_formulas,
    mutations_measured,
    mutations_ppo,
    mutations_ppo_formulas,
    mutations_preferences,
    mutations_ranks,
    mutations_rewards,
    mutations_scoring,
    mutations_worlds,
)
from tools.mutation import Mutation, trained

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS = (
    *mutations_formulas.MUTATIONS,
    *mutations_ppo_formulas.MUTATIONS,
    *mutations_preferences.MUTATIONS,
    *mutations_rewards.MUTATIONS,
    *mutations_scoring.MUTATIONS,
    *mutations_encoders.MUTATIONS,
    *mutations_ranks.MUTATIONS,
    *mutations_data.MUTATIONS,
    # tokens, rollouts
    trained(
        "tokens/batches",
        "begin.unsqueeze(1) + columns - 1)",
        "begin.unsqueeze(1) + columns)",
        "training/test_invariance.py",
        "off by one: each token's own output is asked for it",
    ),
    trained(
        "tokens/batches",
        "torch.where(columns == 0, before.unsqueeze(1),",
        "torch.where(columns == 0, before.unsqueeze(1) * 0,",
        "training/test_invariance.py",
        "a response's first token predicted from another row",
    ),
    trained(
        "rollouts/sampler",
        "torch.tensor(generation.logprobs)",
        "torch.tensor(generation.logprobs).exp()",
        "training/test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "the sampler's probabilities for its log-probs",
    ),
    trained(
        "rollouts/sampler",
        "if length + max_new_tokens > language.context",
        "if length > language.context",
        "training/test_ppo.py::test_mistakes_are_found_before_a_model_loads",
        "prompts that leave no room for an answer: positions overflow in mid-run",
    ),
    *mutations_ppo.MUTATIONS,
    *mutations_measured.MUTATIONS,
    # sft, reward, optim, order, state, collect
    trained(
        "training/sft",
        "loss = -logprobs.sum() / max(num_tokens, 1)",
        "loss = -logprobs.sum() / max(batch.num_targets, 1)",
        "training/test_invariance.py::test_fine_tunings_gradient",
        "a mean of micro-batches' means",
    ),
    trained(
        "training/sft",
        "if first is None and data.held_out:",
        "if step == 0 and data.held_out:",
        "faults/test_resume.py::test_a_run_that_was_stopped_goes_on_exactly",
        "a line of the log twice after a stop before the first step",
    ),
    trained(
        "training/reward/objective",
        "(total / max(count, 1)).backward()",
        "(total / len(cut)).backward()",
        "training/test_invariance.py::test_the_reward_models_gradient",
        "a mean of micro-batches' means",
    ),
    trained(
        "models/reward/normalisation",
        "self.gain * (raw - self.bias)",
        "self.gain * (raw + self.bias)",
        "training/test_reward.py::test_reference_answers_score_nothing_on_average_and_still_do_after_loading",
        "the reference bias with the wrong sign",
    ),
    trained(
        "training/optim",
        "taken = math.isfinite(norm) and math.isfinite(loss)",
        "taken = not math.isnan(norm) and math.isfinite(loss)",
        "training/test_optim.py",
        "an infinite gradient is stepped on",
    ),
    trained(
        "training/order",
        '"weight", source, epoch)[:rest]',
        '"weight", source)[:rest]',
        "training/test_order.py",
        "every epoch draws the same half of a source",
    ),
    trained(
        "training/state",
        '"metrics_lines": run.metrics_lines}',
        '"metrics_lines": 0}',
        "training/test_state.py",
        "a resumed run forgets its log",
    ),
    trained(
        "training/collect",
        "places([-said[text] for text in responses])",
        "places([said[text] for text in responses])",
        "training/test_collect.py",
        "the worst answer ranked first",
    ),
    *mutations_worlds.MUTATIONS,
)
