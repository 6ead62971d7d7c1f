"""Every number a run may log, declared once: key `stage/what_over_what`, unit, meaning, which way is better."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

Better = Literal["up", "down", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a logged number is."""

    unit: str
    """Its unit as shown on an axis; empty for a pure number."""
    meaning: str
    """One line for the reader of a figure."""
    better: Better = ""
    """Where one wants it to go; empty where neither way is good in itself."""


def _metric(unit: str, better: Better, meaning: str) -> Metric:
    return Metric(unit=unit, meaning=meaning, better=better)


_SFT = {
    "sft/loss_over_tokens": _metric("nats/token", "down", "training loss: -log p of the answer's tokens (N1.1)"),
    "sft/held_out_loss_over_tokens": _metric("nats/token", "down", "the same loss on held-out rows"),
    "sft/held_out_perplexity": _metric("", "down", "exp of the held-out loss: equally likely next tokens"),
    "sft/held_out_nll_over_answers": _metric("nats/answer", "down", "-log p of a whole held-out answer"),
    "sft/tokens_over_seconds": _metric("tokens/s", "up", "training speed, prompt tokens included"),
    "sft/epoch": _metric("epochs", "", "passes over the training rows so far"),
}

_REWARD = {
    "reward/loss_over_rows": _metric("", "down", "training loss of the objective, over what it counts: prompts, pairs"),
    "reward/accuracy_over_pairs": _metric("fraction", "up", "training pairs ranked as people did; ties count half"),
    "reward/accuracy_over_rows": _metric("fraction", "up", "training answers on the right side of accept and reject"),
    "reward/lm_loss_over_tokens": _metric("nats/token", "down", "loss of the best answers as language (N3.13)"),
    "reward/margin_over_pairs": _metric("score", "up", "score of the preferred answer minus the other's"),
    "reward/score_over_responses": _metric("score", "", "mean score of the training batch"),
    "reward/score_std_over_responses": _metric("score", "", "spread of the scores of the training batch"),
    "reward/held_out_loss_over_prompts": _metric("nats", "down", "the same loss on held-out prompts"),
    "reward/held_out_accuracy_over_pairs": _metric("fraction", "up", "held-out pairs ranked as people did"),
    "reward/held_out_accuracy_over_rows": _metric("fraction", "up", "held-out answers on the right side of 0"),
    "reward/held_out_auc": _metric("fraction", "up", "held-out pairs of an accepted and a rejected answer told apart"),
    "reward/held_out_margin_over_pairs": _metric("score", "up", "the same margin on held-out pairs"),
    "reward/rows_over_seconds": _metric("rows/s", "up", "training speed"),
    "reward/tokens_over_seconds": _metric("tokens/s", "up", "training speed"),
    "reward/epoch": _metric("epochs", "", "passes over the training rows so far"),
}

_PPO_GOAL = {
    "ppo/score_over_responses": _metric("score", "up", "what the judge says, mean over the rollout"),
    "ppo/score_std_over_responses": _metric("score", "", "spread of the scores of one rollout"),
    "ppo/true_score_over_responses": _metric("score", "up", "the known true reward, where the world has one"),
    "ppo/objective_over_responses": _metric("score", "up", "score - kl_coef * KL: what is maximised (N4.6)"),
    "ppo/kl_ref_over_responses": _metric("nats/response", "", "log policy/reference, summed over the tokens"),
    "ppo/kl_ref_over_tokens": _metric("nats/token", "", "the same per token"),
    "ppo/reward_over_responses": _metric("score", "up", "sum of the KL-shaped token rewards"),
    "ppo/length_over_responses": _metric("tokens/response", "", "length, the end token included"),
    "ppo/eos_over_responses": _metric("fraction", "", "responses that ended by themselves"),
    "ppo/abstained_over_responses": _metric("fraction", "down", "responses that no judge would score"),
    "ppo/entropy_over_tokens": _metric("nats/token", "", "entropy of the next-token distribution"),
    "ppo/kl_coef": _metric("score/nat", "", "weight of the KL to the reference (beta of N4.6)"),
    "ppo/held_out_score_over_responses": _metric("score", "up", "score on held-out prompts"),
    "ppo/held_out_kl_ref_over_responses": _metric("nats/response", "", "KL to the reference on held-out prompts"),
    "ppo/held_out_objective_over_responses": _metric("score", "up", "score - kl_coef * KL on held-out prompts"),
}

