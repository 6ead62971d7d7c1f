"""Decoding of Llama-like models (Llama, Qwen2, Qwen3, Mistral, SmolLM …) with the live parameters, without the
caches and masks that transformers builds around them, which cost a small model as much as half of its matrices.

The keys and values of all rows lie in one memory, [layer, key or value, slot × head, time, width], that is kept from
call to call. A slot is one row's; the next row may take it at any time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plaudit.models.attention import packed_attention, segments
from plaudit.models.bf16 import MULTIPLE, rounded
from plaudit.models.trunk import Trunk

ROUND = MULTIPLE
"""The memory's length is a multiple of this, so that it is rarely laid out anew."""
PARTS = {
    "": {"embed_tokens", "layers", "norm", "rotary_emb"},
    "layer": {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"},
    "self_attn": {"q_proj", "k_proj", "v_proj", "o_proj"},
}
OPTIONAL = {"q_norm", "k_norm"}

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries [N H D], keys and values [N Hkv D] of new tokens → what they attend to, [N, H × D]."""


def is_llama_like(trunk: Trunk) -> bool:
    """Has the model these parts and no others? Whether they are put together as here, only its numbers can tell."""
    base = trunk.inner.base_model
    if trunk.layout != "packed" or not _has(base, "") or not isinstance(base.layers, nn.ModuleList):
        return False
    return all(_has(layer, "layer") and _has(layer.self_attn, "self_attn") for layer in base.layers.children())


def _has(module: Any, kind: str) -> bool:
    names = {name for name, _ in module.named_children()}
    is_bare = not module._forward_hooks and not module._forward_pre_hooks
    return is_bare and PARTS[kind] <= names <= PARTS[kind] | OPTIONAL and not list(module.parameters(recurse=False))


class LlamaDecoder:
    """The model, and the memory of the rows that are being written."""

    def __init__(self, trunk: Trunk):
        self.trunk = trunk
        self.memory: Tensor | None = None
        self.num_slots = 0
        attention: Any = self.layers[0].self_attn
        self.width = int(attention.head_dim)
        self.scaling = float(attention.scaling)
        config = trunk.config.get_text_config()
        self.kv_heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)

    @property
    def base(self) -> Any:
        return self.trunk.inner.base_model

    @property
    def layers(self) -> Any:
        return self.base.layers

    def reserve(self, slots: int, length: int) -> None:
        """Room for so many rows of so many tokens. What the memory held is lost where it is too small."""
        device = self.trunk.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else next(self.trunk.hf.parameters()).dtype
        old, length = self.memory, -(-length // ROUND) * ROUND
        fits = old is not None and slots <= self.num_slots and length <= old.shape[3]
        if old is None or not fits or old.dtype != dtype or old.device != device:
            self.memory = None  # freed before the new one is there
            shape = (len(self.layers), 2, slots * self.kv_heads, length, self.width)
            # Zeros, for what lies behind a row's end is multiplied by a probability of 0, and 0 × NaN is NaN.
            self.memory, self.num_slots = torch.zeros(shape, dtype=dtype, device=device), slots

    def forget(self) -> None:
        """Give the memory back, or drop what a model with NaN in it left there."""
        self.memory, self.num_slots = None, 0

    def _whole(self) -> Tensor:
        if self.memory is None:
            raise RuntimeError("reserve memory before decoding")
        return self.memory

    # ---- prompts

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Float[Tensor, "L 2 T Hkv D"]:
        """Keys and values of some prompts laid end to end. Of the last layer only those are computed."""
        memory, device = self._whole(), self.trunk.device
        lengths = [len(prompt) for prompt in prompts]
        line = memory.new_empty(len(self.layers), 2, sum(lengths), self.kv_heads, self.width)
        x = self.base.embed_tokens(torch.tensor([i for prompt in prompts for i in prompt], device=device))
        positions = torch.cat([torch.arange(length, device=device) for length in lengths])
        rope = self._rope(x, positions)
        cut = segments(lengths, device)
        *before, last = self.layers
        for (keys, values), layer in zip(line, before, strict=False):

            def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values) -> Tensor:
                keys[:], values[:] = k, v
                q, k, v = (y.transpose(0, 1).unsqueeze(0) for y in (q, k.to(v.dtype), v))
                return packed_attention(last, q, k, v, None, segments=cut, scaling=self.scaling)[0][0].flatten(1)

            x = self._layer(layer, x, rope, attend)
        _, line[-1, 0], line[-1, 1] = self._project(last, last.input_layernorm(x), rope)
        return line

    def copy_in(self, line: Float[Tensor, "L 2 T Hkv D"], begin: int, end: int, slot: int) -> None:
        """Copy a prompt's keys and values, line[…, begin:end, …], into a slot."""
        heads = slice(slot * self.kv_heads, (slot + 1) * self.kv_heads)
        self._whole()[:, :, heads, : end - begin] = line[:, :, begin:end].transpose(2, 3)

    def move(self, source: int, target: int, length: int) -> None:
        """Let the row in slot `source` go on in slot `target`."""
        memory, n = self._whole(), self.kv_heads
        memory[:, :, target * n : (target + 1) * n, :length] = memory[:, :, source * n : (source + 1) * n, :length]

    # ---- one more token

    def step(self, tokens: Int[Tensor, " N"], lengths: Int[Tensor, " N"], longest: int) -> Float[Tensor, "N H"]:
        """The last hidden states after these tokens, of which the first N slots get one each behind their `lengths`
        earlier ones; `longest` is the largest of those."""
        memory, n, kv = self._whole(), len(tokens), self.kv_heads
        width, rows = rounded(longest + 1, tokens), n * kv
        x = self.base.embed_tokens(tokens)
        rope = self._rope(x, lengths)
        each = lengths.repeat_interleave(kv)
        index = torch.arange(rows, device=x.device) * memory.shape[3] + each
        hidden = torch.arange(width, device=x.device) > each.unsqueeze(1)
        mask = x.new_zeros(hidden.shape, dtype=memory.dtype).masked_fill_(hidden, -torch.inf).unsqueeze(1)

        for keys, values, layer in zip(memory[:, 0], memory[:, 1], self.layers, strict=True):

            def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values) -> Tensor:
                keys.view(-1, self.width).index_copy_(0, index, k.reshape(rows, self.width).to(keys.dtype))
                values.view(-1, self.width).index_copy_(0, index, v.reshape(rows, self.width).to(values.dtype))
                q = q.reshape(rows, -1, self.width).to(keys.dtype)
                scores = torch.baddbmm(mask, q, keys[:rows, :width].transpose(1, 2), alpha=self.scaling)
                chances = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
                return torch.bmm(chances, values[:rows, :width]).view(n, -1)

            x = self._layer(layer, x, rope, attend)
        return self.base.norm(x)

    def _rope(self, x: Tensor, positions: Int[Tensor, " N"]) -> tuple[Tensor, Tensor]:
        cos, sin = self.base.rotary_emb(x, positions.unsqueeze(0))
        return cos[0].unsqueeze(1), sin[0].unsqueeze(1)

    def _project(self, layer: Any, x: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [N H D], keys and values [N Hkv D], turned to their positions."""
        part = layer.self_attn
        q, k, v = (p(x).view(len(x), -1, self.width) for p in (part.q_proj, part.k_proj, part.v_proj))
        if hasattr(part, "q_norm"):
            q, k = part.q_norm(q), part.k_norm(k)
        both, half = torch.cat([q, k], dim=1), self.width // 2
        turned = torch.cat([-both[..., half:], both[..., :half]], dim=-1)
        q, k = torch.addcmul(both * rope[0], turned, rope[1]).split([q.shape[1], k.shape[1]], dim=1)
        return q, k, v

    def _layer(self, layer: Any, x: Tensor, rope: tuple[Tensor, Tensor], attend: Attend) -> Tensor:
        attended = attend(*self._project(layer, layer.input_layernorm(x), rope))
        x = x + layer.self_attn.o_proj(attended)
        return x + layer.mlp(layer.post_attention_layernorm(x))
