"""The kinds of reward models that read one answer at a time: what they learn, what they save, what they refuse."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from plaudit.data.options import DataConfig
from plaudit.errors import StopRequested, UserError
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import GateShape, ModelConfig
from plaudit.models.reward import aspects as aspect_models
from plaudit.models.reward import scalar
from plaudit.models.reward import shared_trunk as shared_trunk_models
from plaudit.models.reward import two_class as two_class_models
from plaudit.models.reward.aspects import Aspect
from plaudit.records.text import Group, Prompt, Rating, Verdict
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer
from plaudit.scoring.options import RewardModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.reward import labelled, loop
from plaudit.training.reward.labelled import Labelled, Rated, aspects_of
from plaudit.training.reward.loop import reward
from plaudit.training.reward.objective import Budget
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import (
    AspectRegression,
    AspectRidge,
    BestOfK,
    Centre,
    GateTraining,
    KWise,
    Pairwise,
    PlackettLuce,
    RatingRegression,
    RewardConfig,
    SharedTrunk,
    Standardise,
    TokenLevel,
    TwoClass,
)
from plaudit.training.reward.participants import shuffled
from plaudit.training.reward.rankings import Ranked, penalties
from tests.kills import kills
from tests.training.tiny import CPU, gradients, jsonl, language, metrics, model_folder, relative_difference, results

WORTH = {"a": 2.0, "b": 1.0, "c": 0.5, "d": 0.0, "e": -0.5, "f": -1.0, "g": -2.0, "h": 0.0}


def worth(text: str) -> float:
    return sum(WORTH[letter] for letter in text)


def words(n: int, seed: int = 0, length: int = 3) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(8, (n, length), generator=generator).tolist()
    return ["".join("abcdefgh"[i] for i in row) for row in draws]


def prompts(n: int, seed: int = 1) -> list[str]:
    return words(n, seed, length=6)


def run(tmp_path, rows, objective, *, name="run", **options):
    data = (DataConfig(path=jsonl(tmp_path / f"{name}.jsonl", rows)),)
    model = options.pop("model", None) or ModelConfig(path=model_folder(tmp_path / "m", width=32))
    steady = OptimConfig(learning_rate=1e-2)
    config = RewardConfig(
        **{
            "data": data,
            "model": model,
            "objective": objective,
            "held_out_fraction": 0.2,
            "epochs": 6,
            "minibatch_size": 16,
            "optim": steady,
            "floors": False,
            **options,
        }
    )
    with Run.create(tmp_path / name, "reward", config) as opened:
        reward(config, opened)
    return tmp_path / name


def judge(folder):
    return build_scorer((RewardModelConfig(path=str(folder)),), CPU)


def scores_of(folder, texts):
    return judge(folder).score([Group(prompt=Prompt.of_text("abcdef"), responses=tuple(texts))])


def correlation(folder) -> float:
    texts = words(150, seed=77)
    truth = torch.tensor([worth(text) for text in texts])
    return float(torch.corrcoef(torch.stack([scores_of(folder, texts).scores, truth]))[0, 1])


# ------------------------------------------------------------------------------------------------ learning and saving


def verdicts(n: int, seed: int = 0) -> list[dict]:
    pairs = zip(prompts(n, seed + 1), words(n, seed), strict=True)
    return [{"prompt": p, "response": w, "label": worth(w) > 0.25} for p, w in pairs]


def ratings(n: int, seed: int = 0) -> list[dict]:
    pairs = zip(prompts(n, seed + 1), words(n, seed), strict=True)
    return [{"prompt": p, "response": w, "score": 50 + 10 * worth(w)} for p, w in pairs]


def rankings(n: int, seed: int = 0, answers: int = 4) -> list[dict]:
    pool = iter(words(n * answers, seed))
    rows = []
    for prompt in prompts(n, seed + 1):
        texts = list(dict.fromkeys(next(pool) for _ in range(answers)))
        rows.append(
            {
                "prompt": prompt,
                "responses": texts,
                "ranks": [1 + sum(worth(o) > worth(t) for o in texts) for t in texts],
            }
        )
    return [row for row in rows if len(set(row["ranks"])) > 1]


@pytest.mark.parametrize(
    ("objective", "rows"),
    [
        pytest.param(BestOfK(), rankings(300), marks=pytest.mark.slow),
        pytest.param(PlackettLuce(), rankings(300), marks=pytest.mark.slow),
        (TwoClass(), verdicts(600)),
        (RatingRegression(), ratings(400)),
        pytest.param(RatingRegression(loss="rmse"), ratings(400), marks=pytest.mark.slow),
    ],
    ids=lambda x: f"{x.kind}-{getattr(x, 'loss', '')}" if hasattr(x, "kind") else "",
)
def test_it_finds_a_linear_utility_and_saves_what_it_found(tmp_path, objective, rows):
    done = run(tmp_path, rows, objective, floors=True)
    assert correlation(done / "model") > (0.85 if objective.kind == "two_class" else 0.93)  # a verdict is one bit
    lines = metrics(done)
    assert lines[-1]["reward/loss_over_rows"] < 0.5 * lines[0]["reward/loss_over_rows"]
    summary = json.loads((done / "summary.json").read_text(encoding="utf-8"))
    assert summary["reward"]["objective"] == objective.kind
    assert {result.subject for result in results(done) if result.role == "floor"} == {"longer wins", "bag of words"}


def test_the_first_losses_are_those_of_knowing_nothing(tmp_path):
    """log 2 a verdict, log K a best of K, log K! a ranking, 1 a standardised rating."""
    untied = [{"prompt": p, "responses": ["aa", "c", "e", "gg"], "ranks": [1, 2, 3, 4]} for p in prompts(16)]
    still = {"epochs": 1, "held_out_fraction": 0.0, "optim": OptimConfig(learning_rate=0.0)}
    model = {"model": ModelConfig(path=model_folder(tmp_path / "flat", spread=0.0))}

    def first(objective, rows, name) -> float:
        return metrics(run(tmp_path, rows, objective, name=name, **still, **model))[0]["reward/loss_over_rows"]

    assert first(BestOfK(), untied, "best") == pytest.approx(math.log(4), abs=1e-6)
    assert first(PlackettLuce(), untied, "order") == pytest.approx(math.log(24), abs=1e-6)
    assert first(TwoClass(), verdicts(64), "verdict") == pytest.approx(math.log(2), abs=1e-6)
    one = [{"prompt": p, "response": "a", "score": s} for p, s in zip(prompts(16), [3.0, 7.0] * 8, strict=True)]
    assert first(RatingRegression(), one, "rating") == pytest.approx(1.0, abs=1e-6)
    assert first(RatingRegression(loss="rmse"), one, "root") == pytest.approx(1.0, abs=1e-6)


def test_ratings_come_back_in_their_own_unit(tmp_path):
    done = run(tmp_path, ratings(400), RatingRegression())
    texts = words(100, seed=9)
    predicted = scores_of(done / "model", texts).scores
    wanted = torch.tensor([50 + 10 * worth(text) for text in texts])
    assert float((predicted - wanted).square().mean().sqrt()) < 0.4 * float(wanted.std())
    error = next(r for r in results(done) if r.measure == "aspect/score_rmse_over_labels")
    assert error.value < 0.4 * error.floor


@pytest.mark.parametrize(("how", "spread"), [(Centre(), None), (Standardise(), 1.0)])
def test_reference_answers_set_the_zero_point_of_ratings_too(tmp_path, how, spread):
    """In place of the ratings' own mean and unit, not on top of them."""
    rows = [{"prompt": p, "response": w} for p, w in zip(prompts(30, 7), words(30, 8), strict=True)]
    reference = (DataConfig(path=jsonl(tmp_path / "reference.jsonl", rows)),)
    more = {"reference": reference, "normalise": how, "epochs": 1, "held_out_fraction": 0.0}
    done = run(tmp_path, ratings(60), RatingRegression(), **more)
    saved = judge(done / "model")
    groups = [Group(prompt=Prompt.of_text(r["prompt"]), responses=(r["response"],)) for r in rows]
    scores = saved.score(groups).scores
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-4)
    gain = saved.model.normalisation.gain
    assert gain == 1.0 if spread is None else float(scores.std(correction=0)) == pytest.approx(spread, rel=1e-3)


