"""Which of two models answers better, prompt by prompt (N5.1). A tie counts half; > 0.5 means the first is better."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from plaudit.errors import UserError
from plaudit.evaluation.intervals import clustered_interval

Judge = Callable[[str, str, str], float | None]
"""judge(prompt, first, second) → probability in [0, 1] that `first` is the better answer; None abstains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """A against B."""

    rate: float
    """(wins + ties / 2) / n, in [0, 1]. A against itself: 0.5. B against A: 1 − rate."""
    low: float
    high: float
    """95 % (z = 1.96), Wilson; prompts with several answers are one cluster each."""
    wins: int
    ties: int
    losses: int
    n: int
    """Comparisons that count: wins + ties + losses."""
    abstained: int
    """Comparisons left out: the judge abstained on a side."""
    disagreements: int = 0
    """Ties that are ties because the pairwise judge changed its mind with the order (a position bias)."""


def win_rate(
    scores_a: Sequence[float | None],
    scores_b: Sequence[float | None],
    *,
    prompts: Sequence[Hashable] = (),
    tie_margin: float = 0.0,
) -> WinRate:
    """A's against B's scores on the same prompts, in the same order; None: the judge abstained.

    A difference of at most `tie_margin` (score units) is a tie. `prompts` names each entry's prompt where one prompt
    stands several times. UserError where nothing can be compared; ValueError for lengths that differ or NaN.
    """
    if tie_margin < 0.0:
        raise ValueError(f"tie_margin must not be negative, not {tie_margin}")
    outcomes: list[float | None] = []
    for a, b in zip(scores_a, scores_b, strict=True):
        if a is None or b is None:
            outcomes.append(None)
            continue
        if not (math.isfinite(a) and math.isfinite(b)):
            raise ValueError(f"scores must be finite numbers, not {a} and {b}; None abstains")
        outcomes.append(0.5 if abs(a - b) <= tie_margin else float(a > b))
    return rate_of(outcomes, prompts=prompts)


def win_rates_against(
    scores: Mapping[str, Sequence[float | None]],
    baseline: str,
    *,
    prompts: Sequence[Hashable] = (),
    tie_margin: float = 0.0,
) -> dict[str, WinRate]:
    """Every model against one fixed baseline on the same prompts (SFT-175B in N5.1); the baseline itself gets 0.5."""
    if baseline not in scores:
        raise UserError(f"there are no scores of the baseline {baseline!r}, only of {', '.join(scores)}")
    fixed = scores[baseline]
    return {name: win_rate(own, fixed, prompts=prompts, tie_margin=tie_margin) for name, own in scores.items()}


def judged_win_rate(
    judge: Judge, prompts: Sequence[str], answers_a: Sequence[str], answers_b: Sequence[str]
) -> WinRate:
    """A against B by a pairwise judge, who sees each pair in both orders, because judges favour a place.

    A wins where the judge prefers it in both orders (probability above ½ each time), B likewise; anything else is a
    tie, so a judge who looks at the place alone gives 0.5, and exchanging A and B gives exactly 1 − rate. Entries with
    the same prompt are one cluster of the interval. Twice as many calls as pairs.
    """
    outcomes: list[float | None] = []
    disagreements = 0
    for prompt, a, b in zip(prompts, answers_a, answers_b, strict=True):
        first, second = _asked(judge, prompt, a, b), _asked(judge, prompt, b, a)
        if first is None or second is None:
            outcomes.append(None)
            continue
        outcomes.append(1.0 if first > 0.5 > second else 0.0 if first < 0.5 < second else 0.5)
        disagreements += (first > 0.5 and second > 0.5) or (first < 0.5 and second < 0.5)
    return rate_of(outcomes, prompts=prompts, disagreements=disagreements)


def rate_of(outcomes: Sequence[float | None], *, prompts: Sequence[Hashable] = (), disagreements: int = 0) -> WinRate:
    """Outcomes (1 won, 0.5 tie, 0 lost, None abstained) as a rate with its interval. UserError where none is left."""
    names = list(prompts) if prompts else list(range(len(outcomes)))
    kept = [(outcome, name) for outcome, name in zip(outcomes, names, strict=True) if outcome is not None]
    if not kept:
        raise UserError(f"nothing to compare: the judge abstained on all {len(outcomes)} pairs")
    values = [outcome for outcome, _ in kept]
    low, high = clustered_interval(values, [name for _, name in kept])
    return WinRate(
        rate=sum(values) / len(values),
        low=low,
        high=high,
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        n=len(values),
        abstained=len(outcomes) - len(values),
        disagreements=disagreements,
    )


def _asked(judge: Judge, prompt: str, first: str, second: str) -> float | None:
    probability = judge(prompt, first, second)
    if probability is None:
        return None
    if not 0.0 <= probability <= 1.0:
        raise UserError(f"the judge must return a probability in [0, 1] (or None), not {probability!r}, for {prompt!r}")
    return float(probability)
