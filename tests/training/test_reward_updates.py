"""Reward models' losses and measures on numbers that are written down: denominators, sides, penalties, limits."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from plaudit.models.options import ModelConfig
from plaudit.models.reward import shared_trunk as shared_trunk_models
from plaudit.models.reward.aspects import Aspect
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.reward.reader import read_all
from plaudit.records.tensors import Scores
from plaudit.records.text import Comparison, Demonstration, Prompt, Ranking, Rating
from plaudit.training.reward import labelled
from plaudit.training.reward.labelled import Labelled, Rated
from plaudit.training.reward.loop import normalisation
from plaudit.training.reward.objective import Budget, Encoder
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import (
    AspectRidge,
    Centre,
    GateTraining,
    RatingRegression,
    SharedTrunk,
    Standardise,
    TokenLevel,
    TwoClass,
)
from plaudit.training.reward.pairs import TokenLevelObjective
from plaudit.training.reward.rankings import Ranked, equal_once_cut, ranked_examples
from tests.kills import kills
from tests.training.tiny import CPU, gradients, language, model_folder, relative_difference

WHOLE = Budget(machine=CPU, tokens=10**6)


class Table(nn.Module):
    """Says of an answer what stands in the row that its last token names."""

    def __init__(self, rows: list[list[float]]):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, groups) -> Tensor:
        return self.rows[[answer[-1] for _, answers in groups for answer in answers]]


@kills(
    "training/reward/labelled.py",
    old="(losses.log_odds(logits.detach()) > 0) == accepted",
    new="(losses.log_odds(logits.detach()) < 0) == accepted",
    why="accuracy of the opposite verdict",
)
def test_a_verdict_is_right_on_its_own_side_of_zero():
    """Log-odds 2, 1, −3, −1: the third was accepted, so three of four are right, by row and in any portion."""
    model = Table([[0.0, 2.0], [1.0, 2.0], [3.0, 0.0], [0.0, -1.0]])
    rows = [Labelled(answer=([9], [8, i]), label=label) for i, label in enumerate([1.0, 1.0, 1.0, 0.0])]
    for budget in (10**6, 3):
        told = objective_of(TwoClass()).backward(model, rows, Budget(machine=CPU, tokens=budget)).metrics
        assert told["accuracy_over_rows"] == 0.75
        assert told["loss_over_rows"] == pytest.approx((0.126928 + 0.313262 + 3.048587 + 0.313262) / 4, abs=1e-6)


# Two prompts with a pair, one without, of which both answers are best ones too.
RANKED = [
    Ranked(answers=(([3, 4, 5], [6, 1]), ([3, 4, 5], [7, 8, 9, 1])), ranks=(2, 1), margin=0.0),
    Ranked(answers=(([8], [3, 1]), ([8], [1]), ([8], [5, 5, 1])), ranks=(1, 1, 2), margin=0.0),
    Ranked(answers=(([5, 9], [4, 3, 1]), ([5, 9], [7, 1])), ranks=(1, 1), margin=0.0),
]


@kills(
    "training/reward/rankings.py",
    old="prompts = max(sum(row.num_pairs > 0 for row in examples), 1)",
    new="prompts = len(examples)",
    why="prompts without a pair in the denominator",
)
@kills(
    "training/reward/rankings.py",
    old="owner)[0] / prompts",
    new="owner)[0] / len(part)",
    why="a mean of micro-batches' means",
)
@kills(
    "training/reward/rankings.py",
    old="best) / tokens",
    new="best) / max(sum(map(_best_tokens, part)), 1)",
    why="the likelihood as a mean of micro-batches' means",
)
@pytest.mark.parametrize("budget", [10**6, 14, 1])
def test_a_shared_trunks_losses_are_means_over_prompts_with_a_pair_and_over_best_tokens(tmp_path, budget):
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = shared_trunk_models.new(ModelConfig(path=folder), language(folder), seed=1)

    def read(prompt: list[int], answer: list[int]) -> tuple[Tensor, Tensor]:
        """One answer's score, and its tokens' summed −log π, row by itself."""
        ids = torch.tensor([[*prompt, *answer]])
        score = model.trunk.score_head(model.loaded.hf.model(input_ids=ids).last_hidden_state[0, -1]).squeeze()
        logits = model.loaded.hf(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        return score, nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")

    (s0, _), (s1, n1) = (read(*row) for row in RANKED[0].answers)
    (s2, n2), (s3, n3), (s4, _) = (read(*row) for row in RANKED[1].answers)
    (_, n5), (_, n6) = (read(*row) for row in RANKED[2].answers)
    first, second = -nn.functional.logsigmoid(s1 - s0), -nn.functional.logsigmoid(torch.stack([s2, s3]) - s4).mean()
    ranking, nll = (first + second) / 2, (n1 + n2 + n3 + n5 + n6) / (4 + 2 + 1 + 3 + 2)
    (ranking + 0.25 * nll).backward()
    textbook = gradients(model)
    model.zero_grad()
    told = objective_of(SharedTrunk(lm_coef=0.25)).backward(model, RANKED, Budget(machine=CPU, tokens=budget)).metrics
    assert told["loss_over_rows"] == pytest.approx(ranking.item(), rel=1e-5)
    assert told["lm_loss_over_tokens"] == pytest.approx(nll.item(), rel=1e-5)
    assert told["margin_over_pairs"] == pytest.approx((s1 - s0 + s2 - s4 + s3 - s4).item() / 3, rel=1e-4)
    assert relative_difference(gradients(model), textbook) < 1e-5


def test_without_a_coefficient_there_is_no_gradient_of_the_likelihood(tmp_path):
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = shared_trunk_models.new(ModelConfig(path=folder), language(folder), seed=1)
    told = objective_of(SharedTrunk(lm_coef=0.0)).backward(model, RANKED, WHOLE).metrics
    assert told["lm_loss_over_tokens"] > 1.0  # told all the same
    assert not model.loaded.hf.lm_head.weight.grad.any()


@kills(
    "training/reward/rankings.py",
    old="for row in part for group in row.groups])[0]",
    new="for row in part for group in row.groups])[1]",
    why="penalties by the gate's weights instead of the ratings",
)
@kills(
    "training/reward/rankings.py",
    old="penalties(ratings, verbosity, self.options.max_correlation)",
    new="penalties(ratings, verbosity, 0.03)",
    why="an option that is read and not used",
)
def test_a_gates_penalties_are_measured_on_the_ratings(monkeypatch):
    """Aspect `b` stands for length: `a` = b + independent noise loses it at λ = 1, `c` has nothing of it. The mix that
    is read beside them says otherwise."""
    generator = torch.Generator().manual_seed(0)
    long, noise, other = torch.randn(3, 2000, generator=generator)
    z, mixed = torch.stack([long + noise, long, other], dim=1), torch.stack([other, long, long + other], dim=1)
    kept = {}
    model = SimpleNamespace(
        aspects=SimpleNamespace(aspects=[Aspect(name=name) for name in "abc"]),
        read=lambda groups: tuple(x[[a[-1] for _, answers in groups for a in answers]] for x in (z, mixed)),
        correct=lambda verbosity, penalties: kept.update(verbosity=verbosity, penalties=penalties.tolist()),
    )
    rows = [Ranked(answers=(([9], [i]), ([9], [i + 1])), ranks=(1, 2), margin=0.0) for i in range(0, 2000, 2)]
    objective_of(GateTraining(verbosity="b")).prepare(model, rows, Budget(machine=CPU, tokens=700))
    assert kept["verbosity"] == 1
    assert kept["penalties"] == pytest.approx([1.0, 1.0, 0.0], abs=0.11)
    # Spearman ½ of (1 − λ) length + noise with length: 1 − λ = 0.605
    objective_of(GateTraining(verbosity="b", max_correlation=0.5)).prepare(model, rows, WHOLE)
    assert kept["penalties"] == pytest.approx([0.4, 1.0, 0.0], abs=0.11)
    kept.clear()
    objective_of(GateTraining()).prepare(model, rows, WHOLE)
    assert kept == {}


@kills(
    "training/reward/labelled.py",
    old='return {"loss_over_rows": errors / max(counts, 1)}',
    new='return {"loss_over_rows": errors / len(examples)}',
    why="the held-out rows' error over all rows",
)
def test_a_ridges_error_is_the_mean_over_the_ratings_that_were_held_out(monkeypatch):
    """Three of ten rows are held out, one of them not rated; a huge penalty predicts the others' mean, 0."""
    monkeypatch.setattr(labelled, "permutation", lambda count, *_: list(range(count)))
    monkeypatch.setattr(labelled, "read_all", lambda *_: torch.eye(10))
    head = nn.Linear(10, 1, bias=False)
    model = SimpleNamespace(aspects=(Aspect(name="a"),), reader=SimpleNamespace(trunk=SimpleNamespace(score_head=head)))
    rows = [Rated(answer=([1], [2]), label=(label,)) for label in (1.0, -2.0, float("nan"), *([0.0] * 7))]
    told = objective_of(AspectRidge(alphas=(1e9,), validation_fraction=0.3)).solve(model, rows, WHOLE)
    assert told == {"loss_over_rows": pytest.approx((1 + 4) / 2)}


