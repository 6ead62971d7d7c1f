"""One number per answer: learned from rankings, comparisons or ratings (N3.1–N3.4, N3.6)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from plaudit.models.checkpoint import export
from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.protocol import SavedKind
from plaudit.models.reward.reader import Reader, SharedRows, encoded, load_reader, read_all
from plaudit.records.tensors import Scores
from plaudit.records.text import Group

KIND = "scalar"


class ScalarRewardModel(nn.Module):
    """r(x, y), the reader's one number; its unit is what the training loss made it."""

    def __init__(self, reader: Reader):
        super().__init__()
        self.reader = reader
        self.normalisation = Normalisation()

    @property
    def language(self) -> Language:
        return self.reader.language

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, " B"]:
        """Raw scores of all groups' answers, in order."""
        return self.reader(groups).squeeze(1)

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised scores, flat [B]."""
        scores = self.normalisation.apply(read_all(self.reader, encoded(self.language, groups), budget).squeeze(1))
        return Scores.of_all(scores)

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """A transformers sequence classifier (raw scores) and `plaudit.json` with the normalisation."""
        export(folder, self.reader.loaded, {"kind": KIND, "normalisation": self.normalisation.facts(), **facts})


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> ScalarRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names; its scores raw."""
    return ScalarRewardModel(load_reader(config, language, seed=seed))


SAVED = SavedKind(name=KIND, load=load)
