"""PPO's options. Alternatives are tagged unions, so that an option without effect can't be written (DESIGN §6)."""

from dataclasses import dataclass, field
from typing import Literal

from plaudit.data.sources import DataConfig
from plaudit.engines.device import DeviceConfig
from plaudit.engines.protocol import SamplingConfig
from plaudit.models.load import ModelConfig
from plaudit.models.policy import Critic, SharedCritic
from plaudit.scoring.build import RewardConfig
from plaudit.training.optim import OptimConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """min(ρÂ, clip(ρ, 1 ± ε)Â) (N4.4; Schulman et al. 2017)."""

    kind: Literal["clip"] = "clip"
    clip_range: float = 0.2
    """ε (Schulman et al. 2017)."""

    def __post_init__(self) -> None:
        if self.clip_range < 0:
            raise ValueError("objective.clip_range must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedKL:
    """A constant β (N4.6)."""

    kind: Literal["fixed"] = "fixed"
    coef: float = 0.05
    """β, score units per nat: what a nat of KL to the reference costs."""

    def __post_init__(self) -> None:
        if self.coef < 0:
            raise ValueError("kl.coef must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveKL:
    """β goes after a target: β ← β (1 + clip(KL/target − 1, ±0.2) · n/horizon) after every iteration of n responses
    (N4.6; Ziegler et al. 2019)."""

    kind: Literal["adaptive"] = "adaptive"
    coef: float = 0.2
    """β at first, score units per nat (lm-human-preferences: 0.2)."""
    target: float = 6.0
    """Nats of KL per response (lm-human-preferences: 6)."""
    horizon: int = 10000
    """Responses in which β can change by about a fifth (lm-human-preferences: 10000)."""

    def __post_init__(self) -> None:
        if self.coef <= 0 or self.target <= 0 or self.horizon < 1:
            raise ValueError("kl.coef and kl.target must be positive and kl.horizon at least 1: from 0 no β can grow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitening:
    """Advantages with mean 0 and standard deviation 1 (N4.7)."""

    over: Literal["iteration", "minibatch"] = "iteration"
    """Whose kept tokens have that mean; lm-human-preferences and detail 7 of the 37 whiten each minibatch."""
    std_floor: float = 1e-4
    """Score units. Where advantages vary less, they are divided by this: of equal rewards no noise is made."""

    def __post_init__(self) -> None:
        if not self.std_floor > 0:
            raise ValueError("whitening.std_floor must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brakes:
    """What ends or leaves out an update that went too far; 0 turns a brake off."""

    max_approx_kl: float = 0.0
    """Nats per token of KL(π_old ‖ π_θ) in a minibatch, above which it and the iteration's other updates are left out
    (OpenAI's Spinning Up and detail 12 of the 37's debug variables stop so)."""
    max_mean_ratio: float = 0.0
    """A minibatch whose mean ratio exceeds this is left out (TRL 0.x: 10)."""

    def __post_init__(self) -> None:
        if self.max_approx_kl < 0 or (self.max_mean_ratio and self.max_mean_ratio <= 1):
            raise ValueError(
                "brakes.max_approx_kl must not be negative, and brakes.max_mean_ratio (0: off) must exceed 1, the "
                "ratio before any update"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ptx:
    """PPO-ptx: each optimiser step also learns pre-training text, so that the policy forgets less (N4.12; Ouyang et
    al. 2022)."""

    data: tuple[DataConfig, ...]
    """Files of plain text, or of demonstrations (loss on the answers); several are mixed by their weights."""
    coef: float = 27.8
    """InstructGPT's γ: times the token-mean −log p of the text's tokens; 0 is plain PPO and reads nothing (Ouyang et
    al. 2022: 27.8, for losses summed in their own way; begin near 1)."""
    rows: int = 8
    """Rows of text in one optimiser step (Ouyang et al. 2022: eight times as many as answers)."""
    max_length: int = 0
    """Tokens a row; longer texts are cut into windows, longer demonstrations truncated; 0 is the model's context."""

    def __post_init__(self) -> None:
        if self.coef < 0 or self.rows < 1 or self.max_length < 0 or not self.data:
            raise ValueError("ptx needs data; coef and max_length must not be negative, rows must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """PPO against a reward model, reward functions, or a weighted mix of them."""

    prompts: tuple[DataConfig, ...]
    """Files whose prompts the policy answers."""
    rewards: tuple[RewardConfig, ...]
    """What judges the answers; several are summed by their weights."""
    model: ModelConfig
    """The policy's start and the frozen reference: the SFT model."""
    critic: Critic = field(default_factory=SharedCritic)
    """`shared`: a head on the policy's trunk; `separate`: a model of its own; `adapter`: its own adapter (LoRA)."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the policy writes."""
    objective: Clip = field(default_factory=Clip)
    """What the policy maximises."""
    kl: FixedKL | AdaptiveKL = field(default_factory=FixedKL)
    """The price of leaving the reference: `fixed` or `adaptive`."""
    ptx: Ptx | None = None
    """Pre-training text that is learned beside; none by default."""
    brakes: Brakes = field(default_factory=Brakes)
    """What stops updates that went too far."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=1e-5, eps=1e-5))
    """The optimiser, one for policy and critic."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of sampling and the order of prompts."""
    iterations: int = 100
    """Rounds of sampling and updating."""
    prompts_per_iteration: int = 64
    """Prompts answered in one iteration."""
    samples_per_prompt: int = 1
    """Answers to each prompt (G)."""
    epochs: int = 4
    """Passes over one iteration's rollouts (InstructGPT: 1; lm-human-preferences: 4)."""
    minibatches: int = 4
    """Optimiser steps in one pass; must divide the number of rollouts."""
    microbatch_tokens: int = 16384
    """Tokens in one forward; memory depends on it, results do not."""
    gamma: float = 1.0
    """Discount per token (lm-human-preferences: 1)."""
    gae_lambda: float = 0.95
    """λ of the advantage estimator (Schulman et al. 2016)."""
    whitening: Whitening | None = field(default_factory=Whitening)
    """Of the advantages; null leaves them as they are."""
    value_clip_range: float = 0.2
    """The critic may move so far from its old value in one iteration, score units; 0: no clipping."""
    value_coef: float = 0.1
    """c1, weight of the value loss, which has its ½ (lm-human-preferences: 0.1)."""
    critic_warmup: int = 0
    """First iterations in which the critic learns and the policy doesn't (of a shared trunk: the value head alone)."""
    save_every: int = 100
    """Optimiser steps between checkpoints, in the middle of an iteration too."""
    keep_rollouts: int = 32
    """Rollouts written down per iteration."""

    def __post_init__(self) -> None:
        if not self.prompts or not self.rewards:
            raise ValueError("prompts and rewards must each name at least one")
        counts = ("iterations", "prompts_per_iteration", "samples_per_prompt", "epochs", "minibatches")
        if small := [name for name in (*counts, "microbatch_tokens", "save_every") if getattr(self, name) < 1]:
            raise ValueError(f"{', '.join(small)} must be at least 1")
        if (rollouts := self.prompts_per_iteration * self.samples_per_prompt) % self.minibatches:
            raise ValueError(
                f"minibatches ({self.minibatches}) must divide prompts_per_iteration × samples_per_prompt ({rollouts})"
            )
        if not (0 <= self.gamma <= 1 and 0 <= self.gae_lambda <= 1):
            raise ValueError("gamma and gae_lambda must lie in [0, 1]")
        if min(self.value_clip_range, self.value_coef, self.critic_warmup) < 0:
            raise ValueError("value_clip_range, value_coef and critic_warmup must not be negative")
        if self.critic_warmup and not self.value_coef:
            raise ValueError("critic_warmup trains the critic alone, and value_coef: 0 doesn't train it")
        if self.critic.kind == "adapter" and self.model.train.kind != "lora":
            raise ValueError("critic: kind adapter needs model.train: lora")

    @property
    def steps_per_iteration(self) -> int:
        """The most optimiser steps in one iteration; brakes may leave some out."""
        return self.epochs * self.minibatches
