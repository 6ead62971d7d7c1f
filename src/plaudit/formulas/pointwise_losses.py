"""Losses of reward models that learn from one answer's label: accepted or not, a rating, ratings by aspect.

Each is (sum, number counted): both add up over micro-batches and ranks, and the minibatch's loss is their ratio.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.formulas.masks import at_least_float32, masked_sum, select
from plaudit.formulas.statistics import RunningMoments


def log_odds(class_logits: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    """z_accept − z_reject = log P(accept) / P(reject): the score of a two-class model, nats   (N3.5).

    Column 0 is reject, 1 is accept. Unlike P(accept) it does not saturate.
    """
    logits = at_least_float32(class_logits)
    return logits[:, 1] - logits[:, 0]


def two_class(
    class_logits: Float[Tensor, "N 2"], accepted: Bool[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ −log P(the label), N), P = softmax of the two logits   (N3.5). Column 0 is reject, 1 is accept.

    Computed as −log σ(± log-odds), which is the cross-entropy of two classes.
    """
    odds = log_odds(class_logits)
    return -logsigmoid(torch.where(accepted, odds, -odds)).sum(), torch.ones_like(accepted).sum()


def squared_error(
    predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ (r − y)², N), in squared label units; MSE is their ratio, `rmse` its root   (N3.6; the note's "MES").

    No ½. Gradient flows into the predictions only.
    """
    present = torch.ones_like(labels, dtype=torch.bool)
    return aspect_errors(predictions.unsqueeze(1), labels.unsqueeze(1), present.unsqueeze(1))


def aspect_errors(
    predictions: Float[Tensor, "N A"], labels: Float[Tensor, "N A"], present: Bool[Tensor, "N A"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ (r_a − y_a)² over the ratings that are there, their number)   (N3.7).

    An answer that was not rated on an aspect gives no term, and no gradient, for it: `present` selects, so that the
    absent label may be NaN. Every rating weighs the same, whatever its aspect. No rating at all: (0, 0).
    """
    errors = select(at_least_float32(predictions), present) - select(at_least_float32(labels.detach()), present)
    return masked_sum(errors.square(), present), present.sum()


def rmse(squared_error_sum: Float[Tensor, ""], num_labels: int | Int[Tensor, ""]) -> Float[Tensor, ""]:
    """√(Σ (r − y)² / n), in label units; of the *whole* minibatch   (N3.6). 0 of nothing.

    To train on it, don't back-propagate through this: parts' RMSEs don't add up. Use `rmse_weight`.
    """
    return (squared_error_sum / max(int(num_labels), 1)).sqrt()


def rmse_weight(squared_error_sum: Float[Tensor, ""], num_labels: int | Int[Tensor, ""]) -> Float[Tensor, ""]:
    """w = 1 / (2 n RMSE), for which w · ∇Σ (r − y)² = ∇RMSE   (N3.6).

    The root makes RMSE a function of the whole minibatch: its sum and count must be known, over micro-batches and
    ranks, before the first part is back-propagated (a pass without gradient, or the scores of the pass before). Then
    each part back-propagates w times its own `squared_error`, and the parts' gradients add up exactly. No error, or
    nothing counted: 0, where RMSE has a kink. Without gradient.
    """
    divisor = 2.0 * max(int(num_labels), 1) * rmse(squared_error_sum.detach(), num_labels)
    return torch.where(divisor > 0.0, 1.0 / divisor.masked_fill(divisor == 0.0, 1.0), 0.0)


def rating_scales(labels: Float[Tensor, " N"], labellers: Int[Tensor, " N"]) -> tuple[RunningMoments, ...]:
    """Mean and deviation of each labeller's ratings, of labeller 0, 1, …; zeros for `labellers` is one scale for all.

    (N2.3, N3.6). For one labeller's aspects, or for aspects alone, number those.
    """
    scales = []
    for labeller in range(int(labellers.max()) + 1 if labellers.numel() else 0):
        own = labels[labellers == labeller].double()
        mean = own.mean().item() if own.numel() else 0.0
        deviations = (own - mean).square().sum().item()
        scales.append(RunningMoments(count=float(own.numel()), mean=mean, sum_squared_deviations=deviations))
    return tuple(scales)


def standardise(
    labels: Float[Tensor, " N"], labellers: Int[Tensor, " N"], scales: Sequence[RunningMoments], *, std_floor: float
) -> Float[Tensor, " N"]:
    """(y − μ) / max(σ, floor), μ and σ those of the rating's own labeller   (N2.3).

    A strict and a generous labeller who order answers alike give the same labels. One who always says the same, or
    rated once, says nothing: 0. The floor, in label units, must be positive: ValueError.
    """
    if not std_floor > 0.0:
        raise ValueError(f"std_floor must be positive, not {std_floor}")
    numbers = [(scale.mean, max(scale.std, std_floor)) for scale in scales]
    table = torch.tensor(numbers, dtype=torch.float64, device=labels.device).reshape(-1, 2)
    return ((labels.double() - table[labellers, 0]) / table[labellers, 1]).to(labels.dtype)
