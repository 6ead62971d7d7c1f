"""Which objective's options are learned by which family: the one list of them."""

from collections.abc import Callable
from typing import Any, get_args

from plaudit.training.reward import options as kinds
from plaudit.training.reward.aspects import AspectObjective, RidgeObjective
from plaudit.training.reward.gate import GateObjective
from plaudit.training.reward.labelled import RatingObjective, VerdictObjective
from plaudit.training.reward.objective import ClosedFormObjective, GradientObjective
from plaudit.training.reward.options import AnyObjective, ByRanking
from plaudit.training.reward.pair import PairObjective
from plaudit.training.reward.rankings import RankingObjective
from plaudit.training.reward.seq2seq import Seq2SeqObjective
from plaudit.training.reward.shared_trunk import SharedTrunkObjective
from plaudit.training.reward.token_level import TokenLevelObjective

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


def objective_of(options: AnyObjective) -> GradientObjective | ClosedFormObjective:
    """The behaviour of a kind: its rows as ids, its model, its loss."""
    return FAMILIES[type(options)](options)
