"""Static batches through transformers' own modules and cache, for models that `llama` doesn't decode: rows of similar
prompts begin together, finished ones leave, and no row joins before all are done."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from plaudit.engines.written import Response, Sampling, Written
from plaudit.hardware.randomness import uniforms
from plaudit.models.trunk import Trunk
from plaudit.tokens.batches import pad_left

COMPACT_BELOW = 0.75
"""When fewer than this share of the rows still write, the finished ones leave the batch."""


@dataclass
class _Live:
    """The rows still in the batch; everything here shrinks together."""

    rows: Int[Tensor, " N"]
    """Which prompt each continues; −1: it is finished."""
    mask: Bool[Tensor, "N T"]
    """What the next token may look at: the prompt and what is written so far."""
    position: Int[Tensor, " N"]
    """The next token's position in its own sequence."""
    base: Int[Tensor, " N"]

    def select(self, keep: Tensor) -> "_Live":
        return _Live(*(column[keep] for column in (self.rows, self.mask, self.position, self.base)))


def decode(trunk: Trunk, prompts: Sequence[Sequence[int]], base: Int[Tensor, " N"], task: Sampling) -> list[Response]:
    """As `slots.decode`, a batch at a time."""
    responses, size = list[Response](), task.sampling.batch_size
    for begin in range(0, len(prompts), size):
        responses += _batch(trunk, prompts[begin : begin + size], base[begin : begin + size], task)
    return responses


def _batch(trunk: Trunk, prompts: Sequence[Sequence[int]], base: Tensor, task: Sampling) -> list[Response]:
    written, device = Written(trunk, task), trunk.device
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    which = {prompt: index for index, prompt in enumerate(distinct)}
    owner = torch.tensor([which[tuple(prompt)] for prompt in prompts], device=device)
    ids, mask = (x.to(device) for x in pad_left(distinct))
    cache = DynamicCache(config=trunk.config)
    position_ids = (mask.long().cumsum(1) - 1).clamp(min=0)
    live = _Live(torch.arange(len(prompts), device=device), mask[owner], mask.sum(1)[owner], base.to(device))
    for step in range(task.sampling.max_new_tokens):
        task.check_stop()
        hidden = _hidden(trunk, ids, live.mask if step else mask, position_ids, cache)
        if not step:
            hidden = hidden[owner]
            if len(distinct) < len(prompts):
                cache.batch_select_indices(owner)
        counts = torch.full_like(live.base, step)
        uniform = uniforms(live.base, counts)
        tokens, finished = written.add(live.rows, counts, uniform, hidden, trunk.logits(hidden))
        live.rows[finished] = -1
        keep = live.rows >= 0
        if not (num_live := int(keep.sum())):
            break
        if num_live < COMPACT_BELOW * len(keep):
            tokens, live = tokens[keep], live.select(keep)
            cache.batch_select_indices(keep.nonzero().squeeze(1))
        ids, position_ids = tokens.unsqueeze(1), live.position.unsqueeze(1)
        live.mask = torch.cat([live.mask, live.mask.new_ones(len(tokens), 1)], dim=1)
        live.position = live.position + 1
    return written.responses(len(prompts))


def _hidden(trunk: Trunk, ids: Tensor, mask: Tensor, position_ids: Tensor, cache: DynamicCache) -> Float[Tensor, "N H"]:
    """The last hidden states behind these ids."""
    return trunk.inner.base_model(
        input_ids=ids, attention_mask=mask.long(), position_ids=position_ids, past_key_values=cache, use_cache=True
    ).last_hidden_state[:, -1]
