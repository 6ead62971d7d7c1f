"""Options of `plaudit reward`: every kind of reward model by what it learns from and its loss. No torch."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from plaudit.data.options import DataConfig
from plaudit.errors import require
from plaudit.evaluation.options import TruthConfig
from plaudit.models.options import Against, Aggregate, GateShape, ModelConfig, Output
from plaudit.records.text import Comparison, Ranking, Rating, Verdict
from plaudit.training.options import DescentConfig, OptimConfig

LabelledRow = Ranking | Comparison | Rating | Verdict
"""What people said of answers."""


class ObjectiveOptions:
    """What the options of every kind of reward model say of it."""

    __slots__ = ()
    learns_from: ClassVar[type[LabelledRow]] = Ranking
    """The rows of its training data."""

    @property
    def compares(self) -> bool:
        """Whether the model scores an answer beside others only: such a score has no zero point."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class KWise(ObjectiveOptions):
    """A prompt's C(K,2) pairs are averaged, then the prompts (InstructGPT, N3.3): K passes, not K(K − 1)."""

    kind: Literal["kwise"] = "kwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairwise(ObjectiveOptions):
    """All pairs weigh the same, with the data's margins (N3.1 = N3.2)."""

    kind: Literal["pairwise"] = "pairwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfK(ObjectiveOptions):
    """Softmax over a prompt's K answers, cross-entropy on the best (N3.4); how the others rank is not looked at."""

    kind: Literal["best_of_k"] = "best_of_k"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlackettLuce(ObjectiveOptions):
    """The likelihood of the whole ranking, ties exactly (N3.4's full-ranking form)."""

    kind: Literal["plackett_luce"] = "plackett_luce"


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoClass(ObjectiveOptions):
    """Accept or reject, by cross-entropy; the score is the log-odds of accept (N3.5)."""

    kind: Literal["two_class"] = "two_class"
    learns_from: ClassVar[type[LabelledRow]] = Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingRegression(ObjectiveOptions):
    """A scalar that predicts the rating of an answer (N3.6). Labels are standardised while it learns; its scores are
    in the labels' own unit again, or in deviations where each labeller has a scale of their own."""

    kind: Literal["rating"] = "rating"
    loss: Literal["mse", "rmse"] = "mse"
    """Mean squared error, or its root over the minibatch."""
    aspect: str = "score"
    """Which of a row's ratings."""
    per_labeller: bool = False
    """Standardise each labeller's ratings by their own mean and deviation: scales differ between people (N2.3)."""
    learns_from: ClassVar[type[LabelledRow]] = Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectRegression(ObjectiveOptions):
    """Squared error on every aspect that was rated, all parameters trained (N3.7)."""

    kind: Literal["aspects"] = "aspects"
    weights: dict[str, float] = field(default_factory=dict)
    """What each aspect counts in the score, per standard deviation; empty: all alike, 1 ÷ their number."""
    learns_from: ClassVar[type[LabelledRow]] = Rating