_PPO_UPDATE = {
    "ppo/policy_loss_over_tokens": _metric("", "", "clipped policy loss (N4.4), minimised"),
    "ppo/value_loss_over_tokens": _metric("score^2", "down", "half the squared error of the values (N4.8)"),
    "ppo/ptx_loss_over_tokens": _metric("nats/token", "down", "loss on the pre-training text (N4.12)"),
    "ppo/clip_fraction_over_tokens": _metric("fraction", "", "tokens whose ratio the clip cut off"),
    "ppo/value_clip_fraction_over_tokens": _metric("fraction", "", "tokens whose value the clip cut off"),
    "ppo/approx_kl_old_over_tokens": _metric("nats/token", "", "KL of the sampling policy to the updated one"),
    "ppo/ratio_max": _metric("", "", "largest importance ratio of the iteration; 1 = no change"),
    "ppo/explained_variance": _metric("fraction", "up", "share of the returns' variance that the values explain"),
    "ppo/value_over_tokens": _metric("score", "", "mean predicted value"),
    "ppo/return_over_tokens": _metric("score", "", "mean return, what the values should predict"),
    "ppo/advantage_over_tokens": _metric("score", "", "mean advantage before whitening"),
    "ppo/advantage_std": _metric("score", "", "spread of the advantages before whitening"),
    "ppo/minibatches": _metric("updates", "", "optimiser steps of the iteration; fewer when it left the trust region"),
    "ppo/tokens_over_seconds": _metric("tokens/s", "up", "response tokens through a whole iteration"),
    "ppo/sampled_tokens_over_seconds": _metric("tokens/s", "up", "response tokens while sampling"),
    "ppo/seconds_sample": _metric("s", "down", "time spent sampling"),
    "ppo/seconds_score": _metric("s", "down", "time spent scoring, reference and values included"),
    "ppo/seconds_update": _metric("s", "down", "time spent in optimiser steps"),
    "ppo/trust_kl_coef": _metric("1/nat", "", "weight of KL(old policy, updated policy) in the loss (N4.5)"),
    "ppo/kl_loss_over_tokens": _metric("nats/token", "", "the KL to the reference that stands in the loss (N4.6)"),
    "ppo/kl_sampler_over_tokens": _metric("nats/token", "down", "KL of the sampler's policy to the trainer's"),
    "ppo/sampler_corrected_over_tokens": _metric("fraction", "", "tokens truncated or masked for that mismatch"),
    "ppo/sampler_logprob_gap_max": _metric("nats", "down", "largest |sampler - trainer| log-probability of a token"),
}

_EVAL = {
    "eval/win_rate_over_prompts": _metric("fraction", "up", "prompts where the new answer wins, ties half (N5.1)"),
    "eval/score_over_responses": _metric("score", "up", "the judge's score on evaluation prompts"),
    "eval/true_score_over_responses": _metric("score", "up", "the known true reward, where the world has one"),
    "eval/kl_ref_over_responses": _metric("nats/response", "", "KL to the reference on evaluation prompts"),
    "eval/perplexity": _metric("", "down", "on held-out text"),
    "eval/accuracy_over_pairs": _metric("fraction", "up", "held-out pairs ranked as people did"),
}

_EVERY_STAGE = {
    "grad_norm": _metric("", "", "norm of the gradient before clipping"),
    "learning_rate": _metric("", "", "of the optimiser step"),
    "skipped_updates": _metric("updates", "down", "updates left out for a non-finite loss or gradient, so far"),
    "seconds": _metric("s", "down", "wall-clock time of this step"),
    "peak_memory": _metric("bytes", "down", "largest memory in use so far"),
}

METRICS: dict[str, Metric] = {
    **_SFT,
    **_REWARD,
    **_PPO_GOAL,
    **_PPO_UPDATE,
    **_EVAL,
    **{f"{stage}/{key}": metric for stage in ("sft", "reward", "ppo") for key, metric in _EVERY_STAGE.items()},
}

FAMILIES: dict[tuple[str, str], Metric] = {
    ("ppo/part/", "_over_responses"): _metric("score", "", "one named part of the score, before its weight"),
    ("ppo/part_failed/", "_over_responses"): _metric(
        "fraction", "down", "answers on which this part raised, hung, died or was not finite (N3.14)"
    ),
    ("ppo/part_abstained/", "_over_responses"): _metric("fraction", "", "answers of which this part had no opinion"),
    ("reward/aspect/", "_spearman_over_labels"): _metric("", "up", "rank correlation with held-out ratings (N3.7)"),
    ("reward/aspect/", "_accuracy_over_pairs"): _metric("fraction", "up", "accuracy of one aspect of the scores"),
    ("reward/aspect/", "_loss_over_labels"): _metric("score^2", "down", "squared error on one aspect (N3.7)"),
}
"""Keys with a user's word in the middle: (start, end) -> what they all are."""


def metric_of(key: str) -> Metric:
    """The declaration of a key, families included; ValueError naming the nearest declared keys if there is none."""
    if key in METRICS:
        return METRICS[key]
    for (start, end), metric in FAMILIES.items():
        if key.startswith(start) and key.endswith(end) and len(key) > len(start) + len(end) and key.isprintable():
            return metric
    near = difflib.get_close_matches(key, METRICS, n=3)
    raise ValueError(
        f"metric {key!r} is not declared in plaudit.telemetry.register" + (f"; near: {', '.join(near)}" if near else "")
    )
