"""What a reward model must beat to have learnt anything: judges that know no language.

The longer answer scores higher; or a bag of words, fitted to the training labels, adds up a weight for each word
(N3.1, N3.5–N3.7). Both are scorers, measured as a model is, on the same rows.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import softplus

from plaudit.data.clean import unit_keys
from plaudit.data.splits import uniform
from plaudit.errors import UserError
from plaudit.evaluation.judges.agreement import agreement
from plaudit.evaluation.judges.rows import LabelledRow, LabelledRows, as_ranking, score_rows
from plaudit.records.results import Result
from plaudit.records.tensors import Scores
from plaudit.records.text import Comparison, Group, Ranking, Rating, Verdict
from plaudit.scoring.protocol import Scorer, scores_of
from plaudit.scoring.words import tokens
from plaudit.telemetry.register import measure_of

RIDGES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Penalties to choose from, in 1 / feature²."""
MIN_ROWS = 2
"""A word in fewer rows weighs nothing."""
MAX_WORDS = 20_000
MAX_PAIRS = 10_000
MAX_ROWS = 20_000
MAX_STEPS = 1000
TOLERANCE = 1e-7
"""The largest component of a fit's gradient at its end, as a part of that at zero weights."""
OFFSET = ""
"""The feature that is 1 in every row; no word is empty. It is not penalised."""
ORDERS = {
    "held_out_accuracy_over_pairs",
    "held_out_auc",
    "aspect/{name}_spearman_over_labels",
    "aspect/{name}_accuracy_over_pairs",
}
"""Measures that look at the order of scores alone: a length in characters is no rating and no log-odds."""


Loss = Callable[[Tensor, Tensor], Tensor]
"""(predictions, targets) -> what the predictions cost, summed over rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongerWins:
    name: str = "longer wins"

    def score(self, groups: Sequence[Group]) -> Scores:
        return scores_of(self.name, [float(len(text)) for group in groups for text in group.responses])


@dataclass(frozen=True, slots=True, kw_only=True)
class WordWeights:
    """value = offset + Σ_word weight(word) · log(1 + count(word)); words not seen in training weigh 0."""

    weights: Mapping[str, float]
    offset: float
    ridge: float
    """The penalty that was taken, in 1 / feature²."""

    def value(self, text: str) -> float:
        return self.offset + sum(self.weights.get(word, 0.0) * x for word, x in features(text).items())


@dataclass(frozen=True, slots=True, kw_only=True)
class BagOfWords:
    """Word weights by aspect; what rankings and verdicts teach is one aspect, in nats of preference or log-odds."""

    aspects: Mapping[str, WordWeights]
    name: str = "bag of words"

    def score(self, groups: Sequence[Group]) -> Scores:
        """The mean over the aspects, and each of them as the part `aspect/NAME`."""
        texts = [text for group in groups for text in group.responses]
        values = {name: [words.value(text) for text in texts] for name, words in self.aspects.items()}
        means = scores_of(self.name, [sum(column) / len(column) for column in zip(*values.values(), strict=True)])
        return replace(means, parts={f"aspect/{name}": scores_of(name, own).scores for name, own in values.items()})


def floors(rows: LabelledRows, train: Sequence[LabelledRow]) -> list[Result]:
    """The floors' own results on these rows; a bag of words where the training rows have labels of the same sort."""
    results = [result for result in _measured(LongerWins(), rows) if measure_of(result.measure).key in ORDERS]
    alike = _of_kind(train[0], rows) if train else LabelledRows()
    if alike.ranked or alike.rated or alike.verdicts:
        results += _measured(bag_of_words(train), alike)
    return results


def _of_kind(example: LabelledRow, rows: LabelledRows) -> LabelledRows:
    match example:
        case Ranking() | Comparison():
            return LabelledRows(ranked=rows.ranked)
        case Rating():
            return LabelledRows(rated=rows.rated)
        case Verdict():
            return LabelledRows(verdicts=rows.verdicts)


def _measured(floor: Scorer, rows: LabelledRows) -> list[Result]:
    ranked = tuple(replace(row, subset="", votes=()) for row in rows.ranked)
    whole = replace(rows, ranked=ranked, rated=tuple(replace(row, subset="") for row in rows.rated))
    scored = score_rows(floor.name, floor, whole)
    return [replace(result, role="floor") for result in agreement(scored, log_odds=isinstance(floor, BagOfWords))]


def bag_of_words(train: Sequence[LabelledRow]) -> BagOfWords:
    """Fitted to the labels of the training rows, which are of one sort."""
    rankings = [as_ranking(row) for row in train if isinstance(row, Ranking | Comparison)]
    if rankings:
        return BagOfWords(aspects={"preference": fit_pairs(rankings)})
    return BagOfWords(aspects=fit_labels([row for row in train if isinstance(row, Rating | Verdict)]))


def fit_pairs(train: Sequence[Ranking], *, ridges: Sequence[float] = RIDGES) -> WordWeights:
    """Ridge logistic regression on the differences of two answers' word features; no offset, no randomness.

        minimise  Σ_pairs log(1 + exp(−w·(x_better − x_worse))) + ridge/2 · ‖w‖²,      x = log(1 + count) of each word

    More than MAX_PAIRS pairs: those whose prompt ids come first, which is a random choice of prompts, the same each
    time. The penalty is chosen on a quarter of the prompts. Raises: UserError where there is no pair.
    """
    pairs = sorted((pair for row in train for pair in _pairs(row)), key=lambda pair: pair[0])[:MAX_PAIRS]
    if not pairs:
        raise UserError("no pair to fit a bag of words to: every training ranking is tied or has one answer")
    rows = [_difference(features(better), features(worse)) for _, better, worse in pairs]
    aside = torch.tensor([int(prompt, 16) % 4 == 0 for prompt, _, _ in pairs])
    return _fitted(rows, torch.ones(len(rows), dtype=torch.float64), aside, logistic, ridges)


