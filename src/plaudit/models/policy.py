"""The policy, its critic and its reference (N1.3, N4.8)."""

import contextlib
import copy
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.errors import UserError
from plaudit.models import adapters
from plaudit.models.load import Loaded, load_backbone
from plaudit.models.options import Critic, Head, ModelConfig
from plaudit.models.trunk import OtherPolicy, Trunk, undrawn_linear
from plaudit.models.weights import HFModel
from plaudit.tokens.batches import TokenBatch
from plaudit.tokens.tokenizer import load_tokenizer


class ActorCritic(nn.Module):
    """Policy and critic behind one call, so that the loop need not know whether they share a trunk.

    `critic` None: the policy's trunk has the value head, or there is no critic at all. Where both trunks stand around
    the same model, the critic answers through its own adapter.
    """

    def __init__(self, policy: Trunk, critic: Trunk | None):
        super().__init__()
        self.policy = policy
        self.critic = critic

    def forward(
        self, batch: TokenBatch, want: Collection[str], temperature: float = 1.0, other: OtherPolicy | None = None
    ) -> dict[str, Float[Tensor, "B R"]]:
        """As `Trunk.forward`; `values` come from the critic, wherever it lives."""
        if self.critic is None:
            return self.policy(batch, want, temperature, other)
        out = self.policy(batch, set(want) - {"values"}, temperature, other) if set(want) != {"values"} else {}
        if "values" not in want:
            return out
        shares_base = self.critic.hf is self.policy.hf
        with adapters.critic_on(self.critic.hf) if shares_base else contextlib.nullcontext():
            return out | self.critic(batch, {"values"})

    def policy_parameters(self) -> list[nn.Parameter]:
        """What is trained and is not the critic's alone: a shared trunk is the policy's, the value head is not."""
        head = (self.critic or self.policy).value_head
        own = [] if head is None else list(head.parameters())
        own += adapters.critic_parameters(self.policy.hf)
        if self.critic is not None and self.critic.hf is not self.policy.hf:
            own += self.critic.hf.parameters()
        critics = {id(p) for p in own}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in critics]


def value_head(trunk_config: Any, head: Head = "linear", *, seed: int = 0) -> nn.Module:
    """A head of one number, zero at first: V ≡ 0 before training (Ziegler et al. 2019)."""
    width = trunk_config.get_text_config().hidden_size
    last = undrawn_linear(width, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    if head == "linear":
        return last
    first = undrawn_linear(width, width)
    drawn = torch.rand(first.weight.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    first.weight.data.copy_(drawn * width**-0.5)
    nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.Tanh(), last)


def actor_critic(
    loaded: Loaded, critic: Critic | None, model: ModelConfig, *, seed: int, blocks: Loaded | None = None
) -> ActorCritic:
    """Give the loaded policy its critic; `model` is the policy's own config. `blocks`: a copy of the policy's own for a
    separate critic, where no folder holds them. UserError for a critic that reads other tokens than the policy writes,
    or wants an adapter of a model that has none."""
    if critic is None:
        return ActorCritic(Trunk(loaded.hf), None)
    if critic.kind == "shared":
        return ActorCritic(Trunk(loaded.hf, value_head=value_head(loaded.hf.config, critic.head, seed=seed)), None)
    if critic.kind == "adapter":
        if model.train.kind != "lora":
            raise UserError("critic: kind adapter needs `model.train: lora`; else use shared or separate")
        adapters.add_critic(loaded.hf, seed=seed)
        head = value_head(loaded.hf.config, critic.head, seed=seed)
        return ActorCritic(Trunk(loaded.hf), Trunk(loaded.hf, value_head=head))
    if critic.init != "policy":
        if load_tokenizer(critic.init).get_vocab() != loaded.language.tokenizer.get_vocab():
            raise UserError(f"critic.init: {critic.init!r} has another tokenizer than the policy")
        model = replace(model, path=critic.init)
    own = blocks or load_backbone(model, loaded.language, seed=seed)
    return ActorCritic(Trunk(loaded.hf), Trunk(own.hf, value_head=value_head(own.hf.config, critic.head, seed=seed)))


class Reference:
    """π_ref: the policy as it was when training began, without gradient (N1.3).

    With LoRA it is the policy's own base, the adapter switched off: no second copy in memory. `own`: another model that
    is the reference instead, frozen and moved to the policy's device in place.
    """

    def __init__(self, policy: Trunk, own: HFModel | None = None):
        self.is_start = own is None
        self.shares_base = own is None and hasattr(policy.hf, "disable_adapter")
        if self.shares_base:
            self.trunk = policy
        else:
            self.trunk = Trunk(copy.deepcopy(policy.hf) if own is None else own).to(policy.device)
            self.trunk.requires_grad_(False)

    @torch.no_grad()
    def is_policy(self, policy: Trunk) -> bool:
        """Whether the policy is bit for bit what it was when training began, so that π_ref says what it says. Costs
        little: the first parameter that moved ends the comparison."""
        if not self.is_start:
            return False
        if self.shares_base:
            return adapters.is_untouched(policy.hf)
        both = zip(policy.hf.parameters(), self.trunk.hf.parameters(), strict=True)
        return all(torch.equal(mine, its) for mine, its in both)

    def logprobs(self, batch: TokenBatch, temperature: float) -> Float[Tensor, "B R"]:
        """log π_ref of the response tokens [B R], nats, at the sampling temperature."""
        return self.look(batch, {"logprobs"}, temperature)["logprobs"]

    @torch.no_grad()
    def look(self, batch: TokenBatch, want: Collection[str], temperature: float) -> dict[str, Tensor]:
        """As `Trunk.forward`: log-probs, and scores where a reward head sits on the trunk (N3.13)."""
        with self._answering():
            return self.trunk(batch, want, temperature)

    @torch.no_grad()
    def distribution(self, batch: TokenBatch) -> OtherPolicy:
        """π_ref over the whole vocabulary, for the exact KL (N4.6): one pass now, its logits in chunks later."""
        if self.trunk.layout == "padded" and batch.is_shared:
            batch = batch.unshared()
        with self._answering():
            return OtherPolicy(self.trunk.hidden(batch), self._logits)

    @torch.no_grad()
    def _logits(self, hidden: Float[Tensor, "M H"]) -> Float[Tensor, "M V"]:
        with self._answering():
            return self.trunk.logits(hidden)

    def _answering(self) -> contextlib.AbstractContextManager[object]:
        return adapters.base_off(self.trunk.hf) if self.shares_base else contextlib.nullcontext()
