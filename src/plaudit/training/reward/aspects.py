"""Ratings by aspect: by gradient through the whole model, or by ridge regression on a frozen one (N3.7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas.pointwise_losses import aspect_errors, rating_scales
from plaudit.formulas.ridge import ridge
from plaudit.hardware.randomness import permutation
from plaudit.models.load import Language, architecture
from plaudit.models.options import ModelConfig
from plaudit.models.reward import aspects as models
from plaudit.models.reward.aspects import Aspect, AspectsRewardModel
from plaudit.models.reward.reader import SharedRows, sharing
from plaudit.records.text import Kind, Rating
from plaudit.tokens.batches import by_token_budget
from plaudit.tokens.encode import EncodedRow
from plaudit.training.reward.objective import Limits, Pace, accumulate, encode_rows

STD_FLOOR = 1e-6
"""Label units; an aspect whose ratings vary less has no scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """An encoded answer and its standardised ratings, NaN where an aspect was not rated."""

    answer: EncodedRow
    labels: tuple[float, ...]

    @property
    def num_tokens(self) -> int:
        return len(self.answer[0]) + len(self.answer[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectRegression:
    """Squared error on every aspect that was rated, all parameters trained (N3.7)."""

    kind: Literal["aspects"] = "aspects"
    weights: dict[str, float] = field(default_factory=dict)
    """What each aspect counts in the score, per standard deviation; empty: all alike, 1 ÷ their number."""
    learns_from: ClassVar[Kind] = Kind.RATING

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Rating], *, seed: int):
        return models.new(config, language, aspects_of(rows, self.weights), seed=seed)

    def examples(self, sources: Sequence[Sequence[Rating]], language: Language, limits: Limits) -> list[list[Rated]]:
        return rated_examples(sources, self.weights, language, limits)

    def backward(self, model: AspectsRewardModel, examples: Sequence[Rated], pace: Pace) -> dict[str, float]:
        """Squared error per rating, in standardised units, over all aspects alike."""
        ratings = sum(label == label for row in examples for label in row.labels)

        def of_part(part: Sequence[Rated]) -> tuple[Tensor, Mapping[str, float]]:
            predicted = model(sharing([row.answer for row in part])).float()
            labels = predicted.new_tensor([row.labels for row in part])
            return aspect_errors(predicted, labels, ~labels.isnan())[0], {}

        sums = accumulate(of_part, examples, ratings, pace)
        return {"loss_over_rows": sums["loss"] / max(ratings, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectRidge:
    """The first half of ArmoRM: a frozen backbone, ridge regression for each aspect on the answer's last hidden state,
    its penalty chosen on a fifth of the rows. No optimiser steps (N3.7)."""

    kind: Literal["aspects_ridge"] = "aspects_ridge"
    weights: dict[str, float] = field(default_factory=dict)
    """What each aspect counts in the score, per standard deviation; empty: all alike, 1 ÷ their number."""
    alphas: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0)
    """Penalties to choose from."""
    validation_fraction: float = 0.2
    """Share of the rows that chooses the penalty; the fit that is kept has all rows."""
    learns_from: ClassVar[Kind] = Kind.RATING

    def __post_init__(self) -> None:
        if not self.alphas or min(self.alphas) <= 0 or not 0 < self.validation_fraction < 1:
            raise ValueError("alphas must be positive, at least one; validation_fraction must lie between 0 and 1")

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Rating], *, seed: int):
        return models.new(config, language, aspects_of(rows, self.weights), seed=seed)

    def examples(self, sources: Sequence[Sequence[Rating]], language: Language, limits: Limits) -> list[list[Rated]]:
        return rated_examples(sources, self.weights, language, limits)

    def check(self, config: ModelConfig) -> None:
        """The head is solved on the states that it reads, which only decoders give. UserError for others."""
        if (kind := architecture(config)) != "decoder":
            raise UserError(f"model.path: aspects_ridge needs a decoder; {config.path!r} holds an {kind}")

    def solve(self, model: AspectsRewardModel, examples: Sequence[Rated], pace: Pace) -> dict[str, float]:
        """Set the head's rows and offsets; the mean squared error on the validation rows, in standardised units."""
        features = hidden_states(model, examples, pace)
        labels = torch.tensor([row.labels for row in examples], dtype=torch.float64)
        order = permutation(len(examples), 0, "ridge")
        cut = min(max(1, round(self.validation_fraction * len(examples))), len(examples) - 1)
        held, kept = torch.tensor(order[:cut]), torch.tensor(order[cut:])
        fitted, errors, counts = [], 0.0, 0
        for i, aspect in enumerate(model.aspects):
            present = ~labels[:, i].isnan()
            alpha, error, count = self._choose(features, labels[:, i], present, kept, held)
            weights, offset = ridge(features, labels[:, i], present, alpha=alpha)
            with torch.no_grad():
                model.reader.trunk.score_head.weight[i] = weights.float()
            fitted.append(Aspect(**{**_facts(aspect), "offset": float(offset)}))
            errors, counts = errors + error, counts + count
        model.aspects = tuple(fitted)
        return {"loss_over_rows": errors / max(counts, 1)}

    def _choose(
        self, features: Tensor, labels: Tensor, present: Bool[Tensor, " N"], kept: Tensor, held: Tensor
    ) -> tuple[float, float, int]:
        """(the penalty with the least error on the held rows, that error's sum, their number)."""
        there = held[present[held]]
        found = []
        for alpha in self.alphas:
            weights, offset = ridge(features[kept], labels[kept], present[kept], alpha=alpha)
            error = (features[there].double() @ weights + offset - labels[there]).square().sum()
            found.append((float(error), alpha))
        error, alpha = min(found)
        return alpha, error, len(there)


