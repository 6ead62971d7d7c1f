"""Numbers by token as colours: which columns have two sides, how far the scale goes, and the colours themselves."""

import math
from collections.abc import Iterable

from plaudit.report.rollouts import KeptRollout
from plaudit.telemetry.visible import visible

STEPS = 4
"""Shades on each side of none."""
LIMIT_SHARE = 0.95
"""The scale ends where this share of the iteration's tokens lies inside, so that a single outlier can't bleach the
rest; what lies beyond has the last shade."""

# Orange and blue stay apart for every kind of colour-blindness; both sides darken with distance from zero.
BELOW = ("#fee0b6", "#fdb863", "#e08214", "#b35806")
ABOVE = ("#d1e5f0", "#92c5de", "#4393c3", "#2166ac")
SIZE = ("#dadaeb", "#bcbddc", "#9e9ac8", "#54278f")
LIGHT_TEXT = frozenset({"#b35806", "#2166ac", "#54278f"})
"""Shades on which white text is read; black on the others."""

DEFAULT_COLUMN = "advantage"
# Name -> (heading, meaning), in the order of a table.
COLUMNS = {
    "logprob": ("logprob", "log π_old(y_t | x, y_<t): of the policy that wrote it, nats"),
    "ref_logprob": ("ref", "log π_ref(y_t | x, y_<t): of the frozen reference, nats"),
    "kl": ("KL", "log π_old − log π_ref: above zero where the policy likes the token more than the reference, nats"),
    "entropy": ("entropy", "of the policy's distribution where the token was drawn, nats"),
    "value": ("value", "V_t: what the critic expected from here on, score units"),
    "reward": ("reward", "r_t: the KL's price, and the score where it is given, score units"),
    "advantage": ("adv", "Â_t: how much better than expected the token turned out; whitened where the run whitens"),
    "return": ("return", "R̂_t: what came from here on, the critic's target, score units"),
    "score": ("score", "what the judge says of this token, score units"),
}
ONE_SIDED = frozenset({"logprob", "ref_logprob", "sampler_logprob", "entropy"})
"""Columns that lie on one side of zero: the size alone is coloured."""


def columns_of(rollouts: Iterable[KeptRollout]) -> list[str]:
    """The number columns that any of the rollouts has: known ones in their order, then others."""
    names = dict.fromkeys(name for r in rollouts if r.tokens for name in r.tokens.columns)
    return [name for name in COLUMNS if name in names] + [name for name in names if name not in COLUMNS]


def words(column: str) -> tuple[str, str]:
    """(heading, meaning); the name and "" for a column that this version doesn't know."""
    return COLUMNS.get(column, (column, ""))


def scale_end(rollouts: Iterable[KeptRollout], column: str) -> float:
    """Where the colour scale ends: a high quantile of |x| over the tokens that aren't zero; 0 where all are."""
    tables = [r.tokens for r in rollouts if r.tokens]
    sizes = sorted(abs(x) for table in tables for x in table.columns.get(column, ()) if x)
    return sizes[min(len(sizes) - 1, math.ceil(LIMIT_SHARE * len(sizes)) - 1)] if sizes else 0.0


def level(value: float | None, end: float, column: str) -> int:
    """−4 … 4: the sign says the side, 0 is no colour. One-sided columns have 0 … 4, by size."""
    if value is None or end <= 0:
        return 0
    size = min(STEPS, math.floor(abs(value) / end * STEPS + 0.5))
    return size if column in ONE_SIDED or value > 0 else -size


def shade(step: int, column: str) -> tuple[str, str] | None:
    """(text, background) of a level as hex colours; None for level 0."""
    if step == 0:
        return None
    side = SIZE if column in ONE_SIDED else ABOVE if step > 0 else BELOW
    background = side[abs(step) - 1]
    return ("#ffffff" if background in LIGHT_TEXT else "#000000"), background


def legend(column: str, end: float) -> list[tuple[int, float]]:
    """(level, the value in its middle) from left to right; the outermost also stand for all beyond."""
    first = 0 if column in ONE_SIDED else -STEPS
    # log-probabilities are below zero: more colour, more surprising
    sign = -1.0 if column.endswith("logprob") else 1.0
    return [(step, sign * end * step / STEPS) for step in range(first, STEPS + 1)]


def spelled(piece: str) -> str:
    """A token by itself, its spaces to be seen; … where it is a part of a character that comes later."""
    return visible(piece, "↵").replace(" ", "␣") or "…"