def test_labellers_with_different_scales_agree_once_each_has_their_own(tmp_path):
    """One rates from 0 to 1, the other around 1000, upside down in level: only their order within is worth anything."""
    rows = []
    for i, row in enumerate(ratings(400)):
        high = i % 2 == 0
        score = row["score"] / 100 if high else 1000 + row["score"] / 10
        rows.append({**row, "score": score, "labeller": "strict" if high else "generous"})
    own = correlation(run(tmp_path, rows, RatingRegression(per_labeller=True), name="own") / "model")
    pooled = correlation(run(tmp_path, rows, RatingRegression(), name="pooled") / "model")
    assert own > 0.93
    assert own > pooled + 0.2


def test_two_classes_load_in_transformers_with_their_names(tmp_path):
    done = run(tmp_path, verdicts(64), TwoClass(), epochs=1)
    hf = AutoModelForSequenceClassification.from_pretrained(done / "model").eval()
    assert hf.config.id2label == {0: "reject", 1: "accept"}
    with torch.no_grad():
        reject, accept = hf(input_ids=torch.tensor([[0, 3, 4, 5, 6, 7, 8, 9, 1]])).logits[0].tolist()
    assert scores_of(done / "model", ["g"]).scores.tolist() == pytest.approx([accept - reject], abs=1e-5)


