"""Reward models: log 2 at first, the known utility in the end, nothing where there is nothing to learn."""

import json
import math
from typing import get_args

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.evaluation.options import TruthConfig
from plaudit.models.options import ModelConfig, TinyShape
from plaudit.models.reward import scalar
from plaudit.records.results import Result
from plaudit.records.text import Group, Prompt, Ranking
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer
from plaudit.scoring.options import RewardModelConfig
from plaudit.training.descent import MinibatchLoss
from plaudit.training.options import OptimConfig
from plaudit.training.reward.loop import reward
from plaudit.training.reward.objective import Budget
from plaudit.training.reward.objectives import FAMILIES, objective_of
from plaudit.training.reward.options import AnyObjective, BestOfK, KWise, Pairwise, RewardConfig, SharedTrunk
from plaudit.training.reward.participants import shuffled
from plaudit.training.reward.rankings import Ranked
from tests.kills import kills
from tests.training.tiny import CPU, jsonl, metrics, model_folder, results

UTILITY = '''
def utility(completions, **columns):
    """Linear in the letters."""
    worth = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.0, "e": -0.5, "f": -1.0, "g": -2.0, "h": 0.0}
    return [sum(worth[letter] for letter in text) for text in completions]
'''
WORTH = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.0, "e": -0.5, "f": -1.0, "g": -2.0, "h": 0.0}


def worth(text: str) -> float:
    return sum(WORTH[letter] for letter in text)


def word(generator: torch.Generator) -> str:
    return "".join("abcdefgh"[i] for i in torch.randint(8, (3,), generator=generator).tolist())


def rankings(n: int, *, answers: int = 4, seed: int = 0) -> list[dict]:
    """Three letters a prompt, answers ranked by their worth; ties where the worth is equal."""
    generator = torch.Generator().manual_seed(seed)
    rows, seen = [], set()
    while len(rows) < n:
        prompt = word(generator) + word(generator)
        texts = list(dict.fromkeys(word(generator) for _ in range(answers)))
        if prompt in seen or len({worth(t) for t in texts}) < 2:
            continue
        seen.add(prompt)
        ranks = [1 + sum(worth(other) > worth(text) for other in texts) for text in texts]
        rows.append({"prompt": prompt, "responses": texts, "ranks": ranks})
    return rows


def config(tmp_path, rows, **options) -> RewardConfig:
    data = (DataConfig(path=jsonl(tmp_path / "rankings.jsonl", rows)),)
    model = options.pop("model", None) or ModelConfig(path=model_folder(tmp_path / "m", width=32))
    return RewardConfig(**{"data": data, "held_out_fraction": 0.0, "model": model, **options})


def train(tmp_path, chosen: RewardConfig, name: str = "run"):
    with Run.create(tmp_path / name, "reward", chosen) as run:
        reward(chosen, run)
    return tmp_path / name


def scores_of(folder, prompt: str, answers: list[str]) -> list[float]:
    scorer = build_scorer((RewardModelConfig(path=str(folder)),), CPU)
    return scorer.score([Group(prompt=Prompt.of_text(prompt), responses=tuple(answers))]).scores.tolist()


# ---------------------------------------------------------------------------------------------------------- the loss


class Scripted(nn.Module):
    """Scores an answer by its last token."""

    def __init__(self, **scores: float):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(list(scores.values())))

    def forward(self, groups) -> torch.Tensor:
        return self.scores[[answer[-1] for _, answers in groups for answer in answers]]


def ranked(*tokens_and_ranks: tuple[int, int], margin: float = 0.0) -> Ranked:
    return Ranked(
        answers=tuple(([9], [8, token]) for token, _ in tokens_and_ranks),
        ranks=tuple(rank for _, rank in tokens_and_ranks),
        margin=margin,
    )


PACE = Budget(machine=CPU, tokens=10**6)


def told(loss: MinibatchLoss) -> tuple[float, float, float]:
    """Loss, margin, accuracy."""
    keys = ("loss_over_rows", "margin_over_pairs", "accuracy_over_pairs")
    return tuple(loss.metrics[key] for key in keys)


