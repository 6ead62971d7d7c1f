"""Where a run is, and all that changes on its way beside weights and moments: what a checkpoint must hold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.schedules import adapted_kl_coef, adapted_trust_kl_coef
from plaudit.formulas.statistics import RunningMoments
from plaudit.records.tensors import Experience
from plaudit.training.optim import Skipped
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.update import Position, UpdateStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Between two iterations: the next one's number and the coefficients that it starts with."""

    iteration: int = 0
    coefficients: Coefficients
    """As the controllers left them."""
    scores_seen: RunningMoments = field(default_factory=RunningMoments)
    """What normalising knows of the judge's scores."""
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def start(cls, config: PPOConfig) -> "Cursor":
        return cls(coefficients=Coefficients.start(config))

    def counting(self, update: UpdateStats, config: PPOConfig, step: int) -> "Cursor":
        """After an update. Raises: UserError where too many in a row could not be taken."""
        if update.outcome in ("ratio_too_large", "left_trust_region"):
            return self
        total = config.iterations * config.steps_per_iteration
        taken = update.outcome == "taken"
        skipped = self.skipped.after(taken, config.optim, grad_norm=update.grad_norm, step=step, total_steps=total)
        return replace(self, skipped=skipped)

    def next(self, config: PPOConfig, kl: tuple[float, int], kl_old: float) -> "Cursor":
        """After an iteration. The controllers look at what it measured: `kl`, KL(π_old ‖ π_ref) in nats per response
        and of how many responses, and `kl_old`, KL(π_old ‖ π_θ) in nats per token after the updates. They rest while
        the critic warms up: the policy did not move."""
        now = self.coefficients
        if self.iteration >= config.critic_warmup and config.kl.kind == "adaptive":
            target, horizon = config.kl.target, config.kl.horizon
            beta = adapted_kl_coef(now.kl, kl[0], target_kl=target, horizon=horizon, num_episodes=kl[1])
            now = replace(now, kl=beta)
        if self.iteration >= config.critic_warmup and config.trust and config.trust.kind == "adaptive":
            now = replace(now, trust=adapted_trust_kl_coef(now.trust, kl_old, target_kl=config.trust.target))
        return replace(self, iteration=self.iteration + 1, coefficients=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An iteration under way. Its experience came from a policy that the updates have left behind."""

    experience: Experience
    metrics: Mapping[str, float]
    """What was measured before the first update."""
    updates: tuple[UpdateStats, ...] = ()

    def plus(self, update: UpdateStats) -> "Pending":
        return replace(self, updates=(*self.updates, update))

    def is_done(self, config: PPOConfig) -> bool:
        """All minibatches seen, or the last one found the policy too far from the one that sampled."""
        if len(self.updates) == config.steps_per_iteration:
            return True
        return bool(self.updates) and self.updates[-1].outcome == "left_trust_region"


def step_of(cursor: Cursor, pending: Pending | None, config: PPOConfig) -> int:
    """The optimiser step's number. An iteration that ended early leaves its other numbers out: the schedule, the text
    stream and the checkpoints' names go by (iteration, update), not by what was taken."""
    return cursor.iteration * config.steps_per_iteration + (len(pending.updates) if pending else 0)


def position_of(cursor: Cursor, pending: Pending, config: PPOConfig) -> Position:
    """The next update's."""
    return Position(
        iteration=cursor.iteration,
        update=len(pending.updates),
        step=step_of(cursor, pending, config),
        total_steps=config.iterations * config.steps_per_iteration,
        coefficients=cursor.coefficients,
    )


def is_save_due(cursor: Cursor, config: PPOConfig) -> bool:
    """Between two iterations: did the last one pass a multiple of `save_every`, or was it the last?"""
    passed = step_of(cursor, None, config) % config.save_every < config.steps_per_iteration
    return passed or cursor.iteration == config.iterations


def to_state(cursor: Cursor, pending: Pending | None, config: PPOConfig) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """For `state.save`: JSON and tensors."""
    facts: dict[str, Any] = {"cursor": asdict(cursor), "steps_per_iteration": config.steps_per_iteration}
    if pending is None:
        return facts, {}
    facts["pending"] = {"metrics": dict(pending.metrics), "updates": [asdict(u) for u in pending.updates]}
    return facts, {f.name: getattr(pending.experience, f.name) for f in fields(Experience)}


def from_state(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], config: PPOConfig
) -> tuple[Cursor, Pending | None]:
    """The inverse; a new run begins at the start.

    Raises: UserError where epochs or minibatches changed: the step would point into another iteration.
    """
    if not facts:
        return Cursor.start(config), None
    before = facts["steps_per_iteration"]
    if before != config.steps_per_iteration:
        raise UserError(
            f"a resumed PPO run keeps epochs × minibatches = {before}, not {config.steps_per_iteration}: "
            "extend it by --iterations"
        )
    told = dict(facts["cursor"])
    start, moved = Coefficients.start(config), Coefficients(**told["coefficients"])
    cursor = Cursor(
        iteration=told["iteration"],
        # A fixed one is the config's, which `--change` may have changed.
        coefficients=Coefficients(
            kl=moved.kl if config.kl.kind == "adaptive" else start.kl,
            trust=moved.trust if config.trust and config.trust.kind == "adaptive" else start.trust,
        ),
        scores_seen=RunningMoments(**told["scores_seen"]),
        skipped=Skipped(**told["skipped"]),
    )
    if not tensors:
        return cursor, None
    waiting: Sequence[Mapping[str, Any]] = facts["pending"]["updates"]
    return cursor, Pending(
        experience=Experience(**tensors),
        metrics=facts["pending"]["metrics"],
        updates=tuple(UpdateStats(**update) for update in waiting),
    )
