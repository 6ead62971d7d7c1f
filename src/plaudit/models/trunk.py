"""One forward gives all that is wanted of a trunk: log-probs, entropy, values, scores (ARCHITECTURE.md).

`Trunk` wraps a transformers model and the heads that sit on its last hidden states. Every caller hands it a
`TokenBatch` and names what it wants; what comes back has the field's shapes, [B R] or [B], zero outside the mask.
"""

import contextlib
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from plaudit.errors import UserError
from plaudit.formulas import kl
from plaudit.formulas import logprobs as formulas
from plaudit.formulas.masks import at_least_float32
from plaudit.models.adapters import unwrapped
from plaudit.models.attention import PACKED, attention_implementation, segments
from plaudit.models.bf16 import cast_once, filled_up, rounded
from plaudit.models.last_block import feed_forward, positions_read, read_only_at
from plaudit.models.weights import HFModel
from plaudit.tokens.batches import TokenBatch, pack

OF_LOGITS = frozenset({"logprobs", "entropy", "kl_full"})
OF_SCORES = frozenset({"scores", "token_scores"})
HEADLESS = frozenset({"last_hidden", "prompt_hidden"})
WANTS = OF_LOGITS | OF_SCORES | HEADLESS | {"values"}
LOGIT_BUDGET = 2**25
"""At most so many logits are alive at once; more are computed in chunks and recomputed in the backward pass."""


@dataclass(frozen=True, slots=True)
class OtherPolicy:
    """Another model's next-token distributions over the same batch, whose logits are made when they are wanted."""

    hidden: Float[Tensor, "T H"]
    """Its last hidden state of every packed token."""
    logits: Callable[[Float[Tensor, "M H"]], Float[Tensor, "M V"]]
    """Its output matrix and what follows it."""


