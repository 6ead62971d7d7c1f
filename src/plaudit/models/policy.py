"""The policy and its critic (N1.3, N4.8)."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from plaudit.models.load import Loaded, ModelConfig, load_backbone
from plaudit.models.trunk import Trunk
from plaudit.runs.errors import UserError
from plaudit.tokens.batches import TokenBatch
from plaudit.tokens.tokenizer import load_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCritic:
    """A head on the policy's trunk: one forward for both (N4.8)."""

    kind: Literal["shared"] = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateCritic:
    """A model of its own, trained as `model.train` says: nothing of the value loss reaches the policy."""

    kind: Literal["separate"] = "separate"
    init: str = "policy"
    """`policy`: a copy of the policy's trunk; else a folder with the same tokenizer, such as the reward model's."""


Critic = SharedCritic | SeparateCritic


class ActorCritic(nn.Module):
    """Policy and critic behind one call, so that the loop need not know whether they share a trunk."""

    def __init__(self, policy: Trunk, critic: Trunk | None):
        super().__init__()
        self.policy = policy
        self.critic = critic

    def forward(
        self, batch: TokenBatch, want: Collection[str], temperature: float = 1.0
    ) -> dict[str, Float[Tensor, "B R"]]:
        """As `Trunk.forward`; `values` come from the critic, wherever it lives."""
        if self.critic is None:
            return self.policy(batch, want, temperature)
        out = self.policy(batch, set(want) - {"values"}, temperature) if set(want) != {"values"} else {}
        return out | (self.critic(batch, {"values"}) if "values" in want else {})


def value_head(trunk_config) -> nn.Linear:
    """One linear layer, zero at first: V ≡ 0 before training (Ziegler et al. 2019)."""
    head = nn.utils.skip_init(nn.Linear, trunk_config.get_text_config().hidden_size, 1)  # draws nothing
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def actor_critic(loaded: Loaded, critic: Critic, model: ModelConfig, *, seed: int) -> ActorCritic:
    """Give the loaded policy its critic; `model` is the policy's own config.

    Raises: UserError for a critic that reads other tokens than the policy writes.
    """
    if critic.kind == "shared":
        return ActorCritic(Trunk(loaded.hf, value_head=value_head(loaded.hf.config)), None)
    if critic.init != "policy":
        if load_tokenizer(critic.init).get_vocab() != loaded.language.tokenizer.get_vocab():
            raise UserError(f"critic.init: {critic.init!r} has another tokenizer than the policy")
        model = replace(model, path=critic.init)
    own = load_backbone(model, loaded.language, seed=seed)
    return ActorCritic(Trunk(loaded.hf), Trunk(own.hf, value_head=value_head(own.hf.config)))
