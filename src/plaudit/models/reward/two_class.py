"""Accept or reject: two classes at the last token, the score is the log-odds of accept (N3.5)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from plaudit.formulas.pointwise_losses import log_odds
from plaudit.models.load import Language, name_labels
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import SavedKind
from plaudit.models.reward.reader import ReaderRewardModel, load_reader
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.tokens.batches import SharedRows

KIND = "two_class"
CLASSES = ("reject", "accept")


class TwoClassRewardModel(ReaderRewardModel):
    """r(x, y) = log P(accept) / P(reject), nats: unlike P(accept) it does not saturate."""

    kind = KIND

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B 2"]:
        """Logits of all groups' answers, in order: column 0 is reject, 1 is accept."""
        return self.reader(groups)

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised log-odds, flat [B]."""
        return Scores.of_all(self.normalisation.apply(log_odds(self.read(groups, budget))))


def load(config: ModelConfig, language: Language, *, seed: int = 0) -> TwoClassRewardModel:
    """A saved reward model, or a new one on the backbone that `config` names; its scores raw."""
    reader = load_reader(config, language, seed=seed, width=2)
    name_labels(reader.config, CLASSES)
    return TwoClassRewardModel(reader)


SAVED = SavedKind(name=KIND, load=load)
