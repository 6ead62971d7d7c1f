"""The one-line mistakes that people make in RLHF code, and the test file that must notice each (`make mutants`)."""

from tools import mutations_formulas, mutations_preferences
from tools.mutation import Mutation, ppo, trained

__all__ = ["MUTATIONS", "Mutation"]

MUTATIONS = (
    *mutations_formulas.MUTATIONS,
    *mutations_preferences.MUTATIONS,
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
    # ppo
    ppo(
        "mask = rollout.response_mask & scores.valid.unsqueeze(1)",
        "mask = rollout.response_mask",
        "test_ppo.py::test_rewards_returns_and_advantages_by_hand",
        "a row whose judge abstained is trained on with a score of 0",
    ),
    ppo(
        "old_logprobs - ref_logprobs, mask, kl_coef",
        "ref_logprobs - old_logprobs, mask, kl_coef",
        "test_ppo.py::test_rewards_sum_to_the_score_less_the_price_of_the_kl",
        "policy and reference exchanged in the reward",
    ),
    trained(
        "training/ppo",
        "mask, kl_coef=config.kl.coef)",
        "mask, kl_coef=-config.kl.coef)",
        "learning/test_bandit.py::test_a_bandit_is_solved",
        "the KL as a bonus: nothing but a known optimum is needed to see it",
    ),
    ppo(
        "moments(advantages, mask), std_floor=1e-4)",
        "moments(advantages, mask), std_floor=1e-4)\n        returns = advantages + old_values",
        "test_ppo.py::test_whitening_changes_advantages_and_nothing_else",
        "returns from whitened advantages: the critic learns noise",
    ),
    ppo(
        "lambda batch: actor(batch, want, config.sampling.temperature)",
        "lambda batch: actor(batch, want)",
        "test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "old log-probs without the temperature",
    ),
    ppo(
        "reference.logprobs(batch, config.sampling.temperature)",
        "reference.logprobs(batch, 1.0)",
        "test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "the reference without the temperature: a KL before the first step",
    ),
    ppo(
        'out = actor(batch, {"logprobs", "values"}, config.sampling.temperature)',
        'out = actor(batch, {"logprobs", "values"})',
        "test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "new log-probs without the temperature",
    ),
    ppo(
        "policy_loss + config.value_coef * value_loss",
        "policy_loss + value_loss",
        "test_invariance.py::test_the_critics_weight_scales_its_gradient_alone",
        "the critic's weight forgotten",
    ),
    ppo(
        "clip_range=config.clip_range,\n            num_tokens=num_tokens,",
        "clip_range=config.clip_range,\n            num_tokens=batch.num_targets,",
        "test_invariance.py::test_ppos_gradient_is_the_textbooks_however_it_is_cut",
        "a mean of micro-batches' means (transformers' gradient accumulation until 2024)",
    ),
    ppo(
        "chosen, width = [rows[i] for i in cut],",
        "chosen, width = list(cut),",
        "test_invariance.py::test_the_order_of_rows_does_not_matter",
        "advantages of other rows",
    ),
    ppo(
        '"minibatches", iteration, epoch)',
        '"minibatches", iteration)',
        "test_ppo.py::test_every_epoch_sees_every_row_once_in_a_new_order",
        "minibatches that are never shuffled anew",
    ),
    ppo(
        "sample_indices=[epoch * g + i for",
        "sample_indices=[i for",
        "test_ppo.py::test_a_prompt_is_answered_g_times_by_different_samples",
        "the second pass over the prompts with the luck of the first",
    ),
    ppo(
        '"ppo/kl_ref_over_responses": float(kl[valid].sum() / n)',
        '"ppo/kl_ref_over_responses": float(kl.mean() / mask.shape[1])',
        "test_ppo.py::test_the_metrics_are_means_of_the_rollouts",
        "KL per token under the name of KL per response",
    ),
    trained(
        "training/ppo",
        "optimizer, facts, _tensors(experience))",
        "optimizer, facts, {})",
        "faults/test_resume.py::test_a_stop_in_mid_iteration_keeps_the_experience",
        "a resumed iteration that goes on with rollouts of another policy",
    ),
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
        "if not math.isfinite(norm):",
        "if math.isnan(norm):",
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
        "sum(other > score for other in scores)",
        "sum(other < score for other in scores)",
        "training/test_collect.py",
        "the worst answer ranked first",
    ),
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
)
