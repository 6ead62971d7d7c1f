"""Ratings by aspect: by gradient through the whole model, or by ridge regression on a frozen one (N3.7)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from plaudit.errors import UserError
from plaudit.formulas.pointwise_losses import aspect_errors, rating_scales
from plaudit.formulas.ridge import ridge
from plaudit.hardware.randomness import permutation
from plaudit.models.load import Language, architecture
from plaudit.models.options import ModelConfig
from plaudit.models.reward import aspects as models
from plaudit.models.reward.aspects import Aspect, AspectsRewardModel
from plaudit.models.reward.reader import PackedReader, sharing
from plaudit.records.text import Rating
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.labelled import STD_FLOOR, Labelled, labelled
from plaudit.training.reward.objective import Budget, Limits, accumulate, over_rows, read_all
from plaudit.training.reward.options import AspectRegression, AspectRidge

Rated = Labelled[tuple[float, ...]]
"""An answer's standardised ratings by aspect, NaN where an aspect was not rated."""


@dataclass(frozen=True, slots=True)
class _Ratings:
    """What both have in common that learn ratings by aspect."""

    options: AspectRegression | AspectRidge

    def model(
        self, config: ModelConfig, language: Language, rows: Sequence[Rating], *, seed: int
    ) -> AspectsRewardModel:
        return models.new(config, language, aspects_of(rows, self.options.weights), seed=seed)

    def examples(self, sources: Sequence[Sequence[Rating]], language: Language, limits: Limits) -> list[list[Rated]]:
        return rated_examples(sources, self.options.weights, language, limits)


@dataclass(frozen=True, slots=True)
class AspectObjective(_Ratings):
    """All parameters by gradient."""

    options: AspectRegression

    def backward(self, model: AspectsRewardModel, examples: Sequence[Rated], budget: Budget) -> MinibatchLoss:
        """Squared error per rating, in standardised units, over all aspects alike."""
        ratings = sum(not math.isnan(label) for row in examples for label in row.label)

        def of_part(part: Sequence[Rated]) -> tuple[Tensor, Mapping[str, float]]:
            predicted = model(sharing([row.answer for row in part])).float()
            labels = predicted.new_tensor([row.label for row in part])
            return aspect_errors(predicted, labels, ~labels.isnan())[0], {}

        sums = accumulate(of_part, examples, ratings, budget)
        return over_rows(sums["loss"] / max(ratings, 1))


@dataclass(frozen=True, slots=True)
class RidgeObjective(_Ratings):
    """The head alone, in closed form."""

    options: AspectRidge

    def check(self, config: ModelConfig) -> None:
        """The head is solved on the states that it reads, which only decoders give. UserError for others."""
        if (kind := architecture(config)) != "decoder":
            raise UserError(f"model.path: aspects_ridge needs a decoder; {config.path!r} holds an {kind}")

    def solve(self, model: AspectsRewardModel, examples: Sequence[Rated], budget: Budget) -> dict[str, float]:
        """Set the head's rows and offsets; the mean squared error on the validation rows, in standardised units."""
        reader = cast(PackedReader, model.reader)  # `check` refuses whatever isn't a decoder
        head = cast(nn.Linear, reader.trunk.score_head)
        features = read_all(lambda part: reader.with_hidden(sharing([row.answer for row in part]))[1], examples, budget)
        labels = torch.tensor([row.label for row in examples], dtype=torch.float64)
        order = permutation(len(examples), 0, "ridge")
        cut = min(max(1, round(self.options.validation_fraction * len(examples))), len(examples) - 1)
        held_out, fitted_on = torch.tensor(order[:cut]), torch.tensor(order[cut:])
        fitted: list[Aspect] = []
        errors, counts = 0.0, 0
        for i, aspect in enumerate(model.aspects):
            present = ~labels[:, i].isnan()
            alpha, error, count = self._choose(features, labels[:, i], present, fitted_on, held_out)
            weights, offset = ridge(features, labels[:, i], present, alpha=alpha)
            with torch.no_grad():
                head.weight[i] = weights.float()
            fitted.append(replace(aspect, offset=float(offset)))
            errors, counts = errors + error, counts + count
        model.aspects = tuple(fitted)
        return {"loss_over_rows": errors / max(counts, 1)}

    def _choose(
        self, features: Tensor, labels: Tensor, present: Bool[Tensor, " N"], fitted_on: Tensor, held_out: Tensor
    ) -> tuple[float, float, int]:
        """(the penalty with the least error on the held-out rows, that error's sum, their number)."""
        rated = held_out[present[held_out]]
        candidates = []
        for alpha in self.options.alphas:
            weights, offset = ridge(features[fitted_on], labels[fitted_on], present[fitted_on], alpha=alpha)
            error = (features[rated].double() @ weights + offset - labels[rated]).square().sum()
            candidates.append((float(error), alpha))
        error, alpha = min(candidates)
        return alpha, error, len(rated)


def aspects_of(rows: Sequence[Rating], weights: Mapping[str, float]) -> tuple[Aspect, ...]:
    """Each aspect with its ratings' mean and deviation, and its weight. UserError for a weight without an aspect."""
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    if unknown := sorted(set(weights) - set(names)):
        raise UserError(f"objective.weights: no row rates {unknown[0]!r}; rated are {', '.join(names)}")
    if weights and not any(weights.values()):
        raise UserError("objective.weights: all are 0, so every answer would score the same")
    aspects = []
    for name in names:
        ratings = torch.tensor([row.scores[name] for row in rows if name in row.scores], dtype=torch.float64)
        (scale,) = rating_scales(ratings, torch.zeros(len(ratings), dtype=torch.long))
        weight = weights.get(name, 0.0) if weights else 1.0 / len(names)
        aspects.append(Aspect(name=name, mean=scale.mean, std=max(scale.std, STD_FLOOR), weight=weight))
    return tuple(aspects)


def rated_examples(
    sources: Sequence[Sequence[Rating]], weights: Mapping[str, float], language: Language, limits: Limits
) -> list[list[Rated]]:
    """Encoded answers with their standardised ratings."""
    aspects = aspects_of([row for rows in sources for row in rows], weights)
    if not any(aspect.std > STD_FLOOR for aspect in aspects):
        raise UserError("data: no aspect's ratings vary, so there is nothing to learn")

    def labels(row: Rating) -> tuple[float, ...]:
        return tuple((row.scores[a.name] - a.mean) / a.std if a.name in row.scores else float("nan") for a in aspects)

    return [labelled(rows, [labels(row) for row in rows], language, limits) for rows in sources]
