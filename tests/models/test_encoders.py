"""Encoders as judges: transformers' own scores, the same in every batch, saved and loaded, trained as decoders are."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
)

from plaudit.errors import UserError
from plaudit.models.encoders import HEAD, pooled
from plaudit.models.load import architecture, load_backbone, load_causal, load_language
from plaudit.models.options import LastLayers, LoRA, ModelConfig
from plaudit.models.reward import scalar
from plaudit.models.reward.loading import check_reward_model, load_reward_model
from plaudit.models.reward.reader import PaddedReader, encoded, load_reader, padding_id, read_all
from plaudit.models.reward.scalar import ScalarRewardModel
from plaudit.records.text import Form, Group, Prompt
from tests.kills import kills
from tests.models import tiny, zoo
from tests.training.tiny import tokenizer as letters

TEXTS = [("the cat", "sat on the mat"), ("the red house", "a dog"), ("a", ""), ("", "the cat sat"), ("the cat", "sat")]
GROUPS = [Group(prompt=Prompt.of_text(prompt), responses=(response,)) for prompt, response in TEXTS]
POOLINGS = ("auto", "cls", "mean", "max")
CASES = [(family, pooling) for family in zoo.ALL for pooling in POOLINGS if (family, pooling) != ("t5", "cls")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("zoo")
    return {family: zoo.save(place / family, family, noise=0.3) for family in zoo.ALL}


def load(path: str, *, seed: int = 1, spread: float = 0.3, **options) -> ScalarRewardModel:
    config = ModelConfig(path=path, **options)
    model = scalar.load(config, load_language(config), seed=seed)
    if spread:
        tiny.spread_out(model.reader.hf, spread=spread)
    return model


def scores(model, groups=GROUPS, budget: int = 10_000) -> list[float]:
    return model.score(groups, budget).scores.tolist()


def by_transformers(folder: str) -> list[float]:
    hf = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    out = []
    with torch.no_grad():
        for prompt, response in TEXTS:
            own = words.backend_tokenizer.encode(prompt, response)
            inputs = {"input_ids": torch.tensor([own.ids])}
            if getattr(hf.config, "type_vocab_size", 0) > 1:
                inputs["token_type_ids"] = torch.tensor([own.type_ids])
            out.append(float(hf(**inputs).logits))
    return out


# ------------------------------------------------------------------------------------------------------------- scores


@kills(
    "models/reward/reader.py",
    old="if self.typed:",
    new="if False:",
    why="token types forgotten: both texts look alike to BERT",
)
@pytest.mark.parametrize("family", zoo.ALL)
def test_the_score_is_that_of_transformers(folders, tmp_path, family):
    model = load(folders[family])
    model.save(tmp_path, {})
    ours = scores(model)
    assert len({round(x, 4) for x in ours}) == 5
    assert by_transformers(str(tmp_path)) == pytest.approx(ours, abs=2e-5)


@kills(
    "models/reward/reader.py",
    old="for i in bucket]).argsort()",
    new="for i in bucket])",
    why="rows read by length are handed back in the order of reading",
)
@pytest.mark.parametrize(("family", "pooling"), CASES)
def test_a_row_scores_the_same_alone_in_any_batch_and_any_order(folders, family, pooling):
    model = load(folders[family], pooling=pooling)
    alone = [scores(model, [group])[0] for group in GROUPS]
    for order, budget in (([0, 1, 2, 3, 4], 10_000), ([4, 2, 0, 3, 1], 10_000), ([2, 2, 0], 1), ([1, 3, 0], 20)):
        told = scores(model, [GROUPS[i] for i in order], budget)
        assert told == pytest.approx([alone[i] for i in order], abs=2e-5)
    # Side by side in one square, whatever their lengths.
    rows = encoded(model.language, GROUPS)
    with torch.no_grad():
        together = model.reader._read(rows).squeeze(1).tolist()
    assert together == pytest.approx(alone, abs=2e-5)


def test_what_another_tokenizer_wrote_is_read_as_text(folders):
    """The policy's ids mean nothing to an encoder of another family."""
    model = load(folders["roberta"])
    words = zoo.tokenizer("bert")
    theirs = tuple(words.encode("sat on the mat", add_special_tokens=False))
    text = words.decode(theirs)
    told = scores(model, [Group(prompt=Prompt.of_text("the cat"), responses=(text,), response_ids=(theirs,))])
    assert told == pytest.approx([scores(model)[0]], abs=2e-5)


