"""One answer and its label: accepted or not (N3.5), a rating (N3.6), or one for each aspect, by gradient through the
whole model or by ridge regression on a frozen one (N3.7)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar, cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from plaudit.errors import UserError
from plaudit.formulas import pointwise_losses as losses
from plaudit.formulas.ridge import ridge
from plaudit.formulas.statistics import RunningMoments
from plaudit.hardware.randomness import permutation
from plaudit.models.load import Language, architecture
from plaudit.models.options import ModelConfig
from plaudit.models.reward import aspects, scalar, two_class
from plaudit.models.reward.aspects import Aspect, AspectsRewardModel
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.reader import PackedReader
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.models.reward.two_class import TwoClassRewardModel
from plaudit.records.text import Rating, Verdict
from plaudit.tokens.batches import sharing
from plaudit.tokens.encode import EncodedRow
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.objective import (
    Budget,
    ClosedFormObjective,
    Encoder,
    GradientObjective,
    Objective,
    accumulate,
    over_rows,
    read_all,
)
from plaudit.training.reward.options import AspectRegression, AspectRidge, RatingRegression, TwoClass

STD_FLOOR = 1e-6
"""Label units; ratings that vary less are all the same."""
Label = TypeVar("Label")


@dataclass(frozen=True, kw_only=True)
class Labelled(Generic[Label]):
    """An encoded answer and what was said of it: 1 or 0, a standardised rating, or one for each aspect."""

    answer: EncodedRow
    label: Label

    @property
    def num_tokens(self) -> int:
        return len(self.answer[0]) + len(self.answer[1])


OneLabel = Labelled[float]


class VerdictObjective(GradientObjective[TwoClass]):
    """Cross-entropy of accept and reject (N3.5)."""

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> TwoClassRewardModel:
        return two_class.load(config, language, seed=seed)

    def examples(self, sources: Sequence[Sequence[Verdict]], encoder: Encoder) -> list[list[OneLabel]]:
        labels = [[float(row.label) for row in rows] for rows in sources]
        if len({label for part in labels for label in part}) < 2:
            raise UserError("data: every row has the same label, so there is nothing to tell apart")
        return [labelled(rows, part, encoder) for rows, part in zip(sources, labels, strict=True)]

    def backward(self, model: TwoClassRewardModel, examples: Sequence[OneLabel], budget: Budget) -> MinibatchLoss:
        """Loss per answer, nats; the share of answers on the right side of 0."""

        def of_part(part: Sequence[OneLabel]) -> tuple[Tensor, Mapping[str, float]]:
            logits = model(sharing([row.answer for row in part])).float()
            accepted = torch.tensor([row.label > 0.5 for row in part], device=logits.device)
            right = (losses.log_odds(logits.detach()) > 0) == accepted
            return losses.two_class(logits, accepted)[0], {"right": float(right.sum())}

        sums = accumulate(of_part, examples, len(examples), budget)
        return over_rows(sums["loss"] / len(examples), accuracy_over_rows=sums["right"] / len(examples))


class RatingObjective(GradientObjective[RatingRegression]):
    """Squared error to standardised ratings (N3.6)."""

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Rating], *, seed: int) -> ScalarRewardModel:
        model = scalar.load(config, language, seed=seed)
        if not self.options.per_labeller:
            (scale,) = self._scales(rows)
            # score = raw · σ + μ
            std = max(scale.std, STD_FLOOR)
            model.normalisation = Normalisation(bias=-scale.mean / std, gain=std)
        return model

    def examples(self, sources: Sequence[Sequence[Rating]], encoder: Encoder) -> list[list[OneLabel]]:
        every = [row for rows in sources for row in rows]
        scales = self._scales(every)
        if not any(scale.std > STD_FLOOR for scale in scales):
            raise UserError(f"data: the ratings of {self.options.aspect!r} are all the same")
        numbers, labellers = self._numbers(every), self._labellers(every)
        labels = iter(losses.standardise(numbers, labellers, scales, std_floor=STD_FLOOR).tolist())
        return [labelled(rows, [next(labels) for _ in rows], encoder) for rows in sources]

    def _numbers(self, rows: Sequence[Rating]) -> Tensor:
        for row in rows:
            if self.options.aspect not in row.scores:
                raise UserError(
                    f"{row.where}: no rating of {self.options.aspect!r}, only of {', '.join(row.scores)}; choose by "
                    "`objective.aspect`, or learn all by `objective: aspects`"
                )
        return torch.tensor([row.scores[self.options.aspect] for row in rows], dtype=torch.float64)

    def _labellers(self, rows: Sequence[Rating]) -> Tensor:
        if not self.options.per_labeller:
            return torch.zeros(len(rows), dtype=torch.long)
        names = sorted({row.labeller for row in rows})
        if names == [""]:
            raise UserError("objective.per_labeller: no row says who rated it (column `labeller`)")
        return torch.tensor([names.index(row.labeller) for row in rows])

    def _scales(self, rows: Sequence[Rating]) -> tuple[RunningMoments, ...]:
        return losses.rating_scales(self._numbers(rows), self._labellers(rows))

    def backward(self, model: ScalarRewardModel, examples: Sequence[OneLabel], budget: Budget) -> MinibatchLoss:
        """Squared error, or its root, per answer, in standardised units."""

        def of_part(part: Sequence[OneLabel]) -> tuple[Tensor, Mapping[str, float]]:
            scores = model(sharing([row.answer for row in part])).float()
            return losses.squared_error(scores, scores.new_tensor([row.label for row in part]))[0], {}

        n = len(examples)
        sums = accumulate(of_part, examples, n, budget)
        total = torch.tensor(sums["loss"], dtype=torch.float64)
        if self.options.loss == "mse":
            return over_rows(sums["loss"] / n)
        # ∇RMSE is ∇MSE times one number, known once the whole minibatch has been read.
        scale_gradients(model, float(losses.rmse_weight(total, n)) * n)
        return over_rows(float(losses.rmse(total, n)))


def scale_gradients(model: torch.nn.Module, factor: float) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def labelled(rows: Sequence[Rating | Verdict], labels: Sequence[Label], encoder: Encoder) -> list[Labelled[Label]]:
    """Encoded answers with their labels; those that were too long are left out."""
    encoded = encoder([(row.prompt, row.response, row.where) for row in rows])
    return [Labelled(answer=pair, label=label) for pair, label in zip(encoded, labels, strict=True) if pair is not None]


Rated = Labelled[tuple[float, ...]]
"""An answer's standardised ratings by aspect, NaN where an aspect was not rated."""