# ------------------------------------------------------------------------------------------------------- reference rows

REFERENCE = [Demonstration(prompt=Prompt.of_text("x"), response=r) for r in ("one", "two", "three", "four")]
RAW = [1.0, 2.0, 3.0, 6.0]
"""Mean 3, deviation √(14/4) = 1.870829 (of four, not of three)."""


class Remembering:
    """A reward model that scores by its own normalisation, as all do."""

    renderer = SimpleNamespace(pair_ids=lambda *_: ([1], [2]))
    language = SimpleNamespace(renderer=renderer, context=9)

    normalisation = None

    def eval(self):
        return self

    def to(self, _):
        return self

    def score(self, groups, budget) -> Scores:
        return Scores.of_all(self.normalisation.apply(torch.tensor(RAW)))


@kills(
    "training/reward/loop.py",
    old="    model.normalisation = Normalisation()\n",
    new="",
    why="the new zero point on top of the old one",
)
@kills(
    "training/reward/loop.py",
    old="return centring(raw, clip=how.clip)",
    new="return centring(raw)",
    why="a limit that is read and not kept",
)
@kills(
    "models/reward/normalisation.py",
    old="std(correction=0)",
    new="std()",
    why="the sample's deviation under the name of the reference answers'",
)
@pytest.mark.parametrize(
    ("how", "gain", "scores"),
    [
        (Centre(), 1.0, [-2.0, -1.0, 0.0, 3.0]),
        (Centre(clip=1.5), 1.0, [-1.5, -1.0, 0.0, 1.5]),
        (Standardise(), 0.534522, [-1.069045, -0.534522, 0.0, 1.603567]),
        (Standardise(clip=1.0), 0.534522, [-1.0, -0.534522, 0.0, 1.0]),
    ],
)
def test_reference_answers_set_zero_unit_and_limit(how, gain, scores):
    """Whatever stood there before."""
    model = Remembering()
    model.normalisation = Normalisation(bias=7.0, gain=5.0, clip=2.0)
    model.normalisation = normalisation(model, REFERENCE, how, Budget(machine=CPU, tokens=100))
    assert (model.normalisation.bias, model.normalisation.gain) == (3.0, pytest.approx(gain, rel=1e-5))
    assert model.score([], 0).scores.tolist() == pytest.approx(scores, rel=1e-5)


