"""PPO's options, all together; `options` holds the parts."""

from dataclasses import dataclass, field, fields
from typing import Literal

from plaudit.config.types import check_built
from plaudit.data.options import PromptsConfig
from plaudit.engines.options import EngineConfig, SamplingConfig, TorchEngineConfig
from plaudit.errors import require
from plaudit.hardware.options import DeviceConfig
from plaudit.models.options import Critic, ModelConfig, SharedCritic
from plaudit.scoring.options import JudgeConfig
from plaudit.tokens.options import LongPrompts
from plaudit.training.options import OptimConfig
from plaudit.training.policy import options as parts
from plaudit.training.policy.options import AdaptiveKL, AdaptiveTrust, FixedKL, FixedTrust, Overlong, TrunkReward


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The policy on prompts that nothing is trained on: before training, now and then, and at the end."""

    prompts: tuple[PromptsConfig, ...]
    """Files of held-out prompts."""
    every: int = 0
    """Iterations between two measurements; 0: ten times in a run."""
    samples: int = 1
    """Sampled answers to each prompt, beside the likeliest one; always by the same random numbers."""
    truth: tuple[JudgeConfig, ...] = ()
    """Another judge of the same answers, from which nothing is learned: the true reward where it is known."""
    patience: int = 0
    """So many measurements in a row without a better objective (score − β·KL) end the run; 0: none do."""

    def __post_init__(self) -> None:
        require(self.prompts, "evaluation.prompts must name at least one file")
        require(min(self.every, self.patience) >= 0, "evaluation.every and patience must not be negative")
        require(self.samples >= 1, "evaluation.samples must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """PPO against a reward model, reward functions, or a weighted mix of them."""

    prompts: tuple[PromptsConfig, ...]
    """Files whose prompts the policy answers."""
    rewards: tuple[JudgeConfig | TrunkReward, ...]
    """What judges the answers; several are summed by their weights."""
    model: ModelConfig
    """The policy's start and the frozen reference: the SFT model."""
    critic: Critic | None = field(default_factory=SharedCritic)
    """`shared`: a head on the policy's trunk; `separate`: a model of its own; `adapter`: its own adapter (LoRA); null:
    none, for an `advantage` that needs none."""
    advantage: parts.Advantage = field(default_factory=parts.GAE)
    """How much better than expected a token was: `gae`, or without a critic `returns`."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the policy writes."""
    engine: EngineConfig = field(default_factory=TorchEngineConfig)
    """Who writes with it: `torch`, in this process."""
    scoring_pass: Literal["auto", "always"] = "auto"
    """The policy's pass over the finished rollouts. `auto`: none where π_old, entropy and values that the engine had
    while it wrote are the trainer's, which a few rows are asked for in each iteration; `always`: over all of them."""
    too_long: LongPrompts = "error"
    """What happens to prompts that leave no room for an answer in the model's context: `error`, or `drop` them."""
    evaluation: Evaluation | None = None
    """Held-out prompts to watch the policy on while it learns; the best one is kept in best/. Null: none."""
    objective: parts.Objective = field(default_factory=parts.Clip)
    """What the policy maximises: `clip`, `surrogate` or `policy_gradient`."""
    trust: FixedTrust | AdaptiveTrust | None = None
    """A penalty on KL(π_old ‖ π_θ), with the clip or, beside `surrogate`, instead of it; null: none (N4.5)."""
    aggregation: parts.Aggregation = field(default_factory=parts.TokenMean)
    """How tokens weigh in the losses: `token_mean`, `sequence_mean` or `fixed_length`."""
    kl: FixedKL | AdaptiveKL = field(default_factory=FixedKL)
    """The price of leaving the reference: `fixed` or `adaptive`."""
    entropy_coef: float = 0.0
    """c2, weight of the entropy bonus, score units per nat (N4.9); the KL in the reward already holds such a bonus."""
    shaping: parts.Shaping = field(default_factory=parts.Shaping)
    """From the judge's scores to rewards."""
    sampler_mismatch: parts.Truncate | parts.Exclude | None = None
    """What becomes of tokens to which sampler and trainer give different probabilities; null: they are only logged."""
    ptx: parts.Ptx | None = None
    """Pre-training text that is learned beside; none by default."""
    brakes: parts.Brakes = field(default_factory=parts.Brakes)
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
    value_clip_range: float = 0.2
    """The critic may move so far from its old value in one iteration, score units; 0: no clipping."""
    value_coef: float = 0.1
    """c1, weight of the value loss, which has its ½ (lm-human-preferences: 0.1)."""
    critic_warmup: int = 0
    """First iterations in which the critic learns and the policy doesn't (of a shared trunk: the value head alone)."""
    save_every: int = 100
    """Optimiser steps between checkpoints."""
    keep_rollouts: int = 32
    """Rollouts written down per iteration."""

    def __post_init__(self) -> None:
        check_built(self)
        counts = ("iterations", "prompts_per_iteration", "samples_per_prompt", "epochs", "minibatches")
        small = [name for name in (*counts, "microbatch_tokens", "save_every") if getattr(self, name) < 1]
        require(not small, f"{', '.join(small)} must be at least 1")
        rollouts, parts = self.prompts_per_iteration * self.samples_per_prompt, self.minibatches
        divide = f"minibatches ({parts}) must divide prompts_per_iteration × samples_per_prompt ({rollouts})"
        require(rollouts % parts == 0, divide)
        if min(self.value_clip_range, self.value_coef, self.entropy_coef, self.critic_warmup) < 0:
            raise ValueError("value_clip_range, value_coef, entropy_coef and critic_warmup must not be negative")
        if sum(reward.kind == "trunk" for reward in self.rewards) > 1:
            raise ValueError("rewards: one head fits on a trunk, so at most one may be of kind trunk")
        if self.critic_warmup and not (self.critic and self.value_coef):
            raise ValueError("critic_warmup trains the critic alone, and without one, or with value_coef: 0, none is")
        learned = {one.name: one.default for one in fields(self) if one.name in ("value_clip_range", "value_coef")}
        idle = [name for name, default in learned.items() if not self.critic and getattr(self, name) != default]
        require(not idle, f"{', '.join(idle)}: without a critic (critic: null) there are no values to learn")
        if self.advantage.needs_critic and self.critic is None:
            raise ValueError(f"advantage: {self.advantage.kind} needs a critic; with critic: null take kind returns")
        if self.critic and not self.advantage.needs_critic:
            raise ValueError(f"advantage: {self.advantage.kind} asks no critic; say critic: null")
        if self.critic and self.critic.kind == "adapter" and self.model.train.kind != "lora":
            raise ValueError("critic: kind adapter needs model.train: lora")
        buffer = self.shaping.length.buffer if isinstance(self.shaping.length, Overlong) else 0
        require(buffer <= self.sampling.max_new_tokens, "shaping.length.buffer must not exceed sampling.max_new_tokens")

    @property
    def judges(self) -> tuple[JudgeConfig, ...]:
        """The rewards that are judges of their own."""
        return tuple(reward for reward in self.rewards if reward.kind != "trunk")

    @property
    def trunk_reward(self) -> TrunkReward | None:
        """The one that sits on a trunk, where there is one."""
        return next((reward for reward in self.rewards if reward.kind == "trunk"), None)

    @property
    def total_steps(self) -> int:
        """Of the run: what the learning rate's schedule goes by."""
        return self.iterations * self.steps_per_iteration

    @property
    def steps_per_iteration(self) -> int:
        """The most optimiser steps in one iteration; brakes may leave some out."""
        return self.epochs * self.minibatches
