"""What an iteration says of itself. Sums over tokens and responses first, divisions last."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.formulas.advantages import moments
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.value_losses import explained_variance
from plaudit.models.beside import read_facts
from plaudit.models.reward.normalisation import HIGHEST
from plaudit.records.results import Result
from plaudit.records.statistics import number, ratio
from plaudit.records.tensors import Experience
from plaudit.records.text import FinishReason
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.cursor import Pending
from plaudit.training.policy.estimation import Agreement
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.scored import ScoredRollout

RUN = 4
"""Tokens in a row that count as a repetition."""


def mean_kl(experience: Experience) -> tuple[float, int]:
    """KL(π_old ‖ π_ref) in nats per response, and of how many responses: what an adaptive β looks at (N4.6)."""
    episodes = int(experience.response_mask.any(dim=1).sum())
    return float(kl_by_response(experience).sum()) / max(episodes, 1), episodes


def kl_by_response(experience: Experience) -> Float[Tensor, " B"]:
    """log π_old/π_ref summed over each response's kept tokens, nats (k1)."""
    return torch.where(experience.response_mask, experience.old_logprobs - experience.ref_logprobs, 0.0).sum(1)


def describe(
    scored: ScoredRollout, experience: Experience, agreed: Agreement, config: PPOConfig, coefficients: Coefficients
) -> dict[str, float]:
    """Metrics of the rollouts, before any update."""
    rollout, scores, kl_coef = scored.rollout, scored.scores, coefficients.kl
    valid = scores.valid
    n = max(int(valid.sum()), 1)
    kl = kl_by_response(experience)
    valid_scores = scores.scores[valid]
    gap = torch.where(rollout.response_mask, experience.old_logprobs - rollout.sampler_logprobs, 0.0).abs()
    return {
        "score_over_responses": float(valid_scores.sum() / n),
        "score_std_over_responses": float(valid_scores.std(correction=0)) if len(valid_scores) else 0.0,
        "objective_over_responses": float((valid_scores - kl_coef * kl[valid]).sum() / n),
        "kl_ref_over_responses": float(kl[valid].sum() / n),
        "reward_over_responses": float(experience.rewards.sum() / n),
        "length_over_responses": float(rollout.response_mask.sum() / len(valid)),
        "eos_over_responses": sum(f is not FinishReason.LENGTH for f in rollout.finish_reasons) / len(valid),
        "abstained_over_responses": float((~valid).float().mean()),
        "repetition_over_responses": repetition(rollout.response_ids, rollout.response_mask),
        "entropy_over_tokens": float(masked_mean(scored.outputs.entropy, rollout.response_mask)),
        **_of_the_critic(experience),
        "kl_coef": kl_coef,
        **({"trust_kl_coef": coefficients.trust} if config.trust else {}),
        "sampler_logprob_gap_max": max(float(gap.max()), scored.outputs.probe_gap),
        "kl_sampler_over_tokens": agreed.kl_sampler,
        **({"sampler_corrected_over_tokens": agreed.corrected} if config.sampler_mismatch else {}),
        **{f"part/{name}_over_responses": float(torch.nanmean(part)) for name, part in scores.parts.items()},
        **_beyond_what_judges_know(scores.parts, config),
    }


def _beyond_what_judges_know(parts: Mapping[str, Tensor], config: PPOConfig) -> dict[str, float]:
    """Share of the responses that a reward model scores above every answer that it was measured on."""
    known = {judge.name: read_facts(judge.path).get(HIGHEST) for judge in config.judges if judge.kind == "model"}
    ends = {name: end for name, end in known.items() if isinstance(end, float | int) and name in parts}
    return {f"part_beyond/{n}_over_responses": float((parts[n] > end).float().mean()) for n, end in ends.items()}


def repetition(ids: Int[Tensor, "B R"], mask: Bool[Tensor, "B R"]) -> float:
    """Share of a response's runs of `RUN` tokens that it has written before; mean over those long enough."""
    shares: list[float] = []
    for row, counts in zip(ids, mask, strict=True):
        tokens = row[counts].tolist()
        runs = list(zip(*(tokens[start:] for start in range(RUN)), strict=False))
        shares += [1.0 - len(set(runs)) / len(runs)] if runs else []
    return sum(shares) / max(len(shares), 1)


