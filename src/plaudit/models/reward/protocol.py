"""What every reward model is, whatever it is inside. One file per kind beside this one.

reader    reads a prompt and its answers with any backbone, gives n numbers per answer
kind      makes a score of them: `scalar` takes the number, `two_class` the log-odds, `aspects` mixes …
loading   tells the kind of a saved folder by its plaudit.json
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from plaudit.errors import UserError
from plaudit.models.adapters import unwrapped
from plaudit.models.checkpoint import export
from plaudit.models.load import Language, Loaded
from plaudit.models.options import ModelConfig
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.weights import HFModel
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, PromptRow


class LoadedModule(nn.Module):
    """A module around a loaded transformers model."""

    def __init__(self, loaded: Loaded):
        super().__init__()
        self.loaded = loaded

    @property
    def inner(self) -> HFModel:
        """The transformers model itself, below a LoRA wrapper where there is one."""
        return unwrapped(self.loaded.hf)

    @property
    def config(self) -> Any:
        """The transformers model's own config."""
        return self.inner.config

    @property
    def language(self) -> Language:
        """Its own tokenizer and template."""
        return self.loaded.language

    @property
    def device(self) -> torch.device:
        return next(self.loaded.hf.parameters()).device


class RewardModel(LoadedModule):
    """Judges answers in its own template, whatever tokenizer wrote them."""

    kind: ClassVar[str]
    """In plaudit.json."""

    def __init__(self, loaded: Loaded):
        super().__init__(loaded)
        self.normalisation = Normalisation()
        """Of the scores that `score` gives; training looks at raw ones."""

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Flat [B] over all groups' responses, normalised. `budget`: tokens in one forward, no matter how many."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What plaudit.json says of this kind beside its name and normalisation."""
        return {}

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write weights that transformers reads, wherever its format can say it, and plaudit.json beside them."""
        own = {"kind": self.kind, **self.facts(), "normalisation": self.normalisation.facts()}
        export(folder, self.loaded, {**own, **facts})


Facts = Mapping[str, Any]
"""plaudit.json of a saved model; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedKind:
    """What a kind says of a saved model of its own before the weights are read."""

    name: str
    """In plaudit.json."""
    load: Callable[[ModelConfig, Language], RewardModel]
    check: Callable[[ModelConfig, str], None] = lambda config, option: None
    """UserError naming the option (the second argument) where backbone or tokenizer won't do."""
    compares: Callable[[Facts], bool] = lambda facts: False
    """Whether it scores an answer beside others only: a lone answer's row then needs the column `references`."""
    has_scale: Callable[[Facts], bool] = lambda facts: True
    """Whether differences of its scores can be read as log-odds."""
    scores_tokens: bool = False
    """Whether it gives each token a score of its own too."""


REFERENCES = "references"
"""The data column of the answers (one string or several) that judges who compare see a lone answer beside."""


def references_of(columns: Mapping[str, Any]) -> list[str]:
    """The row's reference answers; none where the column is missing or empty. UserError for anything but text."""
    value = columns.get(REFERENCES)
    texts = [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise UserError(f"the column {REFERENCES!r} must hold one answer or a list of them, not {wrong[0]!r}")
    return texts


def check_references(rows: Sequence[PromptRow]) -> None:
    """Before any model loads: UserError naming the first row whose column holds anything else."""
    for index, row in enumerate(rows):
        try:
            references_of(row.columns)
        except UserError as error:
            raise UserError(f"{row.where or f'row {index}'}: {error}") from error


def refuse_lone(groups: Sequence[Group]) -> None:
    """UserError naming the first prompt with a single answer and nothing to compare it with."""
    for group in groups:
        if len(group.responses) == 1 and not references_of(group.columns):
            raise UserError(
                f"prompt {group.prompt.id}: this reward model can't judge one answer alone; give the row answers to "
                f"compare it with, in the column {REFERENCES!r}"
            )
