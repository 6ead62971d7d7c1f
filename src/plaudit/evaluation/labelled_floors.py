"""Floors for answers with labels of their own: the longer scores higher, and a bag of words fitted to the labels.

Both are scorers, so that `labelled_report` measures them as it measures a model, on the same rows.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from plaudit.data.clean import unit_keys
from plaudit.data.splits import uniform
from plaudit.evaluation.floors import LongerWins
from plaudit.evaluation.labelled_report import labelled_report
from plaudit.evaluation.word_models import Array, Sparse, features, ridge_linear, ridge_logistic
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Rating, Verdict
from plaudit.scoring.protocol import scores_of

_INTERCEPT = ""
"""The column that is 1 in every row; no word is empty. It is not penalised."""
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
MIN_ROWS = 2
MAX_WORDS = 20_000
MAX_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledWords:
    """Score = offset + Σ_word weight(word) · log(1 + count(word)), one sum an aspect; unseen words weigh 0."""

    weights: Mapping[str, Mapping[str, float]]
    """Aspect → word → weight; the empty word is the offset. A verdict's log-odds are the aspect `accept`."""
    name: str = "bag_of_words"

    def score(self, groups: Sequence[Group]) -> Scores:
        """The mean over the aspects, and each of them as the part `aspect/NAME`."""
        texts = [text for group in groups for text in group.responses]
        values = {aspect: [self.value(text, aspect) for text in texts] for aspect in self.weights}
        means = [sum(column) / len(column) for column in zip(*values.values(), strict=True)]
        parts = {f"aspect/{a}": scores_of(a, v).scores for a, v in values.items()}
        said = scores_of(self.name, means)
        return Scores(scores=said.scores, valid=said.valid, parts=parts)

    def value(self, text: str, aspect: str) -> float:
        weights = self.weights[aspect]
        return weights[_INTERCEPT] + sum(weights.get(word, 0.0) * x for word, x in features(text).items())


def labelled_floor_rows(
    name: str, train: Sequence[Rating | Verdict], held_out: Sequence[Rating | Verdict]
) -> list[dict]:
    """Rows of the report's table: what the reward model `name` must beat on these held-out answers."""
    rows = []
    for scorer in (LongerWins(), fit_words(train)):
        label = f"floor: {scorer.name.replace('_', ' ')}: "
        found = labelled_report(scorer, held_out).rows(name)
        rows += [row | {"metric": label + row["metric"]} for row in found if _says(scorer, row)]
    return rows


def _says(scorer: LongerWins | LabelledWords, row: Mapping[str, object]) -> bool:
    """A length in characters orders answers; it is no rating and no log-odds."""
    return not isinstance(scorer, LongerWins) or row["unit"] in ("Spearman's rho", "share of pairs")


def fit_words(train: Sequence[Rating | Verdict]) -> LabelledWords:
    """Ridge regression of each aspect's ratings, or ridge logistic regression of the verdicts, on the answer's words.

    The offset is not penalised. Words in fewer than MIN_ROWS answers are left out, then the MAX_WORDS most frequent
    stay. Of the RIDGES the one with the least error on a quarter of the prompts is taken, then all rows are fitted.
    More than MAX_ROWS rows: those that come first by a hash. No randomness.
    """
    hashed = [uniform(f"floor {key}", 0) for key in unit_keys(train)]
    order = sorted(range(len(train)), key=lambda index: (hashed[index], index))[:MAX_ROWS]
    words = [features(train[index].response) for index in order]
    spread = Counter(word for row in words for word in row)
    kept = sorted((word for word in spread if spread[word] >= MIN_ROWS), key=lambda word: (-spread[word], word))
    place = {word: column for column, word in enumerate((_INTERCEPT, *kept[:MAX_WORDS]))}
    aside = np.array([hashed[index] % 0.25 < 0.0625 for index in order])
    rows = [train[index] for index in order]
    verdicts = [row for row in rows if isinstance(row, Verdict)]
    if verdicts:
        signs = np.array([1.0 if row.label else -1.0 for row in verdicts])
        return LabelledWords(weights={"accept": _fitted(words, signs, aside, place, _logistic)})
    scores = [row.scores for row in rows if isinstance(row, Rating)]
    weights = {}
    for aspect in dict.fromkeys(aspect for row in scores for aspect in row):
        there = [index for index, row in enumerate(scores) if aspect in row]
        labels = np.array([scores[index][aspect] for index in there])
        weights[aspect] = _fitted([words[index] for index in there], labels, aside[there], place, _linear)
    return LabelledWords(weights=weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """How weights are fitted to labels (x, labels, ridge by word), and what they cost on others (labels, said)."""

    fit: Callable[[Sparse, Array, Array], Array]
    error: Callable[[Array, Array], float]


_linear = _Loss(fit=ridge_linear, error=lambda labels, said: float(np.square(labels - said).sum()))
_logistic = _Loss(
    fit=lambda x, signs, ridge: ridge_logistic(x.scaled(signs), ridge),
    error=lambda signs, said: float(np.logaddexp(0.0, -signs * said).sum()),
)


def _fitted(
    words: Sequence[Mapping[str, float]], labels: Array, aside: Array, place: Mapping[str, int], loss: _Loss
) -> dict[str, float]:
    """Word → weight, by the ridge that does best on the rows that are `aside`."""
    rows = [{_INTERCEPT: 1.0, **row} for row in words]

    def fit(chosen: Array, ridge: float) -> Array:
        penalty = np.full(len(place), ridge)
        penalty[place[_INTERCEPT]] = 0.0
        return loss.fit(Sparse.of([rows[i] for i in np.flatnonzero(chosen)], place), labels[chosen], penalty)

    def error(ridge: float) -> float:
        unseen = Sparse.of([rows[i] for i in np.flatnonzero(aside)], place)
        return loss.error(labels[aside], unseen.times(fit(~aside, ridge)))

    # Without both labels a log-odds has no optimum, and without an error the ridge has none.
    choosable = aside.any() and len(set(labels[~aside].tolist())) > 1
    weights = fit(np.ones(len(labels), dtype=bool), min(RIDGES, key=error) if choosable else max(RIDGES))
    return {word: float(weights[column]) for word, column in place.items()}
