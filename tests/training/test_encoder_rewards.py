"""Encoders learn to judge: by the ordinary objectives, on any of their heads, whatever the micro-batches."""

import math

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.models.load import load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import scalar
from plaudit.records.text import Group, Prompt, Ranking
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer
from plaudit.scoring.options import RewardModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.reward.loop import reward
from plaudit.training.reward.objective import Budget, Encoder
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import AspectRegression, AspectRidge, KWise, RewardConfig, TwoClass
from tests.models import zoo
from tests.models.tiny import spread_out
from tests.training.tiny import CPU, gradients, jsonl, metrics, relative_difference

WORDS = ("red", "blue", "green", "old", "new", "big")
WORTH = dict(zip(WORDS, (2.0, 1.2, 0.4, -0.4, -1.2, -2.0), strict=True))
CASES = [
    pytest.param("bert", "auto", marks=pytest.mark.slow),
    pytest.param("roberta", "auto", marks=pytest.mark.slow),
    ("deberta", "mean"),
    pytest.param("modernbert", "max", marks=pytest.mark.slow),
    ("t5", "auto"),
]


def worth(text: str) -> float:
    return sum(WORTH[word] for word in text.split())


def rankings(count: int, *, answers: int = 2, seed: int = 0) -> list[dict]:
    """Two words an answer; the better one has the greater worth."""
    generator = torch.Generator().manual_seed(seed)

    def phrase() -> str:
        return " ".join(WORDS[i] for i in torch.randint(len(WORDS), (2,), generator=generator).tolist())

    rows: list[dict] = []
    while len(rows) < count:
        texts = list(dict.fromkeys(phrase() for _ in range(answers)))
        if len({worth(text) for text in texts}) == answers:
            ranks = [1 + sum(worth(other) > worth(text) for other in texts) for text in texts]
            rows.append({"prompt": f"the {phrase()} house {len(rows)}", "responses": texts, "ranks": ranks})
    return rows


TEXTS = (*zoo.TEXTS, " ".join(WORDS), "the house 0 1 2 3 4 5 6 7 8 9", *WORDS)


def train(tmp_path, folder: str, rows: list[dict], name: str = "run", **options):
    chosen = {
        "data": (DataConfig(path=jsonl(tmp_path / "data.jsonl", rows)),),
        "held_out": (DataConfig(path=jsonl(tmp_path / "held.jsonl", rankings(60, seed=9))),),
        "model": ModelConfig(path=folder),
        "optim": OptimConfig(learning_rate=1e-2),
        "minibatch_size": 16,
        "epochs": 5,
        "floors": False,
        "evaluate_every": 1000,
    }
    config = RewardConfig(**chosen | options)
    with Run.create(tmp_path / name, "reward", config) as run:
        reward(config, run)
    return tmp_path / name


@pytest.mark.parametrize(("family", "pooling"), CASES)
def test_an_encoder_learns_the_words_worth(tmp_path, family, pooling):
    folder = zoo.save(tmp_path / family, family, TEXTS)
    done = train(tmp_path, folder, rankings(320), model=ModelConfig(path=folder, pooling=pooling))
    assert metrics(done)[-1]["reward/held_out_accuracy_over_pairs"] >= 0.95
    scorer = build_scorer((RewardModelConfig(path=str(done / "model")),), CPU)
    answers = ("red red", "blue", "green", "green", "", "big big", "?")
    told = scorer.score([Group(prompt=Prompt.of_text("the old house"), responses=answers)]).scores
    assert torch.isfinite(told).all()
    assert min(told[0], told[1]) > told[5] + 1.0
    assert told[2] == pytest.approx(told[3].item(), abs=1e-5)


def test_labels_that_say_both_teach_nothing(tmp_path):
    """Every comparison stands there twice, once each way: the least loss is log 2, and held-out pairs stay even."""
    folder = zoo.save(tmp_path / "bert", "bert", TEXTS)
    rows = rankings(40)
    rows += [row | {"ranks": row["ranks"][::-1]} for row in rows]
    last = metrics(train(tmp_path, folder, rows, minibatch_size=80))[-1]
    assert last["reward/loss_over_rows"] == pytest.approx(math.log(2), abs=0.01)
    assert abs(last["reward/margin_over_pairs"]) < 0.05


