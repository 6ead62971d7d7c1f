"""examples/sft_loop.py and reward_loop.py: the commands' algorithms on one page, to the same numbers."""

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from examples import reward_loop, sft_loop
from plaudit.data.options import DataConfig
from plaudit.models.options import ModelConfig
from plaudit.runs.folder import Run
from plaudit.training.options import OptimConfig, SFTConfig
from plaudit.training.reward.loop import reward
from plaudit.training.reward.options import RewardConfig
from plaudit.training.sft import sft
from tests.kills import kills
from tests.training.tiny import jsonl, metrics, model_folder, tokenizer

RATE = 1e-2


def logged(folder, stage: str, key: str) -> list[float]:
    return [line[f"{stage}/{key}"] for line in metrics(folder)]


@kills(
    "examples/sft_loop.py",
    old="logits[:, :-1], ids[:, 1:]",
    new="logits[:, 1:], ids[:, 1:]",
    why="each token predicted from itself",
)
def test_fine_tuning_on_one_page_is_the_commands(tmp_path):
    """Ragged rows, three epochs of three steps, the last minibatch smaller."""
    texts = [("ab", "cd"), ("c", "hgfed"), ("abc", "h"), ("h", "a"), ("gg", "bb"), ("d", "eee"), ("e", "f"), ("f", "g")]
    folder = model_folder(tmp_path / "m", spread=0.3)
    config = SFTConfig(
        data=(DataConfig(path=jsonl(tmp_path / "d.jsonl", [{"prompt": p, "completion": c} for p, c in texts])),),
        held_out_fraction=0.0,
        model=ModelConfig(path=folder),
        optim=OptimConfig(learning_rate=RATE),
        epochs=3,
        minibatch_size=3,
        seed=5,
    )
    with Run.create(tmp_path / "run", "sft", config) as run:
        sft(config, run)
    model = LlamaForCausalLM.from_pretrained(folder)
    rows = [sft_loop.encode(*text) for text in texts]
    losses = list(sft_loop.sft(model, rows, epochs=3, seed=5, minibatch_size=3, peak=RATE))
    assert losses == pytest.approx(logged(tmp_path / "run", "sft", "loss_over_tokens"), rel=1e-5)
    assert losses[-1] < losses[0]


@kills(
    "examples/reward_loop.py",
    old="len(answer) - 1 for answer",
    new="len(answer) - 2 for answer",
    why="the score read before the end of the answer",
)
def test_a_reward_model_on_one_page_is_the_commands(tmp_path):
    """Answers of other lengths and a tie; two epochs of three steps."""
    texts = [
        ("a", ["b", "cc", "d"], [1, 2, 3]),
        ("bc", ["a", "hh"], [2, 1]),
        ("d", ["e", "f", "gg", "a"], [1, 1, 3, 4]),
        ("ee", ["b", "abc"], [1, 2]),
        ("h", ["g", "fe", "c"], [3, 1, 2]),
    ]
    folder = model_folder(tmp_path / "m", spread=0.3)
    torch.manual_seed(3)
    model = LlamaForSequenceClassification.from_pretrained(folder, num_labels=1)
    nn.init.normal_(model.score.weight, std=0.2)
    model.save_pretrained(tmp_path / "judge")
    tokenizer().save_pretrained(tmp_path / "judge")
    rows = [{"prompt": prompt, "responses": answers, "ranks": ranks} for prompt, answers, ranks in texts]
    config = RewardConfig(
        data=(DataConfig(path=jsonl(tmp_path / "r.jsonl", rows)),),
        held_out_fraction=0.0,
        model=ModelConfig(path=str(tmp_path / "judge")),
        optim=OptimConfig(learning_rate=RATE),
        epochs=2,
        minibatch_size=2,
        seed=4,
    )
    with Run.create(tmp_path / "run", "reward", config) as run:
        reward(config, run)
    ranked = [reward_loop.Ranked([reward_loop.encode(p, a) for a in answers], ranks) for p, answers, ranks in texts]
    losses = list(reward_loop.train(model, ranked, epochs=2, seed=4, minibatch_size=2, peak=RATE))
    assert losses == pytest.approx(logged(tmp_path / "run", "reward", "loss_over_rows"), rel=1e-5)


def test_both_pages_learn(capsys):
    assert sft_loop.main(["--epochs", "6"]) < 0.2  # log 11 at first
    assert reward_loop.main(["--epochs", "2"]) > 0.9
    assert "held out" in capsys.readouterr().out
