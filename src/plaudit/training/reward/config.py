"""Options of `plaudit reward`."""

from dataclasses import dataclass, field

from plaudit.data.options import DataConfig
from plaudit.evaluation.options import TruthConfig
from plaudit.hardware.options import DeviceConfig
from plaudit.models.options import ModelConfig
from plaudit.tokens.options import TooLong
from plaudit.training.options import OptimConfig
from plaudit.training.reward.aspects import AspectRegression, AspectRidge
from plaudit.training.reward.gate import GateTraining
from plaudit.training.reward.labelled import RatingRegression, TwoClass
from plaudit.training.reward.normalise import Centre, Standardise
from plaudit.training.reward.pair import Pair
from plaudit.training.reward.rankings import BestOfK, KWise, Pairwise, PlackettLuce
from plaudit.training.reward.seq2seq import Seq2Seq
from plaudit.training.reward.shared_trunk import SharedTrunk
from plaudit.training.reward.token_level import TokenLevel

AnyObjective = (
    KWise
    | Pairwise
    | BestOfK
    | PlackettLuce
    | TwoClass
    | RatingRegression
    | AspectRegression
    | AspectRidge
    | GateTraining
    | TokenLevel
    | SharedTrunk
    | Pair
    | Seq2Seq
)
"""Every kind of reward model, by what it learns from and its loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """A reward model: what it learns from and by which loss is its `objective`."""

    data: tuple[DataConfig, ...]
    """Files to learn from; several are mixed by their weights."""
    held_out: tuple[DataConfig, ...] = ()
    """Files to measure on; empty: `held_out_fraction` of the prompts is set aside."""
    held_out_fraction: float = 0.1
    """Share of the prompts set aside by hash when no `held_out` files are given; 0 measures nothing."""
    reference: tuple[DataConfig, ...] = ()
    """Demonstrations whose scores set the zero point (N3.12), as `normalise` says; empty: the scores stay raw."""
    normalise: Centre | Standardise = field(default_factory=Centre)
    """What the reference answers' scores become: mean 0 (`centre`), or mean 0 and deviation 1 (`standardise`)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The backbone: the SFT model's folder, any causal model, encoder, encoder-decoder or classifier, or `tiny`."""
    objective: AnyObjective = field(default_factory=KWise)
    """The kind of model, its data and its loss (docs/reward-models.md)."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=1e-4))
    """The optimiser."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of the new head and the order of rows."""
    epochs: int = 1
    """Passes over the data; more than one overfits (InstructGPT C.2)."""
    minibatch_size: int = 32
    """Rows in one optimiser step; a ranking is one row with all its answers."""
    microbatch_tokens: int = 16384
    """Tokens in one forward; memory depends on it, results do not."""
    max_length: int = 0
    """Tokens of prompt and answer; 0 is the model's context."""
    too_long: TooLong = "error"
    """What happens to longer answers."""
    truth: TruthConfig | None = None
    """Where the true utility is known (a made world): measure against the known label probabilities."""
    floors: bool = True
    """Measure on the same held-out rows what knows no language: the longer answer wins, and a bag of words."""
    shuffle_labels: bool = False
    """A control: permute the labels, so that there is nothing to learn."""
    evaluate_every: int = 0
    """Optimiser steps between measurements on held-out rows; 0: five times in a run."""
    save_every: int = 100
    """Optimiser steps between checkpoints."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data must name at least one file")
        if min(self.epochs, self.minibatch_size, self.microbatch_tokens, self.save_every) < 1:
            raise ValueError("epochs, minibatch_size, microbatch_tokens and save_every must be at least 1")
        if not self.reference and self.normalise != Centre():
            raise ValueError("normalise needs `reference` answers")
        if self.reference and _compares(self.objective):
            raise ValueError("reference: this model scores answers against each other and has no zero point to set")


def _compares(objective: AnyObjective) -> bool:
    """Its model says how good an answer is beside others only."""
    return objective.kind == "pair" or (isinstance(objective, Seq2Seq) and objective.against == "references")