@pytest.mark.parametrize("family", zoo.ALL)
def test_the_gradient_does_not_depend_on_micro_batches(tmp_path, family):
    config = ModelConfig(path=zoo.save(tmp_path / family, family, TEXTS))
    language = load_language(config)
    rows = [
        Ranking(prompt=Prompt.of_text(row["prompt"]), responses=tuple(row["responses"]), ranks=tuple(row["ranks"]))
        for row in rankings(6, answers=3)
    ]
    (examples,) = objective_of(KWise()).examples(
        [rows], Encoder(language=language, max_length=language.context, too_long="error")
    )
    found = []
    for budget in (10**6, 60, 1):
        model = scalar.load(config, language, seed=1)
        spread_out(model.reader.hf, spread=0.15)
        objective_of(KWise()).backward(model, examples, Budget(machine=CPU, tokens=budget))
        found.append(gradients(model))
    assert relative_difference(found[1], found[0]) < 1e-5
    assert relative_difference(found[2], found[0]) < 1e-5


def test_other_kinds_work_on_encoders_too(tmp_path):
    """Two classes and several aspects are heads of two and more numbers on the same reader."""
    folder = zoo.save(tmp_path / "bert", "bert", TEXTS)
    phrases = [(row["prompt"], row["responses"][0]) for row in rankings(160)]
    verdicts = [{"prompt": p, "response": r, "label": worth(r) > 0} for p, r in phrases if worth(r)]
    held = DataConfig(path=jsonl(tmp_path / "verdicts.jsonl", verdicts[:40]))
    done = train(tmp_path, folder, verdicts[40:], "two", objective=TwoClass(), held_out=(held,))
    good, bad = scores_of(done, ["red red", "big big"])
    assert good > bad + 0.5
    rated = [{"prompt": p, "response": r, "scores": {"worth": worth(r), "length": len(r)}} for p, r in phrases]
    held = DataConfig(path=jsonl(tmp_path / "rated.jsonl", rated[:40]))
    done = train(tmp_path, folder, rated[40:], "aspects", objective=AspectRegression(), held_out=(held,), epochs=2)
    assert len(scores_of(done, ["red red", "big big"])) == 2
    with pytest.raises(UserError, match="aspects_ridge needs a decoder"):
        train(tmp_path, folder, rated, "ridge", objective=AspectRidge(), held_out=(held,))


@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_a_classifier_of_another_width_is_refused_or_gets_a_new_head(tmp_path, pooling):
    """A reward model of one number is no start for two classes, and a backbone for aspects."""
    folder = zoo.save(tmp_path / "bert", "bert", TEXTS)
    short = {"epochs": 1, "held_out": (), "held_out_fraction": 0.2}
    one = train(tmp_path, folder, rankings(20), "one", model=ModelConfig(path=folder, pooling=pooling), **short)
    start = str(one / "model")
    phrases = [(row["prompt"], row["responses"][0]) for row in rankings(20)]
    verdicts = [{"prompt": p, "response": r, "label": worth(r) > 0} for p, r in phrases]
    with pytest.raises(UserError, match=r"1 number\(s\) an answer, and 2 are needed"):
        train(tmp_path, start, verdicts, "two", objective=TwoClass(), **short)
    rated = [{"prompt": p, "response": r, "scores": {"worth": worth(r), "length": len(r)}} for p, r in phrases]
    done = train(tmp_path, start, rated, "aspects", objective=AspectRegression(), **short)
    assert len(scores_of(done, ["red red", "big big", "old"])) == 3


def scores_of(done, answers: list[str]) -> list[float]:
    scorer = build_scorer((RewardModelConfig(path=str(done / "model")),), CPU)
    return scorer.score([Group(prompt=Prompt.of_text("the old house"), responses=tuple(answers))]).scores.tolist()
