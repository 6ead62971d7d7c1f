"""The optimiser, its learning rate, and one honest step of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from plaudit.errors import UserError
from plaudit.formulas.schedules import learning_rate
from plaudit.hardware.ranks import ALONE, Ranks
from plaudit.training.options import OptimConfig


def adamw(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained."""
    chosen = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in chosen if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in chosen if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=all(p.is_floating_point() for p in chosen),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    not_finite: str = ""
    """What was NaN or infinite: then no step was taken, weights and moments are what they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Steps that were not taken: part of what a resumed run must remember."""

    total: int = 0
    in_a_row: int = 0

    def after(self, not_finite: str, config: OptimConfig, *, step: int, total_steps: int) -> "Skipped":
        """The count after one more step. Raises: UserError after `max_skipped` in a row."""
        if not not_finite:
            return replace(self, in_a_row=0)
        counted = Skipped(total=self.total + 1, in_a_row=self.in_a_row + 1)
        if counted.in_a_row >= config.max_skipped:
            raise UserError(
                f"optimiser step {step + 1} of {total_steps}: {not_finite}, {counted.in_a_row} time(s) in a row. These "
                "steps were not taken, what was learned before is kept, and the batches lie in the run folder under "
                "skipped/. A lower optim.learning_rate may help, or device.precision fp32."
            )
        return counted


def step(
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    *,
    step: int,
    total_steps: int,
    loss: float,
    ranks: Ranks = ALONE,
    named: Iterable[tuple[str, nn.Parameter]] = (),
) -> StepStats:
    """Add up the ranks' gradients, clip, step, forget them. The rate is a function of the step alone: a resume needs no
    scheduler.

    Nothing is taken where `loss` or the gradient's norm is NaN or infinite; `named` parameters are then called by name.
    """
    warmup = round(config.warmup_fraction * total_steps)
    rate = learning_rate(step, total_steps, peak=config.learning_rate, warmup_steps=warmup, shape=config.schedule)
    for group in optimizer.param_groups:
        group["lr"] = rate
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    ranks.sum_gradients(parameters)
    total_norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = float(total_norm)
    not_finite = "" if math.isfinite(loss) else f"the loss is {loss}"
    if not not_finite and not math.isfinite(norm):
        broken = (name for name, p in named if p.grad is not None and not bool(p.grad.isfinite().all()))
        not_finite = f"the gradient's norm is {norm} ({next(broken, 'too large for a sum')})"
    if not not_finite:
        nn.utils.clip_grads_with_norm_(parameters, config.max_grad_norm or float("inf"), total_norm)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepStats(grad_norm=norm, learning_rate=rate, not_finite=not_finite)
