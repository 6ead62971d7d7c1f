"""PPO watches itself: the policy on prompts that nothing is trained on, the best one so far, and when to stop.

Answers are drawn by random numbers of their own, the same in each measurement, so that a run trains on the same tokens
with and without it, and two measurements differ by the policy alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from plaudit.hardware.randomness import derive_seed
from plaudit.records.tensors import Rollout
from plaudit.rollouts.sampler import groups, sample
from plaudit.runs.folder import Run
from plaudit.runs.records import SAMPLES
from plaudit.scoring.combine import part_metrics
from plaudit.telemetry.console import say
from plaudit.training import state
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.participants import Participants
from plaudit.training.policy.scored import ScoredRollout, score

SHOWN = 16
"""Prompts whose answers before and after are written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What earlier measurements found: a resumed run must remember it."""

    before: Sequence[Mapping[str, Any]] = ()
    """Answers before the first iteration, in the words of `samples.jsonl`."""
    best: float | None = None
    """The highest objective after an iteration."""
    best_iteration: int = 0
    since_best: int = 0
    """Measurements without a better one."""

    def is_over(self, config: PPOConfig) -> bool:
        """Whether patience has run out."""
        return bool(config.evaluation and 0 < config.evaluation.patience <= self.since_best)

    def facts(self, config: PPOConfig) -> dict[str, Any]:
        """For summary.json: which iteration's policy lies in best/, and whether the run ended by it."""
        return {"iteration": self.best_iteration, "objective": self.best, "stopped_early": self.is_over(config)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: for the log, and to be read."""

    metrics: Mapping[str, float]
    answers: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def is_due(iteration: int, config: PPOConfig) -> bool:
    """After so many iterations?"""
    if config.evaluation is None:
        return False
    every = config.evaluation.every or max(1, config.iterations // 10)
    return iteration % every == 0 or iteration == config.iterations


def watched(
    participants: Participants, config: PPOConfig, run: Run, watch: Watch, iteration: int
) -> tuple[Watch, Mapping[str, float]]:
    """Measure after `iteration` iterations, keep the best policy in best/, write down answers before and after."""
    measured = measure(participants, config)
    if iteration == 0:
        return replace(watch, before=measured.answers), measured.metrics
    run.write_rows(SAMPLES, [_both(*pair, run.stage) for pair in zip(watch.before, measured.answers, strict=False)])
    objective = measured.metrics["held_out_objective_over_prompts"]
    if math.isfinite(objective) and (watch.best is None or objective > watch.best):
        state.save_policy(run, participants.loaded, "best")
        return replace(watch, best=objective, best_iteration=iteration, since_best=0), measured.metrics
    watch = replace(watch, since_best=watch.since_best + 1)
    if watch.is_over(config):
        say(f"ppo: no better objective on held-out prompts since iteration {watch.best_iteration}; it ends here")
    return watch, measured.metrics


def measure(participants: Participants, config: PPOConfig) -> Measured:
    """Scores of sampled answers and of the likeliest one, KL of the sampled ones that were judged (k1), and their
    objective by the β that the run began with, so that measurements can be compared where β moves."""
    held_out = participants.held_out
    sampled = score(participants, _answers(participants, config), config)
    greedy = score(participants, _answers(participants, config, greedy=True), config)
    kl = sampled.kl_by_response
    judged = sampled.scores.valid
    mean_score, mean_kl = _mean(sampled.scores.scores, judged), _mean(kl, judged)
    metrics = {
        "held_out_score_over_prompts": mean_score,
        "held_out_greedy_score_over_prompts": _mean(greedy.scores.scores, greedy.scores.valid),
        "held_out_kl_ref_over_prompts": mean_kl,
        "held_out_objective_over_prompts": mean_score - config.kl.coef * mean_kl,
    }
    if held_out.truth:
        parts = held_out.truth.score(groups(sampled.rollout)).parts
        metrics |= {f"held_out_part/{name}_over_prompts": float(part.nanmean()) for name, part in parts.items()}
    part_metrics(participants.scorer)  # what became of these rows is none of the next iteration's metrics
    return Measured(metrics=metrics, answers=_shown(sampled, kl, config))


def _answers(participants: Participants, config: PPOConfig, *, greedy: bool = False) -> Rollout:
    number = 1 if greedy or config.evaluation is None else config.evaluation.samples
    rows = participants.held_out.rows
    with participants.machine.autocast():
        return sample(
            participants.engine,
            participants.language,
            [row for row in rows for _ in range(number)],
            config.sampling,
            sample_indices=list(range(number)) * len(rows),
            seed=derive_seed(config.seed, "held-out"),
            greedy=greedy,
        )


def _mean(scores: Tensor, valid: Tensor) -> float:
    return float(scores[valid].mean()) if bool(valid.any()) else math.nan


def _shown(scored: ScoredRollout, kl: Tensor, config: PPOConfig) -> list[dict[str, Any]]:
    """The first prompts' first answers."""
    every = len(scored.rollout.rows) // max(len({row.prompt.id for row in scored.rollout.rows}), 1)
    return [
        {
            "prompt": scored.rollout.rows[i].prompt.text,
            "answer": scored.rollout.responses[i],
            "score": float(scored.scores.scores[i]) if bool(scored.scores.valid[i]) else None,
            "length": int(scored.rollout.response_mask[i].sum()),
            "finish": scored.rollout.finish_reasons[i].value,
            "kl": float(kl[i]),
        }
        for i in range(0, len(scored.rollout.rows), every)[:SHOWN]
    ]


def _both(before: Mapping[str, Any], after: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """A line of samples.jsonl, as `eval policies` writes it."""
    sides = {"before": before, "after": after}
    named = {f"{what}_{side}": one[what] for what in ("score", "length", "finish") for side, one in sides.items()}
    texts = {side: one["answer"] for side, one in sides.items()}
    return {"policy": policy, "prompt": after["prompt"], **texts, **named, "kl": after["kl"]}