class Trunk(nn.Module):
    """A transformers model with up to two heads: `value_head` (the critic) and `score_head` (a reward)."""

    hf: HFModel
    value_head: nn.Module | None
    score_head: nn.Module | None

    def __init__(self, hf: HFModel, *, value_head: nn.Module | None = None, score_head: nn.Module | None = None):
        super().__init__()
        self.hf = hf
        self.value_head = value_head
        self.score_head = score_head
        silence_noise(self)
        cast_once(self.inner)
        self.layout = "packed" if _can_pack(self) else "padded"
        self.cuts = self.layout == "packed" and _can_cut(self)
        _check_logits(self)

    @property
    def inner(self) -> HFModel:
        """The transformers model itself, below a LoRA wrapper where there is one."""
        return unwrapped(self.hf)

    @property
    def config(self) -> Any:
        return self.inner.config

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    def forward(
        self, batch: TokenBatch, want: Collection[str], temperature: float = 1.0, other: OtherPolicy | None = None
    ) -> dict[str, Float[Tensor, "B R"] | Float[Tensor, " B"] | Float[Tensor, "B n"]]:
        """Run the trunk once.

        Args:
            batch: B packed rows.
            want: any of `logprobs` [B R] (nats, log-softmax of logits ÷ temperature at the response's tokens),
                `entropy` [B R] (nats, at the same temperature), `kl_full` [B R] (nats, KL(π ‖ other) of the whole
                distribution that token j is drawn from, at the same temperature), `values` [B R] (score units, V
                before token j is chosen), `scores` [B] (the score head at each row's last token).
            temperature: of the log-probs; PPO uses the sampling temperature everywhere, SFT and perplexity 1.
            other: what `kl_full` compares with, asked of the same batch.
        Raises: ValueError for an unknown want or a missing head.
        """
        self._check_wants(want, other)
        if self.layout == "padded" and batch.is_shared:
            batch = batch.unshared()
        out: dict[str, Tensor] = {}
        flat = batch.response_mask.reshape(-1).nonzero().squeeze(1)
        index, own = (x.reshape(-1).index_select(0, flat) for x in (batch.predict_index, batch.response_index))
        read = {"token_scores": own, "prompt_hidden": batch.prompt_index}
        read |= {"scores": batch.last_index, "last_hidden": batch.last_index}
        hidden = self.hidden(batch, positions_read([read.get(name, index) for name in want], batch.ids))
        if not (OF_LOGITS | {"values"}).isdisjoint(want):
            predicting = hidden.index_select(0, index)
            if not OF_LOGITS.isdisjoint(want):
                targets = batch.response_ids.reshape(-1).index_select(0, flat)
                beside = None if other is None else OtherPolicy(other.hidden.index_select(0, index), other.logits)
                names = OF_LOGITS & set(want)
                for name, numbers in self._of_logits(predicting, targets, temperature, names, beside).items():
                    out[name] = _unflatten(numbers, flat, batch)
            if "values" in want:
                out["values"] = _unflatten(_in_fp32(self._head("values"), predicting), flat, batch)
        at = {name: hidden.index_select(0, read[name]) for name in read.keys() & set(want)}
        if "scores" in at:
            at["scores"] = _in_fp32(self._head("scores"), at["scores"])
        if "token_scores" in at:
            at["token_scores"] = _unflatten(_in_fp32(self._head("token_scores"), at["token_scores"]), flat, batch)
        return out | at

    def _check_wants(self, want: Collection[str], other: OtherPolicy | None) -> None:
        if unknown := set(want) - WANTS:
            raise ValueError(f"a trunk gives {sorted(WANTS)}, not {sorted(unknown)}")
        for name in sorted(set(want) - HEADLESS):
            self._head(name)
        if ("kl_full" in want) != (other is not None):
            raise ValueError("`kl_full` and `other` go together")

    def _head(self, name: str) -> nn.Module:
        """What makes the wanted numbers of hidden states. ValueError where the trunk has no such head."""
        of_scores = self.score_head if name in OF_SCORES else self.value_head
        head = self.inner.get_output_embeddings() if name in OF_LOGITS else of_scores
        if head is None:
            raise ValueError(f"{name!r} wanted of a trunk without that head")
        return head

    def hidden(self, batch: TokenBatch, positions: Int[Tensor, " n"] | None = None) -> Float[Tensor, "T H"]:
        """Last hidden state of every packed token; where `positions` are given, right at those alone."""
        if self.layout == "padded":
            return self._padded_hidden(batch)
        if positions is None or not self.cuts:
            return self._packed_hidden(batch)
        with read_only_at(feed_forward(self.inner), positions, rounded(batch.num_tokens, positions)):
            return self._packed_hidden(batch)

    def _packed_hidden(self, batch: TokenBatch) -> Float[Tensor, "T H"]:
        ids, (lengths, stems) = filled_up(batch.ids), zip(*batch.segments, strict=True)
        with attention_implementation(self.inner, PACKED):
            hidden = self.inner.base_model(
                input_ids=ids.unsqueeze(0),
                position_ids=filled_up(batch.position_ids).unsqueeze(0),
                use_cache=False,
                segments=segments(lengths, ids.device, stems, len(ids)),
            ).last_hidden_state[0]
        return hidden[: batch.num_tokens]

    def _padded_hidden(self, batch: TokenBatch) -> Float[Tensor, "T H"]:
        """The fallback: rows side by side, padded on the right, then laid out in one line again."""
        lengths = torch.tensor(batch.lengths, device=batch.ids.device)
        keep = torch.arange(max(batch.lengths), device=batch.ids.device) < lengths.unsqueeze(1)
        ids = torch.zeros(keep.shape, dtype=torch.long, device=batch.ids.device).masked_scatter(keep, batch.ids)
        hidden = self.inner.base_model(input_ids=ids, attention_mask=keep.long(), use_cache=False).last_hidden_state
        return hidden[keep]

    def logits(self, hidden: Float[Tensor, "M H"]) -> Float[Tensor, "M V"]:
        """The next-token logits of some hidden states, in fp32."""
        return final_logits(self.config, self._head("logprobs")(hidden).float())

    def _of_logits(
        self,
        hidden: Float[Tensor, "M H"],
        targets: Int[Tensor, " M"],
        temperature: float,
        want: Collection[str],
        other: OtherPolicy | None,
    ) -> dict[str, Float[Tensor, " M"]]:
        """What needs the whole vocabulary, on the response positions only, chunk by chunk where it is large."""
        names, count = sorted(want), len(targets)
        beside = hidden.new_zeros(count, 0) if other is None else other.hidden
        hidden, targets, beside = (filled_up(x) for x in (hidden, targets, beside))

        def chunk(h: Tensor, ids: Tensor, other_h: Tensor) -> tuple[Tensor, ...]:
            logits = self.logits(h)
            numbers: dict[str, Tensor] = {}
            every = formulas.all_logprobs(logits, temperature)
            if "logprobs" in want:
                numbers["logprobs"] = formulas.chosen(every, ids)
            if "entropy" in want:
                numbers["entropy"] = formulas.entropy_of(every)
            if other is not None and "kl_full" in want:
                numbers["kl_full"] = kl.full(logits, other.logits(other_h), temperature)
            return tuple(numbers[name] for name in names)

        rows = max(1, LOGIT_BUDGET // (self.config.get_text_config().vocab_size * (1 if other is None else 2)))
        if len(targets) <= rows:
            return {name: x[:count] for name, x in zip(names, chunk(hidden, targets, beside), strict=True)}
        parts = [
            checkpoint(chunk, *cut, use_reentrant=False) if torch.is_grad_enabled() else chunk(*cut)
            for cut in zip(hidden.split(rows), targets.split(rows), beside.split(rows), strict=True)
        ]
        return {name: torch.cat([part[i] for part in parts])[:count] for i, name in enumerate(names)}


def _unflatten(numbers: Float[Tensor, " M"], flat: Int[Tensor, " M"], batch: TokenBatch) -> Float[Tensor, "B R"]:
    shape = batch.response_mask.shape
    return numbers.new_zeros(shape.numel()).index_copy(0, flat, numbers).view(shape)


def _in_fp32(head: nn.Module, hidden: Float[Tensor, "M H"]) -> Float[Tensor, " M"] | Float[Tensor, "M n"]:
    """A head's numbers (one: [M]), in fp32 or better and out of autocast: values and scores are small differences."""
    with torch.autocast(hidden.device.type, enabled=False):
        return head(at_least_float32(hidden)).squeeze(-1)


def undrawn_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose numbers are whatever the memory held: nothing is drawn from the global generator."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    assert isinstance(layer, nn.Linear)
    return layer


def final_logits(config: Any, logits: Tensor) -> Tensor:
    """What some architectures do after the output embedding: Gemma's soft cap, Cohere's and Granite's scale.

    `_check_logits` refuses a model that does something else.
    """
    config = config.get_text_config()
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


@contextlib.contextmanager
def evaluating(hf: HFModel) -> Generator[None]:
    """Inside the block the model is in evaluation mode; afterwards it is as it was.

    Where activations are checkpointed, transformers drops its cache in training mode, and says nothing.
    """
    training = [module for module in hf.modules() if module.training]
    hf.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def silence_noise(model: nn.Module) -> None:
    """Dropout, skipped layers and routing jitter off: two forwards must agree, or the first ratio is not 1."""
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and ("drop" in name or "jitter" in name):
                setattr(module, name, 0.0)


def _probe(trunk: Trunk) -> TokenBatch:
    """Two short rows, to ask a model what it does."""
    top = trunk.config.get_text_config().vocab_size
    return pack([[1 % top, 2 % top, 3 % top], [4 % top]], [[5 % top, 6 % top], [3 % top]]).to(trunk.device)


@torch.no_grad()
def _can_pack(trunk: Trunk) -> bool:
    """Does the packed layout give what the padded one gives? Asked of the model itself."""
    config = trunk.config.get_text_config()
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return False
    rows = _probe(trunk)
    with evaluating(trunk.hf):
        padded = trunk._padded_hidden(rows).float()
        if not padded.isfinite().all():
            spoilt = [name for name, p in trunk.hf.named_parameters() if not p.isfinite().all()]
            cause = f"its weights hold NaN or infinity ({spoilt[0]})" if spoilt else "numbers inside it overflow"
            raise UserError(f"model.path: {type(trunk.inner).__name__} answers with NaN: {cause}; take a sound copy")
        try:
            packed = trunk._packed_hidden(rows).float()
        except (TypeError, AttributeError, RuntimeError):
            return False
    return torch.allclose(packed, padded, rtol=1e-3, atol=1e-3 * float(padded.abs().max()))


@torch.no_grad()
def _can_cut(trunk: Trunk) -> bool:
    """Does the last block say the same where it is read if it computes nothing elsewhere? Asked of the model."""
    batch, layer = _probe(trunk), feed_forward(trunk.inner)
    positions = batch.prompt_index
    with evaluating(trunk.hf):
        whole = trunk._packed_hidden(batch)[positions].float()
        try:
            with read_only_at(layer, positions, batch.num_tokens):
                cut = trunk._packed_hidden(batch)[positions].float()
        except (TypeError, AttributeError, RuntimeError):
            return False
    return layer is not None and torch.allclose(cut, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


@torch.no_grad()
def _check_logits(trunk: Trunk) -> None:
    """Are the logits that log-probs are made of the model's own? UserError for an architecture that is not known."""
    head = trunk.inner.get_output_embeddings()
    if head is None:
        return
    batch = _probe(trunk)
    with evaluating(trunk.hf):
        ours = final_logits(trunk.config, head(trunk.hidden(batch))).float()[: batch.lengths[0]]
        own = trunk.inner(input_ids=batch.ids[None, : batch.lengths[0]], use_cache=False).logits[0].float()
    if not torch.allclose(ours, own, rtol=1e-4, atol=1e-4 * float(own.abs().max())):
        raise UserError(
            f"model.path: {type(trunk.inner).__name__} makes its logits in a way that plaudit doesn't know, so "
            "log-probs would be wrong; use another model, or teach `final_logits` in models/trunk.py"
        )