def fit_labels(train: Sequence[Rating | Verdict], *, ridges: Sequence[float] = RIDGES) -> dict[str, WordWeights]:
    """Ridge regression of each aspect's ratings, or ridge logistic regression of the verdicts (the aspect `accept`), on
    the answer's words; no randomness. More than MAX_ROWS rows: those that come first by a hash. The penalty is chosen
    on a quarter of the prompts."""
    hashes = [uniform(f"floor {key}", 0) for key in unit_keys(train)]
    order = sorted(range(len(train)), key=lambda index: (hashes[index], index))[:MAX_ROWS]
    rows = [train[index] for index in order]
    words = [{OFFSET: 1.0, **features(row.response)} for row in rows]
    aside = torch.tensor([hashes[index] % 0.25 < 0.0625 for index in order])
    labels: dict[str, dict[int, float]] = {}
    for index, row in enumerate(rows):
        own = {"accept": 1.0 if row.label else -1.0} if isinstance(row, Verdict) else row.scores
        for aspect, label in own.items():
            labels.setdefault(aspect, {})[index] = label
    loss = logistic if isinstance(rows[0], Verdict) else squared_error
    fitted = {}
    for aspect, by_row in labels.items():
        targets = torch.tensor(list(by_row.values()), dtype=torch.float64)
        fitted[aspect] = _fitted([words[i] for i in by_row], targets, aside[list(by_row)], loss, ridges)
    return fitted


def features(text: str) -> dict[str, float]:
    """log(1 + count) of each lower-case word or punctuation mark."""
    return {word: math.log1p(count) for word, count in Counter(tokens(text)).items()}


def _pairs(row: Ranking) -> list[tuple[str, str, str]]:
    """(prompt id, better, worse) of all pairs of a ranking; ties give none."""
    pairs = []
    for (text_a, rank_a), (text_b, rank_b) in combinations(zip(row.responses, row.ranks, strict=True), 2):
        if rank_a != rank_b:
            pairs.append((row.prompt.id, *((text_a, text_b) if rank_a < rank_b else (text_b, text_a))))
    return pairs


def _difference(plus: Mapping[str, float], minus: Mapping[str, float]) -> dict[str, float]:
    both = {word: plus.get(word, 0.0) - minus.get(word, 0.0) for word in {**plus, **minus}}
    return {word: amount for word, amount in both.items() if amount}


def _fitted(
    rows: Sequence[Mapping[str, float]],
    targets: Float64[Tensor, " N"],
    aside: Tensor,
    loss: Loss,
    ridges: Sequence[float],
) -> WordWeights:
    """By the penalty that does best on the rows that are `aside`: a floor that overfits would be too easy to beat."""
    spread = Counter(word for row in rows for word in row)
    frequent = sorted((w for w in spread if spread[w] >= MIN_ROWS or w == OFFSET), key=lambda w: (-spread[w], w))
    words = frequent[:MAX_WORDS]
    table = word_table(rows, words)
    penalised = torch.tensor([float(word != OFFSET) for word in words], dtype=torch.float64)
    ridge = max(ridges)
    # Without both labels log-odds have no optimum, and without rows on both sides a penalty has none.
    if aside.any() and not aside.all() and (OFFSET not in spread or len(targets[~aside].unique()) > 1):
        fitting, choosing = (table.index_select(0, part.nonzero().flatten()) for part in (~aside, aside))
        weights = torch.zeros_like(penalised)
        errors: dict[float, float] = {}
        for choice in sorted(ridges, reverse=True):
            weights = fit(fitting, targets[~aside], choice * penalised, loss, start=weights)
            errors[choice] = loss(choosing @ weights, targets[aside]).item()
        ridge = min(errors, key=lambda choice: errors[choice])
    weights = fit(table, targets, ridge * penalised, loss).tolist()
    by_word = dict(zip(words, weights, strict=True))
    offset = by_word.pop(OFFSET, 0.0)
    return WordWeights(weights=by_word, offset=offset, ridge=ridge)


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
    weights = (torch.zeros_like(ridge) if start is None else start).detach().clone()
    if not len(weights):
        return weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls rows of that form a beta; they are twenty times as fast
        rows, columns = table.to_sparse_csr(), table.t().to_sparse_csr()

    def slope(w: Tensor) -> tuple[Tensor, Tensor]:
        """What is minimised, and its gradient in w."""
        predicted = (rows @ w).requires_grad_()
        total = loss(predicted, targets)
        (by_row,) = torch.autograd.grad(total, predicted)
        return total.detach() + 0.5 * (ridge * w.square()).sum(), columns @ by_row + ridge * w

    tolerance = TOLERANCE * max(1.0, slope(torch.zeros_like(ridge))[1].abs().max().item())
    limits = {"max_iter": MAX_STEPS, "tolerance_grad": tolerance, "tolerance_change": 1e-15}
    optimizer = torch.optim.LBFGS([weights.requires_grad_()], line_search_fn="strong_wolfe", **limits)

    def closure() -> Tensor:
        total, weights.grad = slope(weights.detach())
        return total

    optimizer.step(closure)
    return weights.detach()
