"""Paragraphs 1 and 2: the policy writes, then judges, policy, critic and reference say what they think (N4.1)."""

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.engines.protocol import Extra
from plaudit.formulas.kl import kept_log_ratio
from plaudit.hardware.machine import Machine
from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.rollouts.sampler import groups, groups_with_ends, sample
from plaudit.scoring.combine import judges_elsewhere
from plaudit.scoring.protocol import check_scores
from plaudit.tokens.batches import TokenBatch, by_prompt, pack_shared, sharing, unpad
from plaudit.training import order
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import ESTIMATORS
from plaudit.training.policy.participants import Participants, with_trunk

AGREES = 1e-5
"""The engine's numbers stand for the trainer's if none of those asked is further off in fp32: nats, and of entropies
and values the part of the largest one."""
PROBED = 4
"""So many rows of an iteration are asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutputs:
    """What the models say of a rollout before any update, on the CPU; 0 outside the rollout's mask."""

    old_logprobs: Float[Tensor, "B R"]
    entropy: Float[Tensor, "B R"]
    ref_logprobs: Float[Tensor, "B R"]
    ref_kl: Float[Tensor, "B R"]
    """Each token's part of KL(π_old ‖ π_ref) by the estimator that the options name, nats."""
    old_values: Float[Tensor, "B R"] | None = None
    trunk_scores: Float[Tensor, " B"] | None = None
    """Raw scores of a reward head on one of their trunks; None where there is none (N3.13)."""
    probe_gap: float = 0.0
    """Where the engine's log-probs are the old ones: the largest difference to the trainer's on the rows that were
    asked, nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRollout:
    """A rollout, its scores, and the models' outputs on it."""

    rollout: Rollout
    scores: Scores
    outputs: ModelOutputs

    @property
    def mask(self) -> Bool[Tensor, "B R"]:
        """The rollout's, less the rows whose judge abstained."""
        return self.rollout.response_mask & self.scores.valid.unsqueeze(1)

    @property
    def kl_by_response(self) -> Float[Tensor, " B"]:
        """log π_old/π_ref summed over each response's tokens, nats (k1)."""
        log_ratio = self.outputs.old_logprobs - self.outputs.ref_logprobs
        return torch.where(self.rollout.response_mask, log_ratio, 0.0).sum(1)


def roll_out(participants: Participants, config: PPOConfig, iteration: int) -> Rollout:
    """Let the policy answer this iteration's prompts, G times each: rows of one prompt stand together. The stream of
    prompts is endless and shuffled pass by pass."""
    n, g = config.prompts_per_iteration, config.samples_per_prompt
    chosen = order.endless(len(participants.prompts), iteration * n, n, config.seed)
    with participants.machine.autocast():
        return sample(
            participants.engine,
            participants.language,
            [participants.prompts[row] for row, _ in chosen for _ in range(g)],
            config.sampling,
            sample_indices=[epoch * g + i for _, epoch in chosen for i in range(g)],
            seed=config.seed,
            want=_gathered(participants, config),
        )


def _gathered(participants: Participants, config: PPOConfig) -> set[Extra]:
    """What the engine is to gather, so that the policy needs no pass of its own; nothing where it needs one anyway."""
    if config.scoring_pass == "always" or {"kl_full", "scores"} & _wants(config):
        return set()
    if participants.machine.precision != "fp32" or not participants.engine.capabilities.trainer_logprobs:
        return set()
    return {"entropy", "values"} if config.critic and config.critic.kind == "shared" else {"entropy"}


def _wants(config: PPOConfig) -> set[str]:
    """What the rewards, the losses and the metrics need of policy and critic."""
    wants = {"logprobs", "entropy"}
    wants |= {"values"} if config.critic else set()
    wants |= {"kl_full"} if _is_full(config) else set()
    return wants | ({"scores"} if config.trunk_reward and config.trunk_reward.on == "policy" else set())


def _is_full(config: PPOConfig) -> bool:
    return config.kl.estimator == "full" and config.kl.into == "reward"


def score(participants: Participants, rollout: Rollout, config: PPOConfig) -> ScoredRollout:
    """The judges' scores, and what policy, critic and reference say (N4.1). Judges that compute elsewhere do it while
    the models read; neither knows of the other, so the numbers are the same."""
    by_token = config.shaping.credit == "token"
    judge_groups = groups_with_ends(rollout, participants.language) if by_token else groups(rollout)
    scorer = participants.scorer

    def judge() -> Scores:
        return check_scores(scorer.name, scorer.score(judge_groups), len(rollout.rows), judge_groups)

    if judges_elsewhere(scorer):
        judging = _aside(os.getpid()).submit(judge)
        outputs = ask_models(participants, rollout, config)
        scores = judging.result()
    else:
        scores, outputs = judge(), ask_models(participants, rollout, config)
    if config.trunk_reward and outputs.trunk_scores is not None:
        scores = with_trunk(scores, outputs.trunk_scores, config.trunk_reward, config.model)
    return ScoredRollout(rollout=rollout, scores=scores, outputs=outputs)