# ----------------------------------------------------------------------------------------------------------- gradients

ROWS = [([3, 4, 5], [6, 1]), ([3, 4, 5], [7, 8, 9, 1]), ([8], [3, 1]), ([5, 5, 9, 3, 4], [1])]
CUTS = [10**6, 12, 1]


def hidden(reader, prompt, answer):
    return reader.loaded.hf.model(input_ids=torch.tensor([[*prompt, *answer]])).last_hidden_state[0, -1]


@pytest.mark.parametrize("budget", CUTS)
def test_two_classes_gradient(tmp_path, budget):
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = two_class_models.load(ModelConfig(path=folder), language(folder), seed=1)
    labels = [1.0, 0.0, 1.0, 0.0]
    logits = torch.stack([model.reader.loaded.hf.score.weight @ hidden(model.reader, *row) for row in ROWS])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 0, 1, 0]))
    expected.backward()
    textbook = gradients(model)
    model.zero_grad()
    rows = [Labelled(answer=row, label=label) for row, label in zip(ROWS, labels, strict=True)]
    told = objective_of(TwoClass()).backward(model, rows, Budget(machine=CPU, tokens=budget)).metrics
    assert told["loss_over_rows"] == pytest.approx(expected.item(), rel=1e-5)
    assert relative_difference(gradients(model), textbook) < 1e-5


@kills(
    "training/reward/labelled.py",
    old="scale_gradients(model, float(losses.rmse_weight(total, n)) * n)",
    new="scale_gradients(model, float(losses.rmse_weight(total, n)))",
    why="the root's weight on a mean that was divided already",
)
@pytest.mark.parametrize("budget", CUTS)
@pytest.mark.parametrize("loss", ["mse", "rmse"])
def test_regressions_gradient(tmp_path, budget, loss):
    """The root is of the whole minibatch: a root per micro-batch would be another loss."""
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = scalar.load(ModelConfig(path=folder), language(folder), seed=1)
    labels = [1.5, -0.5, 0.25, -1.25]
    scores = torch.stack([(model.reader.loaded.hf.score.weight @ hidden(model.reader, *row))[0] for row in ROWS])
    expected = (scores - torch.tensor(labels)).square().mean()
    expected = expected.sqrt() if loss == "rmse" else expected
    expected.backward()
    textbook = gradients(model)
    model.zero_grad()
    rows = [Labelled(answer=row, label=label) for row, label in zip(ROWS, labels, strict=True)]
    told = objective_of(RatingRegression(loss=loss)).backward(model, rows, Budget(machine=CPU, tokens=budget)).metrics
    assert told["loss_over_rows"] == pytest.approx(expected.item(), rel=1e-5)
    assert relative_difference(gradients(model), textbook) < 1e-5


