"""Options of comparing policies and of measuring judges. No torch."""

from dataclasses import dataclass, field
from typing import Literal

from plaudit.config.types import check_built
from plaudit.data.options import DataConfig, PromptsConfig
from plaudit.engines.options import SamplingConfig
from plaudit.hardware.options import DeviceConfig
from plaudit.models.options import ModelConfig
from plaudit.rollouts.options import ShotsConfig
from plaudit.scoring.options import JudgeConfig, function_name
from plaudit.tokens.options import LongPrompts


@dataclass(frozen=True, slots=True, kw_only=True)
class TruthConfig:
    """A made world's true utility: labels were σ(Δ utility ÷ noise)."""

    function: str
    """The utility, a reward function."""
    noise: float = 1.0
    """Scale of the labeller's Gumbel noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """The objective that PPO optimised, J = E[score] − β·KL, measured against its optimum."""

    rewards: tuple[JudgeConfig, ...]
    """The judges that PPO was given."""
    kl_coef: float
    """β, score units per nat."""
    answers: str = ""
    """`module:function` that lists every answer to a prompt; with it J* is computed by enumeration."""
    prompts: int = 16
    """How many of the prompts are used, the first ones."""
    samples: int = 32
    """Answers to each of them that J is estimated from."""

    def __post_init__(self) -> None:
        if min(self.prompts, self.samples) < 1 or self.kl_coef < 0:
            raise ValueError("prompts and samples must be at least 1, kl_coef must not be negative")
        if self.answers and not self.kl_coef:
            raise ValueError("answers: the optimum is only defined for a kl_coef above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """Compare policies with one baseline."""

    prompts: tuple[PromptsConfig, ...]
    """Files of held-out prompts."""
    policies: dict[str, str]
    """Name → model folder."""
    baseline: str
    """The name of the policy that the others are compared with; it is also the reference of the KL."""
    judge: tuple[JudgeConfig, ...]
    """Whose scores decide who wins."""
    shots: dict[str, ShotsConfig] = field(default_factory=dict)
    """Name of a policy → the demonstrations that it sees before every prompt (few-shot prompting); judges see none."""
    objective: ObjectiveConfig | None = None
    """Measure PPO's own objective too."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the policies write."""
    too_long: LongPrompts = "error"
    """What happens to prompts that leave no room for an answer in the model's context: `error`, or `drop` them."""
    end_tokens: tuple[str, ...] = ()
    """Tokens that end a response, beside the model's own EOS ids."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of sampling; all policies are given the same uniforms."""

    def __post_init__(self) -> None:
        if self.baseline not in self.policies:
            raise ValueError(f"baseline {self.baseline!r} is none of the policies {', '.join(self.policies)}")
        if unknown := sorted(self.shots.keys() - self.policies.keys()):
            raise ValueError(f"shots: {unknown[0]!r} is none of the policies {', '.join(self.policies)}")
        if self.objective and self.baseline in self.shots:
            raise ValueError(
                f"objective: J* is that of a reference without shots, and the baseline {self.baseline!r} has some"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierConfig:
    """Best of n by each judge, and what another judge, who didn't choose, says of it."""

    prompts: tuple[PromptsConfig, ...]
    """Files of prompts."""
    model: ModelConfig
    """The policy that answers."""
    judges: dict[str, tuple[JudgeConfig, ...]]
    """Name → who chooses the best of n."""
    truth: tuple[JudgeConfig, ...]
    """Who measures what was chosen: the true reward, or a judge that nothing was optimised for."""
    samples: int = 384
    """Answers to each prompt, the pool; n goes 1, 2, 4, … up to this."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the policy writes."""
    too_long: LongPrompts = "error"
    """What happens to prompts that leave no room for an answer in the model's context: `error`, or `drop` them."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of sampling."""

    def __post_init__(self) -> None:
        if not self.prompts or not self.judges or not self.truth or self.samples < 1:
            raise ValueError("prompts, judges and truth must each name at least one, samples must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksConfig:
    """Models on tasks of lm-evaluation-harness (extra `lm-eval`)."""

    policies: dict[str, str]
    """Name → model folder or hub name; the first is what the others came from, where there are several."""
    tasks: tuple[str, ...]
    """Names of the harness's tasks."""
    include: str = ""
    """A folder with task files of your own."""
    few_shots: int | None = None
    """Solved examples before each question; null: as the task says."""
    limit: int = 0
    """Documents of each task; 0: all."""
    chat_template: bool = False
    """Ask as a user's turn, by the model's chat template."""
    batch_size: int = 8
    """Rows in one forward."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of the examples that are drawn."""

    def __post_init__(self) -> None:
        if not self.policies or not self.tasks or self.batch_size < 1 or self.limit < 0:
            raise ValueError("policies and tasks must name at least one each, batch_size must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardEvalConfig:
    """Measure judges (reward models, reward functions) on answers that people have labelled."""

    data: tuple[DataConfig, ...]
    """Rankings, comparisons, ratings or verdicts that nothing was trained on."""
    models: tuple[JudgeConfig, ...]
    """Each is measured by itself; its `weight` multiplies its scores, which calibration and margins feel."""
    subset_column: str = ""
    """A column by whose values accuracy is split as well; empty: by file, where there are several."""
    train: tuple[DataConfig, ...] = ()
    """Comparisons or rankings to fit the bag-of-words floor to; empty: only "the longer answer wins" is a floor."""
    truth: TruthConfig | None = None
    """Where the true utility is known (a made world): accuracy in expectation, beside its ceiling."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Name of a judge → the score above which it accepts, for accuracy on verdicts; without one 0 where scores are the
    log-odds of acceptance, and for all other judges learnt on nine tenths of the prompts and applied to the last."""
    num_bins: int = 10
    """Bins of the reliability diagram and of the calibration error, over confidences from 0.5 to 1."""
    benchmark: Literal["", "rewardbench2"] = ""
    """Score the rows as a benchmark does, too: `rewardbench2`, from its own files (docs/evaluation.md)."""
    check_order: bool = False
    """Judge every row again with its answers in the opposite order and count whose winner changes (twice the time)."""
    device: DeviceConfig = field(default_factory=DeviceConfig)
    """The machine."""
    seed: int = 0
    """Of the bootstrap intervals of correlations and areas under the curve."""

    def __post_init__(self) -> None:
        check_built(self)
        if not self.data or not self.models:
            raise ValueError("data and models must name at least one each")
        if self.num_bins < 1:
            raise ValueError("num_bins must be at least 1")
        names = [name_of(model) for model in self.models]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"models: two are called {twice[0]!r}; give them a `name` each")
        if unknown := sorted(self.thresholds.keys() - set(names)):
            raise ValueError(f"thresholds: {unknown[0]!r} is none of the models {', '.join(names)}")


def name_of(judge: JudgeConfig) -> str:
    """As it stands in the table; a function without a name is called what it is called."""
    if judge.name or judge.kind == "chat":
        return judge.name
    return function_name(judge.function if judge.kind == "function" else judge.path)
