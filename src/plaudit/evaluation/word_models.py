"""Linear models of words, fitted without randomness: what the bag-of-words floors are made of. Only numpy."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from plaudit.scoring.words import tokens

Array = np.ndarray
NEWTON_STEPS = 50
CONJUGATE_STEPS = 200


def features(text: str) -> dict[str, float]:
    """log(1 + count) of each lower-case word or punctuation mark."""
    return {word: float(np.log1p(count)) for word, count in Counter(tokens(text)).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """A rows × words matrix by its entries that are not 0."""

    rows: Array
    columns: Array
    values: Array
    shape: tuple[int, int]

    @classmethod
    def of(cls, dicts: Sequence[Mapping[str, float]], place: Mapping[str, int]) -> "Sparse":
        entries = [
            (i, place[word], amount) for i, row in enumerate(dicts) for word, amount in row.items() if word in place
        ]
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        return cls(
            rows=np.array(rows, dtype=np.int64),
            columns=np.array(columns, dtype=np.int64),
            values=np.array(values, dtype=np.float64),
            shape=(len(dicts), len(place)),
        )

    def scaled(self, factors: Array) -> "Sparse":
        """Each row times its factor."""
        return replace(self, values=self.values * factors[self.rows])

    def times(self, vector: Array) -> Array:
        """X v, [rows]."""
        return np.bincount(self.rows, weights=self.values * vector[self.columns], minlength=self.shape[0])

    def transposed_times(self, vector: Array) -> Array:
        """Xᵀ v, [words]."""
        return np.bincount(self.columns, weights=self.values * vector[self.rows], minlength=self.shape[1])


def ridge_logistic(x: Sparse, ridge: float | Array) -> Array:
    """The w that minimises Σ_rows log(1 + exp(−x·w)) + ½ Σ_word ridge · w², [words]; one ridge, or one a word.

    Newton's method with conjugate gradients inside and step halving; the loss is strictly convex.
    """
    weights = np.zeros(x.shape[1])
    scale = max(1.0, float(np.linalg.norm(x.transposed_times(np.full(x.shape[0], 0.5)))))  # the gradient at 0
    for _ in range(NEWTON_STEPS):
        scores = x.times(weights)
        wrong = 1.0 / (1.0 + np.exp(np.clip(scores, -500.0, 500.0)))  # P(the labels' order is reversed)
        gradient = ridge * weights - x.transposed_times(wrong)
        progress = float(np.linalg.norm(gradient)) / scale
        if progress <= 1e-6:
            break
        # The step need not be exact while the minimum is far: precision grows as the gradient shrinks.
        step = _solve(x, wrong * (1.0 - wrong), ridge, gradient, precision=min(0.1, progress))
        weights = _descended(x, ridge, weights, step, float(gradient @ step))
    return weights


def ridge_linear(x: Sparse, labels: Array, ridge: float | Array) -> Array:
    """The w that minimises Σ_rows (label − x·w)² + Σ_word ridge · w², [words]; one ridge, or one a word."""
    return _solve(x, np.ones(x.shape[0]), ridge, x.transposed_times(labels), precision=1e-6)


def _solve(x: Sparse, curvature: Array, ridge: float | Array, gradient: Array, *, precision: float) -> Array:
    """(Xᵀ diag(curvature) X + diag(ridge))⁻¹ gradient to a relative `precision`, by conjugate gradients."""
    solution = np.zeros_like(gradient)
    residual, direction = gradient.copy(), gradient.copy()
    size = float(residual @ residual)
    goal = precision**2 * size
    for _ in range(CONJUGATE_STEPS):
        if size <= goal:
            break
        image = x.transposed_times(curvature * x.times(direction)) + ridge * direction
        length = size / float(direction @ image)
        solution += length * direction
        residual -= length * image
        size, previous = float(residual @ residual), size
        direction = residual + (size / previous) * direction
    return solution


def _descended(x: Sparse, ridge: float | Array, weights: Array, step: Array, slope: float) -> Array:
    """weights − t · step with the first t of 1, ½, ¼ … that lowers the loss enough (Armijo)."""

    def loss(at: Array) -> float:
        return float(np.logaddexp(0.0, -x.times(at)).sum() + 0.5 * (ridge * at @ at))

    start, t = loss(weights), 1.0
    while t > 1e-8:
        if loss(weights - t * step) <= start - 1e-4 * t * slope:
            return weights - t * step
        t /= 2.0
    return weights
