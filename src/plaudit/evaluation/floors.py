"""What a reward model must beat to have learnt anything (N3.1): judges that know no language.

`LongerWins` prefers the longer answer; `BagOfWords` adds up a weight for each word, fitted to the training pairs.
Both are scorers, so `reward_accuracy` measures them as it measures a model, on the same pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from plaudit.evaluation.reward_accuracy import Accuracy, reward_accuracy
from plaudit.records.tensors import Scores
from plaudit.records.text import Comparison, Group, Ranking
from plaudit.runs.errors import UserError
from plaudit.scoring.protocol import Scorer, scores_of
from plaudit.scoring.words import Unit, tokens, units

Array = np.ndarray
NEWTON_STEPS = 50
CONJUGATE_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers of one prompt as the labels have them."""

    prompt_id: str
    better: str
    worse: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerWins:
    """Score = length, in words or code points."""

    unit: Unit = "characters"
    name: str = "longer_wins"

    def score(self, groups: Sequence[Group]) -> Scores:
        return scores_of(self.name, [float(len(units(text, self.unit))) for g in groups for text in g.responses])


@dataclass(frozen=True, slots=True, kw_only=True)
class BagOfWords:
    """Score = Σ_word weight(word) · log(1 + count(word)), in nats of preference; words not seen in training weigh 0."""

    weights: Mapping[str, float]
    ridge: float
    """The penalty that was taken, in 1 / feature²."""
    name: str = "bag_of_words"

    def score(self, groups: Sequence[Group]) -> Scores:
        return scores_of(self.name, [self.value(text) for group in groups for text in group.responses])

    def value(self, text: str) -> float:
        return float(sum(self.weights.get(word, 0.0) * amount for word, amount in _features(text).items()))


def floor_accuracies(
    train: Sequence[Ranking | Comparison], held_out: Sequence[Ranking | Comparison]
) -> dict[str, Accuracy]:
    """Both floors on the held-out pairs: {"longer_wins": …, "bag_of_words": …}."""
    floors: tuple[Scorer, ...] = (LongerWins(), fit_bag_of_words(train))
    return {floor.name: reward_accuracy(floor, held_out) for floor in floors}


def pairs_of(rows: Sequence[Ranking | Comparison]) -> list[Pair]:
    """All pairs of the rows; ties in the labels give none."""
    pairs: list[Pair] = []
    for row in rows:
        if isinstance(row, Comparison):
            pairs.append(Pair(prompt_id=row.prompt.id, better=row.chosen, worse=row.rejected))
            continue
        for (text_a, rank_a), (text_b, rank_b) in combinations(zip(row.responses, row.ranks, strict=True), 2):
            if rank_a != rank_b:
                better, worse = (text_a, text_b) if rank_a < rank_b else (text_b, text_a)
                pairs.append(Pair(prompt_id=row.prompt.id, better=better, worse=worse))
    return pairs


def fit_bag_of_words(
    train: Sequence[Ranking | Comparison],
    *,
    ridges: Sequence[float] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
    min_pairs: int = 2,
    max_words: int = 20000,
    max_pairs: int = 10000,
) -> BagOfWords:
    """Ridge logistic regression on the differences of the two answers' word features; no intercept, no randomness.

        minimise  Σ_pairs log(1 + exp(−w·(x_better − x_worse))) + ridge/2 · ‖w‖²

    x = log(1 + count) of each lower-case word or punctuation mark. Words that differ in fewer than `min_pairs` pairs
    are left out, then the `max_words` most frequent stay. Of several `ridges` the one with the least log loss on a
    quarter of the training prompts is taken (a floor that overfits would be too easy to beat), then all are fitted.
    More than `max_pairs` pairs: those whose prompt ids come first, which is a random choice of prompts, the same each
    time. UserError where there is no pair.
    """
    if not ridges or min(ridges) <= 0.0:
        raise ValueError(f"ridges must be positive numbers, at least one, not {tuple(ridges)}")
    pairs = sorted(pairs_of(train), key=lambda pair: pair.prompt_id)[:max_pairs]
    if not pairs:
        raise UserError("no pair to fit a bag of words to: every training ranking is tied or has one answer")
    rows = [_difference(pair) for pair in pairs]
    spread = Counter(word for row in rows for word in row)
    kept = sorted((word for word in spread if spread[word] >= min_pairs), key=lambda word: (-spread[word], word))
    place = {word: index for index, word in enumerate(kept[:max_words])}
    ridge = _best_ridge(pairs, rows, place, ridges)
    weights = _ridge_logistic(_Sparse.of(rows, place), ridge)
    return BagOfWords(weights={word: float(weights[index]) for word, index in place.items()}, ridge=ridge)


def _best_ridge(
    pairs: Sequence[Pair], rows: Sequence[Mapping[str, float]], place: Mapping[str, int], ridges: Sequence[float]
) -> float:
    """The ridge with the least log loss on the quarter of the prompts that its fit did not see."""
    seen = [row for pair, row in zip(pairs, rows, strict=True) if int(pair.prompt_id, 16) % 4]
    unseen = [row for pair, row in zip(pairs, rows, strict=True) if not int(pair.prompt_id, 16) % 4]
    if len(ridges) == 1 or not seen or not unseen:
        return max(ridges)
    fit, judge = _Sparse.of(seen, place), _Sparse.of(unseen, place)

    def log_loss(ridge: float) -> float:
        return float(np.logaddexp(0.0, -judge.times(_ridge_logistic(fit, ridge))).sum())

    return min(ridges, key=log_loss)


def _features(text: str) -> dict[str, float]:
    return {word: float(np.log1p(count)) for word, count in Counter(tokens(text)).items()}


def _difference(pair: Pair) -> dict[str, float]:
    plus, minus = _features(pair.better), _features(pair.worse)
    both = {word: plus.get(word, 0.0) - minus.get(word, 0.0) for word in plus | minus}
    return {word: amount for word, amount in both.items() if amount}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sparse:
    """A pairs × words matrix by its entries that are not 0."""

    rows: Array
    columns: Array
    values: Array
    shape: tuple[int, int]

    @classmethod
    def of(cls, dicts: Sequence[Mapping[str, float]], place: Mapping[str, int]) -> "_Sparse":
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

    def times(self, vector: Array) -> Array:
        """X v, [pairs]."""
        return np.bincount(self.rows, weights=self.values * vector[self.columns], minlength=self.shape[0])

    def transposed_times(self, vector: Array) -> Array:
        """Xᵀ v, [words]."""
        return np.bincount(self.columns, weights=self.values * vector[self.rows], minlength=self.shape[1])


def _ridge_logistic(x: _Sparse, ridge: float) -> Array:
    """The minimum, by Newton's method with conjugate gradients inside and step halving; the loss is strictly convex."""
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


def _solve(x: _Sparse, curvature: Array, ridge: float, gradient: Array, *, precision: float) -> Array:
    """(Xᵀ diag(curvature) X + ridge · I)⁻¹ gradient to a relative `precision`, by conjugate gradients."""
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


def _descended(x: _Sparse, ridge: float, weights: Array, step: Array, slope: float) -> Array:
    """weights − t · step with the first t of 1, ½, ¼ … that lowers the loss enough (Armijo)."""

    def loss(at: Array) -> float:
        return float(np.logaddexp(0.0, -x.times(at)).sum() + 0.5 * ridge * (at @ at))

    start, t = loss(weights), 1.0
    while t > 1e-8:
        if loss(weights - t * step) <= start - 1e-4 * t * slope:
            return weights - t * step
        t /= 2.0
    return weights
