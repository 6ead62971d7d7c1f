"""How well predictions follow labels: correlations, and the share of pairs in the right order.

A constant follows nothing: every correlation with it is 0 (not NaN), and so it is of fewer than two values.
NaN among the inputs raises ValueError. All in float64.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor

_ROWS = 1024
"""Pairs are compared this many rows at a time: N² of them need not be in memory."""


def pearson(predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> float:
    """Σ (r − r̄)(y − ȳ) / √(Σ (r − r̄)² Σ (y − ȳ)²), in [−1, 1]   (N3.6)."""
    if _undefined(predictions, labels):
        return 0.0
    return max(-1.0, min(1.0, (_direction(predictions) @ _direction(labels)).item()))


def spearman(predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> float:
    """`pearson` of the ranks; equal values share their mean rank, so it is right with ties   (N3.6; Spearman 1904)."""
    if _undefined(predictions, labels):
        return 0.0
    return pearson(mean_ranks(predictions), mean_ranks(labels))


def kendall(predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> float:
    """τ_b = (agreeing − disagreeing pairs) / √(pairs untied in r · pairs untied in y)   (N3.6; Kendall 1945)."""
    if _undefined(predictions, labels):
        return 0.0
    agreement = untied_predictions = untied_labels = 0.0
    for r, y in _orders(predictions, labels):
        agreement += (r * y).sum().item()
        untied_predictions += r.abs().sum().item()
        untied_labels += y.abs().sum().item()
    return agreement / (untied_predictions * untied_labels) ** 0.5


def concordance(predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> tuple[float, int]:
    """(pairs in the right order + ½ those of equal prediction, pairs whose labels differ)   (N3.5, N3.6).

    Their ratio is the probability that of two answers labelled differently the better one scores higher; with labels
    0 and 1 that is the area under the ROC curve.
    """
    _refuse_nan(predictions, labels)
    wins, pairs = 0.0, 0
    for r, y in _orders(predictions, labels):
        better = y > 0.0
        wins += (0.5 * (r[better] + 1.0)).sum().item()
        pairs += int(better.sum())
    return wins, pairs


def mean_ranks(x: Float[Tensor, " N"]) -> Float64[Tensor, " N"]:
    """The place of each value in ascending order, 1 … N; equal ones get the mean of their places   (N3.6)."""
    _, value, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - 0.5 * (counts.double() - 1.0))[value]


def _orders(
    predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]
) -> Iterator[tuple[Float64[Tensor, "M N"], Float64[Tensor, "M N"]]]:
    """sign(x_i − x_j) of both, over all ordered pairs (i, j), some rows i at a time."""
    r, y = predictions.double(), labels.double()
    for start in range(0, r.shape[0], _ROWS):
        rows = slice(start, start + _ROWS)
        yield _order(r[rows], r), _order(y[rows], y)


def _order(rows: Float64[Tensor, " M"], x: Float64[Tensor, " N"]) -> Float64[Tensor, "M N"]:
    """1 where the row's value is greater, −1 where smaller, 0 where equal (∞ and ∞ are)."""
    return (rows.unsqueeze(1) > x).double() - (rows.unsqueeze(1) < x).double()


def _direction(x: Float[Tensor, " N"]) -> Float64[Tensor, " N"]:
    """x − x̄ at length 1; divided by its greatest value first, so that no square underflows or overflows."""
    if not x.isfinite().all():
        raise ValueError("pearson: a prediction or a label is infinite")
    centred = x.double() - x.double().mean()
    centred = centred / centred.abs().max()
    return centred / centred.norm()


def _undefined(predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> bool:
    _refuse_nan(predictions, labels)
    return any(x.numel() < 2 or bool((x == x[0]).all()) for x in (predictions, labels))


def _refuse_nan(*numbers: Float[Tensor, " N"]) -> None:
    if any(bool(x.isnan().any()) for x in numbers):
        raise ValueError("a prediction or a label is NaN")