@pytest.mark.parametrize("family", zoo.ALL)
def test_the_prompt_counts(folders, family):
    model = load(folders[family])
    one, two = scores(model, [dataclasses.replace(g, responses=("sat",)) for g in (GROUPS[0], GROUPS[1])])
    assert abs(one - two) > 1e-4


def test_the_two_texts_have_types_of_their_own(folders):
    """Without them the score is another."""
    model = load(folders["bert"])
    before = scores(model)
    model.reader.typed = 0
    assert scores(model) != pytest.approx(before, abs=1e-4)


def test_a_rendered_prompt_with_more_end_tokens_runs_beside_others(folders):
    """T5's own classifier refuses a batch whose rows have different numbers of them."""
    model = load(folders["t5"])
    odd = Group(prompt=Prompt.of_text("the</s>cat", form=Form.RENDERED), responses=("sat on",))
    alone = scores(model, [odd])
    assert scores(model, [GROUPS[0], odd, GROUPS[1]])[1] == pytest.approx(alone[0], abs=2e-5)


def test_padding_may_be_the_end_token(folders):
    """T5's classifier looks for end tokens: one in the padding would be read instead of the answer's."""
    model = load(folders["t5"])
    rows = encoded(model.language, GROUPS)
    with torch.no_grad():
        before = model.reader._read(rows)
        model.reader.hf.config.pad_token_id = model.reader.hf.config.eos_token_id
        torch.testing.assert_close(model.reader._read(rows), before)


@kills(
    "models/reward/reader.py",
    old="if i is not None and i != config.eos_token_id",
    new="if i is not None",
    why="T5's classifier reads an end token in the padding",
)
def test_padding_is_never_an_end_token():
    ids = [padding_id(SimpleNamespace(pad_token_id=pad, eos_token_id=end)) for pad, end in ((7, 2), (2, 2), (None, 0))]
    assert ids == [7, 0, 1]


# ------------------------------------------------------------------------------------------------------------ pooling