# -------------------------------------------------------------------------------------------------------------- ratings


def rating(score: float, labeller: str = "") -> Rating:
    return Rating(prompt=Prompt.of_text("abc"), response="a", scores={"score": score}, labeller=labeller)


def test_labels_are_standardised_over_all_sources_together_or_by_labeller(tmp_path):
    """1, 3 | 5, 7: mean 4, deviation √5. By labeller u (1, 5: mean 3, 2) and v (3, 7: mean 5, 2), who rate apart."""
    spoken = language(model_folder(tmp_path / "m"))
    encoder = Encoder(language=spoken, max_length=16, too_long="error")
    sources = [[rating(1.0, "u"), rating(3.0, "v")], [rating(5.0, "u"), rating(7.0, "v")]]

    def labels(objective: RatingRegression) -> list[list[float]]:
        return [[row.label for row in rows] for rows in objective_of(objective).examples(sources, encoder)]

    together = labels(RatingRegression())
    assert together[0] == pytest.approx([-3 / 5**0.5, -1 / 5**0.5])
    assert together[1] == pytest.approx([1 / 5**0.5, 3 / 5**0.5])
    assert labels(RatingRegression(per_labeller=True)) == [[-1.0, -1.0], [1.0, 1.0]]


@kills(
    "training/reward/labelled.py",
    old="bias=-scale.mean / std, gain=std",
    new="bias=-scale.mean, gain=std",
    why="the mean rating in deviations",
)
def test_a_rating_models_scores_are_in_the_ratings_unit(tmp_path):
    """Raw 0 is the mean, 4; raw 1 a deviation above it. With scales by labeller there is no one unit: raw scores."""
    config = ModelConfig(path=model_folder(tmp_path / "m"))
    spoken = language(config.path)
    rows = [rating(score, "u") for score in (1.0, 3.0, 5.0, 7.0)]
    raw = torch.tensor([0.0, 1.0])
    pooled = objective_of(RatingRegression()).model(config, spoken, rows, seed=0).normalisation
    assert pooled.apply(raw).tolist() == pytest.approx([4.0, 4.0 + 5**0.5])
    own = objective_of(RatingRegression(per_labeller=True)).model(config, spoken, rows, seed=0).normalisation
    assert own.apply(raw).tolist() == [0.0, 1.0]


