"""Linear models of words, fitted without randomness by L-BFGS: what the bag-of-words floors are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn.functional import softplus

MAX_STEPS = 1000
TOLERANCE = 1e-7
"""The largest component of the gradient at the end, as a part of that at zero weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordTable:
    """A rows × words matrix X by its entries that are not 0; memory goes with their number."""

    words: tuple[str, ...]
    row: Tensor
    column: Tensor
    value: Float64[Tensor, " E"]
    num_rows: int

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, float]], words: Sequence[str]) -> "WordTable":
        column_of = {word: column for column, word in enumerate(words)}
        entries = [
            (i, column_of[word], amount)
            for i, row in enumerate(rows)
            for word, amount in row.items()
            if word in column_of
        ]
        row, column, value = zip(*entries, strict=True) if entries else ((), (), ())
        return cls(
            words=tuple(words),
            row=torch.tensor(row, dtype=torch.long),
            column=torch.tensor(column, dtype=torch.long),
            value=torch.tensor(value, dtype=torch.float64),
            num_rows=len(rows),
        )

    def rows(self, chosen: Bool[Tensor, " N"]) -> "WordTable":
        """The table of some of its rows."""
        entries, number = chosen[self.row], chosen.long().cumsum(0) - 1
        return WordTable(
            words=self.words,
            row=number[self.row[entries]],
            column=self.column[entries],
            value=self.value[entries],
            num_rows=int(chosen.sum()),
        )

    def times(self, weights: Float64[Tensor, " W"]) -> Float64[Tensor, " N"]:
        """X w."""
        zeros = torch.zeros(self.num_rows, dtype=torch.float64)
        return zeros.index_add(0, self.row, self.value * weights[self.column])

    def transposed_times(self, slopes: Float64[Tensor, " N"]) -> Float64[Tensor, " W"]:
        """Xᵀ s."""
        zeros = torch.zeros(len(self.words), dtype=torch.float64)
        return zeros.index_add(0, self.column, self.value * slopes[self.row])


class Loss(Protocol):
    """What a prediction costs, summed over rows."""

    def value(self, predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> float: ...

    def slope(self, predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> Float64[Tensor, " N"]:
        """Its derivative by the prediction, row by row."""
        ...


class LogisticLoss:
    """log(1 + exp(−target · predicted)), targets 1 and −1, nats."""

    def value(self, predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> float:
        return softplus(-target * predicted).sum().item()

    def slope(self, predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> Float64[Tensor, " N"]:
        return -target * (-target * predicted).sigmoid()


class SquaredError:
    """½ (predicted − target)²."""

    def value(self, predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> float:
        return 0.5 * (predicted - target).square().sum().item()

    def slope(self, predicted: Float64[Tensor, " N"], target: Float64[Tensor, " N"]) -> Float64[Tensor, " N"]:
        return predicted - target


def fit(
    table: WordTable,
    targets: Float64[Tensor, " N"],
    ridge: Float64[Tensor, " W"],
    loss: Loss,
    *,
    start: Float64[Tensor, " W"] | None = None,
) -> Float64[Tensor, " W"]:
    """The w that minimises Σ_rows loss(x·w, target) + ½ Σ_word ridge · w²; `start` only saves steps."""
    weights = torch.zeros(len(table.words), dtype=torch.float64) if start is None else start.clone()
    if not len(weights):
        return weights
    at_zero = table.transposed_times(loss.slope(torch.zeros_like(targets), targets)).abs().max().item()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=MAX_STEPS,
        tolerance_grad=TOLERANCE * max(1.0, at_zero),
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        predicted = table.times(weights)
        weights.grad = table.transposed_times(loss.slope(predicted, targets)) + ridge * weights
        return loss.value(predicted, targets) + 0.5 * (ridge * weights * weights).sum().item()

    optimizer.step(closure)
    return weights.detach()