def _facts(aspect: Aspect) -> dict:
    return {"name": aspect.name, "mean": aspect.mean, "std": aspect.std, "weight": aspect.weight}


@torch.no_grad()
def hidden_states(model: AspectsRewardModel, examples: Sequence[Rated], pace: Pace) -> Float[Tensor, "N H"]:
    """The last hidden state of every answer's last token, on the CPU."""
    parts = []
    for cut in by_token_budget((row.num_tokens for row in examples), pace.budget):
        groups: list[SharedRows] = sharing([examples[i].answer for i in cut])
        with pace.place.autocast():
            parts.append(model.reader.with_hidden(groups)[1].float().cpu())
    return torch.cat(parts)


def names_of(rows: Sequence[Rating]) -> list[str]:
    """The aspects that any row rates, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.scores))


def aspects_of(rows: Sequence[Rating], weights: Mapping[str, float]) -> tuple[Aspect, ...]:
    """Each aspect with its ratings' mean and deviation, and its weight. UserError for a weight without an aspect."""
    names = names_of(rows)
    if unknown := sorted(set(weights) - set(names)):
        raise UserError(f"objective.weights: no row rates {unknown[0]!r}; rated are {', '.join(names)}")
    if weights and not any(weights.values()):
        raise UserError("objective.weights: all are 0, so every answer would score the same")
    found = []
    for name in names:
        ratings = torch.tensor([row.scores[name] for row in rows if name in row.scores], dtype=torch.float64)
        (scale,) = rating_scales(ratings, torch.zeros(len(ratings), dtype=torch.long))
        weight = weights.get(name, 0.0) if weights else 1.0 / len(names)
        found.append(Aspect(name=name, mean=scale.mean, std=max(scale.std, STD_FLOOR), weight=weight))
    return tuple(found)


def rated_examples(
    sources: Sequence[Sequence[Rating]], weights: Mapping[str, float], language: Language, limits: Limits
) -> list[list[Rated]]:
    """Encoded answers with their standardised ratings."""
    aspects = aspects_of([row for rows in sources for row in rows], weights)
    if not any(aspect.std > STD_FLOOR for aspect in aspects):
        raise UserError("data: no aspect's ratings vary, so there is nothing to learn")

    def labels(row: Rating) -> tuple[float, ...]:
        return tuple((row.scores[a.name] - a.mean) / a.std if a.name in row.scores else float("nan") for a in aspects)

    examples = []
    for rows in sources:
        encoded = encode_rows([(row.prompt, row.response, row.where) for row in rows], language, limits)
        examples.append(
            [Rated(answer=p, labels=labels(r)) for p, r in zip(encoded, rows, strict=True) if p is not None]
        )
    return examples
