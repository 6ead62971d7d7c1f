"""Reading prompts and answers: any backbone of transformers in, n numbers per answer out.

Decoders run packed rows, and answers to one prompt share it: P + Σ R tokens instead of K·P + Σ R. Encoders and
encoder-decoders can do neither (an encoder's prompt looks at the answer too): there rows of similar length stand side
by side, padded on the right, and attention masks hide the padding (N3.9).
"""

import contextlib
import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plaudit.models.attention import alike
from plaudit.models.encoders import load_encoder_classifier
from plaudit.models.load import Language, Loaded, architecture, load_classifier
from plaudit.models.options import ModelConfig
from plaudit.models.reward.protocol import LoadedModule, RewardModel
from plaudit.models.trunk import Trunk, silence_noise
from plaudit.models.weights import HFModel
from plaudit.records.text import Group
from plaudit.telemetry.console import say
from plaudit.tokens.batches import SharedRows, TokenBatch, by_token_budget, pack_shared, pad_right, sharing
from plaudit.tokens.encode import EncodedRow, fit
from plaudit.tokens.pairs import PairRenderer


class _Classifier(LoadedModule):
    """A model with a head of n numbers."""

    @property
    def width(self) -> int:
        """n, the numbers that an answer gets."""
        return self.config.num_labels


class PackedReader(_Classifier):
    """A decoder with a linear head of n numbers at the last token (N3.1, N3.5–N3.7)."""

    def __init__(self, loaded: Loaded):
        super().__init__(loaded)
        self.trunk = Trunk(loaded.hf, score_head=loaded.hf.get_submodule("score"))

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B n"]:
        """Raw numbers of all groups' answers, in order, in fp32."""
        batch = pack_shared(groups).to(self.trunk.device)
        return self.trunk(batch, {"scores"})["scores"].reshape(batch.num_rows, -1)

    def at_tokens(self, groups: Sequence[SharedRows]) -> tuple[Float[Tensor, "B R"], TokenBatch]:
        """The one number at every token of every answer, and the batch that says which tokens they are."""
        batch = pack_shared(groups).to(self.trunk.device)
        return self.trunk(batch, {"token_scores"})["token_scores"], batch

    def with_hidden(
        self, groups: Sequence[SharedRows]
    ) -> tuple[Float[Tensor, "B n"], Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        """The numbers, and the last hidden states that they are read from: at each answer's end, at its prompt's."""
        batch = pack_shared(groups).to(self.trunk.device)
        out = self.trunk(batch, {"scores", "last_hidden", "prompt_hidden"})
        return out["scores"].reshape(batch.num_rows, -1), out["last_hidden"].float(), out["prompt_hidden"].float()


class PaddedReader(_Classifier):
    """A classifier of transformers, or one with a pooled head; gives n numbers per answer (N3.9)."""

    def __init__(self, loaded: Loaded):
        super().__init__(loaded)
        self.hf = loaded.hf
        silence_noise(self)
        self.typed = type_vocabulary(self.inner)

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B n"]:
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
        # DeBERTa's first version hides keys by fp32's smallest number, which bf16 hasn't
        plain = self.config.model_type == "deberta"
        with torch.autocast(self.device.type, enabled=False) if plain else contextlib.nullcontext():
            return self.hf(**inputs).logits


Reader = PackedReader | PaddedReader


class ReaderRewardModel(RewardModel):
    """A kind whose score is made of a reader's numbers."""

    def __init__(self, reader: Reader):
        super().__init__(reader.loaded)
        self.reader = reader

    def read(self, groups: Sequence[Group], budget: int) -> Float[Tensor, "B n"]:
        """The reader's raw numbers of all groups' answers, in order, on the CPU."""
        return read_all(self.reader, self.reader.width, encoded(self.language, groups), budget)


def load_reader(config: ModelConfig, language: Language, *, seed: int, width: int = 1, fresh: bool = False) -> Reader:
    """The reader for the architecture that `config` names, with a head of `width` numbers (a new one where the folder
    holds no classifier, or `fresh`)."""
    if architecture(config) == "decoder":
        return load_packed_reader(config, language, seed=seed, width=width, fresh=fresh)
    reader = PaddedReader(load_encoder_classifier(config, language, seed=seed, width=width, fresh=fresh))
    say(f"{type(reader.inner).__name__}: rows are padded and share no prompt")
    return reader


def load_packed_reader(
    config: ModelConfig, language: Language, *, seed: int, width: int = 1, fresh: bool = False
) -> PackedReader:
    """A decoder's reader, for kinds that look at more than one number per answer. UserError for other architectures."""
    reader = PackedReader(load_classifier(config, language, seed=seed, num_labels=width, fresh=fresh))
    if reader.trunk.layout == "padded":
        say(f"{type(reader.trunk.inner).__name__} can't run packed rows: they are padded and share no prompt")
    return reader


def encoded(language: Language, groups: Sequence[Group]) -> list[EncodedRow]:
    """Every answer in this language's own template, cut to its context."""
    renderer = language.renderer
    rows: list[EncodedRow] = []
    for group in groups:
        for response in group.responses:
            pair = renderer.pair_ids(group.prompt, response)
            rows.append(fit(*pair, language.context, renderer.bos, renderer.closing))
    return rows


@torch.no_grad()
def read_all(
    read: Callable[[Sequence[SharedRows]], Tensor], width: int, rows: Sequence[EncodedRow], budget: int
) -> Float[Tensor, "B n"]:
    """The `width` numbers that `read` gives for every row, on the CPU, in micro-batches of at most `budget` tokens.

    Equal rows are read once: answers that became equal when they were cut tie exactly.
    """
    if not rows:
        return torch.zeros(0, width)
    first: dict[tuple[tuple[int, ...], ...], int] = {}
    which = [first.setdefault((tuple(prompt), tuple(ids)), len(first)) for prompt, ids in rows]
    if len(first) < len(rows):
        return read_all(read, width, [(list(prompt), list(ids)) for prompt, ids in first], budget)[which]
    # Rows of one prompt together, so that they share it, and rows of similar length.
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), rows[i][0], len(rows[i][1])))
    parts: list[Tensor] = []
    for cut in by_token_budget((len(rows[i][0]) + len(rows[i][1]) for i in order), budget):
        parts.append(read(sharing([rows[order[i]] for i in cut])).float().cpu())
    numbers = torch.cat(parts)
    out = torch.empty_like(numbers)
    out[order] = numbers
    return out


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
