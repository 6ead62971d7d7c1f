"""The one-line mistakes in the formulas of all stages, each with the test file that must notice it."""

from tools.mutation import FORMULAS, TESTS, Mutation, formula

MUTATIONS = (
    # masks
    formula(
        "masks",
        "(select(weights.detach(), mask).to(x.dtype) * select(x, mask)).sum()",
        "(weights.detach().to(x.dtype) * x).sum()",
        "a weighted sum that trusts the weights to be 0 on NaN",
    ),
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
        "return -select(at_least_float32(entropies), mask)",
        "return select(at_least_float32(entropies), mask)",
        "the entropy bonus as a price on entropy",
    ),
    formula(
        "logprobs",
        "return -select(at_least_float32(logprobs), mask)",
        "return select(at_least_float32(logprobs), mask)",
        "PPO-ptx unlearns the pre-training text",
    ),
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
    formula(
        "schedules",
        "if kl > 1.5 * target_kl:",
        "if kl < 1.5 * target_kl:",
        "a trust region that tightens when it is kept",
    ),
    formula("schedules", "kl < target_kl / 1.5", "kl < target_kl * 1.5", "a trust region without its dead zone"),
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
