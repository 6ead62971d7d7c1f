"""Paragraphs 1 and 2: the policy writes, then judges, policy, critic and reference say what they think (N4.1)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.kl import kept_log_ratio
from plaudit.hardware.machine import Machine
from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.rollouts.sampler import groups, groups_with_ends, sample
from plaudit.scoring.protocol import check_scores
from plaudit.tokens.batches import TokenBatch, by_prompt, pack_shared, sharing, unpad
from plaudit.training import order
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import ESTIMATORS
from plaudit.training.policy.participants import Participants, with_trunk


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
        )


def score(participants: Participants, rollout: Rollout, config: PPOConfig) -> ScoredRollout:
    """The judges' scores, and what policy, critic and reference say (N4.1)."""
    by_token = config.shaping.credit == "token"
    judge_groups = groups_with_ends(rollout, participants.language) if by_token else groups(rollout)
    scorer = participants.scorer
    scores = check_scores(scorer.name, scorer.score(judge_groups), len(rollout.rows), judge_groups)
    outputs = ask_models(participants, rollout, config)
    if config.trunk_reward and outputs.trunk_scores is not None:
        scores = with_trunk(scores, outputs.trunk_scores, config.trunk_reward, config.model)
    return ScoredRollout(rollout=rollout, scores=scores, outputs=outputs)


@torch.no_grad()
def ask_models(participants: Participants, rollout: Rollout, config: PPOConfig) -> ModelOutputs:
    """One pass of policy and critic, one of the reference, over the whole rollout."""
    actor, reference, temperature = participants.actor, participants.reference, config.sampling.temperature
    is_full = config.kl.estimator == "full" and config.kl.into == "reward"
    judge = config.trunk_reward.on if config.trunk_reward else None
    own_wants = {"logprobs", "entropy"}
    own_wants |= {"values"} if config.critic else set()
    own_wants |= {"kl_full"} if is_full else set()
    own_wants |= {"scores"} if judge == "policy" else set()
    ref_wants = {"logprobs", "scores"} if judge == "reference" else {"logprobs"}

    def own(batch: TokenBatch) -> dict[str, Tensor]:
        return actor(batch, own_wants, temperature, reference.distribution(batch) if is_full else None)

    budget, machine = config.microbatch_tokens, participants.machine
    policy = in_microbatches(own, rollout, budget, machine)
    ref = in_microbatches(lambda batch: reference.look(batch, ref_wants, temperature), rollout, budget, machine)
    if is_full:
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
    )


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
