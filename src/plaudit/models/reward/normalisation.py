"""The zero point and the unit of a score (N3.12): stored with the weights, applied wherever the model scores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError

HIGHEST = "highest_score"
"""Key in plaudit.json: the best score of the held-out answers that the model was measured on, where there were any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """score = clip(gain · (raw − bias)). Preferences say nothing of the zero point, and labels without noise nothing of
    the unit; both are chosen once, after training, on reference answers."""

    bias: float = 0.0
    """Raw score that becomes 0, such as the mean of the demonstrations' (Ouyang et al. 2022, C.2)."""
    gain: float = 1.0
    """Scores per raw unit, such as 1/σ over reference answers (Ziegler et al. 2019)."""
    clip: float = 0.0
    """Scores stay within ±clip; 0: no limit."""

    def __post_init__(self) -> None:
        if not self.gain > 0.0 or self.clip < 0.0:
            raise ValueError(f"gain must be positive and clip not negative, not {self.gain} and {self.clip}")

    def apply(self, raw: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """Raw scores of the head as scores."""
        scores = self.gain * (raw - self.bias)
        return scores.clamp(-self.clip, self.clip) if self.clip else scores

    def facts(self) -> dict[str, float]:
        """For plaudit.json."""
        return asdict(self)


def standardising(raw: Float[Tensor, " N"], *, clip: float = 0.0) -> Normalisation:
    """Mean 0 and standard deviation 1 over these raw scores. ValueError where they don't vary."""
    mean, deviation = float(raw.double().mean()), float(raw.double().std(correction=0))
    if not deviation > 0.0:
        raise ValueError("the reference answers all score the same: their deviation can't become the unit")
    return Normalisation(bias=mean, gain=1.0 / deviation, clip=clip)


def centring(raw: Float[Tensor, " N"], *, clip: float = 0.0) -> Normalisation:
    """Mean 0 over these raw scores, the unit kept (N3.12)."""
    return Normalisation(bias=float(raw.double().mean()), clip=clip)


def of_facts(facts: Mapping[str, Any], where: str) -> Normalisation:
    """What plaudit.json says; no normalisation for a model that plaudit did not write."""
    try:
        return Normalisation(**facts.get("normalisation", {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: `normalisation` in plaudit.json is damaged: {error}") from error