@pytest.mark.parametrize("budget", CUTS)
def test_aspects_gradient_skips_what_was_not_rated(tmp_path, budget):
    folder = model_folder(tmp_path / "m", spread=0.4)
    two = (Aspect(name="kind"), Aspect(name="clear"))
    model = aspect_models.new(ModelConfig(path=folder), language(folder), two, seed=1)
    nan = float("nan")
    labels = [(1.0, nan), (nan, -1.0), (nan, nan), (0.5, 0.25)]
    said = [model.reader.loaded.hf.score.weight @ hidden(model.reader, *row) for row in ROWS]
    errors = [said[0][0] - 1.0, said[1][1] + 1.0, said[3][0] - 0.5, said[3][1] - 0.25]
    expected = sum(error.square() for error in errors) / 4
    expected.backward()
    textbook = gradients(model)
    model.zero_grad()
    rows = [Rated(answer=row, label=label) for row, label in zip(ROWS, labels, strict=True)]
    told = objective_of(AspectRegression()).backward(model, rows, Budget(machine=CPU, tokens=budget)).metrics
    assert told["loss_over_rows"] == pytest.approx(expected.item(), rel=1e-5)
    assert relative_difference(gradients(model), textbook) < 1e-5


def test_without_any_rating_there_is_no_gradient(tmp_path):
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = aspect_models.new(ModelConfig(path=folder), language(folder), (Aspect(name="kind"),), seed=1)
    told = (
        objective_of(AspectRegression())
        .backward(model, [Rated(answer=ROWS[0], label=(float("nan"),))], Budget(machine=CPU, tokens=9))
        .metrics
    )
    assert told == {"loss_over_rows": 0.0}
    assert all(grad.abs().max() == 0 for grad in gradients(model).values())


def test_shared_trunks_gradient_is_that_of_both_losses(tmp_path):
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = shared_trunk_models.new(ModelConfig(path=folder), language(folder), seed=1)
    row = Ranked(answers=(ROWS[0], ROWS[1]), ranks=(2, 1), margin=0.0)
    hf, head = model.loaded.hf, model.trunk.score_head
    scores = [
        head(hf.model(input_ids=torch.tensor([[*p, *a]])).last_hidden_state[0, -1]).squeeze() for p, a in row.answers
    ]
    ranking = torch.log1p(torch.exp(scores[0] - scores[1]))
    prompt, answer = row.answers[1]  # the best one
    logits = hf(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(answer))
    (ranking + 0.5 * nll).backward()
    textbook = gradients(model)
    for budget in CUTS:
        model.zero_grad()
        told = objective_of(SharedTrunk(lm_coef=0.5)).backward(model, [row], Budget(machine=CPU, tokens=budget)).metrics
        assert told["loss_over_rows"] == pytest.approx(ranking.item(), rel=1e-5)
        assert told["lm_loss_over_tokens"] == pytest.approx(nll.item(), rel=1e-5)
        assert relative_difference(gradients(model), textbook) < 1e-5


