"""Which objective's options are learned by which family: the one list of them."""

from collections.abc import Callable
from typing import Any, get_args

from plaudit.training.reward import options as kinds
from plaudit.training.reward.labelled import AspectObjective, RatingObjective, RidgeObjective, VerdictObjective
from plaudit.training.reward.objective import ClosedFormObjective, GradientObjective
from plaudit.training.reward.options import AnyObjective, ByRanking
from plaudit.training.reward.pairs import PairObjective, Seq2SeqObjective, TokenLevelObjective
from plaudit.training.reward.rankings import GateObjective, RankingObjective, SharedTrunkObjective

FAMILIES: dict[type[AnyObjective], Callable[[Any], Any]] = {
    **dict.fromkeys(get_args(ByRanking), RankingObjective),
    kinds.TwoClass: VerdictObjective,
    kinds.RatingRegression: RatingObjective,
    kinds.AspectRegression: AspectObjective,
    kinds.AspectRidge: RidgeObjective,
    kinds.GateTraining: GateObjective,
    kinds.TokenLevel: TokenLevelObjective,
    kinds.SharedTrunk: SharedTrunkObjective,
    kinds.Pair: PairObjective,
    kinds.Seq2Seq: Seq2SeqObjective,
}


def objective_of(options: AnyObjective) -> GradientObjective[Any] | ClosedFormObjective[Any]:
    """The behaviour of a kind: its rows as ids, its model, its loss."""
    return FAMILIES[type(options)](options)
