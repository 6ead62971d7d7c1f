"""The second half of ArmoRM: a gate on the prompt mixes the aspects so that the mix ranks as people do (N3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.correlation import spearman
from plaudit.formulas.preference_losses import kwise
from plaudit.models.load import Language
from plaudit.models.options import GateShape, ModelConfig
from plaudit.models.reward import gated
from plaudit.models.reward.aspects import KIND as ASPECTS
from plaudit.models.reward.aspects import saved_aspects
from plaudit.models.reward.gated import GatedRewardModel
from plaudit.models.reward.loading import kind_of
from plaudit.records.text import Kind, Ranking
from plaudit.tokens.batches import by_token_budget
from plaudit.training.reward.objective import Limits, Pace
from plaudit.training.reward.rankings import Ranked, learn_prompts, without_margins

PENALTIES = tuple(i / 20 for i in range(0, 41))
"""λ from 0 to 2 in steps of 0.05, the smallest that will do is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTraining:
    """A gate over a model of aspects (`model.path`: what `objective: aspects_ridge` or `aspects` left), trained on
    rankings; the aspects stay as they are."""

    kind: Literal["gate"] = "gate"
    shape: GateShape = field(default_factory=GateShape)
    """The gate's network."""
    verbosity: str = ""
    """The aspect that stands for length, to be taken out of all others; empty: no correction."""
    max_correlation: float = 0.03
    """Of each corrected aspect with verbosity (Spearman, over the training answers): the smallest penalty that gets
    there is taken."""
    learns_from: ClassVar[Kind] = Kind.RANKING

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Ranking], *, seed: int):
        return gated.new(config, language, self.shape, seed=seed)

    def check(self, config: ModelConfig) -> None:
        """Before any model loads: UserError where the folder holds no aspects, or none that stands for length."""
        if config.path == "tiny" or kind_of(config) != ASPECTS:
            raise UserError(
                f"model.path: {config.path!r} is no reward model of aspects, which a gate mixes; train one by "
                "`objective: aspects_ridge`"
            )
        names = [aspect.name for aspect in saved_aspects(config)]
        if self.verbosity and self.verbosity not in names:
            raise UserError(f"objective.verbosity: no aspect {self.verbosity!r}; there are {', '.join(names)}")

    def examples(self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits) -> list[list[Ranked]]:
        return [without_margins(rows, language, limits) for rows in sources]

    def prepare(self, model: GatedRewardModel, examples: Sequence[Ranked], pace: Pace) -> None:
        """Choose the verbosity penalties on the training answers, before the gate sees any rating."""
        if not self.verbosity:
            return
        verbosity = [aspect.name for aspect in model.aspects.aspects].index(self.verbosity)
        ratings = _ratings(model, examples, pace)
        model.correct(verbosity, penalties(ratings, verbosity, self.max_correlation))

    def backward(self, model: GatedRewardModel, examples: Sequence[Ranked], pace: Pace) -> dict[str, float]:
        """Loss per prompt, nats, of the mixed and corrected scores; accuracy and margin over pairs."""
        return learn_prompts(model, examples, kwise, pace)


def penalties(ratings: Float[Tensor, "N A"], verbosity: int, max_correlation: float) -> Float[Tensor, " A"]:
    """For each aspect the smallest λ with Spearman(z_a − λ z_v, z_v) ≤ `max_correlation`; 1 for verbosity itself, of
    which then nothing is left. The largest on offer where none will do."""
    long = ratings[:, verbosity]
    found = []
    for aspect in range(ratings.shape[1]):
        small_enough = (p for p in PENALTIES if spearman(ratings[:, aspect] - p * long, long) <= max_correlation)
        found.append(1.0 if aspect == verbosity else next(small_enough, PENALTIES[-1]))
    return torch.tensor(found)


@torch.no_grad()
def _ratings(model: GatedRewardModel, examples: Sequence[Ranked], pace: Pace) -> Float[Tensor, "N A"]:
    parts = []
    for cut in by_token_budget((row.num_tokens for row in examples), pace.budget):
        with pace.place.autocast():
            parts.append(model.read([group for i in cut for group in examples[i].groups])[0].float().cpu())
    return torch.cat(parts)
