"""What a kind of reward model must say of itself so that the loop can train it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from plaudit.hardware.machine import Machine
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import RewardModel
from plaudit.records.text import Prompt
from plaudit.telemetry.console import say
from plaudit.tokens.batches import by_token_budget
from plaudit.tokens.encode import AnsweredPrompt, EncodedRow, encode_answers
from plaudit.tokens.options import TooLong
from plaudit.training.descent import MinibatchLoss


class Example(Protocol):
    """A row of data as ids: what the minibatches of training are made of."""

    @property
    def num_tokens(self) -> int:
        """Tokens that run through the model, for the cut into micro-batches."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long an answer may be, and what happens to longer ones."""

    max_length: int
    too_long: TooLong


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """On which machine and in which portions a minibatch runs; results don't depend on it."""

    machine: Machine
    tokens: int
    """In one forward."""


class Objective(Protocol):
    """A kind: its model and its rows as ids. How it learns is said by one of the two protocols below."""

    def model(self, config: ModelConfig, language: Language, rows: Sequence[Any], *, seed: int) -> RewardModel:
        """The model of this kind in the folder, or a new one on its backbone, with the normalisation that it has while
        it learns; `rows` are the training rows."""
        ...

    def examples(self, sources: Sequence[Sequence[Any]], language: Language, limits: Limits) -> list[list[Example]]:
        """Each source's rows as ids, less those that teach nothing (counted and said). UserError names a row that
        won't do."""
        ...


class GradientObjective(Objective, Protocol):
    """An objective with a loss to descend, which is a sum over what counts, divided by the count of the whole minibatch
    (`accumulate`): micro-batches cannot change a gradient."""

    def backward(self, model: RewardModel, examples: Sequence[Any], budget: Budget) -> MinibatchLoss:
        """Accumulate this rank's part of the minibatch's gradient."""
        ...


@runtime_checkable
class ChecksBackbone(Protocol):
    """An objective that asks something of `model.path`."""

    def check(self, config: ModelConfig) -> None:
        """UserError, before any model loads."""
        ...


@runtime_checkable
class MeasuresFirst(Protocol):
    """An objective that measures something of the model before the first step; a resumed run does it again."""

    def prepare(self, model: RewardModel, examples: Sequence[Any], budget: Budget) -> None: ...


@runtime_checkable
class ClosedFormObjective(Objective, Protocol):
    """An objective whose model has a closed form: no optimiser steps."""

    def solve(self, model: RewardModel, examples: Sequence[Any], budget: Budget) -> dict[str, float]:
        """Set the model's weights; metrics."""
        ...


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


def encode_rows(rows: Sequence[tuple[Prompt, str, str]], language: Language, limits: Limits) -> list[EncodedRow | None]:
    """(prompt, response, where) as ids; None where an answer was too long and left out. What was cut is said."""
    answers = [AnsweredPrompt(prompt=prompt, response=response, where=where) for prompt, response, where in rows]
    encoded = encode_answers(answers, language.renderer, max_length=limits.max_length, too_long=limits.too_long)
    if encoded.dropped or encoded.truncated:
        say(f"answers longer than {limits.max_length} tokens: {encoded.dropped} dropped, {encoded.truncated} truncated")
    return list(encoded.rows)
