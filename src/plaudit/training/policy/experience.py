"""From prompts to what PPO updates on: sample, score, estimate (N4.1, N4.7); `shaping` stands between."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.advantages import decoupled_gae, moments, whiten
from plaudit.formulas.kl import kept_log_ratio
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.mismatch import MismatchStats, truncated_weights, trusted_responses, trusted_tokens
from plaudit.formulas.policy_losses import trust_region_losses
from plaudit.hardware.machine import Machine
from plaudit.records.tensors import Experience, Rollout
from plaudit.records.text import PromptRow
from plaudit.rollouts.sampler import groups, groups_with_ends, sample
from plaudit.tokens.batches import TokenBatch, pack, unpad
from plaudit.training import order
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.judged import Judged, Opinions
from plaudit.training.policy.objective import ESTIMATORS
from plaudit.training.policy.participants import Participants
from plaudit.training.policy.shaping import Shaped
from plaudit.training.policy.trunk_reward import with_trunk


def roll_out(setup: Participants, config: PPOConfig, iteration: int) -> Rollout:
    """Let the policy answer this iteration's prompts; the stream of prompts is endless and shuffled pass by pass."""
    n, g = config.prompts_per_iteration, config.samples_per_prompt
    chosen = order.endless(len(setup.prompts), iteration * n, n, config.seed)
    rows: list[PromptRow] = [setup.prompts[row] for row, _ in chosen for _ in range(g)]
    with setup.machine.autocast():
        return sample(
            setup.engine,
            setup.language,
            rows,
            config.sampling,
            sample_indices=[epoch * g + i for _, epoch in chosen for i in range(g)],
            seed=config.seed,
        )


def judge(setup: Participants, rollout: Rollout, config: PPOConfig) -> Judged:
    """Paragraph 2: the judges' scores, and what policy, critic and reference say (N4.1)."""
    by_token = config.shaping.credit == "token"
    scores = setup.scorer.score(groups_with_ends(rollout, setup.language) if by_token else groups(rollout))
    opinions = ask_models(setup, rollout, config)
    if config.trunk_reward:
        scores = with_trunk(scores, opinions.trunk_scores, config.trunk_reward, config.model)
    return Judged(rollout=rollout, scores=scores, opinions=opinions)


@torch.no_grad()
def ask_models(setup: Participants, rollout: Rollout, config: PPOConfig) -> Opinions:
    """One pass of policy and critic, one of the reference, over the whole rollout."""
    temperature, place = config.sampling.temperature, setup.machine
    is_full = config.kl.estimator == "full" and config.kl.place == "reward"
    judging = config.trunk_reward.on if config.trunk_reward else ""

    def own(batch: TokenBatch) -> dict[str, Tensor]:
        other = setup.reference.distribution(batch) if is_full else None
        want = {"logprobs", "values", "entropy", *(["kl_full"] if is_full else [])}
        return setup.actor(batch, want | _scores_of("policy", judging), temperature, other)

    def frozen(batch: TokenBatch) -> dict[str, Tensor]:
        return setup.reference.look(batch, {"logprobs"} | _scores_of("reference", judging), temperature)

    said = in_microbatches(own, rollout, config, place)
    reference = in_microbatches(frozen, rollout, config, place)
    ref_logprobs = reference["logprobs"]
    by_row = {**reference, **said}.get("scores", torch.zeros(len(rollout.rows), 1))
    # `full` in the loss alone: the rewards don't hold it, and the metrics need some estimate
    sampled = "k1" if config.kl.estimator == "full" else config.kl.estimator
    log_ratio = kept_log_ratio(said["logprobs"], ref_logprobs, rollout.response_mask)
    return Opinions(
        old_logprobs=said["logprobs"],
        old_values=said["values"],
        entropy=said["entropy"],
        ref_logprobs=ref_logprobs,
        ref_kl=said["kl_full"] if is_full else ESTIMATORS[sampled](log_ratio),
        trunk_scores=by_row[:, 0],
    )


def _scores_of(model: str, judging: str) -> set[str]:
    return {"scores"} if model == judging else set()


