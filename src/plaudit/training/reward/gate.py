"""The second half of ArmoRM: a gate on the prompt mixes the aspects so that the mix ranks as people do (N3.7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.correlation import spearman
from plaudit.formulas.preference_losses import kwise
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import gated
from plaudit.models.reward.aspects import KIND as ASPECTS
from plaudit.models.reward.aspects import saved_aspects
from plaudit.models.reward.gated import GatedRewardModel
from plaudit.models.reward.loading import kind_of
from plaudit.records.text import Ranking
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.objective import Budget, Limits, read_all
from plaudit.training.reward.options import GateTraining
from plaudit.training.reward.rankings import Ranked, learn_prompts, without_margins

PENALTIES = tuple(i / 20 for i in range(0, 41))
"""λ from 0 to 2 in steps of 0.05, the smallest that will do is taken."""


@dataclass(frozen=True, slots=True)
class GateObjective:
    """A gate over a model of aspects, by the K-wise loss of the mixed scores; the aspects stay as they are."""

    options: GateTraining

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Ranking], *, seed: int) -> GatedRewardModel:
        return gated.new(config, language, self.options.shape, seed=seed)

    def check(self, config: ModelConfig) -> None:
        """Before any model loads: UserError where the folder holds no aspects, or none that stands for length."""
        if config.path == "tiny" or kind_of(config) != ASPECTS:
            raise UserError(
                f"model.path: {config.path!r} is no reward model of aspects, which a gate mixes; train one by "
                "`objective: aspects_ridge`"
            )
        names = [aspect.name for aspect in saved_aspects(config)]
        if self.options.verbosity and self.options.verbosity not in names:
            raise UserError(f"objective.verbosity: no aspect {self.options.verbosity!r}; there are {', '.join(names)}")

    def examples(self, sources: Sequence[Sequence[Ranking]], language: Language, limits: Limits) -> list[list[Ranked]]:
        return [without_margins(rows, language, limits) for rows in sources]

    def prepare(self, model: GatedRewardModel, examples: Sequence[Ranked], budget: Budget) -> None:
        """Choose the verbosity penalties on the training answers, before the gate sees any rating."""
        if not self.options.verbosity:
            return
        verbosity = [aspect.name for aspect in model.aspects.aspects].index(self.options.verbosity)
        ratings = read_all(
            lambda part: model.read([group for row in part for group in row.groups])[0], examples, budget
        )
        model.correct(verbosity, penalties(ratings, verbosity, self.options.max_correlation))

    def backward(self, model: GatedRewardModel, examples: Sequence[Ranked], budget: Budget) -> MinibatchLoss:
        """Loss per prompt, nats, of the mixed and corrected scores; accuracy and margin over pairs."""
        return learn_prompts(model, examples, kwise, budget)


def penalties(ratings: Float[Tensor, "N A"], verbosity: int, max_correlation: float) -> Float[Tensor, " A"]:
    """For each aspect the smallest λ with Spearman(z_a − λ z_v, z_v) ≤ `max_correlation`; 1 for verbosity itself, of
    which then nothing is left. The largest on offer where none will do."""
    long = ratings[:, verbosity]
    chosen = []
    for aspect in range(ratings.shape[1]):
        small_enough = (p for p in PENALTIES if spearman(ratings[:, aspect] - p * long, long) <= max_correlation)
        chosen.append(1.0 if aspect == verbosity else next(small_enough, PENALTIES[-1]))
    return torch.tensor(chosen)
