"""Where a run is, and all that changes on its way beside weights and moments: what a checkpoint must hold."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.schedules import adapted_kl_coef, adapted_trust_kl_coef
from plaudit.formulas.statistics import RunningMoments
from plaudit.records.statistics import Statistics, add, from_plain, to_plain
from plaudit.records.tensors import Experience
from plaudit.training.optim import Skipped
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.held_out import Watch
from plaudit.training.policy.objective import Coefficients


class Outcome(Enum):
    """What became of a minibatch."""

    TAKEN = "taken"
    NOT_FINITE = "not_finite"
    RATIO_TOO_LARGE = "ratio_too_large"
    LEFT_TRUST_REGION = "left_trust_region"
    """It and the iteration's other updates are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one minibatch showed before its optimiser step, and what became of it."""

    outcome: Outcome
    statistics: Statistics
    """Over its tokens, taken or not; of what was taken `updates` and `grad_norm` too."""
    not_finite: str = ""
    """What was NaN or infinite."""
    learning_rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The next update's place, and what controllers and counters have come to."""

    iteration: int = 0
    update: int = 0
    """Of the iteration, counted over its epochs."""
    coefficients: Coefficients
    scores_seen: RunningMoments = field(default_factory=RunningMoments)
    """What normalising knows of the judge's scores."""
    skipped: Skipped = field(default_factory=Skipped)
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def start(cls, config: PPOConfig) -> "Cursor":
        return cls(coefficients=Coefficients.start(config))

    def step(self, config: PPOConfig) -> int:
        """The optimiser step's number. An iteration that ended early leaves its other numbers out: the schedule, the
        text stream and the checkpoints' names go by (iteration, update), not by what was taken."""
        return self.iteration * config.steps_per_iteration + self.update

    def after(self, update: Update, config: PPOConfig) -> "Cursor":
        """Raises: UserError where too many in a row were not finite."""
        skipped = self.skipped
        if update.outcome in (Outcome.TAKEN, Outcome.NOT_FINITE):
            at = {"step": self.step(config), "total_steps": config.total_steps}
            skipped = skipped.after(update.not_finite, config.optim, **at)
        return replace(self, update=self.update + 1, skipped=skipped)

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
        return replace(self, iteration=self.iteration + 1, update=0, coefficients=now)

    def is_save_due(self, config: PPOConfig) -> bool:
        """Between two iterations: did the last one pass a multiple of `save_every`, or was it the last?"""
        passed = self.step(config) % config.save_every < config.steps_per_iteration
        return passed or self.iteration == config.iterations


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An iteration under way. Its experience came from a policy that the updates have left behind."""

    experience: Experience
    metrics: Mapping[str, float]
    statistics: Statistics = field(default_factory=dict)
    outcome: Outcome = Outcome.TAKEN
    learning_rate: float = 0.0

    def after(self, update: Update) -> "Pending":
        return replace(
            self,
            statistics=add(self.statistics, update.statistics),
            outcome=update.outcome,
            learning_rate=update.learning_rate if update.outcome is Outcome.TAKEN else self.learning_rate,
        )

    def is_done(self, cursor: Cursor, config: PPOConfig) -> bool:
        """All minibatches seen, or the last one found the policy too far from the one that sampled."""
        return cursor.update == config.steps_per_iteration or self.outcome is Outcome.LEFT_TRUST_REGION


def to_state(cursor: Cursor, pending: Pending | None, config: PPOConfig) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """For `state.save`: JSON and tensors."""
    facts: dict[str, Any] = {"cursor": asdict(cursor), "steps_per_iteration": config.steps_per_iteration}
    if pending is None:
        return facts, {}
    plain = {"statistics": to_plain(pending.statistics), "outcome": pending.outcome.value}
    facts["pending"] = plain | {"metrics": dict(pending.metrics), "learning_rate": pending.learning_rate}
    return facts, pending.experience.tensors()


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
    saved = facts["cursor"]
    start, moved = Coefficients.start(config), Coefficients(**saved["coefficients"])
    cursor = Cursor(
        iteration=saved["iteration"],
        update=saved["update"],
        # A fixed one is the config's, which `--change` may have changed.
        coefficients=Coefficients(
            kl=moved.kl if config.kl.kind == "adaptive" else start.kl,
            trust=moved.trust if config.trust and config.trust.kind == "adaptive" else start.trust,
        ),
        scores_seen=RunningMoments(**saved["scores_seen"]),
        skipped=Skipped(**saved["skipped"]),
        watch=Watch(**saved.get("watch", {})),
    )
    if not tensors:
        return cursor, None
    plain = dict(facts["pending"])
    statistics, outcome = from_plain(plain.pop("statistics")), Outcome(plain.pop("outcome"))
    return cursor, Pending(experience=Experience(**tensors), statistics=statistics, outcome=outcome, **plain)
