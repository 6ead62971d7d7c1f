"""Reading prompts and answers: any backbone of transformers in, n numbers per answer out.

Answers to one prompt share it where the architecture can: P + Σ R tokens instead of K·P + Σ R.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from plaudit.models.load import Language, Loaded, architecture, load_classifier
from plaudit.models.options import ModelConfig
from plaudit.models.reward.reader_padded import PaddedReader, load_padded_reader
from plaudit.models.trunk import Trunk
from plaudit.records.text import Group
from plaudit.telemetry.console import say
from plaudit.tokens.batches import Ids, TokenBatch, by_token_budget, pack_shared
from plaudit.tokens.encode import EncodedRow, fit

SharedRows = tuple[Ids, Sequence[Ids]]
"""A prompt's ids and those of its answers."""


@runtime_checkable
class ReadsRows(Protocol):
    """What `read_all` needs of a reader."""

    @property
    def width(self) -> int: ...
    def __call__(self, groups: Sequence[SharedRows]) -> Float[Tensor, "B n"]: ...


class PackedReader(nn.Module):
    """A decoder with a linear head of n numbers at the last token (N3.1, N3.5–N3.7)."""

    def __init__(self, loaded: Loaded):
        super().__init__()
        self.loaded = loaded
        self.trunk = Trunk(loaded.hf, score_head=loaded.hf.get_submodule("score"))

    @property
    def language(self) -> Language:
        return self.loaded.language

    @property
    def config(self) -> Any:
        """The transformers model's own config."""
        return self.trunk.config

    @property
    def device(self) -> torch.device:
        return self.trunk.device

    @property
    def width(self) -> int:
        """n, the numbers that an answer gets."""
        return self.config.num_labels

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


Reader = PackedReader | PaddedReader
"""What kinds are made of: `loaded`, `language`, `config`, `device`, `width`, and groups of ids in, [B n] out."""


def load_reader(config: ModelConfig, language: Language, *, seed: int, width: int = 1, fresh: bool = False) -> Reader:
    """The reader for the architecture that `config` names, with a head of `width` numbers (a new one where the folder
    holds no classifier, or `fresh`)."""
    if architecture(config) != "decoder":
        reader = load_padded_reader(config, language, seed=seed, width=width, fresh=fresh)
        say(f"{type(reader.inner).__name__}: rows are padded and share no prompt")
        return reader
    return load_packed_reader(config, language, seed=seed, width=width, fresh=fresh)


def load_packed_reader(
    config: ModelConfig, language: Language, *, seed: int, width: int = 1, fresh: bool = False
) -> PackedReader:
    """A decoder's reader, for kinds that look at more than one number per answer. UserError for other architectures."""
    reader = PackedReader(load_classifier(config, language, seed=seed, num_labels=width, fresh=fresh))
    if reader.trunk.layout == "padded":
        say(f"{type(reader.trunk.inner).__name__} can't run packed rows: they are padded and share no prompt")
    return reader


def encoded(language: Language, groups: Sequence[Group]) -> list[EncodedRow]:
    """Every answer in this language's own template, cut to its context; the end token stands behind each."""
    renderer = language.renderer
    rows: list[EncodedRow] = []
    for group in groups:
        prompt = renderer.prompt_ids(group.prompt)
        for response in group.responses:
            ids = renderer.response_ids(response, end=True, form=group.prompt.form)
            rows.append(fit(prompt, ids, language.context, renderer.bos, renderer.closing))
    return rows


@torch.no_grad()
def read_all(reader: ReadsRows, rows: Sequence[EncodedRow], budget: int) -> Float[Tensor, "B n"]:
    """`reader`'s numbers for every row, on the CPU, in micro-batches of at most `budget` tokens. Equal rows are read
    once, so that answers which became equal when they were cut tie exactly."""
    if not rows:
        return torch.zeros(0, reader.width)
    numbers: dict[tuple[tuple[int, ...], ...], int] = {}
    which = [numbers.setdefault((tuple(prompt), tuple(ids)), len(numbers)) for prompt, ids in rows]
    if len(numbers) < len(rows):
        return read_all(reader, [(list(prompt), list(ids)) for prompt, ids in numbers], budget)[which]
    # Rows of one prompt together, so that they share it, and rows of similar length.
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), rows[i][0], len(rows[i][1])))
    parts: list[Tensor] = []
    for cut in by_token_budget((len(rows[i][0]) + len(rows[i][1]) for i in order), budget):
        parts.append(reader(sharing([rows[order[i]] for i in cut])).float().cpu())
    read = torch.cat(parts)
    out = torch.empty_like(read)
    out[order] = read
    return out


def sharing(rows: Sequence[EncodedRow]) -> list[SharedRows]:
    """Rows in order; neighbours with the same prompt become one group."""
    groups: list[tuple[Ids, list[Ids]]] = []
    for prompt, response in rows:
        if groups and groups[-1][0] == prompt:
            groups[-1][1].append(response)
        else:
            groups.append((prompt, [response]))
    return list(groups)
