"""Which of two policies answers better, prompt by prompt (N5.1). A tie counts half; > 0.5 means the first is better."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

from plaudit.errors import UserError
from plaudit.evaluation.intervals import share_of
from plaudit.records.results import Result


def win_rate(
    subject: str,
    scores: Sequence[float | None],
    against: str,
    others: Sequence[float | None],
    *,
    prompts: Sequence[Hashable],
) -> Result:
    """One policy's scores against another's on the same prompts, in the same order (N5.1); None: the judge abstained.

    The value is (wins + ties / 2) / count, its interval Wilson's; entries of one prompt are one cluster. A policy
    against itself: 0.5; with the sides exchanged: 1 − value.
    Raises: UserError where nothing can be compared; ValueError for lengths that differ or a score that is not finite.
    """
    outcomes: list[float] = []
    compared: list[Hashable] = []
    for a, b, prompt in zip(scores, others, prompts, strict=True):
        if a is None or b is None:
            continue
        if not (math.isfinite(a) and math.isfinite(b)):
            raise ValueError(f"scores must be finite numbers, not {a} and {b}; None abstains")
        outcomes.append(0.5 if a == b else float(a > b))
        compared.append(prompt)
    if not outcomes:
        raise UserError(f"{subject} against {against}: nothing to compare, the judge abstained on all {len(scores)}")
    wins, ties, losses = (outcomes.count(outcome) for outcome in (1.0, 0.5, 0.0))
    facts = {"wins": wins, "losses": losses, "abstained": len(scores) - len(outcomes)}
    about: dict[str, Any] = {"against": against, "floor": 0.5, "ceiling": 1.0, "ties": ties, "facts": facts}
    return share_of("win_rate_over_prompts", subject, outcomes, compared, **about)
