"""One answer and its label: accepted or not (N3.5), or a rating (N3.6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from plaudit.errors import UserError
from plaudit.formulas import pointwise_losses as losses
from plaudit.formulas.statistics import RunningMoments
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import scalar
from plaudit.models.reward import two_class as two_class_model
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.reader import sharing
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.models.reward.two_class import TwoClassRewardModel
from plaudit.records.text import Rating, Verdict
from plaudit.tokens.encode import EncodedRow
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.objective import Budget, Limits, accumulate, encode_rows, over_rows
from plaudit.training.reward.options import RatingRegression, TwoClass

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


@dataclass(frozen=True, slots=True)
class VerdictObjective:
    """Cross-entropy of accept and reject (N3.5)."""

    options: TwoClass

    def model(self, config: ModelConfig, language: Language, rows: object, *, seed: int) -> TwoClassRewardModel:
        return two_class_model.load(config, language, seed=seed)

    def examples(
        self, sources: Sequence[Sequence[Verdict]], language: Language, limits: Limits
    ) -> list[list[OneLabel]]:
        labels = [[float(row.label) for row in rows] for rows in sources]
        if len({label for part in labels for label in part}) < 2:
            raise UserError("data: every row has the same label, so there is nothing to tell apart")
        return [labelled(rows, part, language, limits) for rows, part in zip(sources, labels, strict=True)]

    def backward(self, model: TwoClassRewardModel, examples: Sequence[OneLabel], budget: Budget) -> MinibatchLoss:
        """Loss per answer, nats; the share of answers on the right side of 0."""

        def of_part(part: Sequence[OneLabel]) -> tuple[Tensor, Mapping[str, float]]:
            logits = model(sharing([row.answer for row in part])).float()
            accepted = torch.tensor([row.label > 0.5 for row in part], device=logits.device)
            right = (losses.log_odds(logits.detach()) > 0) == accepted
            return losses.two_class(logits, accepted)[0], {"right": float(right.sum())}

        sums = accumulate(of_part, examples, len(examples), budget)
        return over_rows(sums["loss"] / len(examples), accuracy_over_rows=sums["right"] / len(examples))


@dataclass(frozen=True, slots=True)
class RatingObjective:
    """Squared error to standardised ratings (N3.6)."""

    options: RatingRegression

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Rating], *, seed: int) -> ScalarRewardModel:
        model = scalar.load(config, language, seed=seed)
        if not self.options.per_labeller:
            (scale,) = self._scales(rows)
            # score = raw · σ + μ
            std = max(scale.std, STD_FLOOR)
            model.normalisation = Normalisation(bias=-scale.mean / std, gain=std)
        return model

    def examples(self, sources: Sequence[Sequence[Rating]], language: Language, limits: Limits) -> list[list[OneLabel]]:
        every = [row for rows in sources for row in rows]
        scales = self._scales(every)
        if not any(scale.std > STD_FLOOR for scale in scales):
            raise UserError(f"data: the ratings of {self.options.aspect!r} are all the same")
        numbers, labellers = self._numbers(every), self._labellers(every)
        labels = iter(losses.standardise(numbers, labellers, scales, std_floor=STD_FLOOR).tolist())
        return [labelled(rows, [next(labels) for _ in rows], language, limits) for rows in sources]

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


def labelled(
    rows: Sequence[Rating | Verdict], labels: Sequence[Label], language: Language, limits: Limits
) -> list[Labelled[Label]]:
    """Encoded answers with their labels; those that were too long are left out."""
    encoded = encode_rows([(row.prompt, row.response, row.where) for row in rows], language, limits)
    return [Labelled(answer=pair, label=label) for pair, label in zip(encoded, labels, strict=True) if pair is not None]
