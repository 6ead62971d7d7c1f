"""Options of supervised fine-tuning, of collecting answers, and of the optimiser. No torch."""

from dataclasses import dataclass, field
from typing import Literal

from plaudit.data.options import DataConfig, PromptsConfig
from plaudit.engines.options import EngineConfig, SamplingConfig, TorchEngineConfig
from plaudit.errors import require
from plaudit.hardware.options import DeviceConfig
from plaudit.models.options import ModelConfig
from plaudit.rollouts.options import ShotsConfig
from plaudit.scoring.options import JudgeConfig
from plaudit.tokens.options import LongPrompts, TooLong


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019)."""

    learning_rate: float = 3e-4
    """Peak."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """To 0 at the last step, or constant."""
    warmup_fraction: float = 0.0
    """Share of all steps on which the rate rises from 0 to its peak."""
    weight_decay: float = 0.0
    """Decoupled; on matrices only, never on norms, biases or embeddings' vectors of one dimension."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's moment decays."""
    eps: float = 1e-8
    """Adam's ε, added after bias correction; PPO's own default is 1e-5 (Huang et al. 2022, detail 3)."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm; 0 turns it off."""
    max_skipped: int = 3
    """A step whose loss or gradient is NaN or infinite is not taken; so many in a row end the run."""

    def __post_init__(self) -> None:
        if self.learning_rate < 0 or not 0 <= self.warmup_fraction <= 1:
            raise ValueError("learning_rate must not be negative, warmup_fraction must lie in [0, 1]")
        if self.max_grad_norm < 0 or self.weight_decay < 0:
            raise ValueError("max_grad_norm (0: off) and weight_decay must not be negative")
        if self.max_skipped < 1:
            raise ValueError("max_skipped must be at least 1: the first step in a row that can't be taken ends the run")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEntropy:
    """Where the world is known: the least negative log-likelihood per answer that any model can have."""

    path: str
    """A JSON file."""
    key: str
    """The number in it, nats per answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescentConfig:
    """What fine-tuning and reward models have in common: rows, and gradient steps on minibatches of them."""

    data: tuple[DataConfig, ...]
    """Files to learn from; several are mixed by their weights."""
    held_out: tuple[DataConfig, ...] = ()
    """Files to measure on; empty: `held_out_fraction` of the prompts is set aside."""
    held_out_fraction: float = 0.05
    """Share of the prompts set aside by hash when no `held_out` files are given; 0 measures nothing."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """What is trained."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of new weights and the order of rows."""
    epochs: int = 1
    """Passes over the data; more than one overfits a reward model (InstructGPT C.2)."""
    minibatch_size: int = 32
    """Rows in one optimiser step; a ranking is one row with all its answers."""
    microbatch_tokens: int = 16384
    """Tokens in one forward; memory depends on it, results do not."""
    max_length: int = 0
    """Tokens of prompt and answer; 0 is the model's context."""
    too_long: TooLong = "error"
    """What happens to longer rows."""
    evaluate_every: int = 0
    """Optimiser steps between measurements on held-out rows; 0: ten times in a run, of a reward model five times."""
    save_every: int = 200
    """Optimiser steps between checkpoints."""

    def __post_init__(self) -> None:
        require(self.data, "data must name at least one file")
        if min(self.epochs, self.minibatch_size, self.microbatch_tokens, self.save_every) < 1:
            raise ValueError("epochs, minibatch_size, microbatch_tokens and save_every must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTConfig(DescentConfig):
    """Supervised fine-tuning: demonstrations (loss on the answers only) or plain text (loss on every token)."""

    data: tuple[DataConfig, ...]
    """Files of demonstrations, or of plain text; several are mixed by their weights."""
    entropy: KnownEntropy | None = None
    """For the report: the known bound of the held-out loss."""
    streaming: bool = False
    """Leave the rows of `data` on disk and read them when they are learnt, for files larger than memory (docs/data.md):
    held-out rows need files of their own, and a minibatch is so many lines of the files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsureConfig:
    """Which prompts are worth a labeller's time: those on whose answers a reward model is least sure."""

    judge: tuple[JudgeConfig, ...]
    """Whose score differences say how probable each preference is (Bradley and Terry)."""
    prompts: int
    """How many are chosen."""
    random_share: float = 0.2
    """Share of these that is drawn from all prompts, so that the model is also corrected where it is wrongly sure."""

    def __post_init__(self) -> None:
        require(self.judge, "judge must name at least one")
        require(self.prompts >= 1 and 0 <= self.random_share <= 1, "prompts: at least 1; random_share: from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """K sampled answers a prompt, for people to rank, or ranked by a rule that stands in for them."""

    prompts: tuple[PromptsConfig, ...]
    """Files whose prompts are answered."""
    model: ModelConfig
    """Who answers."""
    labeller: tuple[JudgeConfig, ...] = ()
    """What a stand-in for people values: the answers are ranked by this score. None: they stay unranked, as
    candidates.jsonl."""
    unsure: UnsureConfig | None = None
    """Keep only prompts on which a judge is unsure; none: all are kept."""
    shots: ShotsConfig | None = None
    """Demonstrations that the model sees before every prompt (few-shot prompting); nobody else does. Null: none."""
    noise: float = 0.0
    """Scale of Gumbel noise on the score before ranking; 1 makes Plackett–Luce rankings with the score as utility."""
    samples: int = 4
    """K, answers to each prompt (InstructGPT: 4 to 9)."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the model writes."""
    engine: EngineConfig = field(default_factory=TorchEngineConfig)
    """Who writes with it: `torch`, in this process."""
    too_long: LongPrompts = "error"
    """What happens to prompts that leave no room for an answer in the model's context: `error`, or `drop` them."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of sampling and of the labeller's noise."""

    def __post_init__(self) -> None:
        require(self.samples >= 2 and self.noise >= 0, "samples must be at least 2, noise must not be negative")
        require(self.prompts, "prompts must name at least one")
        require(self.labeller or not self.noise, "noise is a labeller's: name one, or leave it out")
