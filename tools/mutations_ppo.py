"""One-line mistakes in the loop of PPO (`make mutants`)."""

from tools.mutation import ppo, trained

MUTATIONS = (
    ppo(
        "experience",
        "mask = judged.rollout.response_mask & scores.valid.unsqueeze(1)",
        "mask = judged.rollout.response_mask",
        "test_ppo.py::test_rewards_returns_and_advantages_by_hand",
        "a row whose judge abstained is trained on with a score of 0",
    ),
    ppo(
        "experience",
        "opinions.old_logprobs - opinions.ref_logprobs, mask",
        "opinions.ref_logprobs - opinions.old_logprobs, mask",
        "test_ppo.py::test_rewards_sum_to_the_score_less_the_price_of_the_kl",
        "policy and reference exchanged in the reward",
    ),
    trained(
        "training/ppo/experience",
        "mask, kl_coef=kl_coef)",
        "mask, kl_coef=-kl_coef)",
        "learning/test_bandit.py::test_a_bandit_is_solved",
        "the KL as a bonus: nothing but a known optimum is needed to see it",
    ),
    ppo(
        "experience",
        "moments(advantages, mask), std_floor=config.whitening.std_floor)",
        "moments(advantages, mask), std_floor=config.whitening.std_floor)\n"
        "        returns = advantages + opinions.old_values",
        "test_ppo.py::test_whitening_changes_advantages_and_nothing_else",
        "returns from whitened advantages: the critic learns noise",
    ),
    ppo(
        "experience",
        'setup.actor(batch, {"logprobs", "values", "entropy"}, temperature)',
        'setup.actor(batch, {"logprobs", "values", "entropy"})',
        "test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "old log-probs without the temperature",
    ),
    ppo(
        "experience",
        "reference.logprobs(batch, temperature)",
        "reference.logprobs(batch, 1.0)",
        "test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "the reference without the temperature: a KL before the first step",
    ),
    ppo(
        "update",
        'out = actor(batch, {"logprobs", "values"}, config.sampling.temperature)',
        'out = actor(batch, {"logprobs", "values"})',
        "test_ppo.py::test_the_first_minibatch_has_ratio_one_and_no_kl",
        "new log-probs without the temperature",
    ),
    ppo(
        "update",
        "policy_loss + config.value_coef * value_loss",
        "policy_loss + value_loss",
        "test_invariance.py::test_the_critics_weight_scales_its_gradient_alone",
        "the critic's weight forgotten",
    ),
    ppo(
        "update",
        "clip_range=config.objective.clip_range,\n            num_tokens=num_tokens,",
        "clip_range=config.objective.clip_range,\n            num_tokens=batch.num_targets,",
        "test_invariance.py::test_ppos_gradient_is_the_textbooks_however_it_is_cut",
        "a mean of micro-batches' means (transformers' gradient accumulation until 2024)",
    ),
    ppo(
        "update",
        "chosen, width = [rows[i] for i in cut],",
        "chosen, width = list(cut),",
        "test_invariance.py::test_the_order_of_rows_does_not_matter",
        "advantages of other rows",
    ),
    ppo(
        "update",
        '"minibatches", iteration, epoch)',
        '"minibatches", iteration)',
        "test_ppo.py::test_every_epoch_sees_every_row_once_in_a_new_order",
        "minibatches that are never shuffled anew",
    ),
    ppo(
        "experience",
        "sample_indices=[epoch * g + i for",
        "sample_indices=[i for",
        "test_ppo.py::test_a_prompt_is_answered_g_times_by_different_samples",
        "the second pass over the prompts with the luck of the first",
    ),
    ppo(
        "metrics",
        '"ppo/kl_ref_over_responses": float(kl[valid].sum() / n)',
        '"ppo/kl_ref_over_responses": float(kl.mean() / mask.shape[1])',
        "test_ppo.py::test_the_metrics_are_means_of_the_rollouts",
        "KL per token under the name of KL per response",
    ),
    trained(
        "training/ppo/loop",
        "optimizer, facts, tensors)",
        "optimizer, facts, {})",
        "faults/test_resume.py::test_a_stop_in_mid_iteration_keeps_the_experience",
        "a resumed iteration that goes on with rollouts of another policy",
    ),
)
