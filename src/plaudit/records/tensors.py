"""Records made of tensors. Dimensions: B sequences, P prompt length, R response length (see NOTATION.md)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.records.text import FinishReason, PromptRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What the policy wrote (N4.1). Prompts are padded left, responses right; the masks say what counts."""

    rows: tuple[PromptRow, ...]
    """The B prompt rows, one a sequence (a prompt that was sampled G times stands G times)."""
    responses: tuple[str, ...]
    """B texts, cut at the stop string where there is one: what scorers read."""
    finish_reasons: tuple[FinishReason, ...]
    prompt_ids: Int[Tensor, "B P"]
    prompt_mask: Bool[Tensor, "B P"]
    response_ids: Int[Tensor, "B R"]
    response_mask: Bool[Tensor, "B R"]
    """True on every token that the policy chose, the end token included."""
    sampler_logprobs: Float[Tensor, "B R"]
    """log pi_sampler of the chosen tokens at the sampling temperature, as the engine says; 0 outside the mask."""
    values: Float[Tensor, "B R"] | None = None
    """V before each token, where the engine gathered it; 0 outside the mask."""
    entropies: Float[Tensor, "B R"] | None = None
    """Nats, of the distribution that each token was drawn from, where the engine gathered it; 0 outside the mask."""

    def __getitem__(self, rows: Sequence[int]) -> "Rollout":
        """These rows in this order, as wide as before."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            by_row = column[list(rows)] if isinstance(column, Tensor) else column and tuple(column[i] for i in rows)
            parts[field.name] = by_row
        return Rollout(**parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a judge says (N3, N3.14)."""

    scores: Float[Tensor, " B"]
    valid: Bool[Tensor, " B"]
    """False: the judge abstained; the row leaves numerator and denominator."""
    parts: dict[str, Float[Tensor, " B"]]
    """Named components before weighting, for metrics; NaN where that part abstained."""
    token_scores: tuple[tuple[float, ...], ...] = ()
    """Where the judge says it token by token (N3.8): B rows, a number for each id of the group's `response_ids`, whose
    sum is the row's score. Nothing at all where it gives one number per response."""

    @property
    def optional_scores(self) -> tuple[float | None, ...]:
        """One number per response; None where the judge abstained."""
        return tuple(s if valid else None for s, valid in zip(self.scores.tolist(), self.valid.tolist(), strict=True))

    @classmethod
    def of_all(cls, scores: Float[Tensor, " B"], parts: dict[str, Float[Tensor, " B"]] | None = None) -> "Scores":
        """Of a judge that abstains on no row."""
        return cls(scores=scores, valid=torch.ones(len(scores), dtype=torch.bool), parts=parts or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """What the policy is updated on: one iteration's rollouts with everything fixed before the first update.

    `experience[rows]` is a minibatch or micro-batch of it.
    """

    group_ids: Int[Tensor, " B"]
    """Rows with the same number answer the same prompt: a group of `samples_per_prompt`."""
    prompt_ids: Int[Tensor, "B P"]
    prompt_mask: Bool[Tensor, "B P"]
    response_ids: Int[Tensor, "B R"]
    response_mask: Bool[Tensor, "B R"]
    """The rollout's mask, less the rows whose judge abstained."""
    loss_mask: Bool[Tensor, "B R"]
    """response_mask, less the tokens whose sampler's probability is too far from the trainer's."""
    importance: Float[Tensor, "B R"]
    """How much each token's policy loss weighs for that mismatch; 1 where it is not corrected, 0 outside the mask."""
    old_logprobs: Float[Tensor, "B R"]
    ref_logprobs: Float[Tensor, "B R"]
    scores: Float[Tensor, " B"]
    rewards: Float[Tensor, "B R"]
    advantages: Float[Tensor, "B R"]
    """Whitened where the options say so."""
    old_values: Float[Tensor, "B R"] | None = None
    """None without a critic."""
    returns: Float[Tensor, "B R"] | None = None
    """The critic's target, advantages + old_values before whitening; None without a critic."""

    def __len__(self) -> int:
        return len(self.scores)

    def tensors(self) -> dict[str, Tensor]:
        """By name, without those that are None: `Experience(**tensors)` is the inverse."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def __getitem__(self, rows: Sequence[int]) -> "Experience":
        """These rows in this order, responses no wider than the longest of them."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.response_mask.device)
        width = int(self.response_mask[index].sum(1).max()) if len(rows) else 0
        chosen = {name: tensor[index] for name, tensor in self.tensors().items()}
        by_token = [name for name, tensor in chosen.items() if tensor.ndim == 2 and not name.startswith("prompt_")]
        return Experience(**chosen | {name: chosen[name][:, :width] for name in by_token})

    def to(self, device: torch.device) -> "Experience":
        return Experience(**{name: tensor.to(device) for name, tensor in self.tensors().items()})
