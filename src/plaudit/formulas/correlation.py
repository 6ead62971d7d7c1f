"""How well predictions follow labels: correlations, and the share of pairs in the right order.

A constant follows nothing: every correlation with it is 0 (not NaN), and so it is of fewer than two values.
NaN among the inputs raises ValueError. All in float64.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor


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


def mean_ranks(x: Float[Tensor, " N"]) -> Float64[Tensor, " N"]:
    """The rank of each value in ascending order, 1 … N; equal ones get the mean of their ranks   (N3.6)."""
    _, value, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - 0.5 * (counts.double() - 1.0))[value]


def _direction(x: Float[Tensor, " N"]) -> Float64[Tensor, " N"]:
    """x − x̄ at length 1; divided by its greatest value first, so that no square underflows or overflows."""
    if not x.isfinite().all():
        raise ValueError("pearson: a prediction or a label is infinite")
    centred = x.double() - x.double().mean()
    centred = centred / centred.abs().max()
    return centred / centred.norm()


def _undefined(predictions: Float[Tensor, " N"], labels: Float[Tensor, " N"]) -> bool:
    if any(bool(x.isnan().any()) for x in (predictions, labels)):
        raise ValueError("a prediction or a label is NaN")
    return any(x.numel() < 2 or bool((x == x[0]).all()) for x in (predictions, labels))
