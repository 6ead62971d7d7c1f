"""What an iteration says of itself. Sums over tokens and responses first, divisions last."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.formulas.advantages import moments
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.value_losses import explained_variance
from plaudit.models.load import Language
from plaudit.records.tensors import Experience
from plaudit.records.text import FinishReason
from plaudit.training import rollout_records
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.experience import agreement
from plaudit.training.policy.judged import Judged
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.update import UpdateStats


def mean_kl(experience: Experience) -> tuple[float, int]:
    """KL(π_old ‖ π_ref) in nats per response, and of how many responses: what an adaptive β looks at (N4.6)."""
    episodes = int(experience.response_mask.any(dim=1).sum())
    return float(kl_by_response(experience).sum()) / max(episodes, 1), episodes


def kl_by_response(experience: Experience) -> Float[Tensor, " B"]:
    """log π_old/π_ref summed over each response's kept tokens, nats (k1)."""
    return torch.where(experience.response_mask, experience.old_logprobs - experience.ref_logprobs, 0.0).sum(1)


def describe(judged: Judged, experience: Experience, config: PPOConfig, coefficients: Coefficients) -> dict[str, float]:
    """Metrics of the rollouts, before any update."""
    rollout, scores, kl_coef = judged.rollout, judged.scores, coefficients.kl
    valid, mask = scores.valid, experience.response_mask
    n = max(int(valid.sum()), 1)
    kl = kl_by_response(experience)
    mean = {name: float(torch.nanmean(part)) for name, part in scores.parts.items()}
    kept = scores.scores[valid]
    gap = torch.where(rollout.response_mask, experience.old_logprobs - rollout.sampler_logprobs, 0.0).abs()
    mismatch = agreement(judged, mask, config).stats
    explained = explained_variance(
        moments(experience.returns - experience.old_values, mask), moments(experience.returns, mask)
    )
    return {
        "score_over_responses": float(kept.sum() / n),
        "score_std_over_responses": float(kept.std(correction=0)) if len(kept) else 0.0,
        "objective_over_responses": float((kept - kl_coef * kl[valid]).sum() / n),
        "kl_ref_over_responses": float(kl[valid].sum() / n),
        "reward_over_responses": float(experience.rewards.sum() / n),
        "length_over_responses": float(rollout.response_mask.sum() / len(valid)),
        "eos_over_responses": sum(f is not FinishReason.LENGTH for f in rollout.finish_reasons) / len(valid),
        "abstained_over_responses": float((~valid).float().mean()),
        "entropy_over_tokens": float(masked_mean(judged.opinions.entropy, rollout.response_mask)),
        "value_over_tokens": float(masked_mean(experience.old_values, mask)),
        "return_over_tokens": float(masked_mean(experience.returns, mask)),
        "explained_variance": float(explained),
        "kl_coef": kl_coef,
        **({"trust_kl_coef": coefficients.trust} if config.trust else {}),
        "sampler_logprob_gap_max": float(gap.max()),
        "kl_sampler_over_tokens": mismatch.kl_sampler,
        **({"sampler_corrected_over_tokens": mismatch.corrected_fraction} if config.sampler_mismatch else {}),
        **{f"part/{name}_over_responses": value for name, value in mean.items()},
    }


def summarise(updates: Sequence[UpdateStats], config: PPOConfig) -> dict[str, float]:
    """Metrics of the updates, over all tokens that they saw; a minibatch that was left out was seen too."""
    tokens = max(sum(u.num_tokens for u in updates), 1.0)
    text_tokens = sum(u.ptx_tokens for u in updates)
    taken = [u for u in updates if u.outcome == "taken"]

    def over_tokens(name: str) -> float:
        return sum(getattr(u, name) for u in updates) / tokens

    def over_steps(name: str) -> float:
        return sum(getattr(u, name) for u in taken) / max(len(taken), 1)

    return {
        "policy_loss_over_tokens": over_tokens("policy_loss_sum"),
        "value_loss_over_tokens": over_tokens("value_loss_sum"),
        "clip_fraction_over_tokens": over_tokens("clipped_tokens"),
        "value_clip_fraction_over_tokens": over_tokens("value_clipped_tokens"),
        "approx_kl_old_over_tokens": over_tokens("approx_kl_old_sum"),
        **({"kl_loss_over_tokens": over_tokens("kl_ref_sum")} if config.kl.place == "loss" else {}),
        "ratio_max": max(u.ratio_max for u in updates),
        "grad_norm": over_steps("grad_norm"),
        "learning_rate": taken[-1].learning_rate if taken else 0.0,
        "minibatches": len(taken),
        **({"ptx_loss_over_tokens": sum(u.ptx_loss_sum for u in updates) / text_tokens} if text_tokens else {}),
    }


def rollout_rows(
    judged: Judged, experience: Experience, language: Language, config: PPOConfig, *, kl_coef: float
) -> list[dict[str, Any]]:
    """The first rollouts, token by token, for `plaudit inspect`."""
    return rollout_records.rollout_rows(
        judged.rollout,
        experience,
        judged.scores,
        language.renderer,
        count=config.keep_rollouts,
        kl_coef=kl_coef if config.kl.place == "reward" else 0.0,
        more={"entropy": judged.opinions.entropy},
    )


def headline(metrics: Mapping[str, float]) -> dict[str, float]:
    """For the progress line."""
    return {"score": metrics["score_over_responses"], "KL": metrics["kl_ref_over_responses"]}
