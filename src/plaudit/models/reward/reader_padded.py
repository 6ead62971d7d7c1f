"""Reading prompts and answers with a model that can't pack rows: encoders and encoder-decoders (N3.9).

Rows stand side by side, padded on the right, rows of similar length together; attention masks hide the padding. Answers
to one prompt can't share it, because an encoder's prompt looks at the answer too.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plaudit.models.adapters import unwrapped
from plaudit.models.attention import alike
from plaudit.models.encoders import load_encoder_classifier
from plaudit.models.hf import HFModel
from plaudit.models.load import Language, Loaded
from plaudit.models.options import ModelConfig
from plaudit.models.trunk import silence_noise
from plaudit.tokens.batches import Ids, pad_right
from plaudit.tokens.encode import EncodedRow
from plaudit.tokens.pairs import PairRenderer


class PaddedReader(nn.Module):
    """A classifier of transformers, or one with a pooled head; gives n numbers per answer (N3.9)."""

    def __init__(self, loaded: Loaded):
        super().__init__()
        self.loaded = loaded
        self.hf = loaded.hf
        silence_noise(self)
        self.typed = type_vocabulary(self.inner)

    @property
    def inner(self) -> HFModel:
        """The transformers model itself, below a LoRA wrapper where there is one."""
        return unwrapped(self.hf)

    @property
    def config(self) -> Any:
        """The transformers model's own config."""
        return self.inner.config

    @property
    def language(self) -> Language:
        return self.loaded.language

    @property
    def width(self) -> int:
        """n, the numbers that an answer gets."""
        return self.config.num_labels

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    def forward(self, groups: Sequence[tuple[Ids, Sequence[Ids]]]) -> Float[Tensor, "B n"]:
        """Raw numbers of all groups' answers, in order, in fp32."""
        rows = [(list(prompt), list(response)) for prompt, responses in groups for response in responses]
        return in_buckets(self._buckets(rows), lambda bucket: self._read([rows[i] for i in bucket]).float())

    def _buckets(self, rows: Sequence[EncodedRow]) -> list[list[int]]:
        """Rows that run in one forward: of similar length, and with as many end tokens (T5's classifier wants that;
        only a rendered prompt may hold more than its neighbours)."""
        end = self.config.eos_token_id
        same: dict[int, list[int]] = defaultdict(list)
        for index, (prompt, response) in enumerate(rows):
            same[prompt.count(end) + response.count(end)].append(index)
        lengths = [len(prompt) + len(response) for prompt, response in rows]
        return [bucket for indices in same.values() for bucket in alike(indices, lengths)]

    def _read(self, rows: Sequence[EncodedRow]) -> Float[Tensor, "B n"]:
        ids, mask = pad_right([prompt + response for prompt, response in rows], padding_id(self.config))
        inputs = {"input_ids": ids.to(self.device), "attention_mask": mask.long().to(self.device)}
        if self.typed:
            inputs["token_type_ids"] = token_types(self.language.pair_renderer, rows, self.typed).to(self.device)
        return self.hf(**inputs).logits


def load_padded_reader(
    config: ModelConfig, language: Language, *, seed: int, width: int = 1, fresh: bool = False
) -> PaddedReader:
    """The encoder's reader, with a head of `width` numbers (a new one where the folder holds no classifier, or
    `fresh`)."""
    return PaddedReader(load_encoder_classifier(config, language, seed=seed, width=width, fresh=fresh))


def in_buckets(buckets: Sequence[Sequence[int]], read: Callable[[Sequence[int]], Tensor]) -> Float[Tensor, "*dims"]:
    """`read` bucket by bucket, each row once, in the order of the rows' numbers 0 … N − 1."""
    order = torch.tensor([i for bucket in buckets for i in bucket]).argsort()
    outputs = torch.cat([read(bucket) for bucket in buckets])
    return outputs.index_select(0, order.to(outputs.device))


def padding_id(config: Any) -> int:
    """What stands in the padding. Masks hide it, but two families look at the ids themselves: RoBERTa counts positions
    by them, T5's classifier looks for the last end token."""
    return next(i for i in (config.pad_token_id, 0, 1) if i is not None and i != config.eos_token_id)


def type_vocabulary(hf: HFModel) -> int:
    """How many token types the model tells apart; 0 where it takes none, or has but one."""
    backbone: Any = getattr(hf, "backbone", hf)
    takes = "token_type_ids" in inspect.signature(backbone.forward).parameters
    types = getattr(backbone.config, "type_vocab_size", 0) or 0
    return types if takes and types > 1 else 0


def token_types(renderer: PairRenderer, rows: Sequence[EncodedRow], known: int) -> Int[Tensor, "B L"]:
    """Which of the two texts each token belongs to; 0 in the padding."""
    types = [renderer.token_types(len(prompt), len(response)) for prompt, response in rows]
    return pad_right(types)[0].clamp(max=known - 1)