@kills(
    "models/encoders.py",
    old="torch.where(keep, states, 0.0).sum(dim=1) / keep.sum(dim=1)",
    new="states.mean(dim=1)",
    why="mean pooling over padding",
)
@kills(
    "models/encoders.py",
    old="torch.where(keep, states, -torch.inf)",
    new="states * keep",
    why="maximum over padding's 0",
)
def test_pooling_by_hand_and_blind_to_padding():
    states = torch.tensor([[[1.0, -2.0], [3.0, -4.0], [torch.nan, torch.inf]], [[5.0, 0.0], [1.0, 2.0], [3.0, 10.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert pooled(states, mask, "cls").tolist() == [[1.0, -2.0], [5.0, 0.0]]
    assert pooled(states, mask, "mean").tolist() == [[2.0, -3.0], [3.0, 4.0]]
    assert pooled(states, mask, "max").tolist() == [[3.0, -2.0], [5.0, 10.0]]
    states.requires_grad_()
    (pooled(states, mask, "mean").sum() + pooled(states, mask, "max").sum()).backward()
    assert torch.equal(states.grad[0, 2], torch.zeros(2))
    assert states.grad[0, 0].tolist() == [0.5, 1.5]  # half of the mean, and its −2 is the maximum


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_a_pooled_score_is_the_head_on_the_pooled_states(folders, pooling):
    model = load(folders["deberta"], pooling=pooling)
    hf = model.reader.hf
    rows = encoded(model.language, GROUPS)
    with torch.no_grad():
        for (prompt, response), told in zip(rows, scores(model), strict=True):
            states = hf.backbone(input_ids=torch.tensor([prompt + response])).last_hidden_state[0]
            read = {"cls": states[0], "mean": states.mean(0), "max": states.max(0).values}[pooling]
            assert float(hf.score.weight[0] @ read + hf.score.bias) == pytest.approx(told, abs=2e-5)


def test_what_pooling_the_head_has_stands_in_its_file(folders, tmp_path):
    load(folders["bert"], pooling="mean").save(tmp_path, {})
    with safe_open(tmp_path / HEAD, framework="pt") as head:
        assert head.metadata() == {"pooling": "mean"}
    with pytest.raises(UserError, match="was trained with 'mean', not 'max'"):
        load(str(tmp_path), pooling="max")
    check_reward_model(ModelConfig(path=str(tmp_path)), "rewards.0.path")


# -------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(("family", "pooling"), CASES)
def test_a_saved_model_loads_again_with_equal_scores(folders, tmp_path, family, pooling):
    model = load(folders[family], pooling=pooling)
    model.save(tmp_path, {})
    check_reward_model(ModelConfig(path=str(tmp_path)), "rewards.0.path")
    again = load_reward_model(ModelConfig(path=str(tmp_path)))
    assert scores(again) == scores(model)


@pytest.mark.parametrize("pooling", ["auto", "mean"])
@pytest.mark.parametrize("family", zoo.ALL)
def test_adapters_are_trained_merged_and_saved_with_the_head(folders, tmp_path, family, pooling):
    model = load(folders[family], pooling=pooling, train=LoRA(rank=2), spread=0.0)
    named = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("lora" in name for name in named)
    assert not any("lora" in name and ("classif" in name or "pooler" in name) for name in named)
    head = "score" if pooling == "mean" else "classif"
    assert any(head in name and "lora" not in name for name in named)
    first = scores(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    rows = [(prompt, [response]) for prompt, response in encoded(model.language, GROUPS)]
    for _ in range(2):
        (model(rows) - 1.0).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = scores(model)
    assert trained != pytest.approx(first, abs=1e-3)
    model.save(tmp_path, {})
    again = scores(load_reward_model(ModelConfig(path=str(tmp_path))))
    assert again == pytest.approx(trained, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("family", zoo.ALL)
def test_the_last_blocks_and_the_head_alone_are_trained(folders, family):
    model = load(folders[family], train=LastLayers(layers=1, head=False))
    assert {parameter.requires_grad for parameter in model.parameters()} == {True, False}
    rows = [(prompt, [response]) for prompt, response in encoded(model.language, GROUPS)]
    model(rows).sum().backward()
    moved = {name for name, grad in tiny.gradients(model).items() if grad.abs().sum() > 0}
    assert any("classif" in name for name in moved)
    blocks = {found[1] for name in moved if (found := re.search(r"(?:encoder\.layer|layers|block)\.(\d)\.", name))}
    assert blocks == {"1"}
    assert not any("embed" in name or "shared" in name for name in moved)


@pytest.mark.parametrize(("family", "pooling"), CASES)
def test_training_mode_reads_what_evaluation_mode_reads(folders, family, pooling):
    """Every dropout of these classes is silenced: the folder's config asks for 0.3."""
    model = load(folders[family], pooling=pooling)
    quiet = scores(model.eval())
    torch.manual_seed(0)
    assert scores(model.train()) == pytest.approx(quiet, abs=1e-6)


def test_a_hub_classifier_of_one_label_is_a_judge(tmp_path):
    """Written by transformers alone: no plaudit.json."""
    words = zoo.tokenizer("bert")
    config = zoo.language_model("bert", words).config
    config.num_labels = 1
    tiny.spread_out(BertForSequenceClassification(config)).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    check_reward_model(ModelConfig(path=str(tmp_path)), "rewards.0.path")
    ours = scores(load_reward_model(ModelConfig(path=str(tmp_path))))
    assert by_transformers(str(tmp_path)) == pytest.approx(ours, abs=2e-5)


def test_a_decoder_that_another_library_trained_is_a_judge(tmp_path):
    """As TRL's RewardTrainer leaves it: a classifier of one label, its padding token set, no plaudit.json."""
    config = tiny.CONFIGS["llama"]()
    config.num_labels, config.pad_token_id, config.eos_token_id = 1, 2, 1
    hf = tiny.spread_out(LlamaForSequenceClassification(config))
    hf.save_pretrained(tmp_path)
    letters().save_pretrained(tmp_path)
    model = load_reward_model(ModelConfig(path=str(tmp_path)))
    groups = [Group(prompt=Prompt.of_text("abc"), responses=("de", "fgh"))]
    rows = [prompt + response for prompt, response in encoded(model.language, groups)]
    with torch.no_grad():
        alone = [float(hf(input_ids=torch.tensor([row])).logits) for row in rows]
    assert scores(model, groups) == pytest.approx(alone, abs=2e-5)


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_the_architecture_is_told_before_weights_are_read(folders, tmp_path):
    kinds = {family: architecture(ModelConfig(path=path)) for family, path in folders.items()}
    assert kinds == dict.fromkeys(zoo.ENCODERS, "encoder") | {"t5": "encoder_decoder"}
    load(folders["t5"], pooling="mean").save(tmp_path, {})
    assert architecture(ModelConfig(path=str(tmp_path))) == "encoder"
    assert architecture(ModelConfig(path="tiny")) == "decoder"


@pytest.mark.parametrize("load_decoder", [load_causal, load_backbone])
def test_an_encoder_is_no_policy_and_no_critic(folders, load_decoder):
    config = ModelConfig(path=folders["bert"])
    with pytest.raises(UserError, match="holds an encoder, but a decoder is needed"):
        load_decoder(config, load_language(config), seed=0)


def test_pooling_is_for_encoders():
    config = ModelConfig(path="tiny", pooling="mean")
    with pytest.raises(UserError, match=r"model\.pooling: 'mean' is for encoders"):
        scalar.load(config, load_language(config, ["a b"] * 3))


def test_t5_has_no_first_token_to_pool(folders):
    with pytest.raises(UserError, match="no `cls` to read"):
        load(folders["t5"], pooling="cls")


def test_another_width_is_another_model(folders, tmp_path):
    load(folders["bert"], pooling="mean").save(tmp_path / "pooled", {})
    load(folders["bert"]).save(tmp_path / "own", {})
    for name in ("pooled", "own"):
        config = ModelConfig(path=str(tmp_path / name))
        with pytest.raises(UserError, match=r"gives 1 number\(s\) an answer, and 2 are needed"):
            load_reader(config, load_language(config), seed=0, width=2)


@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_a_head_may_have_several_numbers(folders, pooling):
    config = ModelConfig(path=folders["bert"], pooling=pooling)
    reader = load_reader(config, load_language(config), seed=0, width=3)
    assert isinstance(reader, PaddedReader) and reader.width == 3
    assert read_all(reader, 3, encoded(reader.language, GROUPS), 100).shape == (5, 3)


@kills(
    "models/load.py",
    old="positions -= hf.pad_token_id + 1",
    new="positions -= 0",
    why="RoBERTa's first positions belong to padding: an index error at full length",
)
def test_roberta_has_room_for_fewer_tokens_than_positions(folders):
    """66 positions, the first two of which no token gets."""
    model = load(folders["roberta"])
    assert model.language.context == 64
    long = Group(prompt=Prompt.of_text("the cat " * 60), responses=("sat on the mat",))
    assert len(scores(model, [long])) == 1


def test_that_rows_are_padded_is_said(folders, capsys):
    load(folders["bert"])
    assert "BertForSequenceClassification: rows are padded and share no prompt" in capsys.readouterr().err