@functools.lru_cache(maxsize=1)
def _aside(process: int) -> ThreadPoolExecutor:
    """One thread that lives as long as the process (a fork gets its own): a judge's worker that is started in it would
    end with it."""
    return ThreadPoolExecutor(1, thread_name_prefix=f"judges-{process}")


@torch.no_grad()
def ask_models(participants: Participants, rollout: Rollout, config: PPOConfig) -> ModelOutputs:
    """One pass of policy and critic, one of the reference, over the whole rollout, or less where that says the same.

    What the engine gathered stands for the policy's pass if it agrees on a few rows; the policy's log-probs stand for
    the reference's as long as the policy has not moved.
    """
    reference, temperature = participants.reference, config.sampling.temperature
    policy, gap = _ask_policy(participants, rollout, config)
    is_judge = config.trunk_reward and config.trunk_reward.on == "reference"
    if is_judge or not reference.is_policy(participants.actor.policy):
        wants = {"logprobs", "scores"} if is_judge else {"logprobs"}
        budget, machine = config.microbatch_tokens, participants.machine
        ref = in_microbatches(lambda batch: reference.look(batch, wants, temperature), rollout, budget, machine)
    else:
        ref = {"logprobs": policy["logprobs"].clone()}
    if _is_full(config):
        ref_kl = policy["kl_full"]
    else:
        # `full` in the loss alone: the rewards don't hold it, and the metrics need some estimate
        sampled = "k1" if config.kl.estimator == "full" else config.kl.estimator
        ref_kl = ESTIMATORS[sampled](kept_log_ratio(policy["logprobs"], ref["logprobs"], rollout.response_mask))
    by_row = {**ref, **policy}.get("scores")
    return ModelOutputs(
        old_logprobs=policy["logprobs"],
        entropy=policy["entropy"],
        ref_logprobs=ref["logprobs"],
        ref_kl=ref_kl,
        old_values=policy.get("values"),
        trunk_scores=None if by_row is None else by_row[:, 0],
        probe_gap=gap,
    )


def _ask_policy(
    participants: Participants, rollout: Rollout, config: PPOConfig
) -> tuple[dict[str, Float[Tensor, "B R"]], float]:
    """What policy and critic say, and by how much the engine's numbers were off where they were asked."""
    actor, reference, temperature = participants.actor, participants.reference, config.sampling.temperature

    def ask(wants: set[str], rows: Rollout) -> dict[str, Tensor]:
        def forward(batch: TokenBatch) -> dict[str, Tensor]:
            other = reference.distribution(batch) if "kl_full" in wants else None
            return actor(batch, wants, temperature, other)

        return in_microbatches(forward, rows, config.microbatch_tokens, participants.machine)

    gathered = {"logprobs": rollout.sampler_logprobs, "entropy": rollout.entropies, "values": rollout.values}
    engines = {name: numbers for name, numbers in gathered.items() if numbers is not None}
    missing = _wants(config) - set(engines)
    if rollout.entropies is None or not missing <= {"values"}:
        return ask(_wants(config), rollout), 0.0
    rows = list(range(0, len(rollout.rows), max(1, len(rollout.rows) // PROBED)))[:PROBED]
    trainers = ask(set(engines), rollout[rows])
    gaps = {name: float((trainers[name] - engines[name][rows]).abs().max()) for name in engines}
    sizes = {name: 1.0 if name == "logprobs" else float(trainers[name].abs().max()) for name in engines}
    limits = {name: AGREES * max(1.0, size) for name, size in sizes.items()}
    if not all(gap <= limits[name] for name, gap in gaps.items()):
        return ask(_wants(config), rollout), gaps["logprobs"]
    return engines | (ask({"values"}, rollout) if missing else {}), gaps["logprobs"]


def packed(
    rollout: Rollout | Experience, microbatch_tokens: int, machine: Machine
) -> Iterator[tuple[list[int], TokenBatch]]:
    """This rank's share in micro-batches: which rows, and their prompts and responses on the machine that computes. A
    prompt that several rows of a micro-batch answer runs once."""
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in machine.ranks.cuts(lengths, microbatch_tokens):
        together = by_prompt(cut, prompts)
        yield together, pack_shared(sharing((prompts[i], responses[i]) for i in together)).to(machine.device)


def in_microbatches(
    forward: Callable[[TokenBatch], dict[str, Tensor]], rollout: Rollout | Experience, tokens: int, machine: Machine
) -> dict[str, Tensor]:
    """A model's outputs on every row, [B R] on the CPU (one number per row: in column 0); each rank asks its share, all
    know the whole."""
    out: dict[str, Tensor] = {}
    for cut, batch in packed(rollout, tokens, machine):
        with machine.autocast():
            part = forward(batch)
        for name, values in part.items():
            values = values if values.ndim == 2 else values.unsqueeze(1)
            whole = out.setdefault(name, torch.zeros(rollout.response_mask.shape))
            whole[cut, : values.shape[1]] = values.float().cpu()
    return machine.ranks.gather_tensors(out)
