"""Linear models of words, fitted without randomness by L-BFGS: what the bag-of-words floors are made of."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import softplus

MAX_STEPS = 1000
TOLERANCE = 1e-7
"""The largest component of the gradient at the end, as a part of that at zero weights."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(predictions, targets) -> what the predictions cost, summed over rows."""


def logistic(predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> Float64[Tensor, ""]:
    """Σ log(1 + exp(−target · predicted)), targets 1 and −1, nats."""
    return softplus(-target * predicted).sum()


def squared_error(predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> Float64[Tensor, ""]:
    """Σ ½ (predicted − target)²."""
    return 0.5 * (predicted - target).square().sum()


def word_table(rows: Sequence[Mapping[str, float]], words: Sequence[str]) -> Float64[Tensor, "N W"]:
    """A sparse matrix, rows × words: memory goes with the number of its entries that are not 0."""
    column_of = {word: column for column, word in enumerate(words)}
    known = [(i, column_of[word], x) for i, row in enumerate(rows) for word, x in row.items() if word in column_of]
    row, column, value = zip(*known, strict=True) if known else ((), (), ())
    positions, values = torch.tensor([row, column], dtype=torch.long), torch.tensor(value, dtype=torch.float64)
    return torch.sparse_coo_tensor(positions, values, (len(rows), len(words)), check_invariants=True).coalesce()


@torch.enable_grad()
def fit(
    table: Float64[Tensor, "N W"],
    targets: Float64[Tensor, " N"],
    ridge: Float64[Tensor, " W"],
    loss: Loss,
    *,
    start: Float64[Tensor, " W"] | None = None,
) -> Float64[Tensor, " W"]:
    """The w that minimises Σ_rows loss(x·w, target) + ½ Σ_word ridge · w²; `start` only saves steps."""
    zeros = torch.zeros_like(ridge, requires_grad=True)
    if not len(zeros):
        return zeros.detach()
    (slope_at_zero,) = torch.autograd.grad(loss(table @ zeros, targets), zeros)
    weights = (zeros if start is None else start).detach().clone().requires_grad_()
    tolerance = TOLERANCE * max(1.0, slope_at_zero.abs().max().item())
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=MAX_STEPS, tolerance_grad=tolerance, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss(table @ weights, targets) + 0.5 * (ridge * weights.square()).sum()
        total.backward()
        return total

    optimizer.step(closure)
    return weights.detach()