ByAspect = TypeVar("ByAspect", AspectRegression, AspectRidge)


class _Ratings(Objective[ByAspect]):
    """What both have in common that learn ratings by aspect."""

    def model(
        self, config: ModelConfig, language: Language, rows: Sequence[Rating], *, seed: int
    ) -> AspectsRewardModel:
        return aspects.new(config, language, aspects_of(rows, self.options.weights), seed=seed)

    def examples(self, sources: Sequence[Sequence[Rating]], encoder: Encoder) -> list[list[Rated]]:
        """Standardised ratings, NaN where an aspect was not rated."""
        known = aspects_of([row for rows in sources for row in rows], self.options.weights)
        if not any(aspect.std > STD_FLOOR for aspect in known):
            raise UserError("data: no aspect's ratings vary, so there is nothing to learn")

        def labels(row: Rating) -> tuple[float, ...]:
            return tuple((row.scores[a.name] - a.mean) / a.std if a.name in row.scores else math.nan for a in known)

        return [labelled(rows, [labels(row) for row in rows], encoder) for rows in sources]


class AspectObjective(_Ratings[AspectRegression], GradientObjective[AspectRegression]):
    """All parameters by gradient."""

    def backward(self, model: AspectsRewardModel, examples: Sequence[Rated], budget: Budget) -> MinibatchLoss:
        """Squared error per rating, in standardised units, over all aspects alike."""
        ratings = sum(not math.isnan(label) for row in examples for label in row.label)

        def of_part(part: Sequence[Rated]) -> tuple[Tensor, Mapping[str, float]]:
            predicted = model(sharing([row.answer for row in part])).float()
            labels = predicted.new_tensor([row.label for row in part])
            return losses.aspect_errors(predicted, labels, ~labels.isnan())[0], {}

        sums = accumulate(of_part, examples, ratings, budget)
        return over_rows(sums["loss"] / max(ratings, 1))


class RidgeObjective(_Ratings[AspectRidge], ClosedFormObjective[AspectRidge]):
    """The head alone, in closed form."""

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
    standardised = []
    for name in names:
        ratings = torch.tensor([row.scores[name] for row in rows if name in row.scores], dtype=torch.float64)
        (scale,) = losses.rating_scales(ratings, torch.zeros(len(ratings), dtype=torch.long))
        weight = weights.get(name, 0.0) if weights else 1.0 / len(names)
        standardised.append(Aspect(name=name, mean=scale.mean, std=max(scale.std, STD_FLOOR), weight=weight))
    return tuple(standardised)
