"""After training: the zero point and the unit of the scores, by reference answers (N3.12)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from plaudit.errors import UserError
from plaudit.hardware.machine import Machine
from plaudit.models.reward.normalisation import Normalisation, centring, standardising
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Demonstration, Group
from plaudit.scoring.learned import RewardModelScorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """Reference answers score 0 on average; the unit stays that of the loss (N3.12)."""

    kind: Literal["centre"] = "centre"
    clip: float = 0.0
    """Scores stay within ±clip, score units; 0: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardise:
    """Reference answers score 0 on average with deviation 1 (gain and bias of Ziegler et al. 2019)."""

    kind: Literal["standardise"] = "standardise"
    clip: float = 0.0
    """Scores stay within ±clip, in deviations; 0: no limit."""


def normalisation(
    model: RewardModel, rows: Sequence[Demonstration], how: Centre | Standardise, place: Machine, budget: int
) -> Normalisation:
    """What brings the reference answers' raw scores where `how` wants them. UserError where they don't vary."""
    model.normalisation = Normalisation()
    answers = [Group(prompt=row.prompt, responses=(row.response,)) for row in rows]
    raw = RewardModelScorer(model, place, budget=budget).score(answers).scores
    if how.kind == "centre":
        return centring(raw, clip=how.clip)
    try:
        return standardising(raw, clip=how.clip)
    except ValueError as error:
        raise UserError(f"reference: {error}") from error