def test_a_shared_trunks_new_head_is_small(tmp_path):
    """N(0, 1/(d+1)), d = 16 (Stiennon et al. 2020), and no bias: first scores are of size 1."""
    folder = model_folder(tmp_path / "m")
    heads = [
        shared_trunk_models.new(ModelConfig(path=folder), language(folder), seed=i).trunk.score_head for i in range(40)
    ]
    drawn = torch.cat([head.weight.detach().flatten() for head in heads])
    assert drawn.std().item() == pytest.approx(17**-0.5, rel=0.1)
    assert drawn.mean().item() == pytest.approx(0.0, abs=0.03)
    assert not any(head.bias.item() for head in heads)


def test_a_shared_trunk_is_a_language_model_and_a_judge(tmp_path):
    """What its folder says as a policy is what it learned; its head alone can be read for a trunk that is there."""
    done = run(tmp_path, rankings(200), SharedTrunk())
    assert correlation(done / "model") > 0.9
    first, *_, last = metrics(done)
    assert last["reward/lm_loss_over_tokens"] < first["reward/lm_loss_over_tokens"]
    config = ModelConfig(path=str(done / "model"))
    loaded = load_causal(config, load_language(config), seed=0)
    head = shared_trunk_models.load_head(config.path, loaded)
    ids = [*loaded.language.renderer.prompt_ids(Prompt.of_text("abcdef")), 3, 4, 1]
    with torch.no_grad():
        raw = head(loaded.hf.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]).item()
    assert scores_of(done / "model", ["ab"]).scores.tolist() == pytest.approx([raw], abs=1e-5)


# ------------------------------------------------------------------------------------------------------------- aspects


def rated(n: int, seed: int = 0) -> list[dict]:
    """`worth` on 0 to 100, `length` of the answer, and `vowels`, which every third row leaves out."""
    generator = torch.Generator().manual_seed(seed + 5)
    rows = []
    for i, (prompt, long) in enumerate(zip(prompts(n, seed + 1), words(n, seed, length=8), strict=True)):
        text = long[: 1 + int(torch.randint(8, (1,), generator=generator))]
        scores = {"worth": 50 + 10 * worth(text), "length": len(text)}
        if i % 3:
            scores["vowels"] = sum(letter in "ae" for letter in text)
        rows.append({"prompt": prompt, "response": text, "scores": scores})
    return rows


def test_each_aspect_is_learned_and_kept_with_its_scale(tmp_path):
    done = run(tmp_path, rated(500), AspectRegression(weights={"worth": 1.0, "vowels": 0.5}), epochs=8)
    said = scores_of(done / "model", ["aaaa", "gg", "dhdhdh"])
    parts = {name: part.tolist() for name, part in said.parts.items()}
    assert parts["aspect/length"] == pytest.approx([4, 2, 6], abs=0.8)
    assert parts["aspect/worth"][0] > 90 > 50 > parts["aspect/worth"][1]
    facts = json.loads((done / "model" / "plaudit.json").read_text(encoding="utf-8"))
    scale = {a["name"]: a for a in facts["aspects"]}
    assert scale["length"]["weight"] == 0.0  # named weights leave the others out
    by_hand = [
        (w - scale["worth"]["mean"]) / scale["worth"]["std"]
        + 0.5 * (v - scale["vowels"]["mean"]) / scale["vowels"]["std"]
        for w, v in zip(parts["aspect/worth"], parts["aspect/vowels"], strict=True)
    ]
    assert said.scores.tolist() == pytest.approx(by_hand, abs=1e-4)
    hf = AutoModelForSequenceClassification.from_pretrained(done / "model")
    assert list(hf.config.id2label.values()) == ["worth", "length", "vowels"]


@pytest.fixture(scope="module")
def ridge(tmp_path_factory):
    """Aspects read off a reward model's frozen states, which know worth and length."""
    tmp_path = tmp_path_factory.mktemp("ridge")
    first = run(tmp_path, rated(500), AspectRegression(), name="backbone", epochs=6)
    backbone = ModelConfig(path=str(first / "model"))
    return run(tmp_path, rated(300, seed=3), AspectRidge(), name="ridge", model=backbone)


