"""What all objectives share that learn from compared answers: which rows won't do, and what pairs show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.records.text import Comparison, Ranking
from plaudit.telemetry.console import say
from plaudit.training.reward.objective import Example, Limits


def refuse_margins(rows: Sequence[Ranking | Comparison]) -> None:
    """UserError naming the first row with a margin: all objectives but `pairwise` would ignore it."""
    for row in rows:
        if row.margin if isinstance(row, Comparison) else row.columns.get("margin"):
            raise UserError(f"{row.where}: has a margin, which only `objective: pairwise` uses")


class BothOrders(Example, Protocol):
    """Two encoded answers to a prompt, which are read in both orders."""

    @property
    def length(self) -> int:
        """Ids of an input, which must not exceed what the model reads."""
        ...


P = TypeVar("P", bound=BothOrders)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs(Generic[P]):
    """All pairs of a prompt's answers that teach something."""

    pairs: tuple[P, ...]

    @property
    def num_tokens(self) -> int:
        return sum(pair.num_tokens for pair in self.pairs)


NO_LIMIT = 10**9
"""Ids: to ask how long a pair is before it is cut."""


def encode_pairs(
    rows: Sequence[Ranking], encode: Callable[[Ranking, int], list[P]], room: int, what: str, limits: Limits
) -> list[Pairs[P]]:
    """The pairs of each ranking by `encode`, which cuts inputs to so many ids; where one needs more than `room`, the
    row is cut, dropped or refused as `limits` say. Rows without a pair are left out."""
    refuse_margins(rows)
    examples: list[Pairs[P]] = []
    long: list[str] = []
    for row in rows:
        pairs = encode(row, NO_LIMIT)
        if any(pair.length > room for pair in pairs):
            long.append(row.where)
            pairs = encode(row, room) if limits.too_long == "truncate" else []
        if pairs:
            examples.append(Pairs(pairs=tuple(pairs)))
    if long and limits.too_long == "error":
        raise UserError(
            f"{len(long)} row(s) with {what} of more than {limits.max_length} tokens: {', '.join(long[:5])}. "
            "Raise max_length, or set too_long to `drop` or `truncate`."
        )
    if long:
        say(f"{len(long)} rankings with {what} of more than {limits.max_length} tokens: {limits.too_long}")
    return examples


def pair_sums(margin: Float[Tensor, " N"]) -> dict[str, float]:
    """Of some pairs' r_w − r_l, score units: their sum, and how many are above 0 (ties half)."""
    wins = (margin > 0).sum() + 0.5 * (margin == 0).sum()
    return {"margin": float(margin.sum()), "wins": float(wins)}


def pair_metrics(sums: Mapping[str, float], num_pairs: int) -> dict[str, float]:
    """Accuracy and mean margin of a minibatch, from its `pair_sums`; 0 where it has no pair."""
    pairs = max(num_pairs, 1)
    return {"accuracy_over_pairs": sums["wins"] / pairs, "margin_over_pairs": sums["margin"] / pairs}
