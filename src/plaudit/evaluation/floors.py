"""What a reward model must beat to have learnt anything (N3.1): judges that know no language.

`LongerWins` prefers the longer answer; `BagOfWords` adds up a weight for each word, fitted to the training pairs.
Both are scorers, so `reward_accuracy` measures them as it measures a model, on the same pairs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from plaudit.errors import UserError
from plaudit.evaluation.reward_accuracy import Accuracy, reward_accuracy
from plaudit.evaluation.word_models import Sparse, features, ridge_logistic
from plaudit.records.tensors import Scores
from plaudit.records.text import Comparison, Group, Ranking
from plaudit.scoring.protocol import Scorer, scores_of
from plaudit.scoring.words import Unit, units


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledPair:
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
        return float(sum(self.weights.get(word, 0.0) * amount for word, amount in features(text).items()))


def floor_accuracies(
    train: Sequence[Ranking | Comparison], held_out: Sequence[Ranking | Comparison]
) -> dict[str, Accuracy]:
    """Both floors on the held-out pairs: {"longer_wins": …, "bag_of_words": …}."""
    floors: tuple[Scorer, ...] = (LongerWins(), fit_bag_of_words(train))
    return {floor.name: reward_accuracy(floor, held_out) for floor in floors}


def pairs_of(rows: Sequence[Ranking | Comparison]) -> list[LabelledPair]:
    """All pairs of the rows; ties in the labels give none."""
    pairs: list[LabelledPair] = []
    for row in rows:
        if isinstance(row, Comparison):
            pairs.append(LabelledPair(prompt_id=row.prompt.id, better=row.chosen, worse=row.rejected))
            continue
        for (text_a, rank_a), (text_b, rank_b) in combinations(zip(row.responses, row.ranks, strict=True), 2):
            if rank_a != rank_b:
                better, worse = (text_a, text_b) if rank_a < rank_b else (text_b, text_a)
                pairs.append(LabelledPair(prompt_id=row.prompt.id, better=better, worse=worse))
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
    weights = ridge_logistic(Sparse.of(rows, place), ridge)
    return BagOfWords(weights={word: float(weights[index]) for word, index in place.items()}, ridge=ridge)


def _best_ridge(
    pairs: Sequence[LabelledPair],
    rows: Sequence[Mapping[str, float]],
    place: Mapping[str, int],
    ridges: Sequence[float],
) -> float:
    """The ridge with the least log loss on the quarter of the prompts that its fit did not see."""
    seen = [row for pair, row in zip(pairs, rows, strict=True) if int(pair.prompt_id, 16) % 4]
    unseen = [row for pair, row in zip(pairs, rows, strict=True) if not int(pair.prompt_id, 16) % 4]
    if len(ridges) == 1 or not seen or not unseen:
        return max(ridges)
    fit, judge = Sparse.of(seen, place), Sparse.of(unseen, place)

    def log_loss(ridge: float) -> float:
        return float(np.logaddexp(0.0, -judge.times(ridge_logistic(fit, ridge))).sum())

    return min(ridges, key=log_loss)


def _difference(pair: LabelledPair) -> dict[str, float]:
    plus, minus = features(pair.better), features(pair.worse)
    both = {word: plus.get(word, 0.0) - minus.get(word, 0.0) for word in plus | minus}
    return {word: amount for word, amount in both.items() if amount}
