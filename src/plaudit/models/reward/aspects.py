"""One number for each aspect of an answer, such as helpfulness and clarity (N3.7)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.errors import UserError
from plaudit.models.beside import read_facts
from plaudit.models.encoders import holds_head
from plaudit.models.load import Language, label_names, name_labels
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import SavedKind
from plaudit.models.reward.reader import Reader, ReaderRewardModel, load_reader
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.telemetry.console import say
from plaudit.tokens.batches import SharedRows

KIND = "aspects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """How one number of the head is read: as deviations from the mean rating."""

    name: str
    mean: float = 0.0
    """Of its ratings, in their own unit."""
    std: float = 1.0
    """Of its ratings; the head predicts (rating − mean) / std."""
    offset: float = 0.0
    """Added to what the head says: transformers' decoders have no bias there, and a ridge fit needs one."""
    weight: float = 1.0
    """In the score, per standard deviation."""


class AspectsRewardModel(ReaderRewardModel):
    """r(x, y) = Σ_a weight_a · z_a(x, y), z_a the standardised rating that the head predicts for aspect a."""

    kind = KIND

    def __init__(self, reader: Reader, aspects: Sequence[Aspect]):
        super().__init__(reader)
        self.aspects = tuple(aspects)

    def table(self, column: str) -> Float[Tensor, " A"]:
        """One property of every aspect."""
        return torch.tensor([getattr(aspect, column) for aspect in self.aspects], device=self.reader.device)

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B A"]:
        """Standardised ratings of all groups' answers, in order."""
        return self.reader(groups) + self.table("offset")

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised weighted sums, flat [B]; parts `aspect/NAME` hold the predicted ratings in their own units."""
        standardised = self.read(groups, budget) + self.table("offset").cpu()
        weighed = standardised * self.table("weight").cpu()  # no product of matrices, which autocast would round
        scores = self.normalisation.apply(weighed.sum(dim=1))
        return Scores.of_all(scores, self.ratings(standardised))

    def ratings(self, standardised: Float[Tensor, "B A"]) -> dict[str, Float[Tensor, " B"]]:
        """`aspect/NAME` → the rating in its own unit."""
        return {f"aspect/{a.name}": standardised[:, i] * a.std + a.mean for i, a in enumerate(self.aspects)}

    def facts(self) -> dict[str, Any]:
        """The aspects with their scales."""
        return {"aspects": [asdict(a) for a in self.aspects]}


def new(config: ModelConfig, language: Language, aspects: Sequence[Aspect], *, seed: int) -> AspectsRewardModel:
    """A model of these aspects on the backbone that `config` names: a language model's, or a reward model's of any
    kind, whose head stays only where it rates the same aspects in the same order."""
    names = [aspect.name for aspect in aspects]
    other = config.path != "tiny" and holds_head(config) and list(label_names(config)) != names
    if other:
        say(f"{config.path}: its backbone alone is used, with a new head for {', '.join(names)}")
    reader = load_reader(config, language, seed=seed, width=len(aspects), fresh=other)
    name_labels(reader.config, names)
    return AspectsRewardModel(reader, aspects)


def load(config: ModelConfig, language: Language) -> AspectsRewardModel:
    """A saved one; a classifier that plaudit did not write has its labels as aspects, all of the same weight."""
    aspects = saved_aspects(config)
    return AspectsRewardModel(load_reader(config, language, seed=0, width=len(aspects)), aspects)


def saved_aspects(config: ModelConfig) -> tuple[Aspect, ...]:
    """The aspects of the folder that `config` names."""
    facts = read_facts(config.path)
    if "aspects" not in facts:
        names = label_names(config)
        return tuple(Aspect(name=name, weight=1.0 / len(names)) for name in names)
    try:
        return tuple(Aspect(**aspect) for aspect in facts["aspects"])
    except TypeError as error:
        raise UserError(f"{config.path}: `aspects` in plaudit.json is damaged: {error}") from error


SAVED = SavedKind(name=KIND, load=load)