def _of_the_critic(experience: Experience) -> dict[str, float]:
    values, returns, mask = experience.old_values, experience.returns, experience.response_mask
    if values is None or returns is None:
        return {}
    explained = explained_variance(moments(returns - values, mask), moments(returns, mask))
    return {
        "value_over_tokens": float(masked_mean(values, mask)),
        "return_over_tokens": float(masked_mean(returns, mask)),
        "explained_variance": float(explained),
    }


def summarise(pending: Pending, config: PPOConfig) -> dict[str, float]:
    """Metrics of the updates, over all tokens that they saw; a minibatch that was left out was seen too."""
    statistics = pending.statistics

    def over_tokens(name: str) -> float:
        return ratio(statistics, name, "tokens")

    more: dict[str, float] = {}
    if config.critic:
        more["value_loss_over_tokens"] = over_tokens("value_loss")
        more["value_clip_fraction_over_tokens"] = over_tokens("value_clipped_tokens")
    if config.kl.into == "loss":
        more["kl_loss_over_tokens"] = over_tokens("kl_loss")
    if number(statistics, "ptx_tokens"):
        more["ptx_loss_over_tokens"] = ratio(statistics, "ptx_loss", "ptx_tokens")
    return more | {
        "policy_loss_over_tokens": over_tokens("policy_loss"),
        "clip_fraction_over_tokens": over_tokens("clipped_tokens"),
        "approx_kl_old_over_tokens": over_tokens("approx_kl_old"),
        "ratio_max": number(statistics, "ratio_max"),
        "grad_norm": ratio(statistics, "grad_norm", "updates"),
        "learning_rate": pending.learning_rate,
        "minibatches": int(number(statistics, "updates")),
    }


def results(
    logged: Sequence[Mapping[str, Any]], stage: str, config: PPOConfig, best: int | None = None
) -> list[Result]:
    """What training came to, by its own judge on its own prompts: the last iteration, its floor the first; and on
    held-out prompts what lies in best/, where that is the policy after another iteration than the last.

    `logged`: lines of metrics.jsonl. The interval is that of the mean over the last iteration's responses.
    """
    key = f"{stage}/score_over_responses"
    lines = [line for line in logged if key in line]
    if not lines or lines[0][key] is None or lines[-1][key] is None:
        return _held_out_results(logged, stage, best)
    first, last = lines[0], lines[-1]
    answers = config.prompts_per_iteration * config.samples_per_prompt
    judged_first, count = (round(answers * (1.0 - one[f"{stage}/abstained_over_responses"])) for one in (first, last))
    if not count:
        return _held_out_results(logged, stage, best)
    half = 1.96 * last[f"{stage}/score_std_over_responses"] / count**0.5
    score = Result(
        measure="score_over_responses",
        subject="policy",
        value=last[key],
        low=last[key] - half,
        high=last[key] + half,
        floor=first[key] if judged_first else None,
        count=count,
    )
    kl = Result(measure="kl_ref_over_responses", subject="policy", value=last[f"{stage}/kl_ref_over_responses"])
    return [score, kl, *_held_out_results(logged, stage, best)]


def _held_out_results(logged: Sequence[Mapping[str, Any]], stage: str, best: int | None) -> list[Result]:
    """The last measurement on held-out prompts and that of the `best` iteration; the floor is the one before the
    first."""
    lines = [line for line in logged if f"{stage}/held_out_score_over_prompts" in line]
    chosen = [("policy", line) for line in lines[-1:]]
    chosen += [("best/", line) for line in lines[:-1] if best is not None and line["step"] == best]
    return [
        Result(
            measure=key.removeprefix(f"{stage}/"),
            subject=subject,
            value=line[key],
            floor=lines[0].get(key) if len(lines) > 1 else None,
        )
        for key in (lines[-1] if lines else {})
        for subject, line in chosen
        if key.startswith(f"{stage}/held_out_") and line.get(key) is not None
    ]