K3 = ranked((0, 1), (1, 2), (2, 3))  # scores 1, 0, −1: log(1 + e^−1) twice, log(1 + e^−2) once
TIE = ranked((0, 1), (2, 1))  # no pair
ONE = ranked((0, 1))  # no pair
EVEN = ranked((1, 2), (3, 1))  # equal scores: log 2


def test_kwise_averages_a_prompts_pairs_then_the_prompts():
    """(0.313262 + 0.126928 + 0.313262) / 3 = 0.251151 and 0.693147; two prompts count."""
    model = Scripted(a=1.0, b=0.0, c=-1.0, d=0.0)
    loss, margin, accuracy = told(objective_of(KWise()).backward(model, [K3, TIE, ONE, EVEN], PACE))
    assert loss == pytest.approx((0.251151 + 0.693147) / 2, abs=1e-6)
    assert accuracy == pytest.approx(3.5 / 4)  # an equal score is half a win
    assert margin == pytest.approx((1 + 1 + 2 + 0) / 4)
    # σ(−1) = 0.268941, σ(−2) = 0.119203; ∂/∂s_a = −(σ(−1) + σ(−2)) / 3 / 2 prompts
    assert model.scores.grad[0].item() == pytest.approx(-(0.268941 + 0.119203) / 6, abs=1e-6)
    assert model.scores.grad[3].item() == pytest.approx(-0.5 / 2, abs=1e-6)
    assert model.scores.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_pairwise_lets_every_pair_weigh_the_same():
    model = Scripted(a=1.0, b=0.0, c=-1.0, d=0.0)
    loss, _, _ = told(objective_of(Pairwise()).backward(model, [K3, TIE, ONE, EVEN], PACE))
    assert loss == pytest.approx((0.313262 + 0.313262 + 0.126928 + 0.693147) / 4, abs=1e-6)
    assert model.scores.grad[3].item() == pytest.approx(-0.5 / 4, abs=1e-6)


def test_a_margin_must_be_won_by():
    """Scores 1 and 0, margin 1: as if they were equal."""
    model = Scripted(a=1.0, b=0.0)
    loss, margin, accuracy = told(objective_of(Pairwise()).backward(model, [ranked((0, 1), (1, 2), margin=1.0)], PACE))
    assert loss == pytest.approx(math.log(2), abs=1e-6)
    assert (margin, accuracy) == (1.0, 1.0)


def test_without_any_pair_there_is_no_loss_and_no_gradient():
    model = Scripted(a=1.0, b=0.0, c=-1.0)
    assert told(objective_of(KWise()).backward(model, [TIE, ONE], PACE)) == (0.0, 0.0, 0.0)
    assert model.scores.grad is None or model.scores.grad.abs().max() == 0


@kills(
    "training/reward/rankings.py",
    old="if all(prompt == prompts[0] for prompt in prompts):",
    new="if prompts:",
    why="an answer read after the prompt of another, where truncation left them different ones",
)
def test_answers_share_a_prompt_only_where_it_is_the_same():
    """Truncation may leave a long answer less of it."""
    together = Ranked(answers=(([1, 2], [3]), ([1, 2], [4, 5])), ranks=(1, 2), margin=0.0)
    assert together.groups == [([1, 2], [[3], [4, 5]])]
    assert together.num_tokens == 5
    apart = Ranked(answers=(([1, 2], [3]), ([2], [4, 5, 6])), ranks=(1, 2), margin=0.0)
    assert apart.groups == [([1, 2], [[3]]), ([2], [[4, 5, 6]])]
    assert apart.num_tokens == 7


def test_every_objective_that_can_be_chosen_has_its_family():
    assert set(FAMILIES) == set(get_args(AnyObjective))


