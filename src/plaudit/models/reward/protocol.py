"""What every reward model looks like from outside, whatever it is inside. One file per kind beside this one.

reader    reads a prompt and its answers with any backbone, gives n numbers per answer
kind      makes a score of them: `scalar` takes the number, `two_class` the log-odds, `aspects` mixes …
loading   tells the kind of a saved folder by its plaudit.json
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.normalisation import Normalisation
from plaudit.records.tensors import Scores
from plaudit.records.text import Group


@runtime_checkable
class RewardModel(Protocol):
    """An `nn.Module` that judges answers in its own template, whatever tokenizer wrote them."""

    normalisation: Normalisation
    """Of the scores that `score` gives; training looks at raw ones."""

    @property
    def language(self) -> Language:
        """Its own tokenizer and template."""
        ...

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Flat [B] over all groups' responses, normalised. `budget`: tokens in one forward, no matter how many."""
        ...

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write weights that transformers reads, wherever its format can say it, and plaudit.json beside them."""
        ...

    # What nn.Module gives.
    def to(self, device: Any) -> nn.Module: ...
    def parameters(self) -> Any: ...
    def named_parameters(self) -> Any: ...
    def requires_grad_(self, requires_grad: bool = True) -> nn.Module: ...
    def __call__(self, *inputs: Any) -> Tensor: ...


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
