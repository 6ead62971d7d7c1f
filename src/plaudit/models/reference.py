"""The frozen reference (N1.3)."""

import contextlib
import copy
from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.models import adapters
from plaudit.models.hf import HFModel
from plaudit.models.trunk import OtherPolicy, Trunk
from plaudit.tokens.batches import TokenBatch


class Reference:
    """π_ref: the policy as it was when training began, without gradient (N1.3).

    With LoRA it is the policy's own base, the adapter switched off: no second copy in memory. `own`: another model that
    is the reference instead, frozen and moved to the policy's device in place.
    """

    def __init__(self, policy: Trunk, own: HFModel | None = None):
        self.shares_base = own is None and hasattr(policy.hf, "disable_adapter")
        if self.shares_base:
            self.trunk = policy
        else:
            self.trunk = Trunk(copy.deepcopy(policy.hf) if own is None else own).to(policy.device)
            self.trunk.requires_grad_(False)

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
