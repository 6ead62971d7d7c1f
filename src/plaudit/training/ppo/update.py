"""One optimiser step of PPO: a minibatch's gradient in micro-batches, brakes, text beside it, AdamW (N4.10, N4.11)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from plaudit.engines.device import Machine
from plaudit.engines.randomness import permutation
from plaudit.formulas.advantages import moments, whiten
from plaudit.formulas.policy_losses import PolicyStats, clipped_policy_loss
from plaudit.formulas.shapes import exact_div
from plaudit.formulas.value_losses import ValueStats, clipped_value_loss
from plaudit.models.policy import ActorCritic
from plaudit.records.tensors import Experience
from plaudit.runs.folder import Run
from plaudit.tokens.batches import pack, unpad
from plaudit.training import optim, order, state
from plaudit.training.ppo import ptx
from plaudit.training.ppo.config import Brakes, PPOConfig
from plaudit.training.ppo.setup import Setup

Outcome = Literal["taken", "not_finite", "ratio_too_large", "left_trust_region"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one minibatch showed before its optimiser step, and what became of it; sums over kept tokens add up."""

    outcome: Outcome
    num_tokens: float
    policy_loss_sum: float
    clipped_tokens: float
    approx_kl_old_sum: float
    ratio_max: float
    value_loss_sum: float
    value_clipped_tokens: float
    ptx_tokens: int
    """0 where no text is learned."""
    ptx_loss_sum: float
    """Nats."""
    grad_norm: float
    """Before clipping; 0 where no step was tried."""
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a run an update stands."""

    iteration: int
    update: int
    """Of the iteration, counted over its epochs."""
    step: int
    """Of the run."""
    total_steps: int


def ppo_step(setup: Setup, experience: Experience, config: PPOConfig, at: Place, run: Run) -> UpdateStats:
    """One optimiser step on the minibatch that stands `at` this place; none where a brake holds or a number is none.

    In the critic's warm-up only what is the critic's alone may move.
    """
    rows = minibatch_rows(len(experience.scores), config, at.iteration, at.update)
    policy, value = backward(setup.actor, experience, rows, config, setup.place)
    outcome = _braked(policy, config.brakes)
    text, taken = ptx.TextLoss(), optim.StepStats(grad_norm=0.0, learning_rate=0.0, taken=False)
    if outcome != "taken":
        setup.optimizer.zero_grad(set_to_none=True)
    else:
        if at.iteration < config.critic_warmup:
            for parameter in setup.actor.policy_parameters():
                parameter.grad = None
        elif setup.text.rows:
            text = ptx.backward(
                setup.actor.policy, setup.text.at(at.step), setup.text.coef, config.microbatch_tokens, setup.place
            )
        loss = float(policy.loss_sum + value.loss_sum) + text.loss_sum
        ranks = setup.place.ranks
        taken = optim.step(
            setup.optimizer, config.optim, step=at.step, total_steps=at.total_steps, loss=loss, ranks=ranks
        )
        if not taken.taken:
            outcome = "not_finite"
            _keep_batch(run, experience, rows, at)
    return UpdateStats(
        outcome=outcome,
        num_tokens=float(policy.num_tokens),
        policy_loss_sum=float(policy.loss_sum),
        clipped_tokens=float(policy.clipped_tokens),
        approx_kl_old_sum=float(policy.approx_kl_old_sum),
        ratio_max=float(policy.ratio_max),
        value_loss_sum=float(value.loss_sum),
        value_clipped_tokens=float(value.clipped_tokens),
        ptx_tokens=text.num_tokens,
        ptx_loss_sum=text.loss_sum,
        grad_norm=taken.grad_norm,
        learning_rate=taken.learning_rate,
    )


def minibatch_rows(num_rows: int, config: PPOConfig, iteration: int, update: int) -> list[int]:
    """Rows of update number `update` of this iteration; reshuffled every epoch, so that rows change company."""
    epoch, index = divmod(update, config.minibatches)
    rows = permutation(num_rows, config.seed, "minibatches", iteration, epoch)
    return order.minibatch(rows, exact_div(len(rows), config.minibatches), index)


def _keep_batch(run: Run, experience: Experience, rows: Sequence[int], at: Place) -> None:
    tensors = {f.name: getattr(experience, f.name)[rows] for f in fields(Experience)}
    state.keep_batch(run, at.step, tensors, {**asdict(at), "rows": list(rows)})


def _braked(policy: PolicyStats, brakes: Brakes) -> Outcome:
    if brakes.max_approx_kl and policy.approx_kl_old > brakes.max_approx_kl:
        return "left_trust_region"
    return "taken"


def backward(
    actor: ActorCritic, experience: Experience, rows: Sequence[int], config: PPOConfig, place: Machine
) -> tuple[PolicyStats, ValueStats]:
    """Accumulate this rank's part of the minibatch's gradient of L_CLIP + c1 L_V (N4.10, signs as losses).

    Both are sums over kept tokens ÷ the whole minibatch's count, so neither micro-batches nor ranks can change them:
    `optim.step` adds the parts up. The statistics are the whole minibatch's.
    """
    prompts = unpad(experience.prompt_ids[rows], experience.prompt_mask[rows])
    responses = unpad(experience.response_ids[rows], experience.response_mask[rows])
    rows = [row for row, response in zip(rows, responses, strict=True) if response]
    prompts = [p for p, r in zip(prompts, responses, strict=True) if r]
    responses = [r for r in responses if r]
    num_tokens = sum(map(len, responses))
    advantages = _advantages(experience, rows, config)
    policy_stats, value_stats = PolicyStats.zero(place.device), ValueStats.zero(place.device)
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in place.ranks.cuts(lengths, config.microbatch_tokens):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        chosen, width = [rows[i] for i in cut], batch.response_mask.shape[1]

        def part(x: Tensor, chosen: list[int] = chosen, width: int = width) -> Tensor:
            return x[chosen, :width].to(place.device)

        with place.autocast():
            out = actor(batch, {"logprobs", "values"}, config.sampling.temperature)
        policy_loss, policy = clipped_policy_loss(
            out["logprobs"],
            part(experience.old_logprobs),
            part(advantages),
            batch.response_mask,
            clip_range=config.objective.clip_range,
            num_tokens=num_tokens,
        )
        value_loss, value = clipped_value_loss(
            out["values"],
            part(experience.old_values),
            part(experience.returns),
            batch.response_mask,
            value_clip_range=config.value_clip_range,
            num_tokens=num_tokens,
        )
        (policy_loss + config.value_coef * value_loss).backward()
        policy_stats, value_stats = policy_stats + policy, value_stats + value
    return place.ranks.add(policy_stats), place.ranks.add(value_stats)


def _advantages(experience: Experience, rows: Sequence[int], config: PPOConfig) -> Tensor:
    """[B R], whitened over the minibatch's own rows where the options say so (N4.7)."""
    if config.whitening is None or config.whitening.over != "minibatch":
        return experience.advantages
    mask = torch.zeros_like(experience.response_mask)
    mask[rows] = experience.response_mask[rows]
    whole = moments(experience.advantages, mask)
    return whiten(experience.advantages, mask, whole, std_floor=config.whitening.std_floor)
