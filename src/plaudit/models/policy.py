"""The policy and its critic (N1.3, N4.8)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from plaudit.models.load import Loaded, ModelConfig, load_causal
from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import TokenBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCritic:
    """A head on the policy's trunk: one forward for both (N4.8)."""

    kind: Literal["shared"] = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateCritic:
    """A model of its own: nothing of the value loss reaches the policy."""

    kind: Literal["separate"] = "separate"
    init: str = "policy"
    """`policy`: a copy of the policy's trunk; else a folder, such as the reward model's."""


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
    head = nn.Linear(trunk_config.get_text_config().hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def actor_critic(loaded: Loaded, critic: Critic, model: ModelConfig, *, seed: int) -> ActorCritic:
    """Give the loaded policy its critic."""
    if critic.kind == "shared":
        return ActorCritic(Trunk(loaded.hf, value_head=value_head(loaded.hf.config)), None)
    path = model.path if critic.init == "policy" else critic.init
    own = load_causal(ModelConfig(path=path, trust_remote_code=model.trust_remote_code), loaded.language, seed=seed)
    # A critic reads hidden states only: the language-model head gets no gradient, so it must not be in the optimiser.
    if (head := own.hf.get_output_embeddings()) is not None and head.weight is not own.hf.get_input_embeddings().weight:
        head.requires_grad_(False)
    return ActorCritic(Trunk(loaded.hf), Trunk(own.hf, value_head=value_head(own.hf.config)))
