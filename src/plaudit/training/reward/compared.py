"""What all objectives share that learn from compared answers: which rows won't do, and what pairs show."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.records.text import Comparison, Ranking
from plaudit.telemetry.console import say
from plaudit.training.reward.objective import Limits


def refuse_margins(rows: Sequence[Ranking | Comparison]) -> None:
    """UserError naming the first row with a margin: all objectives but `pairwise` would ignore it."""
    for row in rows:
        if row.margin if isinstance(row, Comparison) else row.columns.get("margin"):
            raise UserError(f"{row.where}: has a margin, which only `objective: pairwise` uses")


def settle_long(long: Sequence[str], what: str, limits: Limits) -> None:
    """Say what became of the rows (`long`: where they stand) that hold `what` longer than the limit, or refuse them."""
    if long and limits.too_long == "error":
        raise UserError(
            f"{len(long)} row(s) with {what} of more than {limits.max_length} tokens: {', '.join(long[:5])}. "
            "Raise max_length, or set too_long to `drop` or `truncate`."
        )
    if long:
        say(f"{len(long)} rankings with {what} of more than {limits.max_length} tokens: {limits.too_long}")


def pair_sums(margin: Float[Tensor, " N"]) -> dict[str, float]:
    """Of some pairs' r_w − r_l, score units: their sum, and how many are above 0 (ties half)."""
    wins = (margin > 0).sum() + 0.5 * (margin == 0).sum()
    return {"margin": float(margin.sum()), "wins": float(wins)}


def pair_metrics(sums: Mapping[str, float], num_pairs: int) -> dict[str, float]:
    """Accuracy and mean margin of a minibatch, from its `pair_sums`; 0 where it has no pair."""
    pairs = max(num_pairs, 1)
    return {"accuracy_over_pairs": sums["wins"] / pairs, "margin_over_pairs": sums["margin"] / pairs}