# --------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A linear utility to find, demonstrations that shall score 0 on average."""
    tmp_path = tmp_path_factory.mktemp("reward")
    (tmp_path / "truth.py").write_text(UTILITY, encoding="utf-8")
    held_out = DataConfig(path=jsonl(tmp_path / "held.jsonl", rankings(80, seed=9)))
    reference = [{"prompt": r["prompt"], "completion": r["responses"][0]} for r in rankings(37, seed=5)]
    chosen = config(
        tmp_path,
        rankings(400),
        held_out=(held_out,),
        reference=(DataConfig(path=jsonl(tmp_path / "reference.jsonl", reference)),),
        truth=TruthConfig(function=f"{tmp_path / 'truth.py'}:utility"),
        epochs=8,
        minibatch_size=16,
        optim=OptimConfig(learning_rate=1e-2),
    )
    return train(tmp_path, chosen)


def test_it_starts_at_log_2_and_falls(learned):
    lines = metrics(learned)
    assert lines[0]["reward/loss_over_rows"] == pytest.approx(math.log(2), abs=0.05)
    assert lines[-1]["reward/loss_over_rows"] < 0.2
    assert lines[-1]["reward/held_out_loss_over_prompts"] < 0.25


def test_it_finds_a_linear_utility(learned):
    generator = torch.Generator().manual_seed(77)
    texts = [word(generator) for _ in range(200)]
    scores = torch.tensor(scores_of(learned / "model", "abcdef", texts))
    truth = torch.tensor([worth(text) for text in texts])
    assert torch.corrcoef(torch.stack([scores, truth]))[0, 1] > 0.97
    assert metrics(learned)[-1]["reward/held_out_accuracy_over_pairs"] > 0.93


def test_the_table_compares_with_what_can_be_reached(learned):
    by_measure = {result.measure: result for result in results(learned) if not result.role}
    last = metrics(learned)[-1]
    drawn, expected = (by_measure[f"{kind}_accuracy_over_pairs"] for kind in ("held_out", "expected"))
    assert drawn.value == pytest.approx(last["reward/held_out_accuracy_over_pairs"])
    assert drawn.low < drawn.value <= drawn.high
    assert 0.5 == expected.floor < expected.value <= expected.ceiling < 1.0
    lost = by_measure["held_out_loss_over_prompts"].value
    assert lost == pytest.approx(last["reward/held_out_loss_over_prompts"])
    summary = json.loads((learned / "summary.json").read_text(encoding="utf-8"))
    assert summary["reward"]["reference_answers"] == 37


def test_the_table_shows_what_knows_no_language(tmp_path):
    """Longer wins in three of the four held-out prompts; the word `good` wins in all, as in training."""
    rows = [{"prompt": f"p{i}", "responses": ["good", "bad bad bad"], "ranks": [1, 2]} for i in range(8)]
    longer = [{"prompt": f"q{i}", "responses": ["good one, a good one", "bad"], "ranks": [1, 2]} for i in range(3)]
    held_out = [*longer, {"prompt": "q3", "responses": ["bad bad bad", "good"], "ranks": [2, 1]}]
    shape = TinyShape(hidden_size=16, layers=1, heads=2, vocabulary=270, context=64)
    options = {
        "model": ModelConfig(tiny=shape),
        "held_out": (DataConfig(path=jsonl(tmp_path / "held.jsonl", held_out)),),
    }

    def floors(name: str, **more) -> dict[str, Result]:
        done = train(tmp_path, config(tmp_path, rows, **options, **more), name)
        return {result.subject: result for result in results(done) if result.role == "floor"}

    measured = floors("with")
    assert {result.measure for result in measured.values()} == {"held_out_accuracy_over_pairs"}
    assert (measured["longer wins"].value, measured["bag of words"].value) == (0.75, 1.0)
    assert measured["longer wins"].low < 0.75 < measured["longer wins"].high
    assert floors("without", floors=False) == {}


def test_a_held_out_answer_beyond_the_context_is_told(tmp_path, capsys):
    held_out = [{"prompt": "q", "responses": ["good", "bad " * 40], "ranks": [1, 2]}]
    shape = TinyShape(hidden_size=16, layers=1, heads=2, vocabulary=270, context=32)
    options = {"held_out": (DataConfig(path=jsonl(tmp_path / "held.jsonl", held_out)),), "floors": False}
    done = train(tmp_path, config(tmp_path, rankings(4), model=ModelConfig(tiny=shape), **options))
    assert "held out: 1 of 2 answers truncated to the context of 32" in capsys.readouterr().err
    cut = [(one.subject, one.value, one.count) for one in results(done) if one.measure == "cut_over_answers"]
    assert cut == [("held-out answers", 0.5, 2)]