def test_a_ridge_fit_needs_no_steps_and_is_the_normal_equations_solution(ridge):
    assert len(metrics(ridge)) == 1
    rank = {r.measure: r.value for r in results(ridge) if not r.role}
    assert all(rank[f"aspect/{name}_spearman_over_labels"] > 0.7 for name in ("length", "worth"))
    facts = json.loads((ridge / "model" / "plaudit.json").read_text(encoding="utf-8"))
    assert any(abs(a["offset"]) > 1e-4 for a in facts["aspects"])


@pytest.mark.parametrize("objective", [AspectRidge(), AspectRegression()], ids=lambda o: o.kind)
def test_aspects_are_read_off_the_states_of_another_kind_of_reward_model(tmp_path, capsys, objective):
    """ArmoRM's own backbone was a pairwise reward model: one number, not one for each aspect."""
    first = run(tmp_path, rankings(20), KWise(), name="pairwise")
    done = run(tmp_path, rated(40), objective, name="aspects", model=ModelConfig(path=str(first / "model")))
    assert "its backbone alone is used, with a new head for worth, length, vowels" in capsys.readouterr().err
    hf = AutoModelForSequenceClassification.from_pretrained(done / "model")
    assert hf.score.weight.shape == (3, 32)


def test_the_ridges_penalty_is_chosen_on_rows_that_it_was_not_fitted_to(monkeypatch):
    """Labels that are noise, more features than rows: fitted rows would choose the least penalty. The fit that is
    kept has all rows."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(20, 40, generator=generator), torch.randn(20, generator=generator)
    monkeypatch.setattr(labelled, "read_all", lambda *_: features)
    head = torch.nn.Linear(40, 1, bias=False)
    model = SimpleNamespace(aspects=(Aspect(name="a"),), reader=SimpleNamespace(trunk=SimpleNamespace(score_head=head)))
    rows = [Rated(answer=([1], [2]), label=(float(label),)) for label in labels]
    objective_of(AspectRidge(alphas=(1e-3, 1e3))).solve(model, rows, None)
    centred = (features - features.mean(0)).double()
    normal = centred.T @ centred + 1e3 * torch.eye(40).double()
    wanted = torch.linalg.solve(normal, centred.T @ (labels - labels.mean()).double())
    torch.testing.assert_close(head.weight[0].double(), wanted, atol=1e-6, rtol=1e-4)
    assert model.aspects[0].offset == pytest.approx(float(labels.mean() - wanted @ features.mean(0).double()), abs=1e-5)


def test_a_solved_run_that_was_stopped_before_it_was_saved_is_logged_once(tmp_path):
    rows = (DataConfig(path=jsonl(tmp_path / "rated.jsonl", rated(20))),)
    config = RewardConfig(data=rows, model=ModelConfig(path=model_folder(tmp_path / "m")), objective=AspectRidge())
    with pytest.MonkeyPatch.context() as patch, Run.create(tmp_path / "run", "reward", config) as opened:
        patch.setattr(loop, "_finish", lambda *_: (_ for _ in ()).throw(StopRequested(15)))
        with pytest.raises(StopRequested):
            reward(config, opened)
    with Run.open(tmp_path / "run") as opened:
        reward(config, opened)
    assert len(metrics(tmp_path / "run")) == 1


@kills(
    "training/reward/rankings.py",
    old="next(small_enough, PENALTIES[-1])",
    new="next(small_enough, PENALTIES[0])",
    why="an aspect that is mostly length keeps all of it",
)
@kills(
    "training/reward/rankings.py",
    old="ratings[:, aspect] - p * long, long) <= max_correlation",
    new="ratings[:, aspect] - p * long, long).__abs__() <= max_correlation",
    why="what shorter answers have more of is punished for it by the largest penalty",
)
def test_the_penalty_is_the_smallest_that_takes_length_out():
    """By hand: quality = length + noise needs λ = 1; noise alone needs none, nor does noise − length;
    verbosity itself vanishes; five times length would need 5 and gets the largest on offer."""
    generator = torch.Generator().manual_seed(0)
    length, noise = torch.randn(2, 4000, generator=generator)
    ratings = torch.stack([length + noise, noise, length, noise - length, 5 * length + noise], dim=1)
    found = penalties(ratings, 2, 0.03)
    assert found.tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0, 2.0], abs=0.11)
    corrected = (length + noise) - found[0] * length
    assert abs(float(torch.corrcoef(torch.stack([corrected, length]))[0, 1])) < 0.06
    # Pearson (1 − λ) / √((1 − λ)² + 1) of two normals; Spearman ½ where it is 0.5176: 1 − λ = 0.605
    assert penalties(ratings, 2, 0.5)[0].item() == pytest.approx(0.4, abs=0.06)


def test_the_gate_learns_which_aspect_counts_for_which_prompt(ridge, tmp_path):
    """Prompts that begin with `a` want worth, those with `h` want the longer answer."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for i, long in enumerate(words(300, seed=8, length=8)):
        short = long[: 2 + int(torch.randint(3, (1,), generator=generator))]
        wants_worth = i % 2 == 0
        better_long = worth(long) > worth(short) if wants_worth else True
        ranks = [1, 2] if better_long else [2, 1]
        rows.append(
            {
                "prompt": ("aaab" if wants_worth else "hhhg") + prompts(300)[i][:2],
                "responses": [long, short],
                "ranks": ranks,
            }
        )
    options = {"model": ModelConfig(path=str(ridge / "model")), "optim": OptimConfig(learning_rate=5e-3), "epochs": 12}
    done = run(tmp_path, rows, GateTraining(shape=_shape()), name="gate", **options)
    said = judge(done / "model").score(
        [Group(prompt=Prompt.of_text(p), responses=("abc",)) for p in ("aaabcd", "hhhgcd")]
    )
    worth_weight = said.parts["gate/worth"].tolist()
    assert worth_weight[0] > worth_weight[1] + 0.2
    total = sum(part for name, part in said.parts.items() if name.startswith("gate/"))
    torch.testing.assert_close(total, torch.ones(2))
    before = _classifier(ridge / "model")
    assert all(torch.equal(t, before[n]) for n, t in _classifier(done / "model").items())


