"""One optimiser step of PPO: a minibatch's gradient in micro-batches, brakes, text beside it, AdamW (N4.10, N4.11)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from plaudit.formulas.advantages import moments, whiten
from plaudit.formulas.policy_losses import PolicyStats
from plaudit.formulas.shapes import exact_div
from plaudit.formulas.value_losses import ValueStats
from plaudit.hardware.machine import Machine
from plaudit.hardware.randomness import permutation
from plaudit.models.policy import ActorCritic
from plaudit.models.reference import Reference
from plaudit.records.tensors import Experience
from plaudit.runs.folder import Run
from plaudit.tokens.batches import pack, unpad
from plaudit.training import optim, order, state
from plaudit.training.policy import ptx
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import Coefficients, Counts, Targets, TermStats, loss_of, wanted
from plaudit.training.policy.options import Brakes
from plaudit.training.policy.participants import Participants

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
    kl_ref_sum: float
    """Of the KL to the reference in the loss; 0 where it stands in the reward."""
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
class Position:
    """Where in a run an update stands."""

    iteration: int
    update: int
    """Of the iteration, counted over its epochs."""
    step: int
    """Of the run."""
    total_steps: int
    coefficients: Coefficients


def ppo_step(setup: Participants, experience: Experience, config: PPOConfig, at: Position, run: Run) -> UpdateStats:
    """One optimiser step on the minibatch that stands `at` this position; none where a brake holds or a number is none.

    In the critic's warm-up only what is the critic's alone may move.
    """
    rows = minibatch_rows(len(experience.scores), config, at.iteration, at.update)
    policy, value, terms = backward(
        setup.actor, setup.reference, experience, rows, config, at.coefficients, setup.machine
    )
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
                setup.actor.policy, setup.text.at(at.step), setup.text.coef, config.microbatch_tokens, setup.machine
            )
        loss, ranks = float(terms.loss) + text.loss_sum, setup.machine.ranks
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
        kl_ref_sum=float(terms.kl_ref_sum),
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


def _keep_batch(run: Run, experience: Experience, rows: Sequence[int], at: Position) -> None:
    tensors = {f.name: getattr(experience, f.name)[rows] for f in fields(Experience)}
    state.keep_batch(run, at.step, tensors, {**asdict(at), "rows": list(rows)})


def _braked(policy: PolicyStats, brakes: Brakes) -> Outcome:
    if brakes.max_approx_kl and policy.approx_kl_old > brakes.max_approx_kl:
        return "left_trust_region"
    if brakes.max_mean_ratio and policy.ratio_mean > brakes.max_mean_ratio:
        return "ratio_too_large"
    return "taken"


def backward(
    actor: ActorCritic,
    reference: Reference,
    experience: Experience,
    rows: Sequence[int],
    config: PPOConfig,
    coefficients: Coefficients,
    place: Machine,
) -> tuple[PolicyStats, ValueStats, TermStats]:
    """Accumulate this rank's part of the minibatch's gradient (`objective.loss_of`).

    Every term is a sum over kept tokens, each weighed by the whole minibatch's counts, so neither micro-batches nor
    ranks can change them: `optim.step` adds the parts up. The statistics are the whole minibatch's.
    """
    advantages = _advantages(experience, rows, config)
    rows = [row for row in rows if bool(experience.loss_mask[row].any())]
    prompts = unpad(experience.prompt_ids[rows], experience.prompt_mask[rows])
    responses = unpad(experience.response_ids[rows], experience.response_mask[rows])
    counts = Counts(tokens=int(experience.loss_mask[rows].sum()), responses=len(rows))
    want, temperature = wanted(config, coefficients), config.sampling.temperature
    nothing = torch.zeros((), dtype=torch.float64, device=place.device)
    policy, value = PolicyStats.zero(place.device), ValueStats.zero(place.device)
    terms = TermStats(loss=nothing, kl_ref_sum=nothing)
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in place.ranks.cuts(lengths, config.microbatch_tokens):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        targets = _targets(experience, advantages, [rows[i] for i in cut], batch.response_mask.shape[1], place)
        with place.autocast():
            other = reference.distribution(batch) if "kl_full" in want else None
            out = actor(batch, want, temperature, other)
        loss, *stats = loss_of(out, targets, config, coefficients, counts)
        loss.backward()
        policy, value, terms = policy + stats[0], value + stats[1], terms + stats[2]
    return place.ranks.add(policy), place.ranks.add(value), place.ranks.add(terms)


def _targets(experience: Experience, advantages: Tensor, rows: Sequence[int], width: int, place: Machine) -> Targets:
    def part(x: Tensor) -> Tensor:
        return x[rows, :width].to(place.device)

    return Targets(
        mask=part(experience.loss_mask),
        old_logprobs=part(experience.old_logprobs),
        ref_logprobs=part(experience.ref_logprobs),
        old_values=part(experience.old_values),
        advantages=part(advantages),
        returns=part(experience.returns),
        importance=part(experience.importance),
    )


def _advantages(experience: Experience, rows: Sequence[int], config: PPOConfig) -> Tensor:
    """[B R], whitened over the minibatch's own rows where the options say so (N4.7). Every rank knows all rows."""
    if config.whitening is None or config.whitening.over != "minibatch":
        return experience.advantages
    mask = torch.zeros_like(experience.response_mask)
    mask[rows] = experience.response_mask[rows]
    whole = moments(experience.advantages, mask)
    return whiten(experience.advantages, mask, whole, std_floor=config.whitening.std_floor)
