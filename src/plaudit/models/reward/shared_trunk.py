"""A reward head on a language model's own trunk: policy, critic and reward can then share one forward (N3.13).

The folder is the policy's start and its judge at once: transformers loads it as a causal language model, the head
stands in a file beside it. In PPO it is read off the reference's pass or the policy's, which run anyway
(docs/reward-models.md); as an ordinary reward model it is a copy of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plaudit.errors import UserError
from plaudit.models.beside import file_beside
from plaudit.models.checkpoint import readable
from plaudit.models.foreign import value_head
from plaudit.models.load import Language, Loaded, load_causal
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import RewardModel, SavedKind
from plaudit.models.reward.reader import encoded, read_all
from plaudit.models.trunk import Trunk, undrawn_linear
from plaudit.models.weights import check_finite
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.tokens.batches import SharedRows, pack_shared

KIND = "shared_trunk"
HEAD = "score_head.safetensors"


class SharedTrunkRewardModel(RewardModel):
    """r(x, y) = a linear head on the language model's hidden state at the last token of y."""

    kind = KIND

    def __init__(self, loaded: Loaded, head: nn.Linear):
        super().__init__(loaded)
        self.trunk = Trunk(loaded.hf, score_head=head)

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B n"]:
        """Raw scores of all groups' answers, in order, [B 1]."""
        return self.trunk(pack_shared(groups).to(self.trunk.device), {"scores"})["scores"].unsqueeze(1)

    def with_likelihood(self, groups: Sequence[SharedRows]) -> tuple[Float[Tensor, " B"], Float[Tensor, "B R"]]:
        """Raw scores, and log π of the answers' tokens at temperature 1 (0 outside them), by one forward."""
        out = self.trunk(pack_shared(groups).to(self.trunk.device), {"scores", "logprobs"})
        return out["scores"], out["logprobs"]

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised scores, flat [B]."""
        raw = read_all(self, 1, encoded(self.language, groups), budget).squeeze(1)
        return Scores.of_all(self.normalisation.apply(raw))

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """A transformers causal language model, the head beside it, and `plaudit.json`."""
        super().save(folder, facts)
        assert self.trunk.score_head is not None
        head = self.trunk.score_head.state_dict()
        save_file({name: t.detach().cpu().contiguous() for name, t in head.items()}, folder / HEAD)
        readable(folder)


def new(config: ModelConfig, language: Language, *, seed: int) -> SharedTrunkRewardModel:
    """The language model that `config` names with a new head, drawn from N(0, 1/(d+1)) (Stiennon et al. 2020)."""
    loaded = load_causal(config, language, seed=seed)
    head = _linear(loaded)
    drawn = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
    head.weight.data.copy_(drawn / (head.in_features + 1) ** 0.5)
    head.bias.data.zero_()
    return SharedTrunkRewardModel(loaded, head)


def load(config: ModelConfig, language: Language) -> SharedTrunkRewardModel:
    """A saved one."""
    loaded = load_causal(config, language, seed=0)
    return SharedTrunkRewardModel(loaded, load_head(config.path, loaded))


def load_head(path: str, loaded: Loaded) -> nn.Linear:
    """The saved head alone, for a trunk that is there already. UserError for a missing or damaged one."""
    head, foreign = _linear(loaded), value_head(path)
    try:
        head.load_state_dict(load_file(file_beside(path, HEAD)) if foreign is None else foreign)
        check_finite(head.state_dict(), path)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: the reward head {HEAD} is missing or damaged: {error}") from error
    return head


def _linear(loaded: Loaded) -> nn.Linear:
    return undrawn_linear(loaded.hf.config.get_text_config().hidden_size, 1)


SAVED = SavedKind(name=KIND, load=load)