def _shape() -> GateShape:
    return GateShape(temperature=1.0, hidden_size=32, layers=1, scale=1.0)


def _classifier(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder).state_dict()


def test_verbosity_is_taken_out_of_training_and_of_scores_alike(ridge, tmp_path):
    rows = rankings(60)
    options = {"model": ModelConfig(path=str(ridge / "model")), "epochs": 1}
    done = run(tmp_path, rows, GateTraining(verbosity="length", shape=_shape()), name="gate", **options)
    model = judge(done / "model").model
    assert model.verbosity == 1 and model.penalties[1] == 1.0
    z = torch.tensor([[0.5, 2.0, -1.0]])
    wanted = z - model.penalties * 2.0
    torch.testing.assert_close(model.corrected(z), wanted)
    said = judge(done / "model").score([Group(prompt=Prompt.of_text("abcdef"), responses=("abc", "gg"))])
    z = torch.stack([(said.parts[f"aspect/{a.name}"] - a.mean) / a.std for a in model.aspects.aspects], dim=1)
    g = torch.stack([said.parts[f"gate/{a.name}"] for a in model.aspects.aspects], dim=1)
    torch.testing.assert_close(said.scores, (g * model.corrected(z)).sum(1), atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------------------------------------ controls and mistakes


def test_shuffled_labels_move_between_rows_and_keep_their_numbers():
    prompt = Prompt.of_text("x")
    verdicts = [Verdict(prompt=prompt, response=str(i), label=i % 2 == 0) for i in range(200)]
    mixed = shuffled(verdicts, seed=0)
    assert [row.response for row in mixed] == [row.response for row in verdicts]
    assert sum(row.label for row in mixed) == 100
    assert 60 < sum(a.label == b.label for a, b in zip(verdicts, mixed, strict=True)) < 140
    rated = [Rating(prompt=prompt, response=str(i), scores={"score": float(i)}) for i in range(50)]
    moved = [row.scores["score"] for row in shuffled(rated, seed=1)]
    assert sorted(moved) == [float(i) for i in range(50)] != moved


ODD = [
    {"prompt": "abc", "responses": ["", "a"], "ranks": [1, 2]},  # an empty answer
    {"prompt": "abd", "responses": ["ab", "ab"], "ranks": [1, 2]},  # the same answer twice
    {"prompt": "abe", "responses": ["ab", "cb", "abab"], "ranks": [1, 2, 3]},  # different at the first token; a prefix
    {"prompt": "abf", "responses": ["a", "b", "c"], "ranks": [1, 1, 1]},  # all tied
    {"prompt": "abg", "responses": ["a", "b", "c", "d", "e"], "ranks": [1, 1, 2, 2, 2]},
]


@pytest.mark.parametrize(
    "objective", [KWise(), Pairwise(), BestOfK(), PlackettLuce(), TokenLevel(), SharedTrunk()], ids=lambda o: o.kind
)
def test_odd_rankings_are_defined_and_counted(tmp_path, objective, capsys):
    """K from 2 to 5, ties, empty and equal answers: finite losses and gradients, and what teaches nothing is said."""
    done = run(tmp_path, ODD, objective, held_out_fraction=0.0, epochs=2, minibatch_size=2)
    lines = metrics(done)
    assert all(math.isfinite(line["reward/loss_over_rows"]) for line in lines)
    assert all(math.isfinite(line["reward/grad_norm"]) for line in lines)
    assert torch.isfinite(scores_of(done / "model", ["", "a", "abcdefgh"]).scores).all()
    said = capsys.readouterr().err
    assert "identical" in said or "same" in said or "left out" in said


@pytest.mark.parametrize(
    ("objective", "rows", "message"),
    [
        (TwoClass(), [{"prompt": "a", "response": "b", "label": True}] * 3, "every row has the same label"),
        (RatingRegression(), [{"prompt": "a", "response": "b", "score": 1}] * 3, "are all the same"),
        (
            RatingRegression(aspect="kind"),
            [{"prompt": "a", "response": "b", "scores": {"clear": 1}}],
            r"run\.jsonl:1: no rating of 'kind', only of clear",
        ),
        (RatingRegression(per_labeller=True), ratings(4), "no row says who rated it"),
        (AspectRegression(weights={"kind": 1.0}), ratings(4), "no row rates 'kind'; rated are score"),
        (GateTraining(), rankings(4), "is no reward model of aspects"),
        (
            PlackettLuce(),
            [{"prompt": "a", "responses": [str(i) for i in range(15)], "ranks": [1] * 14 + [2]}],
            r"run\.jsonl:1: 14 answers share place 1",
        ),
    ],
)
def test_what_cannot_be_learned_is_said_before_a_model_loads(tmp_path, monkeypatch, objective, rows, message):
    def loaded(*_, **__):
        raise AssertionError("a model was loaded before the data were checked")

    folder = model_folder(tmp_path / "m", width=32)
    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel.from_pretrained", loaded)
    with pytest.raises(UserError, match=message):
        run(tmp_path, rows, objective, model=ModelConfig(path=folder), held_out_fraction=0.0)


def test_absent_aspects_have_the_scale_of_those_that_are_there():
    prompt = Prompt.of_text("x")
    rows = [
        Rating(prompt=prompt, response="a", scores={"kind": 1.0, "clear": 10.0}),
        Rating(prompt=prompt, response="b", scores={"kind": 3.0}),
    ]
    kind, clear = aspects_of(rows, {})
    assert (kind.name, kind.mean, kind.std, kind.weight) == ("kind", 2.0, 1.0, 0.5)
    assert (clear.mean, clear.weight) == (10.0, 0.5)
