"""One number per answer: learned from rankings, comparisons or ratings (N3.1–N3.4, N3.6)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from plaudit.models.load import Language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import SavedKind
from plaudit.models.reward.reader import ReaderRewardModel, load_reader
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.tokens.batches import SharedRows

KIND = "scalar"


class ScalarRewardModel(ReaderRewardModel):
    """r(x, y), the reader's one number; its unit is what the training loss made it."""

    kind = KIND

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, " B"]:
        """Raw scores of all groups' answers, in order."""
        return self.reader(groups).squeeze(1)

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised scores, flat [B]."""
        return Scores.of_all(self.normalisation.apply(self.read(groups, budget).squeeze(1)))


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> ScalarRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names; its scores raw."""
    return ScalarRewardModel(load_reader(config, language, seed=seed))


SAVED = SavedKind(name=KIND, load=load)
