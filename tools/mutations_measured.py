"""One-line mistakes in what PPO measures and estimates, and in how it hands on what it knows (`make mutants`)."""

from tools.mutation import ppo, trained

BY_HAND = "test_ppo_described.py::test_an_iterations_metrics_by_hand"
ESTIMATORS = "test_ppo_described.py::test_a_token_says_of_the_kl_what_its_estimator_is"

MUTATIONS = (
    ppo(
        "experience",
        "ESTIMATORS[sampled](log_ratio)",
        'ESTIMATORS["k1"](log_ratio)',
        ESTIMATORS,
        "the estimator of the KL in the reward is read and not used",
    ),
    ppo(
        "experience",
        'ref_kl=said["kl_full"] if is_full else ESTIMATORS[sampled](log_ratio)',
        "ref_kl=ESTIMATORS[sampled](log_ratio)",
        ESTIMATORS,
        "the exact KL is computed and thrown away",
    ),
    ppo(
        "experience",
        "gamma=config.gamma",
        "gamma=1.0",
        "test_ppo_shaping.py::test_what_comes_later_is_discounted",
        "the discount is read and not used",
    ),
    ppo(
        "experience",
        "gae_lambda if config.critic_gae_lambda is None",
        "gae_lambda if not config.critic_gae_lambda",
        "test_ppo_shaping.py::test_the_critics_lambda_is_its_own",
        "a λ of 0 taken for none",
    ),
    ppo(
        "loop",
        "scores_seen=cursor.scores_seen)",
        "scores_seen=type(cursor.scores_seen)())",
        "test_ppo_update.py::test_an_iteration_goes_on_from_the_scores_that_were_seen",
        "running moments that begin anew with every iteration",
    ),
    ppo(
        "loop",
        "(at.step + 1) % config.save_every",
        "at.step % config.save_every",
        "test_ppo_update.py::test_checkpoints_are_written_after_every_so_many_steps",
        "checkpoints one step late",
    ),
    ppo(
        "metrics",
        "for f in rollout.finish_reasons) / len(valid)",
        "for f in rollout.finish_reasons) / n",
        BY_HAND,
        "more answers end than there are",
    ),
    ppo(
        "metrics",
        "masked_mean(experience.old_values, mask)",
        "masked_mean(experience.old_values, rollout.response_mask)",
        BY_HAND,
        "values of rows that left",
    ),
    ppo(
        "metrics",
        "(kept - kl_coef * kl[valid]).sum() / n",
        "(kept - config.kl.coef * kl[valid]).sum() / n",
        BY_HAND,
        "the objective by a price that is no longer paid",
    ),
    ppo("metrics", "float(gap.max())", "float(gap.mean())", BY_HAND, "a mean under the name of a maximum"),
    trained(
        "training/reward/aspects",
        'return {"loss_over_rows": errors / max(counts, 1)}',
        'return {"loss_over_rows": errors / len(examples)}',
        "training/test_reward_updates.py::test_a_ridges_error_is_the_mean_over_the_ratings_that_were_held_out",
        "the held-out rows' error over all rows",
    ),
    trained(
        "rollouts/sampler",
        "tuple(ends(group.response_ids[0], group.responses[0], row.prompt.form))",
        "tuple(ends(group.response_ids[0], group.responses[0]))",
        "rollouts/test_sampler.py::test_where_tokens_end_is_asked_by_the_prompts_own_form",
        "a conversation's answer read as plain text's",
    ),
    trained(
        "rollouts/stopping",
        "text.find(s)) >= 0",
        "text.find(s)) > 0",
        "rollouts/test_stopping.py",
        "a stop string at the very beginning stays",
    ),
)
