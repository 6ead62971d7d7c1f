"""The one-line mistakes that people make in RLHF code, and the test file that must notice each (`make mutants`)."""

from dataclasses import dataclass

FORMULAS = "src/plaudit/formulas/"
TESTS = "tests/formulas/"


@dataclass(frozen=True)
class Mutation:
    file: str
    old: str
    """Stands exactly once in the file."""
    new: str
    test: str
    """The test file (or `file::test`) that must fail."""
    why: str
    """The mistake in words, and who made it where that is known."""


def formula(module: str, old: str, new: str, why: str) -> Mutation:
    return Mutation(f"{FORMULAS}{module}.py", old, new, f"{TESTS}test_{module}.py", why)


def trained(module: str, old: str, new: str, test: str, why: str) -> Mutation:
    return Mutation(f"src/plaudit/{module}.py", old, new, f"tests/{test}", why)


def ppo(old: str, new: str, test: str, why: str) -> Mutation:
    return trained("training/ppo", old, new, f"training/{test}", why)


MUTATIONS = (
    # masks
    formula(
        "masks",
        "return torch.where(mask, x, torch.full_like(x, fill))",
        "return torch.where(~mask, x, torch.full_like(x, fill))",
        "mask polarity: padding counts and text does not",
    ),
    Mutation(
        f"{FORMULAS}masks.py",
        "return torch.where(mask, x, torch.full_like(x, fill))",
        "return x * mask + fill * ~mask",
        f"{TESTS}test_poison.py",
        "multiplying instead of selecting: NaN * 0 is NaN, in the value and in the gradient",
    ),
    formula(
        "masks",
        "return masked_sum(x, mask) / mask.sum().clamp(min=1)",
        "return masked_sum(x, mask) / mask.numel()",
        "a mean over padding too: diluted by the share of padding",
    ),
    formula("masks", ".amax(dim=1)", ".amax(dim=1) - 1", "the last token off by one"),
    # logprobs
    formula(
        "logprobs",
        "logits if temperature == 1.0 else logits / temperature",
        "logits",
        "temperature forgotten: the first minibatch's ratio is not 1",
    ),
    formula(
        "logprobs",
        "logits if temperature == 1.0 else logits / temperature",
        "logits if temperature == 1.0 else logits * temperature",
        "temperature upside down",
    ),
    formula("logprobs", "return -(logp.exp() * finite)", "return (logp.exp() * finite)", "entropy with the wrong sign"),
    formula(
        "logprobs",
        "logits = at_least_float32(logits)",
        "logits = logits",
        "log-softmax in half precision: a ratio of 1 becomes 1.01",
    ),
    # kl
    formula("kl", "torch.expm1(-bounded) + bounded", "torch.expm1(bounded) - bounded", "k3 of the other direction"),
    formula(
        "kl",
        "    return log_ratio\n",
        "    return -log_ratio\n",
        "KL with a flipped sign: a bonus for leaving the reference",
    ),
    formula("kl", "return 0.5 * log_ratio.square()", "return log_ratio.square()", "k2 without its half"),
    formula(
        "kl",
        "difference = logp.masked_fill(impossible, 0.0) - other_logp.masked_fill(impossible, 0.0)",
        "difference = other_logp.masked_fill(impossible, 0.0) - logp.masked_fill(impossible, 0.0)",
        "the full KL with a flipped sign",
    ),
    # rewards
    formula(
        "rewards",
        "rewards = -kl_coef * select(ref_log_ratio, mask)",
        "rewards = kl_coef * select(ref_log_ratio, mask)",
        "the KL penalty as a reward",
    ),
    formula(
        "rewards",
        "rewards = -kl_coef * select(ref_log_ratio, mask)",
        "rewards = -kl_coef * ref_log_ratio",
        "the KL of padding in the rewards",
    ),
    formula(
        "rewards",
        "is_last = columns == last_index(mask).unsqueeze(1)",
        "is_last = columns == mask.shape[1] - 1",
        "the score on the last column instead of the last kept token",
    ),
    formula(
        "rewards",
        "rewards + scores.unsqueeze(1), rewards)",
        "scores.unsqueeze(1), rewards)",
        "the score replaces the last token's KL instead of joining it",
    ),
    # advantages
    formula("advantages", "gamma * next_value", "gae_lambda * next_value", "gamma and lambda exchanged"),
    formula("advantages", "- values[:, t]\n", "- next_value\n", "delta against the next value: a shift by one"),
    formula(
        "advantages",
        "return advantages, advantages + values",
        "return advantages, advantages",
        "returns without the value that was subtracted",
    ),
    formula(
        "advantages",
        "next_value = torch.where(kept, values[:, t], next_value)",
        "next_value = values[:, t]",
        "a value bootstrapped through what the mask leaves out",
    ),
    formula(
        "advantages",
        "return _standardised(x, mask, count_sum_sumsq, std_floor).to(x.dtype)",
        "return scale(x, mask, count_sum_sumsq, std_floor=std_floor)",
        "whitened advantages keep their mean (torchtune's inverted flag)",
    ),
    formula(
        "advantages",
        "(total_square / count - mean.square())",
        "(total_square / count)",
        "the raw second moment for the variance",
    ),
    # policy_losses
    formula(
        "policy_losses",
        "loss_sum = masked_sum(torch.maximum(unclipped, clipped), mask)",
        "loss_sum = masked_sum(torch.minimum(unclipped, clipped), mask)",
        "min for max: the clip never holds anything back",
    ),
    formula(
        "policy_losses",
        "unclipped = -advantages * ratio\n",
        "unclipped = advantages * ratio\n",
        "the objective minimised: good tokens become rarer",
    ),
    formula(
        "policy_losses",
        "ratio.clamp(1.0 - clip_range, 1.0 + clip_range)",
        "ratio.clamp(max=1.0 + clip_range)",
        "clipped above only",
    ),
    formula(
        "policy_losses",
        "at_least_float32(logprobs) - old_logprobs.detach()",
        "old_logprobs.detach() - at_least_float32(logprobs)",
        "old minus new",
    ),
    formula("policy_losses", "k3(-log_ratio)", "k3(log_ratio)", "the KL of the update in the other direction"),
    formula("policy_losses", "mask & (clipped > unclipped)", "mask & (clipped >= unclipped)", "every token is clipped"),
    formula(
        "policy_losses",
        "advantages = select(advantages.detach(), mask)",
        "advantages = select(advantages, mask)",
        "a gradient into the advantages",
    ),
    # value_losses
    formula(
        "value_losses",
        "masked_sum(torch.maximum(unclipped, clipped), mask)",
        "masked_sum(torch.minimum(unclipped, clipped), mask)",
        "min for max: clipping makes the critic's loss smaller",
    ),
    formula(
        "value_losses",
        "unclipped = 0.5 * (values - returns).square()",
        "unclipped = (values - returns).square()",
        "the half forgotten: value_coef means something else",
    ),
    formula(
        "value_losses",
        "values.clamp(old_values - value_clip_range, old_values + value_clip_range)",
        "values.clamp(returns - value_clip_range, returns + value_clip_range)",
        "the band around the return instead of the old value",
    ),
    formula("value_losses", "1.0 - error_variance / variance", "error_variance / variance", "unexplained variance"),
    # preference_losses
    formula(
        "preference_losses",
        "at_least_float32(chosen) - at_least_float32(rejected) - margin",
        "at_least_float32(rejected) - at_least_float32(chosen) - margin",
        "the reward model learns to prefer what people rejected",
    ),
    formula("preference_losses", "- margin)", "+ margin)", "the margin makes it easier"),
    formula(
        "preference_losses",
        "better = ranks.unsqueeze(1) < ranks.unsqueeze(0)",
        "better = ranks.unsqueeze(1) <= ranks.unsqueeze(0)",
        "ties (and each answer with itself) become pairs",
    ),
    formula(
        "preference_losses",
        "torch.nonzero(same_prompt & better, as_tuple=True)",
        "torch.nonzero(better, as_tuple=True)",
        "answers of different prompts compared",
    ),
    formula(
        "preference_losses",
        "(losses / pairs_of_prompt[prompt[better]]).sum()",
        "losses.sum()",
        "a prompt with nine answers weighs 36 times one with two",
    ),
    # statistics, intervals, schedules
    formula("statistics", "0.5 * (chosen == rejected)", "0.0 * (chosen == rejected)", "a tie counts as lost"),
    formula(
        "statistics",
        "shift * shift * a.count * b.count / count",
        "shift * shift * a.count * b.count",
        "moments merged wrongly",
    ),
    formula("intervals", "centre = share + z * z / (2 * n)", "centre = share", "Wald's interval with Wilson's name"),
    formula("schedules", "peak * (step + 1) / warmup_steps", "peak * step / warmup_steps", "a first step of rate 0"),
    formula("schedules", "kl / target_kl - 1.0", "1.0 - kl / target_kl", "adaptive KL that pushes the wrong way"),
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
