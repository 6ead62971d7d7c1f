"""The frame of gradient steps on minibatches, epoch after epoch, that fine-tuning and reward models share.

One step: the epoch's order → a minibatch → `backward` → the optimiser, which takes no step on NaN or infinity →
held-out rows now and then → a line of metrics → a checkpoint now and then. A stopped run goes on exactly: the order is
a function of seed and step, all else that a step depends on stands in the checkpoint.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

from plaudit.hardware.machine import Machine
from plaudit.hardware.profile import part
from plaudit.runs.folder import Run
from plaudit.telemetry.progress import Stopwatch
from plaudit.training import optim, order, state
from plaudit.training.options import DescentConfig

Example = TypeVar("Example")
Example_co = TypeVar("Example_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture(Generic[Example]):
    """Training examples of several sources laid end to end, and how often an epoch sees those of each (N1.1)."""

    examples: tuple[Example, ...]
    sizes: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, sources: Sequence[Sequence[Example]], weights: Sequence[float]) -> "Mixture[Example]":
        """`weights`: one a source; empty: all alike."""
        return cls(
            examples=tuple(example for source in sources for example in source),
            sizes=tuple(len(source) for source in sources),
            weights=tuple(weights) or (1.0,) * len(sources),
        )

    @property
    def count(self) -> int:
        return len(self.examples)

    def steps(self, config: DescentConfig) -> int:
        """Optimiser steps of a whole run. UserError where the weights leave no row."""
        return config.epochs * order.steps_per_epoch(self.sizes, self.weights, config.minibatch_size)

    def minibatch(self, config: DescentConfig, epoch: int, index: int) -> list[Example]:
        """The examples of the epoch's step `index`."""
        rows = order.of_epoch(self.sizes, self.weights, config.seed, epoch)
        return [self.examples[i] for i in order.minibatch(rows, config.minibatch_size, index)]


class Minibatches(Protocol[Example_co]):
    """What a descent asks of what it learns from: `Mixture`, or rows that are read when they are wanted."""

    def steps(self, config: DescentConfig) -> int: ...
    def minibatch(self, config: DescentConfig, epoch: int, index: int) -> Sequence[Example_co]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MinibatchLoss:
    """What `backward` says of a whole minibatch, over all micro-batches and ranks."""

    value: float
    """What was minimised: a step is taken only where this is a finite number."""
    metrics: Mapping[str, float]
    """For the log; `value` stands among them under a name that says what it was divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent(Generic[Example]):
    """A model, what it learns, and what differs between stages."""

    model: nn.Module
    mixture: Minibatches[Example]
    machine: Machine
    backward: Callable[[Sequence[Example]], MinibatchLoss]
    """Accumulate this rank's part of the gradient of a minibatch's loss."""
    measure: Callable[[], Mapping[str, float]] | None
    """Held-out metrics; None where nothing is held out."""
    measurements: int
    """How often a run measures where `evaluate_every` is 0."""
    amounts: Callable[[Sequence[Example]], Mapping[str, int]]
    """Of a minibatch, what is logged per second: `{"tokens": 812}`."""
    headline: Mapping[str, str]
    """What progress shows: a word and a metric's key; shown where the step has it."""
    measure_first: bool = False
    """Measure before the first step too."""
    best_by: str = ""
    """The held-out metric whose lowest value, of those measured after a step, `keep_best` follows; empty: none."""
    keep_best: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cursor:
    """What a resumed run must remember besides weights and moments."""

    step: int = 0
    skipped: optim.Skipped = field(default_factory=optim.Skipped)
    first: Mapping[str, float] | None = None
    """Held-out metrics before the first step."""
    best: float | None = None


def descend(descent: Descent[Example], config: DescentConfig, run: Run) -> Mapping[str, float] | None:
    """Train `descent.model`, from the run's newest checkpoint on. Returns what `measure_first` measured."""
    mixture, measure = descent.mixture, descent.measure
    optimizer = optim.adamw(descent.model.parameters(), config.optim)
    total = mixture.steps(config)
    saved, _ = state.restore(run, descent.model, optimizer)
    if saved:
        saved["skipped"] = optim.Skipped(**saved["skipped"])
    cursor = _Cursor(**saved)
    evaluate_every = config.evaluate_every or max(1, total // descent.measurements)

    def save() -> None:
        state.save(run, cursor.step, descent.model, optimizer, asdict(cursor))

    with state.saved_on_stop(save, run, descent.machine.ranks), run.progress(total, start=cursor.step) as progress:
        if measure and descent.measure_first and cursor.first is None:
            cursor = replace(cursor, first=dict(measure()))
            run.log(0, cursor.first or {})
        while cursor.step < total:
            run.check_stop()
            epoch, index = divmod(cursor.step, total // config.epochs)
            chosen = mixture.minibatch(config, epoch, index)
            cursor, metrics = _step(descent, config, run, optimizer, chosen, cursor, total)
            if measure and (cursor.step % evaluate_every == 0 or cursor.step == total):
                measured = measure()
                metrics |= measured
                now = measured[descent.best_by] if descent.best_by else math.nan
                if math.isfinite(now) and (cursor.best is None or now < cursor.best):
                    cursor = replace(cursor, best=now)
                    descent.keep_best()
            run.log(cursor.step, metrics)
            shown = descent.headline.items()
            progress.update(cursor.step, {word: metrics[key] for word, key in shown if key in metrics})
            if cursor.step % config.save_every == 0 or cursor.step == total:
                save()
    return cursor.first


def _step(
    descent: Descent[Example],
    config: DescentConfig,
    run: Run,
    optimizer: torch.optim.Optimizer,
    chosen: Sequence[Example],
    cursor: _Cursor,
    total: int,
) -> tuple[_Cursor, dict[str, float]]:
    """One optimiser step. Raises: UserError after `max_skipped` in a row that could not be taken."""
    step, ranks = cursor.step, descent.machine.ranks
    with Stopwatch() as clock, part("update"):
        loss = descent.backward(chosen)
        named, rate = descent.model.named_parameters(), {"step": step, "total_steps": total}
        stats = optim.step(optimizer, config.optim, **rate, loss=loss.value, ranks=ranks, named=named)
    not_finite = stats.not_finite
    if not_finite:
        not_finite += _culprit(descent, optimizer, chosen)
        facts = {"loss": str(loss.value), "rows": [str(example) for example in chosen]}
        state.keep_batch(run, step, {}, facts, not_finite)
    skipped = cursor.skipped.after(not_finite, config.optim, **rate)
    metrics = {
        **loss.metrics,
        "grad_norm": stats.grad_norm,
        "learning_rate": stats.learning_rate,
        "skipped_updates": skipped.total,
        **{f"{what}_over_seconds": count / clock.seconds for what, count in descent.amounts(chosen).items()},
    }
    return replace(cursor, step=step + 1, skipped=skipped), metrics


def _culprit(descent: Descent[Example], optimizer: torch.optim.Optimizer, chosen: Sequence[Example]) -> str:
    """Which rows of a minibatch have a loss that is no finite number each by itself."""
    broken = [row for row, example in enumerate(chosen, 1) if not math.isfinite(descent.backward([example]).value)]
    optimizer.zero_grad(set_to_none=True)
    if len(broken) == len(chosen):
        return ", of every row alone: the weights have gone too far"
    return f", of row {', '.join(map(str, broken[:5]))} of the minibatch alone" if broken else ""
