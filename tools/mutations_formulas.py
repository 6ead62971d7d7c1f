"""The one-line mistakes in the formulas, each with the test file that must notice it."""

from tools.mutation import FORMULAS, TESTS, Mutation, formula

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
        "rewards = -kl_coef * select(ref_kl, mask)",
        "rewards = kl_coef * select(ref_kl, mask)",
        "the KL penalty as a reward",
    ),
    formula(
        "rewards",
        "rewards = -kl_coef * select(ref_kl, mask)",
        "rewards = -kl_coef * ref_kl",
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
        "losses = torch.maximum(unclipped, clipped)",
        "losses = torch.minimum(unclipped, clipped)",
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
        "ratio.clamp(1.0 - clip_low, 1.0 + clip_high)",
        "ratio.clamp(max=1.0 + clip_high)",
        "clipped above only",
    ),
    Mutation(
        f"{FORMULAS}kl.py",
        "at_least_float32(logprobs) - other_logprobs.detach()",
        "other_logprobs.detach() - at_least_float32(logprobs)",
        f"{TESTS}test_policy_losses.py",
        "old minus new",
    ),
    formula(
        "policy_losses",
        "masked_sum(k3(-_limited(log_ratio)), mask)",
        "masked_sum(k3(_limited(log_ratio)), mask)",
        "the KL of the update in the other direction",
    ),
    formula("policy_losses", "mask & (losses != unclipped)", "mask & (losses == clipped)", "every token is clipped"),
    formula(
        "policy_losses",
        "advantages = select(advantages.detach(), mask)",
        "advantages = select(advantages, mask)",
        "a gradient into the advantages",
    ),
    # value_losses
    formula(
        "value_losses",
        "losses = torch.maximum(unclipped, clipped)",
        "losses = torch.minimum(unclipped, clipped)",
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
)
