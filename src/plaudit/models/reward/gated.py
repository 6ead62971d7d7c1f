"""Aspects mixed by a gate that reads the prompt (N3.7; ArmoRM, Wang et al. 2024).

    z_a    the aspects' standardised ratings, by a frozen backbone
    z'_a = z_a − λ_a z_verbosity                  what is left of an aspect once length is taken out of it
    g    = s · softmax(MLP(h_prompt) / τ)         how much each aspect counts for this prompt
    r    = Σ_a g_a z'_a

Differs from the authors' code, which trains and validates the gate on z and scores by z': here the corrected ratings
are used everywhere. No dropout in the gate: two forwards must agree.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plaudit.errors import UserError
from plaudit.models.beside import file_beside, read_facts
from plaudit.models.checkpoint import readable
from plaudit.models.load import Language
from plaudit.models.options import GateShape, ModelConfig
from plaudit.models.reward.aspects import Aspect, AspectsRewardModel, saved_aspects
from plaudit.models.reward.protocol import RewardModel, SavedKind
from plaudit.models.reward.reader import PackedReader, encoded, load_packed_reader, read_all
from plaudit.models.weights import seeded
from plaudit.records.tensors import Scores
from plaudit.records.text import Group
from plaudit.tokens.batches import SharedRows

KIND = "gated"
GATE = "gate.safetensors"


class GatedRewardModel(RewardModel):
    """The aspects' ratings, and a gate beside them. Only the gate is trained."""

    kind = KIND

    def __init__(self, aspects: AspectsRewardModel, shape: GateShape, *, seed: int = 0):
        super().__init__(aspects.loaded)
        self.aspects = aspects.requires_grad_(False)
        self.shape = shape
        self.gate = _network(aspects.reader.config.get_text_config().hidden_size, shape, len(aspects.aspects), seed)
        self.penalties: Tensor
        self.register_buffer("penalties", torch.zeros(len(aspects.aspects)))
        self.verbosity = -1

    @property
    def reader(self) -> PackedReader:
        reader = self.aspects.reader
        assert isinstance(reader, PackedReader)  # `_aspects` loads no other: the gate reads hidden states
        return reader

    def correct(self, verbosity: int, penalties: Float[Tensor, " A"]) -> None:
        """Take `penalties` times the rating of aspect number `verbosity` out of every aspect."""
        self.verbosity = verbosity
        self.penalties.copy_(penalties)

    def corrected(self, standardised: Float[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """z' of z; the same where nothing is corrected."""
        if self.verbosity < 0:
            return standardised
        return standardised - self.penalties * standardised[:, self.verbosity : self.verbosity + 1]

    def mix(self, prompt_hidden: Float[Tensor, "B H"]) -> Float[Tensor, "B A"]:
        """g: weights above 0 that sum to the shape's scale."""
        return self.shape.scale * torch.softmax(self.gate(prompt_hidden) / self.shape.temperature, dim=1)

    def read(self, groups: Sequence[SharedRows]) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A"]]:
        """(z, g) of all groups' answers, in order; gradient flows into the gate only."""
        with torch.no_grad():
            numbers, _, prompt_hidden = self.reader.with_hidden(groups)
        with torch.autocast(prompt_hidden.device.type, enabled=False):
            return numbers.float() + self.aspects.table("offset"), self.mix(prompt_hidden.float())

    def forward(self, groups: Sequence[SharedRows]) -> Float[Tensor, " B"]:
        """Raw scores of all groups' answers, in order."""
        standardised, weights = self.read(groups)
        return (weights * self.corrected(standardised)).sum(dim=1)

    def score(self, groups: Sequence[Group], budget: int) -> Scores:
        """Normalised scores, flat [B]; parts `aspect/NAME` are ratings in their own units, `gate/NAME` the weights."""
        rows, width = encoded(self.language, groups), 2 * len(self.aspects.aspects)
        both = read_all(lambda part: torch.cat(self.read(part), dim=1), width, rows, budget)
        standardised, weights = both.chunk(2, dim=1)
        corrected = self.corrected(standardised.to(self.penalties.device)).cpu()
        scores = (weights * corrected).sum(dim=1)
        mixed = {f"gate/{a.name}": weights[:, i] for i, a in enumerate(self.aspects.aspects)}
        return Scores.of_all(self.normalisation.apply(scores), {**self.aspects.ratings(standardised), **mixed})

    def facts(self) -> dict[str, Any]:
        return {**self.aspects.facts(), "gate": asdict(self.shape), "verbosity": self.verbosity}

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """The aspects as a transformers sequence classifier; the gate in a file of its own, facts in plaudit.json."""
        super().save(folder, facts)
        tensors = {"penalties": self.penalties, **{f"gate.{n}": p for n, p in self.gate.state_dict().items()}}
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, folder / GATE)
        readable(folder)


def _network(inputs: int, shape: GateShape, outputs: int, seed: int) -> nn.Sequential:
    with seeded(seed):
        widths = [inputs] + [shape.hidden_size] * shape.layers
        hidden = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(widths[-1], outputs))


def new(config: ModelConfig, language: Language, shape: GateShape, *, seed: int) -> GatedRewardModel:
    """A new gate over the aspects model in the folder that `config` names."""
    return GatedRewardModel(_aspects(config, language), shape, seed=seed)


def load(config: ModelConfig, language: Language) -> GatedRewardModel:
    """A saved one. UserError for a damaged gate."""
    facts = read_facts(config.path)
    try:
        model = GatedRewardModel(_aspects(config, language), GateShape(**facts["gate"]))
        tensors = load_file(file_beside(config.path, GATE))
        model.correct(int(facts["verbosity"]), tensors.pop("penalties"))
        model.gate.load_state_dict({name.removeprefix("gate."): t for name, t in tensors.items()})
    except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise UserError(f"{config.path}: the gate is damaged or missing: {error}") from error
    return model


def _aspects(config: ModelConfig, language: Language) -> AspectsRewardModel:
    aspects: tuple[Aspect, ...] = saved_aspects(config)
    return AspectsRewardModel(load_packed_reader(config, language, seed=0, width=len(aspects)), aspects)


SAVED = SavedKind(name=KIND, load=load)