@kills(
    "models/reward/normalisation.py",
    old="self.gain * (raw - self.bias)",
    new="self.gain * (raw + self.bias)",
    why="the reference bias with the wrong sign",
)
def test_reference_answers_score_nothing_on_average_and_still_do_after_loading(learned):
    rows = [json.loads(line) for line in (learned.parent / "reference.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [scores_of(learned / "model", row["prompt"], [row["completion"]])[0] for row in rows]
    assert abs(sum(scores) / len(scores)) < 1e-3
    bias = json.loads((learned / "summary.json").read_text(encoding="utf-8"))["reward"]["normalisation"]["bias"]
    assert abs(bias) > 0.05
    assert json.loads((learned / "model" / "plaudit.json").read_text(encoding="utf-8"))["normalisation"]["bias"] == bias


def test_a_saved_model_that_is_trained_on_gets_its_bias_anew(learned, tmp_path):
    """Going on from a saved reward model: the old bias is no part of the new one."""
    rows = [{"prompt": "aaa", "completion": "h"}, {"prompt": "b", "completion": "dd"}]
    chosen = config(
        tmp_path,
        rankings(8),
        model=ModelConfig(path=str(learned / "model")),
        reference=(DataConfig(path=jsonl(tmp_path / "reference.jsonl", rows)),),
        optim=OptimConfig(learning_rate=1e-4),
    )
    done = train(tmp_path, chosen)
    scores = [scores_of(done / "model", row["prompt"], [row["completion"]])[0] for row in rows]
    assert abs(sum(scores) / 2) < 1e-3


def test_the_saved_model_is_a_classifier_for_transformers(learned):
    model = AutoModelForSequenceClassification.from_pretrained(learned / "model").eval()
    bias = json.loads((learned / "model" / "plaudit.json").read_text(encoding="utf-8"))["normalisation"]["bias"]
    with torch.no_grad():
        raw = model(input_ids=torch.tensor([[0, 3, 4, 5, 6, 1]])).logits.item()
    assert scores_of(learned / "model", "ab", ["cd"])[0] == pytest.approx(raw - bias, abs=1e-4)


def test_shuffled_labels_teach_nothing(tmp_path):
    """What is learned of noise is a random direction; over eight seeds its accuracy is one half, ± 0.12 / √8."""
    held_out = DataConfig(path=jsonl(tmp_path / "held.jsonl", rankings(80, seed=9)))
    options = {"held_out": (held_out,), "minibatch_size": 16, "optim": OptimConfig(learning_rate=1e-2), "floors": False}
    options["evaluate_every"] = 10**6  # at the end alone

    def accuracy(**more) -> float:
        name = "-".join(map(str, more.values()))
        done = train(tmp_path, config(tmp_path, rankings(160), **options, **more), name)
        return metrics(done)[-1]["reward/held_out_accuracy_over_pairs"]

    assert accuracy(seed=0) > 0.75
    shuffled = [accuracy(seed=seed, shuffle_labels=True) for seed in range(8)]
    assert sum(shuffled) / 8 == pytest.approx(0.5, abs=0.13)  # three standard deviations
    assert all("shuffled" in result.subject for result in results(tmp_path / "7-True") if not result.role)


def test_shuffling_keeps_each_prompts_ranks_and_is_fair():
    rows = [Ranking(prompt=Prompt.of_text(str(i)), responses=("x", "y"), ranks=(1, 2)) for i in range(400)]
    ranks = [row.ranks for row in shuffled(rows, seed=0)]
    assert set(ranks) == {(1, 2), (2, 1)}
    assert 160 < ranks.count((1, 2)) < 240


def test_a_tiny_model_learns_from_scratch_with_its_own_tokenizer(tmp_path):
    shape = TinyShape(hidden_size=16, layers=1, heads=2, vocabulary=270, context=32)
    done = train(tmp_path, config(tmp_path, rankings(12), model=ModelConfig(tiny=shape), held_out_fraction=0.3))
    assert "reward/held_out_accuracy_over_pairs" in metrics(done)[-1]
    assert len(scores_of(done / "model", "abc", ["a", "b"])) == 2


def test_prompts_with_nothing_to_compare_are_left_out(tmp_path, capsys):
    rows = [
        {"prompt": "a", "responses": ["a", "b", "c"], "ranks": [1, 1, 2]},
        {"prompt": "b", "responses": ["a", "b"], "ranks": [1, 1]},
        {"prompt": "c", "responses": ["a", "b"], "ranks": [2, 1]},
    ]
    done = train(tmp_path, config(tmp_path, rows, minibatch_size=1))
    assert metrics(done)[-1]["step"] == 2
    assert "reward: kwise, 2 rows" in capsys.readouterr().err


def test_the_same_seed_twice_is_the_same_run(tmp_path):
    chosen = config(tmp_path, rankings(24), minibatch_size=8, epochs=2)
    assert metrics(train(tmp_path, chosen, "one")) == metrics(train(tmp_path, chosen, "two"))


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.fixture
def no_model(monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("a model was loaded before the data were checked")

    monkeypatch.setattr(scalar, "load", loaded)


def test_margins_need_the_loss_that_uses_them(tmp_path, no_model):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": 1.0}]
    with pytest.raises(UserError, match=r"rankings.jsonl:1: has a margin, which only `objective: pairwise` uses"):
        train(tmp_path, config(tmp_path, rows))


def test_margins_reach_the_loss(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": 3.0}]
    done = train(tmp_path, config(tmp_path, rows, objective=Pairwise()))
    (line,) = metrics(done)
    won_by = line["reward/margin_over_pairs"]
    assert line["reward/loss_over_rows"] == pytest.approx(math.log1p(math.exp(3.0 - won_by)), rel=1e-5)


def test_an_answer_that_is_too_long_is_named(tmp_path, no_model):
    rows = [*rankings(1), {"prompt": "a", "responses": ["a", "b" * 40], "ranks": [1, 2]}]
    with pytest.raises(UserError, match=r"rankings\.jsonl:2: 43 tokens"):
        train(tmp_path, config(tmp_path, rows))


@kills(
    "training/reward/rankings.py",
    old="tuple(rank - above for _, rank in remaining)",
    new="tuple(rank for _, rank in remaining)",
    why="where the best answer was too long nothing is the best, and the prompt still counts in the mean",
)
@pytest.mark.parametrize("objective", [BestOfK(), SharedTrunk()], ids=lambda o: o.kind)
def test_where_the_best_answer_was_too_long_the_best_of_the_others_is_learned(tmp_path, objective):
    rows = [{"prompt": "a", "responses": ["b" * 40, "c", "dd"], "ranks": [1, 3, 2]}]
    (line,) = metrics(train(tmp_path, config(tmp_path, rows, objective=objective, too_long="drop")))
    won_by = line["reward/margin_over_pairs"]
    assert line["reward/loss_over_rows"] == pytest.approx(math.log1p(math.exp(-won_by)), rel=1e-5)
    if isinstance(objective, SharedTrunk):
        assert line["reward/lm_loss_over_tokens"] > 0.0


def test_nothing_to_learn_from_is_a_mistake(tmp_path, no_model):
    rows = [{"prompt": "a", "responses": ["a", "b"], "ranks": [1, 1]}]
    with pytest.raises(UserError, match=r"no prompt with two answers of different rank|no row left|none of"):
        train(tmp_path, config(tmp_path, rows))


def test_a_truth_that_is_no_function_is_told_at_once(tmp_path, no_model):
    with pytest.raises(UserError, match="no built-in reward function 'nothing'"):
        train(tmp_path, config(tmp_path, rankings(4), truth=TruthConfig(function="nothing")))


def test_a_missing_backbone_is_named(tmp_path, no_model):
    with pytest.raises(UserError, match=r"model\.path: no folder './nowhere'"):
        train(tmp_path, config(tmp_path, rankings(4), model=ModelConfig(path="./nowhere")))