@dataclass(frozen=True, slots=True, kw_only=True)
class AspectRidge(ObjectiveOptions):
    """The first half of ArmoRM: a frozen backbone, ridge regression for each aspect on the answer's last hidden state,
    its penalty chosen on a fifth of the rows. No optimiser steps (N3.7)."""

    kind: Literal["aspects_ridge"] = "aspects_ridge"
    weights: dict[str, float] = field(default_factory=dict)
    """What each aspect counts in the score, per standard deviation; empty: all alike, 1 ÷ their number."""
    alphas: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0)
    """Penalties to choose from."""
    validation_fraction: float = 0.2
    """Share of the rows that chooses the penalty; the fit that is kept has all rows."""
    learns_from: ClassVar[type[LabelledRow]] = Rating

    def __post_init__(self) -> None:
        if not self.alphas or min(self.alphas) <= 0 or not 0 < self.validation_fraction < 1:
            raise ValueError("alphas must be positive, at least one; validation_fraction must lie between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTraining(ObjectiveOptions):
    """A gate over a model of aspects (`model.path`: what `objective: aspects_ridge` or `aspects` left), trained on
    rankings; the aspects stay as they are."""

    kind: Literal["gate"] = "gate"
    shape: GateShape = field(default_factory=GateShape)
    """The gate's network."""
    verbosity: str = ""
    """The aspect that stands for length, to be taken out of all others; empty: no correction."""
    max_correlation: float = 0.03
    """Of each corrected aspect with verbosity (Spearman, over the training answers): the smallest penalty that gets
    there is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLevel(ObjectiveOptions):
    """−log σ of the difference of values from the first differing token on, mean over tokens (N3.8)."""

    kind: Literal["token_level"] = "token_level"
    form: Literal["strict", "note"] = "strict"
    """strict: to the shorter answer's last token; note: to the longer one's, the shorter one's last value held."""
    learns_from: ClassVar[type[LabelledRow]] = Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTrunk(ObjectiveOptions):
    """The K-wise loss on a head beside the language model's own, plus `lm_coef` times the token-mean NLL of each
    prompt's best answers, so that what comes out can still be the policy's start (N3.13)."""

    kind: Literal["shared_trunk"] = "shared_trunk"
    lm_coef: float = 1.0
    """Weight of the likelihood, per nat and token; 0 lets the language model go."""

    def __post_init__(self) -> None:
        require(self.lm_coef >= 0, "objective.lm_coef must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair(ObjectiveOptions):
    """Every pair in both orders, K(K − 1) passes a ranking; a tie is the label ½. All pairs weigh the same."""

    kind: Literal["pair"] = "pair"
    aggregate: Aggregate = "matrix"
    """How K answers are scored once it is trained: by all K(K − 1) comparisons, or by one pass of 2(K − 1)."""

    @property
    def compares(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq2Seq(ObjectiveOptions):
    """Cross-entropy of the better answer's letter over the whole vocabulary, every pair in both orders."""

    kind: Literal["seq2seq"] = "seq2seq"
    output: Output = "probability"
    """What it scores an answer by once it is trained: P("A"), or its log-odds against "B"."""
    against: Against = "nothing"
    """What it scores an answer beside: the B ".", as the SHP authors do, or the row's column `references` (without it
    the answers of one group among themselves), both orders averaged."""

    @property
    def compares(self) -> bool:
        return self.against == "references"


ByRanking = KWise | Pairwise | BestOfK | PlackettLuce
ByLabel = TwoClass | RatingRegression | AspectRegression | AspectRidge
AnyObjective = ByRanking | ByLabel | GateTraining | TokenLevel | SharedTrunk | Pair | Seq2Seq
"""Every kind of reward model, by what it learns from and its loss; objectives.py says how each is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """Reference answers score 0 on average; the unit stays that of the loss (N3.12)."""

    kind: Literal["centre"] = "centre"
    clip: float = 0.0
    """Scores stay within ±clip, score units; 0: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardise:
    """Reference answers score 0 on average with deviation 1 (gain and bias of Ziegler et al. 2019)."""

    kind: Literal["standardise"] = "standardise"
    clip: float = 0.0
    """Scores stay within ±clip, in deviations; 0: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig(DescentConfig):
    """A reward model: what it learns from and by which loss is its `objective`."""

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
    truth: TruthConfig | None = None
    """Where the true utility is known (a made world): measure against the known label probabilities."""
    floors: bool = True
    """Measure on the same held-out rows what knows no language: the longer answer wins, and a bag of words."""
    shuffle_labels: bool = False
    """A control: permute the labels, so that there is nothing to learn."""
    save_every: int = 100
    """Optimiser steps between checkpoints."""

    def __post_init__(self) -> None:
        DescentConfig.__post_init__(self)
        require(self.reference or self.normalise == Centre(), "normalise needs `reference` answers")
        if self.reference and self.objective.compares:
            raise ValueError("reference: this model scores answers against each other and has no zero point to set")
