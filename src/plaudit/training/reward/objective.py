"""What a kind of reward model must say of itself so that the loop can train it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.data.sources import file_of
from plaudit.errors import UserError
from plaudit.hardware.machine import Machine
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Comparison, Prompt, Ranking
from plaudit.telemetry.console import say
from plaudit.tokens.batches import by_token_budget
from plaudit.tokens.encode import AnsweredPrompt, EncodedRow, encode_answers
from plaudit.tokens.options import TooLong
from plaudit.training.descent import MinibatchLoss
from plaudit.training.reward.options import ObjectiveOptions

Options = TypeVar("Options", bound=ObjectiveOptions, covariant=True)


class Example(Protocol):
    """A row of data as ids: what the minibatches of training are made of."""

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model, for the cut into micro-batches."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """How answers become a model's ids, how long one may be, and what happens to longer ones."""

    language: Language
    max_length: int
    too_long: TooLong
    counts: Counter[str] = field(default_factory=Counter)
    """How many `answers` there were, and how many of them were `long`."""

    def __call__(self, rows: Sequence[tuple[Prompt, str, str]]) -> list[EncodedRow | None]:
        """(prompt, response, where) as ids; None where an answer was too long and left out. What was cut is said."""
        answers = [AnsweredPrompt(prompt=prompt, response=response, where=where) for prompt, response, where in rows]
        renderer, limit = self.language.renderer, self.max_length
        encoded = encode_answers(answers, renderer, max_length=limit, too_long=self.too_long)
        self.counts.update(answers=len(answers), long=encoded.dropped + encoded.truncated)
        if encoded.dropped or encoded.truncated:
            cut = f"{encoded.dropped} dropped, {encoded.truncated} truncated"
            say(f"{file_of(answers[0].where)}: answers longer than {limit} tokens: {cut}")
        return list(encoded.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """On which machine and in which portions a minibatch runs; results don't depend on it."""

    machine: Machine
    tokens: int
    """In one forward."""


@dataclass(frozen=True)
class Objective(Generic[Options]):
    """A kind of reward model: the model, its rows as ids, and (one of the two classes below) how it learns."""

    options: Options

    def check(self, config: ModelConfig) -> None:
        """What it asks of `model.path`: UserError, before any model loads."""

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Any], *, seed: int) -> RewardModel:
        """The model of this kind in the folder, or a new one on its backbone, with the normalisation that it has while
        it learns; `rows` are the training rows."""
        raise NotImplementedError

    def examples(self, sources: Sequence[Sequence[Any]], encoder: Encoder) -> Sequence[Sequence[Example]]:
        """Each source's rows as ids, less those that teach nothing (counted and said). UserError names a row that
        won't do."""
        return [self.examples_of(rows, encoder) for rows in sources]

    def examples_of(self, rows: Sequence[Any], encoder: Encoder) -> Sequence[Example]:
        """The same of one source, for objectives that look at each row alone."""
        raise NotImplementedError

    def prepare(self, model: Any, examples: Sequence[Any], budget: Budget) -> None:
        """Measure something of the model before the first step; a resumed run does it again."""


class GradientObjective(Objective[Options]):
    """An objective with a loss to descend, which is a sum over what counts, divided by the count of the whole minibatch
    (`accumulate`): micro-batches cannot change a gradient."""

    def backward(self, model: Any, examples: Sequence[Any], budget: Budget) -> MinibatchLoss:
        """Accumulate this rank's part of the minibatch's gradient."""
        raise NotImplementedError


class ClosedFormObjective(Objective[Options]):
    """An objective whose model has a closed form: no optimiser steps."""

    def solve(self, model: Any, examples: Sequence[Any], budget: Budget) -> dict[str, float]:
        """Set the model's weights; metrics."""
        raise NotImplementedError


def accumulate(
    loss: Callable[[Sequence[Any]], tuple[Tensor, Mapping[str, float]]],
    examples: Sequence[Any],
    count: float,
    budget: Budget,
) -> Counter[str]:
    """Back-propagate Σ loss / count over this rank's share, micro-batch by micro-batch (`optim.step` adds the ranks'
    gradients up). Returns the sums over all ranks that `loss` counted, `loss` among them.

    Args: `loss` gives for some examples the sum of their losses and other sums; `count` is the whole minibatch's
    denominator (0: nothing counts, and there is no gradient).
    """
    sums: Counter[str] = Counter()
    for cut in budget.machine.ranks.cuts((example.num_tokens for example in examples), budget.tokens):
        with budget.machine.autocast():
            total, counted = loss([examples[i] for i in cut])
        (total / max(count, 1)).backward()
        sums.update({"loss": float(total.detach()), **counted})
    return budget.machine.ranks.add_counts(sums)


@torch.no_grad()
def read_all(read: Callable[[Sequence[Any]], Tensor], examples: Sequence[Any], budget: Budget) -> Tensor:
    """What `read` says of some examples, of all of them in order, on the CPU."""
    parts = []
    for cut in by_token_budget((example.num_tokens for example in examples), budget.tokens):
        with budget.machine.autocast():
            parts.append(read([examples[i] for i in cut]).float().cpu())
    return torch.cat(parts)


def over_rows(loss: float, **metrics: float) -> MinibatchLoss:
    """A loss divided by what counts, under the name by which all kinds log it, and further metrics."""
    return MinibatchLoss(value=loss, metrics={"loss_over_rows": loss, **metrics})


def refuse_margins(rows: Sequence[Ranking | Comparison]) -> None:
    """UserError naming the first row with a margin: all objectives but `pairwise` would ignore it."""
    for row in rows:
        if row.margin if isinstance(row, Comparison) else row.columns.get("margin"):
            raise UserError(f"{row.where}: has a margin, which only `objective: pairwise` uses")


def pair_sums(margin: Float[Tensor, " N"]) -> dict[str, float]:
    """Of some pairs' r_w − r_l, score units: their sum, and how many are above 0 (ties half)."""
    wins = (margin > 0).sum() + 0.5 * (margin == 0).sum()
    return {"margin": float(margin.sum()), "wins": float(wins)}


def pair_metrics(sums: Mapping[str, float], num_pairs: int) -> dict[str, float]:
    """Accuracy and mean margin of a minibatch, from its `pair_sums`; 0 where it has no pair."""
    pairs = max(num_pairs, 1)
    return {"accuracy_over_pairs": sums["wins"] / pairs, "margin_over_pairs": sums["margin"] / pairs}
