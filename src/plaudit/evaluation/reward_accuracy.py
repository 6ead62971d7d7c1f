"""Does a judge rank as people do? Accuracy over the pairs of held-out rankings (N3.1, N3.3).

A pair is two answers of one prompt that the labels put in different places. The judge is right where the better
placed one scores higher; equal scores count half. Pairs that the labels tie say nothing and are left out, and counted;
so are pairs with an answer on which the judge abstained.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TypeVar

from plaudit.errors import UserError
from plaudit.evaluation.intervals import clustered_interval
from plaudit.records.text import Comparison, Group, Ranking
from plaudit.scoring.protocol import Scorer, check_scores, num_responses

BATCH_RESPONSES = 256
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Shares are in [0, 1]; 0.5 is what a coin reaches."""

    accuracy: float
    """(right + score_ties / 2) / pairs: every pair counts alike, so a long ranking weighs more than a short one."""
    low: float
    high: float
    """95 % (z = 1.96): Wilson's interval of as many *independent* pairs as the spread between prompts warrants."""
    accuracy_by_prompt: float
    """Mean over prompts of the accuracy inside the prompt: every prompt counts alike, as in the loss of N3.3."""
    pairs: int
    """Pairs judged."""
    prompts: int
    """Prompts with at least one judged pair."""
    score_ties: int
    """Judged pairs with equal scores, counted half."""
    label_ties: int
    """Pairs left out: the labels put both in one place."""
    abstained: int
    """Pairs left out: the judge abstained on an answer."""
    subsets: Mapping[str, "Accuracy"] = field(default_factory=dict)
    """The same for each subset that has a judged pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """One ranking's pairs: 1 right, 0 wrong, 0.5 equal scores."""

    outcomes: tuple[float, ...]
    label_ties: int
    abstained: int
    prompt: Hashable
    subset: str


def pair_accuracy(
    scores: Sequence[Sequence[float | None]],
    ranks: Sequence[Sequence[int]],
    *,
    prompts: Sequence[Hashable] = (),
    subsets: Sequence[str] = (),
) -> Accuracy:
    """Accuracy of `scores` (None: abstained) against `ranks` (1 = best), one inner list a ranking.

    `prompts` names each ranking's prompt, where one prompt has several rankings: pairs of one prompt stay together in
    the interval. `subsets` names each ranking's subset. ValueError for lists that do not fit together or a score that
    is not finite; UserError where no pair is left.
    """
    names = list(prompts) if prompts else list(range(len(scores)))
    tags = list(subsets) if subsets else [""] * len(scores)
    rows = [_pairs(*row) for row in zip(scores, ranks, names, tags, strict=True)]
    overall = _accuracy(rows)
    if overall is None:
        raise UserError(f"no pair to judge in {len(rows)} rankings: each is tied, alone, or abstained on")
    parts = {tag: _accuracy([row for row in rows if row.subset == tag]) for tag in dict.fromkeys(subsets)}
    return replace(overall, subsets={tag: part for tag, part in parts.items() if part is not None})


def reward_accuracy(scorer: Scorer, rankings: Sequence[Ranking | Comparison], *, subset_column: str = "") -> Accuracy:
    """The scorer's accuracy on labelled rankings and comparisons; `subset_column` names a column to split by.

    The prompt's id decides which pairs belong together, so one prompt that stands in several rows is one prompt.
    """
    rows = [as_ranking(row) for row in rankings]
    if not rows:
        raise UserError("no rankings to measure the accuracy on")
    subsets = [str(row.columns.get(subset_column, "")) for row in rows] if subset_column else []
    if subset_column and not any(subset_column in row.columns for row in rows):
        raise UserError(f"no ranking has the column {subset_column!r} to split by")
    scores = score_groups(scorer, [group_of(row) for row in rows])
    return pair_accuracy(scores, [row.ranks for row in rows], prompts=[row.prompt.id for row in rows], subsets=subsets)


def score_groups(scorer: Scorer, groups: Sequence[Group]) -> list[list[float | None]]:
    """The scorer's numbers, one list a group, None where it abstained; asked in batches of about 256 responses."""
    return score_parts(scorer, groups)[0]


def score_parts(
    scorer: Scorer, groups: Sequence[Group]
) -> tuple[list[list[float | None]], dict[str, list[list[float]]]]:
    """`score_groups`, and by name the parts that its scores are made of, in the same shape."""
    results: list[list[float | None]] = []
    parts: dict[str, list[list[float]]] = {}
    batch: list[Group] = []
    for index, group in enumerate(groups):
        batch.append(group)
        if num_responses(batch) < BATCH_RESPONSES and index + 1 < len(groups):
            continue
        scores = check_scores(scorer.name, scorer.score(batch), num_responses(batch))
        results += _by_group(scores.optional_scores, batch)
        for name, values in scores.parts.items():
            parts.setdefault(name, []).extend(_by_group(values.tolist(), batch))
        batch = []
    return results, parts


