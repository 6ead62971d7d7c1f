"""After training: the zero point and the unit of the scores, by reference answers (N3.12)."""

from collections.abc import Sequence
from typing import assert_never

from plaudit.errors import UserError
from plaudit.models.reward.normalisation import Normalisation, centring, standardising
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Demonstration, Group
from plaudit.scoring.learned import RewardModelScorer
from plaudit.training.reward.objective import Budget
from plaudit.training.reward.options import Centre, Standardise


def normalisation(
    model: RewardModel, rows: Sequence[Demonstration], how: Centre | Standardise, budget: Budget
) -> Normalisation:
    """What brings the reference answers' raw scores where `how` wants them. UserError where they don't vary."""
    model.normalisation = Normalisation()
    answers = [Group(prompt=row.prompt, responses=(row.response,)) for row in rows]
    raw = RewardModelScorer(model, budget.machine, budget=budget.tokens).score(answers).scores
    match how:
        case Centre():
            return centring(raw, clip=how.clip)
        case Standardise():
            try:
                return standardising(raw, clip=how.clip)
            except ValueError as error:
                raise UserError(f"reference: {error}") from error
        case _:
            assert_never(how)
