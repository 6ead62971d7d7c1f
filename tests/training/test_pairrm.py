"""PairRM's own files: a small model with the names of its weights, scored as llm-blender/PairRM-hf's card scores.

The published checkpoint itself needs the hub.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, DebertaV2Config, DebertaV2Model

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.models.load import PAIRRM_CONTEXT, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward import pair
from plaudit.models.reward.loading import check_reward_model, load_reward_model, needed_columns
from plaudit.records.text import Group, Prompt, PromptRow
from plaudit.scoring.build import build_scorer, check_rewards
from plaudit.scoring.options import RewardModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.reward.options import Pair
from tests.kills import kills
from tests.models import zoo
from tests.models.tiny import spread_out
from tests.training.test_encoder_rewards import TEXTS, train
from tests.training.tiny import CPU, jsonl

ROWS = (
    ("the old house", "red red", "big old blue"),
    ("green", "", "red [SEP] big"),
    ("a red " * 40, "big " * 30, "old"),
)


def heads(size: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.1), nn.Linear(2 * size, size), nn.Tanh(), nn.Dropout(0.1), nn.Linear(size, 1))


def publish(folder: Path, **changed: object) -> str:
    """A folder in the manner of llm-blender/PairRM-hf: weights by its names, its config.json, the markers as tokens."""
    words = zoo.tokenizer("deberta", TEXTS)
    words.add_special_tokens({"additional_special_tokens": ["<|source|>", "<|candidate1|>", "<|candidate2|>"]})
    hf = DebertaV2Model(zoo.language_model("deberta", words).config)
    torch.manual_seed(3)
    head = heads(hf.config.hidden_size)
    spread_out(hf)
    spread_out(head)
    weights = {f"pretrained_model.{name}": tensor for name, tensor in hf.state_dict().items()}
    weights |= {f"head_layer.{name}": tensor for name, tensor in head.state_dict().items()}
    folder.mkdir(parents=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    ids = words.convert_tokens_to_ids(["<|source|>", "<|candidate1|>", "<|candidate2|>"])
    said = hf.config.to_dict() | {"architectures": ["DebertaV2PairRM"], "n_tasks": 1, "drop_out": 0.1}
    said |= dict(zip(("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id"), ids, strict=True)) | changed
    (folder / "config.json").write_text(json.dumps(said))
    words.save_pretrained(folder)
    return str(folder)


def by_the_card(folder: str, source: str, first: str, second: str) -> float:
    """The logit that the model card's code computes, out of the folder's files alone."""
    words = AutoTokenizer.from_pretrained(folder)
    weights = load_file(Path(folder) / "model.safetensors")
    config = DebertaV2Config.from_pretrained(folder)
    hf, head = DebertaV2Model(config).eval(), heads(config.hidden_size).eval()
    for module, name in ((hf, "pretrained_model."), (head, "head_layer.")):
        module.load_state_dict({key.removeprefix(name): tensor for key, tensor in weights.items() if name in key})
    ids = [
        token
        for marker, text in (("<|source|>", source), ("<|candidate1|>", first), ("<|candidate2|>", second))
        for token in words.encode(marker + text, split_special_tokens=False)
    ]
    with torch.no_grad():
        states = hf(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).last_hidden_state[0]
        x, a, b = (
            states[ids.index(said)]
            for said in (config.source_prefix_id, config.cand1_prefix_id, config.cand2_prefix_id)
        )
        return float(head(torch.cat([x, a])) - head(torch.cat([x, b])))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return publish(tmp_path_factory.mktemp("hub") / "pairrm")


def logit(model, source: str, first: str, second: str) -> float:
    found = pair.text_ids(model.language, Prompt.of_text(source), [first, second])
    with torch.no_grad():
        return float(model([pair.Joint(found.source, *found.answers)]))


@kills(
    "models/reward/pair.py",
    old="before if language.texts_apart else ()",
    new="()",
    why="PairRM's answers without the [CLS] that its authors put before each",
)
@kills(
    "models/reward/pair.py",
    old="if head is not None:",
    new="if facts.get('kind') == KIND:",
    why="PairRM's backbone below a head of random weights",
)
def test_its_files_say_what_the_model_card_says(folder):
    check_reward_model(ModelConfig(path=folder), "rewards.0.path")
    model = load_reward_model(ModelConfig(path=folder))
    for row in (ROWS[0], ROWS[2]):
        assert logit(model, *row) == pytest.approx(by_the_card(folder, *row), abs=1e-5)
        assert abs(by_the_card(folder, *row)) > 1e-3
    assert len(model._written(pair.Joint((), (), ()))[0]) == pair.overhead(model.language) == 9


def test_a_separator_that_a_text_spells_is_letters_here_and_not_there(folder):
    model = load_reward_model(ModelConfig(path=folder))
    assert logit(model, *ROWS[1]) != pytest.approx(by_the_card(folder, *ROWS[1]), abs=1e-4)


@kills(
    "models/load.py",
    old="        return PAIRRM_CONTEXT",
    new="        pass",
    why="PairRM cut to the 512 positions of DeBERTa's config",
)
def test_it_reads_as_much_as_its_authors_let_it(folder):
    language = load_language(ModelConfig(path=folder))
    assert language.context == PAIRRM_CONTEXT == 1224 + 2 * 412
    model = load_reward_model(ModelConfig(path=folder))
    long = pair.Joint((5,) * 3000, (6,) * 3000, (7,) * 9)
    assert len(model._written(long)[0]) == PAIRRM_CONTEXT


def test_saved_here_it_scores_the_same(folder, tmp_path):
    model = load_reward_model(ModelConfig(path=folder))
    group = Group(prompt=Prompt.of_text("the old house"), responses=("red", "big old", ""))
    model.save(tmp_path / "saved", {})
    again = load_reward_model(ModelConfig(path=str(tmp_path / "saved")))
    assert again.language.context == PAIRRM_CONTEXT
    assert again.score([group], 500).scores.tolist() == model.score([group], 500).scores.tolist()
    assert again._written(pair.Joint((5,), (6,), (7,))) == model._written(pair.Joint((5,), (6,), (7,)))


def test_it_judges_policies_beside_references_only(folder):
    judge = [RewardModelConfig(path=folder)]
    assert needed_columns(ModelConfig(path=folder)) == ("references",)
    prompt = Prompt.of_text("the old house")
    with pytest.raises(UserError, match="references"):
        check_rewards(judge, [PromptRow(prompt=prompt, columns={}, where="p:1")])
    check_rewards(judge, [PromptRow(prompt=prompt, columns={"references": "red"}, where="p:1")])
    group = Group(prompt=prompt, responses=("big",), columns={"references": ["red"]})
    told = by_the_card(folder, "the old house", "big", "red"), by_the_card(folder, "the old house", "red", "big")
    found = build_scorer(judge, CPU).score([group]).scores.item()
    assert found == pytest.approx((told[0] - told[1]) / 2, abs=1e-5)


def test_training_goes_on_from_it(folder, tmp_path):
    """Against what it says at first: the better words are the ones that it likes less."""
    prompt, words = Prompt.of_text("the old house"), ("red", "big")

    def margin(path: str) -> float:
        told = load_reward_model(ModelConfig(path=path)).score([Group(prompt=prompt, responses=words)], 500).scores
        return float(told[0] - told[1])

    before = margin(folder)
    better, worse = words if before < 0 else words[::-1]
    rows = [{"prompt": "the old house", "responses": [better, worse], "ranks": [1, 2]}] * 16
    held = (DataConfig(path=jsonl(tmp_path / "few.jsonl", rows)),)
    done = train(tmp_path, folder, rows, objective=Pair(), held_out=held, optim=OptimConfig(learning_rate=1e-3))
    assert abs(before) > 0.01 and before * margin(str(done / "model")) < 0
    assert load_reward_model(ModelConfig(path=str(done / "model"))).language.texts_apart


def test_it_begins_where_it_was_saved(folder, tmp_path):
    """Not at random: a step of size 0 leaves what the model card says."""
    rows = [{"prompt": "the old house", "responses": ["red", "big"], "ranks": [1, 2]}] * 4
    held = (DataConfig(path=jsonl(tmp_path / "few.jsonl", rows)),)
    done = train(
        tmp_path, folder, rows, objective=Pair(), held_out=held, optim=OptimConfig(learning_rate=1e-12), epochs=1
    )
    again = load_reward_model(ModelConfig(path=str(done / "model")))
    assert logit(again, *ROWS[0]) == pytest.approx(by_the_card(folder, *ROWS[0]), abs=1e-5)


@kills(
    "models/reward/pairrm.py",
    old="if wanted != actual:",
    new="if False:",
    why="another tokenizer's markers read without a word",
)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cand2_prefix_id": 5}, r"counts on the ids .* for <\|source\|>, <\|candidate1\|>, <\|candidate2\|>"),
        ({"n_tasks": 3}, "judges by 3 tasks"),
        ({"hidden_size": 8}, "are not those of its config.json"),
    ],
)
def test_files_that_do_not_fit_are_refused(changed, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_reward_model(ModelConfig(path=publish(tmp_path / "hub", **changed)))


def test_mistakes_name_the_option_before_the_model_loads(tmp_path):
    path = publish(tmp_path / "hub", cand2_prefix_id=5)
    with pytest.raises(UserError, match=r"^rewards\.0\.path: .* counts on the ids"):
        check_rewards([RewardModelConfig(path=path)], [])


def test_a_head_without_weights_is_refused(tmp_path):
    folder = publish(tmp_path / "hub")
    file = tmp_path / "hub" / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != "head_layer.4.bias"}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"head_layer\.4\.bias is missing"):
        load_reward_model(ModelConfig(path=folder))