def _by_group(flat: Iterable[T], groups: Sequence[Group]) -> list[list[T]]:
    values = iter(flat)
    return [[next(values) for _ in group.responses] for group in groups]


def group_of(ranking: Ranking) -> Group:
    """The ranking's answers as a scorer wants them."""
    return Group(prompt=ranking.prompt, responses=ranking.responses, columns=ranking.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAccuracy:
    """Accuracy against labels that are random with known probabilities, in expectation: no label noise in it."""

    accuracy: float
    """Mean over pairs of the probability that the labels agree with the judge; equal scores count half."""
    ceiling: float
    """The same for the judge that knows the truth: mean of max(p, 1 − p) (Bayes accuracy). No judge expects more."""
    pairs: int


def expected_accuracy(differences: Sequence[float], probabilities: Sequence[float]) -> ExpectedAccuracy:
    """Pairs (a, b) with the judge's score difference s_a − s_b and the known probability that a is preferred.

        mean over pairs of  p where s_a > s_b,  1 − p where s_a < s_b,  ½ where they are equal

    ValueError where there is no pair, a difference is NaN, or a probability lies outside [0, 1].
    """
    pairs = list(zip(differences, probabilities, strict=True))
    if not pairs or any(math.isnan(d) or not 0.0 <= p <= 1.0 for d, p in pairs):
        raise ValueError("expected_accuracy: at least one pair, differences that are numbers, probabilities in [0, 1]")
    agree = [p if difference > 0 else 1.0 - p if difference < 0 else 0.5 for difference, p in pairs]
    best = [max(p, 1.0 - p) for _, p in pairs]
    return ExpectedAccuracy(accuracy=sum(agree) / len(pairs), ceiling=sum(best) / len(pairs), pairs=len(pairs))


def expected_accuracy_of_rankings(
    scores: Sequence[Sequence[float | None]],
    true_rewards: Sequence[Sequence[float | None]],
    *,
    noise_scale: float = 1.0,
) -> ExpectedAccuracy:
    """The same over all pairs of each prompt's answers, for labellers who rank by true reward plus Gumbel noise.

    Such rankings are Plackett–Luce and their pairs Bradley–Terry: P(a before b) = σ((r_a − r_b) / noise_scale).
    Pairs with a None (abstained) are left out.
    """
    if noise_scale <= 0.0:
        raise ValueError(f"noise_scale must be positive, not {noise_scale}")
    differences: list[float] = []
    probabilities: list[float] = []
    for judged, true in zip(scores, true_rewards, strict=True):
        for (score_a, true_a), (score_b, true_b) in combinations(zip(judged, true, strict=True), 2):
            if score_a is None or score_b is None or true_a is None or true_b is None:
                continue
            differences.append(score_a - score_b)
            probabilities.append(_sigmoid((true_a - true_b) / noise_scale))
    return expected_accuracy(differences, probabilities)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def as_ranking(row: Ranking | Comparison) -> Ranking:
    """A comparison is a ranking of two."""
    if isinstance(row, Ranking):
        return row
    return Ranking(prompt=row.prompt, responses=(row.chosen, row.rejected), ranks=(1, 2), where=row.where)


def _pairs(scores: Sequence[float | None], ranks: Sequence[int], prompt: Hashable, subset: str) -> _Pairs:
    outcomes: list[float] = []
    label_ties = abstained = 0
    for (score_a, rank_a), (score_b, rank_b) in combinations(zip(scores, ranks, strict=True), 2):
        if rank_a == rank_b:
            label_ties += 1
        elif score_a is None or score_b is None:
            abstained += 1
        else:
            outcomes.append(_outcome(score_a, score_b) if rank_a < rank_b else _outcome(score_b, score_a))
    return _Pairs(outcomes=tuple(outcomes), label_ties=label_ties, abstained=abstained, prompt=prompt, subset=subset)


def _outcome(better: float, worse: float) -> float:
    if not (math.isfinite(better) and math.isfinite(worse)):
        raise ValueError(f"scores must be finite numbers, not {better} and {worse}; None abstains")
    return 1.0 if better > worse else 0.0 if better < worse else 0.5


def _accuracy(rows: Sequence[_Pairs]) -> Accuracy | None:
    outcomes = [outcome for row in rows for outcome in row.outcomes]
    if not outcomes:
        return None
    prompts = [row.prompt for row in rows for _ in row.outcomes]
    by_prompt: dict[Hashable, list[float]] = {}
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        by_prompt.setdefault(prompt, []).append(outcome)
    low, high = clustered_interval(outcomes, prompts)
    return Accuracy(
        accuracy=sum(outcomes) / len(outcomes),
        low=low,
        high=high,
        accuracy_by_prompt=sum(sum(values) / len(values) for values in by_prompt.values()) / len(by_prompt),
        pairs=len(outcomes),
        prompts=len(by_prompt),
        score_ties=outcomes.count(0.5),
        label_ties=sum(row.label_ties for row in rows),
        abstained=sum(row.abstained for row in rows),
    )