@kills(
    "training/reward/rankings.py",
    old="if other != text and other_rank != rank:",
    new="if other != text and other_rank == rank:",
    why="answers that became equal are learned from",
)
def test_answers_that_are_equal_once_they_are_cut_teach_nothing(caplog):
    caplog.set_level("INFO")

    def cut(rows):
        return [([0], [ord(c) for c in text[:2]]) for _, text, _ in rows]

    prompt = Prompt.of_text("q")
    pair = Ranking(prompt=prompt, responses=("abX", "abY"), ranks=(1, 2), where="f.jsonl:1")
    three = Ranking(prompt=prompt, responses=("abX", "c", "d", "abY"), ranks=(1, 2, 3, 4), where="f.jsonl:2")
    tied = Ranking(prompt=prompt, responses=("abX", "abY", "c"), ranks=(1, 1, 3), where="f.jsonl:3")
    examples = ranked_examples([pair, three, tied], cut)
    assert [row.ranks for row in examples] == [(1, 2), (1, 1, 3)]
    assert "f.jsonl: 2 rows with answers that are equal once they are cut: left out" in caplog.messages
    assert equal_once_cut(cut([("", text, "") for text in tied.responses]), tied) == []
    both = [Comparison(prompt=prompt, chosen=a, rejected="abY", where="f.jsonl:1") for a in ("abX", "c")]
    (kept,) = TokenLevelObjective(options=TokenLevel()).examples_of(both, cut)
    assert kept.chosen == ([0], [ord("c")])


def test_equal_answers_are_read_once_and_tie_exactly():
    calls = []

    def read(groups):
        answers = [answer for _, answers in groups for answer in answers]
        calls.append(len(answers))
        return torch.tensor([[float(sum(answer)) + len(calls)] for answer in answers])

    rows = [([0], [1, 2]), ([0], [5]), ([0], [1, 2]), ([3], [1, 2])]
    numbers = read_all(read, 1, rows, 4).flatten().tolist()
    assert sum(calls) == 3
    assert numbers[0] == numbers[2]