def drift(setup: Participants, experience: Experience, config: PPOConfig) -> float:
    """KL(π_old ‖ π_θ) in nats per token after the updates, which the trust region's adaptive β looks at (N4.5); where
    nothing does, 0 without a pass."""
    if config.trust is None or config.trust.kind != "adaptive":
        return 0.0

    @torch.no_grad()
    def now(batch: TokenBatch) -> dict[str, Tensor]:
        return setup.actor(batch, {"logprobs"}, config.sampling.temperature)

    (logprobs,) = in_microbatches(now, experience, config, setup.machine).values()
    mask = experience.response_mask
    return float(masked_mean(trust_region_losses(logprobs, experience.old_logprobs, mask), mask))


def in_microbatches(
    forward: Callable[[TokenBatch], dict[str, Tensor]],
    rollout: Rollout | Experience,
    config: PPOConfig,
    place: Machine,
) -> dict[str, Tensor]:
    """What a model says of every row, [B R] on the CPU (one number a row: in column 0); each rank asks its share, all
    know the whole."""
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    out: dict[str, Tensor] = {}
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in place.ranks.cuts(lengths, config.microbatch_tokens):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        with place.autocast():
            part = forward(batch)
        for name, values in part.items():
            values = values if values.ndim == 2 else values.unsqueeze(1)
            whole = out.setdefault(name, torch.zeros(rollout.response_mask.shape))
            whole[cut, : values.shape[1]] = values.float().cpu()
    return place.ranks.gather_tensors(out)


def estimate(judged: Judged, shaped: Shaped, config: PPOConfig) -> Experience:
    """Paragraph 4: advantages and returns by GAE, whitened (N4.7); and which tokens the losses may use (N4.3)."""
    rollout, opinions, mask = judged.rollout, judged.opinions, shaped.mask
    lambda_ = config.gae_lambda if config.critic_gae_lambda is None else config.critic_gae_lambda
    advantages, returns = decoupled_gae(
        shaped.rewards,
        opinions.old_values,
        mask,
        gamma=config.gamma,
        policy_lambda=config.gae_lambda,
        critic_lambda=lambda_,
    )
    if config.whitening and config.whitening.over == "iteration":
        advantages = whiten(advantages, mask, moments(advantages, mask), std_floor=config.whitening.std_floor)
    agreed = agreement(judged, mask, config)
    return Experience(
        prompt_ids=rollout.prompt_ids,
        prompt_mask=rollout.prompt_mask,
        response_ids=rollout.response_ids,
        response_mask=mask,
        loss_mask=agreed.loss_mask,
        importance=agreed.importance,
        old_logprobs=opinions.old_logprobs,
        ref_logprobs=opinions.ref_logprobs,
        old_values=opinions.old_values,
        scores=torch.where(judged.scores.valid, judged.scores.scores, 0.0),
        rewards=shaped.rewards,
        advantages=advantages,
        returns=returns,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How sampler and trainer agree on the probabilities of the tokens, and what follows for the losses."""

    loss_mask: Bool[Tensor, "B R"]
    importance: Float[Tensor, "B R"]
    stats: MismatchStats


def agreement(judged: Judged, mask: Bool[Tensor, "B R"], config: PPOConfig) -> Agreement:
    """Measured always, corrected as the options say; rewards and advantages are made of all kept tokens (N4.3)."""
    told = (judged.opinions.old_logprobs, judged.rollout.sampler_logprobs, mask)
    rule, ones = config.sampler_mismatch, mask.float()
    if rule is None:
        _, stats = truncated_weights(*told, cap=math.inf)
        return Agreement(loss_mask=mask, importance=ones, stats=stats)
    if rule.kind == "truncate":
        weights, stats = truncated_weights(*told, cap=rule.cap)
        return Agreement(loss_mask=mask, importance=weights, stats=stats)
    trusted = trusted_tokens if rule.by == "token" else trusted_responses
    kept, stats = trusted(*told, low=rule.low, high=rule.high)
    return Agreement(loss_mask=kept, importance=ones, stats=stats)
