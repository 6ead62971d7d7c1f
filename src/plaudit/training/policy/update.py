"""Paragraph 5: one optimiser step: a minibatch in micro-batches, brakes, text beside it, AdamW (N4.10, N4.11)."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from plaudit.formulas.advantages import moments, whiten
from plaudit.formulas.masks import masked_mean
from plaudit.formulas.policy_losses import trust_region_losses
from plaudit.hardware.randomness import permutation
from plaudit.records.statistics import Statistics, Sum, add, number, ratio
from plaudit.records.tensors import Experience
from plaudit.runs.folder import Run
from plaudit.tokens.batches import TokenBatch
from plaudit.training import optim, order, state
from plaudit.training.policy import ptx
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.cursor import Cursor, Outcome, Update
from plaudit.training.policy.objective import Coefficients, loss_of, loss_weights, wanted
from plaudit.training.policy.options import Brakes
from plaudit.training.policy.participants import Participants
from plaudit.training.policy.scored import in_microbatches, packed


def ppo_step(participants: Participants, experience: Experience, config: PPOConfig, cursor: Cursor, run: Run) -> Update:
    """One optimiser step on the minibatch at which the cursor stands; none where a brake holds or a number is not
    finite. In the critic's warm-up only what is the critic's alone may move."""
    rows = minibatch_rows(len(experience), config, cursor.iteration, cursor.update)
    statistics = backward(participants, experience[rows], config, cursor.coefficients)
    if (outcome := _braked(statistics, config.brakes)) is not Outcome.TAKEN:
        participants.optimizer.zero_grad(set_to_none=True)
        return Update(outcome=outcome, statistics=statistics)
    if cursor.iteration < config.critic_warmup:
        for parameter in participants.actor.policy_parameters():
            parameter.grad = None
    elif participants.text.rows:
        rows_of_text = participants.text.at(cursor.step(config))
        policy, machine = participants.actor.policy, participants.machine
        text = ptx.backward(policy, rows_of_text, participants.text.coef, config.microbatch_tokens, machine)
        statistics = add(statistics, text)
    step = optim.step(
        participants.optimizer,
        config.optim,
        step=cursor.step(config),
        total_steps=config.total_steps,
        loss=number(statistics, "loss") + number(statistics, "ptx_loss"),
        ranks=participants.machine.ranks,
        named=participants.actor.named_parameters(),
    )
    if step.not_finite:
        not_finite = step.not_finite + _culprit(statistics, experience, rows)
        at = {"iteration": cursor.iteration, "update": cursor.update, "rows": rows}
        state.keep_batch(run, cursor.step(config), experience[rows].tensors(), at, not_finite)
        return Update(outcome=Outcome.NOT_FINITE, statistics=statistics, not_finite=not_finite)
    statistics = add(statistics, {"updates": Sum(1.0), "grad_norm": Sum(step.grad_norm)})
    return Update(outcome=Outcome.TAKEN, statistics=statistics, learning_rate=step.learning_rate)


def _culprit(statistics: Statistics, experience: Experience, rows: Sequence[int]) -> str:
    """The terms of the loss that are no finite numbers, and the first row of the iteration whose tensors held one."""
    values = {name: number(statistics, name) for name in ("policy_loss", "value_loss", "kl_loss", "ptx_loss")}
    parts = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
    for row in rows:
        by_token = {name: t for name, t in experience.tensors().items() if t.shape == experience.rewards.shape}
        masked = {name: tensor[row][experience.response_mask[row]] for name, tensor in by_token.items()}
        if broken := [name for name, numbers in masked.items() if not bool(numbers.isfinite().all())]:
            parts.append(f"{', '.join(broken)} of row {row}")
            break
    return f" ({'; '.join(parts)})" if parts else ""


def minibatch_rows(num_rows: int, config: PPOConfig, iteration: int, update: int) -> list[int]:
    """Rows of update number `update` of this iteration; reshuffled every epoch, so that rows change company."""
    epoch, index = divmod(update, config.minibatches)
    rows = permutation(num_rows, config.seed, "minibatches", iteration, epoch)
    return order.minibatch(rows, len(rows) // config.minibatches, index)


def _braked(statistics: Statistics, brakes: Brakes) -> Outcome:
    if brakes.max_approx_kl and ratio(statistics, "approx_kl_old", "tokens") > brakes.max_approx_kl:
        return Outcome.LEFT_TRUST_REGION
    if brakes.max_mean_ratio and ratio(statistics, "ratio", "tokens") > brakes.max_mean_ratio:
        return Outcome.RATIO_TOO_LARGE
    return Outcome.TAKEN


def backward(
    participants: Participants, minibatch: Experience, config: PPOConfig, coefficients: Coefficients
) -> Statistics:
    """Accumulate this rank's part of the minibatch's gradient (`objective.loss_of`).

    Every term is a sum over kept tokens, each weighed by the whole minibatch's counts, so neither micro-batches nor
    ranks can change them: `optim.step` adds the parts up. The statistics are the whole minibatch's.
    """
    actor, reference, machine = participants.actor, participants.reference, participants.machine
    minibatch = _whitened(minibatch, config)
    minibatch = minibatch[minibatch.loss_mask.any(1).nonzero().flatten().tolist()]
    weights = loss_weights(minibatch.loss_mask, config)
    want, temperature = wanted(config, coefficients), config.sampling.temperature
    statistics: Statistics = {}
    for cut, batch in packed(minibatch, config.microbatch_tokens, machine):
        rows = minibatch[cut].to(machine.device)
        with machine.autocast():
            other = reference.distribution(batch) if "kl_full" in want else None
            out = actor(batch, want, temperature, other)
        counts = weights[cut, : batch.response_mask.shape[1]].to(machine.device)
        loss, part = loss_of(out, rows, counts, config, coefficients)
        loss.backward()
        statistics = add(statistics, part)
    return machine.ranks.add(statistics)


def _whitened(minibatch: Experience, config: PPOConfig) -> Experience:
    """Advantages with mean 0 and deviation 1 over the minibatch's own tokens, where the options say so (N4.7); those
    that the losses leave out count too."""
    whitening, advantages, mask = config.advantage.whitening, minibatch.advantages, minibatch.response_mask
    if whitening is None or whitening.over != "minibatch":
        return minibatch
    white = whiten(advantages, mask, moments(advantages, mask), std_floor=whitening.std_floor)
    return replace(minibatch, advantages=white)


def drift(participants: Participants, experience: Experience, config: PPOConfig) -> float:
    """KL(π_old ‖ π_θ) in nats per token after the updates, which the trust region's adaptive β looks at (N4.5); where
    nothing does, 0 without a pass."""
    if config.trust is None or config.trust.kind != "adaptive":
        return 0.0

    @torch.no_grad()
    def now(batch: TokenBatch) -> dict[str, Tensor]:
        return participants.actor(batch, {"logprobs"}, config.sampling.temperature)

    outputs = in_microbatches(now, experience, config.microbatch_tokens, participants.machine)
    mask = experience.response_mask
    return float(masked_mean(trust_region_losses(outputs["logprobs"], experience.old_logprobs, mask), mask))
