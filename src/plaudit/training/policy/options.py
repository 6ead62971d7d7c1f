"""The parts of PPO's options. Alternatives are tagged unions, so that an option without effect can't be written."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from plaudit.data.options import DataConfig
from plaudit.errors import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """min(ρÂ, clip(ρ, 1 − ε, 1 + ε_high)Â) (N4.4; Schulman et al. 2017, eq. 7)."""

    kind: Literal["clip"] = "clip"
    clip_range: float = 0.2
    """ε (Schulman et al. 2017: 0.2)."""
    clip_range_high: float = 0.0
    """ε_high, the upper side's own: rare tokens may grow faster (DAPO, Yu et al. 2025: 0.28); 0: as the lower side."""
    dual_clip: float = 0.0
    """c > 1: a bad token's loss is at most c |Â| (Ye et al. 2020: 3); 0: no such bound."""

    def __post_init__(self) -> None:
        if min(self.clip_range, self.clip_range_high) < 0:
            raise ValueError("objective.clip_range and clip_range_high must not be negative")
        require(not self.dual_clip or self.dual_clip > 1, "objective.dual_clip (0: off) must exceed 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """ρÂ, nothing clipped (N4.3): what `trust` alone holds (PPO with KL penalty, Schulman et al. 2017, eq. 8)."""

    kind: Literal["surrogate"] = "surrogate"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyGradient:
    """Â log π, no ratio (N4.2): right for an iteration's first update only, so take epochs: 1 and minibatches: 1."""

    kind: Literal["policy_gradient"] = "policy_gradient"


Objective = Clip | Surrogate | PolicyGradient


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedTrust:
    """+ β KL(π_old ‖ π_θ) in the loss, β constant (N4.5; Schulman et al. 2017, eq. 8)."""

    kind: Literal["fixed"] = "fixed"
    coef: float = 1.0
    """β of the trust region, advantage units per nat (Schulman et al. 2017 tried 0.3, 1, 3)."""

    def __post_init__(self) -> None:
        require(self.coef >= 0, "trust.coef must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveTrust:
    """β doubles after an iteration that went further than 1.5 × target, halves after one below target / 1.5 (N4.5;
    Schulman et al. 2017, §4)."""

    kind: Literal["adaptive"] = "adaptive"
    coef: float = 1.0
    """β at first (Schulman et al. 2017: 1)."""
    target: float = 0.01
    """Nats per token from π_old to the updated policy (Schulman et al. 2017: 0.003 to 0.03)."""

    def __post_init__(self) -> None:
        require(min(self.coef, self.target) > 0, "trust.coef and trust.target must be positive: from 0 no β can grow")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMean:
    """Every token weighs the same (Ziegler et al. 2019)."""

    kind: Literal["token_mean"] = "token_mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceMean:
    """Every response weighs the same, a long one's tokens less (GRPO, Shao et al. 2024, eq. 3)."""

    kind: Literal["sequence_mean"] = "sequence_mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLength:
    """A token's weight depends on no length at all: 1 / (responses × length) (Dr. GRPO, Liu et al. 2025)."""

    kind: Literal["fixed_length"] = "fixed_length"
    length: int = 0
    """Tokens; 0: sampling.max_new_tokens."""

    def __post_init__(self) -> None:
        require(self.length >= 0, "aggregation.length must not be negative")


Aggregation = TokenMean | SequenceMean | FixedLength

# ------------------------------------------------------------------------------------------------- KL to the reference

Estimator = Literal["k1", "abs", "k2", "k3", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _KL:
    estimator: Estimator = "k1"
    """`k1`, `abs`, `k2`, `k3` of the sampled token, or `full`: exact, over the vocabulary (formulas/kl.py)."""
    into: Literal["reward", "loss"] = "reward"
    """`reward`: spread over the tokens, the future's share included (Ziegler et al. 2019); `loss`: a term of its own
    (GRPO), which sees each token's distribution only."""

    def __post_init__(self) -> None:
        if self.estimator == "k1" and self.into == "loss":
            raise ValueError("k1 as a loss has no gradient in expectation; use k2, k3 or full, or into: reward")


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedKL(_KL):
    """A constant β (N4.6)."""

    kind: Literal["fixed"] = "fixed"
    coef: float = 0.05
    """β, score units per nat: what a nat of KL to the reference costs."""

    def __post_init__(self) -> None:
        require(self.coef >= 0, "kl.coef must not be negative")
        _KL.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveKL(_KL):
    """β goes after a target: β ← β (1 + clip(KL/target − 1, ±0.2) · n/horizon) after every iteration of n responses
    (N4.6; Ziegler et al. 2019, §2.2)."""

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
        _KL.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PenalisedUnfinished:
    """Responses that the token limit cut lose some of their score (TRL's `missing_eos_penalty`)."""

    kind: Literal["penalty"] = "penalty"
    penalty: float = 1.0
    """Score units, subtracted."""

    def __post_init__(self) -> None:
        require(self.penalty >= 0, "shaping.unfinished.penalty is subtracted and must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedUnfinished:
    """Responses that the token limit cut get a fixed score, whatever the judge said (Ziegler et al. 2019)."""

    kind: Literal["score"] = "score"
    score: float = -1.0
    """Score units (lm-human-preferences: −1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNormalisation:
    """(r − μ) / σ of all scores so far, this iteration's included (PPO-max, Zheng et al. 2023)."""

    kind: Literal["running"] = "running"
    std_floor: float = 1e-4
    """Score units: the least σ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceNormalisation:
    """(r − μ) / σ of the reference's own answers, which are the first iteration's (Stiennon et al. 2020)."""

    kind: Literal["reference"] = "reference"
    std_floor: float = 1e-4
    """Score units: the least σ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerToken:
    """Each token beyond a free number costs the same."""

    kind: Literal["per_token"] = "per_token"
    price: float = 0.01
    """Score units a token."""
    free_tokens: int = 0
    """Tokens that cost nothing."""

    def __post_init__(self) -> None:
        require(min(self.price, self.free_tokens) >= 0, "shaping.length.price and free_tokens must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlong:
    """Nothing up to max_new_tokens − buffer tokens, then falling to −1 at max_new_tokens (DAPO, Yu et al. 2025)."""

    kind: Literal["overlong"] = "overlong"
    buffer: int = 16
    """Tokens over which the penalty grows."""

    def __post_init__(self) -> None:
        require(self.buffer >= 1, "shaping.length.buffer must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardWhitening:
    """Token rewards with standard deviation 1 over the iteration, their mean kept (lm-human-preferences)."""

    std_floor: float = 1e-4
    """Score units: the least deviation that is divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """From the judge's scores to rewards (N4.6), in this order."""

    normalise: RunningNormalisation | ReferenceNormalisation | None = None
    """Scores in standard deviations: `running` or `reference`; null: as the judge says."""
    score_limit: float = 0.0
    """Scores are clipped to ± this, after normalising (PPO-max, Zheng et al. 2023); 0: not at all."""
    unfinished: PenalisedUnfinished | ReplacedUnfinished | None = None
    """Responses that the token limit cut: `penalty` or `score`; null: as the judge says."""
    length: PerToken | Overlong | None = None
    """A price of length, added to the score: `per_token` or `overlong`; null: none."""
    credit: Literal["response", "token"] = "response"
    """`response`: the score goes on the last token; `token`: a judge of tokens pays each where it stands (N3.8), and
    what the options above change goes on the last token."""
    whiten: RewardWhitening | None = None
    """Of the token rewards, KL included; null: not at all."""

    def __post_init__(self) -> None:
        require(self.score_limit >= 0, "shaping.score_limit must not be negative")
        if not all(part.std_floor > 0 for part in (self.normalise, self.whiten) if part is not None):
            raise ValueError("shaping: std_floor must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitening:
    """Advantages with mean 0 and standard deviation 1 (N4.7)."""

    over: Literal["iteration", "minibatch"] = "iteration"
    """Whose kept tokens have that mean; lm-human-preferences and detail 7 of the 37 whiten each minibatch."""
    std_floor: float = 1e-4
    """Score units. Where advantages vary less, they are divided by this: of equal rewards no noise is made."""

    def __post_init__(self) -> None:
        require(self.std_floor > 0, "advantage.whitening.std_floor must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class GAE:
    """Generalised advantage estimation: what each token brought beyond what the critic expected (N4.7; Schulman et al.
    2016)."""

    needs_critic: ClassVar[bool] = True
    kind: Literal["gae"] = "gae"
    gamma: float = 1.0
    """Discount per token (lm-human-preferences: 1)."""
    gae_lambda: float = 0.95
    """λ: 1 is the whole return minus V, 0 the one-step error of V (lm-human-preferences: 0.95)."""
    critic_gae_lambda: float | None = None
    """λ of the critic's returns; null: the same (VC-PPO, Yuan et al. 2025: 1)."""
    whitening: Whitening | None = field(default_factory=Whitening)
    """Null leaves the advantages as they are."""

    def __post_init__(self) -> None:
        if not all(0 <= x <= 1 for x in (self.gamma, self.gae_lambda, self.critic_gae_lambda or 0.0)):
            raise ValueError("advantage: gamma and gae_lambda, critic_gae_lambda must lie in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Returns:
    """REINFORCE: the discounted rewards from each token on, without critic or baseline (N4.2; Williams 1992)."""

    needs_critic: ClassVar[bool] = False
    kind: Literal["returns"] = "returns"
    gamma: float = 1.0
    """Discount per token."""
    whitening: Whitening | None = field(default_factory=Whitening)
    """Its mean over all tokens is the only baseline; null leaves the returns as they are."""

    def __post_init__(self) -> None:
        require(0 <= self.gamma <= 1, "advantage: gamma must lie in [0, 1]")


Advantage = GAE | Returns


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncate:
    """Token losses are weighed by min(π_old/π_sampler, cap): truncated importance sampling (Yao et al. 2025)."""

    kind: Literal["truncate"] = "truncate"
    cap: float = 2.0
    """The most that a token may weigh (Yao et al. 2025: 2)."""

    def __post_init__(self) -> None:
        require(self.cap >= 1, "sampler_mismatch.cap must be at least 1, or tokens that agree would be scaled down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclude:
    """Tokens, or responses, whose π_old/π_sampler lies outside a band leave the losses and their counts."""

    kind: Literal["mask"] = "mask"
    by: Literal["token", "response"] = "token"
    """`token`: each by its own ratio; `response`: all of a response by the geometric mean of its ratios."""
    low: float = 0.5
    """Lower bound."""
    high: float = 2.0
    """Upper bound."""

    def __post_init__(self) -> None:
        require(0 <= self.low <= 1 <= self.high, "sampler_mismatch.low and high must enclose 1, and not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Brakes:
    """What leaves out an update that would go too far; 0 turns a brake off."""

    max_approx_kl: float = 0.0
    """Nats per token of KL(π_old ‖ π_θ) in a minibatch, above which it and the iteration's other updates are left out
    (as in OpenAI's Spinning Up, which has 0.015)."""
    max_mean_ratio: float = 0.0
    """A minibatch whose mean ratio exceeds this is left out (TRL 0.x: 10)."""

    def __post_init__(self) -> None:
        require(self.max_approx_kl >= 0, "brakes.max_approx_kl must not be negative")
        ratio_before = "brakes.max_mean_ratio (0: off) must exceed 1, the ratio before any update"
        require(not self.max_mean_ratio or self.max_mean_ratio > 1, ratio_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ptx:
    """PPO-ptx: each optimiser step also learns pre-training text, so that the policy forgets less (N4.12; Ouyang et
    al. 2022)."""

    data: tuple[DataConfig, ...]
    """Files of plain text, or of demonstrations (loss on the answers); several are mixed by their weights."""
    coef: float = 1.0
    """InstructGPT's γ, times the token-mean −log p of the text's tokens; 0 is plain PPO and reads nothing (ours;
    Ouyang et al. 2022 have 27.8 beside a loss of another scale)."""
    rows: int = 32
    """Rows of text in one optimiser step (Ouyang et al. 2022: eight times as many as answers)."""
    max_length: int = 0
    """Tokens a row; longer texts are cut into windows, longer demonstrations truncated; 0 is the model's context."""
    streaming: bool = False
    """Leave the rows on disk and read them when they are learnt, for files larger than memory (docs/data.md): of a long
    text one window each time."""

    def __post_init__(self) -> None:
        if self.coef < 0 or self.rows < 1 or self.max_length < 0 or not self.data:
            raise ValueError("ptx needs data; coef and max_length must not be negative, rows must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkReward:
    """A reward head that `objective: shared_trunk` trained, read off a trunk that runs anyway (N3.13)."""

    kind: Literal["trunk"] = "trunk"
    path: str = ""
    """Folder of the reward model; empty: the policy's own, `model.path`. The trunk must be that model's."""
    on: Literal["reference", "policy"] = "reference"
    """reference: off the pass that gives π_ref, whose judgement stays what it was; policy: off the pass that gives
    policy and critic, whose states move under the head as the policy learns."""
    weight: float = 1.0
    """Factor of this part in the weighted sum of scores."""
    name: str = "trunk"
    """Name in metrics."""
