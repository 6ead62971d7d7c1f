"""Accept or reject: two classes at the last token, the score is the log-odds of accept (N3.5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from plaudit.formulas.pointwise_losses import log_odds
from plaudit.models.checkpoint import export
from plaudit.models.load import Language, name_labels
from plaudit.models.options import ModelConfig
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.protocol import SavedKind
from plaudit.models.reward.reader import Reader, SharedRows, encoded, load_reader, read_all
from plaudit.records.tensors import Scores
from plaudit.records.text import Group

KIND = "two_class"
CLASSES = ("reject", "accept")


class TwoClassRewardModel(nn.Module):
    """r(x, y) = log P(accept) / P(reject), nats: unlike P(accept) it does not saturate."""

    def __init__(self, reader: Reader):
        super().__init__()
        self.reader = reader
        self.normalisation = Normalisation()

    @property
    def language(self) -> Language:
        return self.reader.language

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B 2"]:
        """Logits of all groups' answers, in order: column 0 is reject, 1 is accept."""
        return self.reader(groups)

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised log-odds, flat [B]."""
        scores = self.normalisation.apply(log_odds(read_all(self.reader, encoded(self.language, groups), budget)))
        return Scores.of_all(scores)

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """A transformers sequence classifier of the labels reject and accept, and `plaudit.json`."""
        export(folder, self.reader.loaded, {"kind": KIND, "normalisation": self.normalisation.facts(), **facts})


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> TwoClassRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names; its scores raw."""
    reader = load_reader(config, language, seed=seed, width=2)
    name_labels(reader.config, CLASSES)
    return TwoClassRewardModel(reader)


SAVED = SavedKind(name=KIND, load=load)
