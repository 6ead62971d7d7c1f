"""Models from folders and from scratch: what is missing is said, what is drawn is drawn from the seed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, LlamaForCausalLM, LlamaForSequenceClassification

from plaudit.errors import UserError
from plaudit.models.checkpoint import export
from plaudit.models.load import (
    Language,
    check_model_path,
    load_backbone,
    load_causal,
    load_classifier,
    load_language,
)
from plaudit.models.options import LastLayers, LoRA, ModelConfig, TinyShape
from plaudit.models.reward.loading import check_reward_model
from plaudit.models.weights import seeded
from plaudit.records.text import Form, Message, Prompt
from tests.kills import kills
from tests.models.tiny import CONFIGS, causal, packed

TINY = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=2, heads=4, vocabulary=280, context=64))


@pytest.fixture(scope="module")
def language() -> Language:
    return load_language(TINY, ["the cat sat on the mat"] * 3)


@pytest.fixture
def folder(language, tmp_path) -> Path:
    """An untied Llama of transformers' own making, with its tokenizer."""
    config = CONFIGS["llama"]()
    config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id = 280, 0, 1, 2
    causal(config).save_pretrained(tmp_path / "model")
    language.tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def config_of(folder: Path, **more) -> ModelConfig:
    return ModelConfig(path=str(folder), **more)


def test_a_template_may_be_given_as_text_or_as_a_file(tmp_path):
    jinja = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    (tmp_path / "chat.jinja").write_text(jinja, encoding="utf-8")
    chat = Prompt(turns=(Message(role="user", content="the cat"),), form=Form.CHAT)
    for given in (jinja, str(tmp_path / "chat.jinja")):
        language = load_language(replace(TINY, chat_template=given), ["the cat sat on the mat"] * 3)
        ids = language.renderer.prompt_ids(chat)
        assert language.tokenizer.decode(ids, skip_special_tokens=True) == "[user] the cat\n>"
    with pytest.raises(UserError, match=r"model\.chat_template: 'chat\.jinja' is neither Jinja text nor a file"):
        load_language(replace(TINY, chat_template="chat.jinja"), ["the cat"])


def test_a_given_template_is_saved_with_the_model(tmp_path):
    given = replace(TINY, chat_template="{% for m in messages %}{{ m.content }}!{% endfor %}")
    language = load_language(given, ["the cat sat on the mat"] * 3)
    export(tmp_path / "model", load_causal(given, language, seed=0), {})
    again = load_language(config_of(tmp_path / "model"))
    assert again.renderer.template_hash == language.renderer.template_hash


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def edit_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def state(hf) -> dict[str, torch.Tensor]:
    return dict(hf.state_dict())


# ---------------------------------------------------------------------------------------------------- what is missing


@pytest.mark.parametrize("path", ["./no/such", "/no/such", "runs/sft/model", "~/no-such"])
def test_a_missing_folder_is_named_with_its_option(path):
    with pytest.raises(UserError, match=re.escape(f"critic.init: no folder {path!r}")):
        check_model_path(path, option="critic.init")
    with pytest.raises(UserError, match=re.escape(f"model.path: no folder {path!r}")):
        load_language(ModelConfig(path=path))


def test_a_missing_folder_in_a_folder_that_exists_is_no_hub_name(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no folder 'runs/sft'"):
        check_model_path("runs/sft")
    check_model_path("some-owner/some-name")
    check_model_path("gpt2")
    check_model_path("tiny")


def test_a_folder_without_config_json(tmp_path):
    with pytest.raises(UserError, match=r"model.path: .* holds no config.json"):
        load_language(config_of(tmp_path))


def test_a_config_that_makes_no_sense(folder):
    edit_json(folder / "config.json", num_attention_heads=5)
    with pytest.raises(UserError, match="can't be loaded"):
        load_language(config_of(folder))
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="can't be loaded"):
        load_language(config_of(folder))


def test_a_tokenizer_larger_than_the_embeddings(folder):
    edit_json(folder / "config.json", vocab_size=260)
    with pytest.raises(UserError, match=r"has 271 tokens but the model only 260 embeddings"):
        load_language(config_of(folder))


@kills(
    "models/weights.py",
    old="if tensor.data_ptr() % 64:",
    new="if False:",
    why="what a model says depends on where its file put its weights",
)
def test_weights_do_not_stay_where_the_file_had_them(folder, language):
    """Kernels round by the address modulo a cache line; a file maps tensors to any multiple of 4 bytes."""
    edit_weights(folder, lambda weights: weights.update({"": torch.zeros(1)}))  # shifts all that comes after it
    for load in (load_causal, load_backbone, load_classifier):
        hf = load(config_of(folder), language, seed=0).hf
        assert {weight.data_ptr() % 64 for weight in (*hf.parameters(), *hf.buffers())} == {0}


def test_weights_that_are_not_there_are_not_drawn_at_random(folder, language):
    edit_weights(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    for load in (load_causal, load_backbone, load_classifier):
        with pytest.raises(UserError, match=r"layers.1.mlp.up_proj.weight is missing"):
            load(config_of(folder), language, seed=0)


def test_a_missing_output_matrix_is_a_fault_of_a_policy_only(folder, language):
    edit_weights(folder, lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(UserError, match=r"lm_head.weight is missing"):
        load_causal(config_of(folder), language, seed=0)
    load_backbone(config_of(folder), language, seed=0)
    load_classifier(config_of(folder), language, seed=0)


def test_weights_of_another_shape(folder, language):
    edit_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.ones(8)}))
    with pytest.raises(UserError, match=r"model.norm.weight is \[8\], not \[16\]"):
        load_causal(config_of(folder), language, seed=0)


@pytest.mark.parametrize("content", [b"", b"x" * 100])
def test_a_damaged_weights_file(folder, language, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="can't be loaded"):
        load_causal(config_of(folder), language, seed=0)


def test_no_weights_at_all(folder, language):
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="can't be loaded"):
        load_causal(config_of(folder), language, seed=0)


def test_a_reward_model_is_no_policy(folder, language):
    load_classifier(config_of(folder), language, seed=0).hf.save_pretrained(folder)
    with pytest.raises(UserError, match=r"holds a reward model \(a classifier\)"):
        load_causal(config_of(folder), language, seed=0)
    load_backbone(config_of(folder), language, seed=0)


def test_a_classifier_of_several_labels_is_no_scalar_reward_model(folder, language):
    load_classifier(config_of(folder), language, seed=0, num_labels=3).hf.save_pretrained(folder)
    with pytest.raises(UserError, match=r"head gives 3 number\(s\) an answer, and 1 are needed"):
        load_classifier(config_of(folder), language, seed=0)


def test_a_fresh_head_leaves_the_backbone_of_any_classifier(folder, language):
    saved = load_classifier(config_of(folder), language, seed=3, num_labels=3).hf
    saved.save_pretrained(folder)
    other = load_classifier(config_of(folder), language, seed=0, num_labels=2, fresh=True).hf
    again = load_classifier(config_of(folder), language, seed=0, num_labels=3, fresh=True).hf
    assert other.score.weight.shape == (2, 16)
    assert not torch.equal(again.score.weight, saved.score.weight)
    assert torch.equal(other.model.embed_tokens.weight, saved.model.embed_tokens.weight)
    assert torch.equal(other.model.norm.weight, saved.model.norm.weight)


def test_an_encoder_is_refused_where_a_decoder_is_read(folder, language):
    shape = {"vocab_size": 280, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    BertForSequenceClassification(BertConfig(**shape, num_attention_heads=2)).save_pretrained(folder)
    with pytest.raises(UserError, match="holds an encoder, but a decoder is needed"):
        load_classifier(config_of(folder), language, seed=0, num_labels=2)


# ---------------------------------------------------------------------------------------------------- what is drawn


def test_tiny_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone(language):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = load_causal(TINY, language, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two, other = load_causal(TINY, language, seed=7), load_causal(TINY, language, seed=8)
    assert all(torch.equal(x, state(two.hf)[name]) for name, x in state(one.hf).items())
    assert not torch.equal(one.hf.model.embed_tokens.weight, other.hf.model.embed_tokens.weight)


def test_tiny_has_the_shape_that_was_asked_for(language):
    hf = load_causal(TINY, language, seed=0).hf
    config = hf.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 2, 4)
    assert (config.vocab_size, config.max_position_embeddings) == (len(language.tokenizer), 64)
    assert hf.lm_head.weight is hf.model.embed_tokens.weight
    assert language.context == 64
    assert language.end_ids == (language.tokenizer.eos_token_id,)
    assert config.eos_token_id == language.tokenizer.eos_token_id
    assert {p.dtype for p in hf.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="must divide"):
        TinyShape(hidden_size=10, heads=4)


def test_the_backbone_of_tiny_is_that_of_its_causal_model(language):
    whole, blocks = load_causal(TINY, language, seed=7).hf, load_backbone(TINY, language, seed=7).hf
    assert all(torch.equal(x, state(whole.model)[name]) for name, x in state(blocks).items())


def test_loading_leaves_the_global_generator_alone(folder, language):
    before = torch.get_rng_state()
    for load in (load_causal, load_backbone, load_classifier):
        load(config_of(folder, train=LoRA(rank=2)), language, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_restores_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(5):
        torch.rand(3)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("source", ["folder", "tiny"])
def test_a_new_score_head_is_drawn_from_the_seed_with_variance_one_over_width_plus_one(source, folder, language):
    config = TINY if source == "tiny" else config_of(folder)
    heads = [load_classifier(config, language, seed=seed, num_labels=400).hf.score for seed in (4, 4, 5)]
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    drawn = heads[0].weight.detach()
    assert float(drawn.std()) == pytest.approx((1 / 17) ** 0.5, rel=0.05)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.02)


def test_a_saved_score_head_is_not_drawn_again(folder, language):
    first = load_classifier(config_of(folder), language, seed=4).hf
    first.save_pretrained(folder)
    again = load_classifier(config_of(folder), language, seed=5).hf
    assert torch.equal(again.score.weight, first.score.weight)


# ---------------------------------------------------------------------------------------------------- what is kept


def test_each_way_of_loading_keeps_the_weights(folder, language):
    own = LlamaForCausalLM.from_pretrained(folder)
    whole = load_causal(config_of(folder), language, seed=0).hf
    assert all(torch.equal(x, state(whole)[name]) for name, x in state(own).items())
    for load in (load_backbone, load_classifier):
        blocks = load(config_of(folder), language, seed=0).hf.base_model
        assert all(torch.equal(x, state(blocks)[name]) for name, x in state(own.model).items())
        assert state(blocks).keys() == state(own.model).keys()
    assert isinstance(load_classifier(config_of(folder), language, seed=0).hf, LlamaForSequenceClassification)


def test_half_precision_files_are_trained_in_fp32(folder, language):
    LlamaForCausalLM.from_pretrained(folder).bfloat16().save_pretrained(folder)
    assert {p.dtype for p in load_causal(config_of(folder), language, seed=0).hf.parameters()} == {torch.float32}


def test_the_part_that_is_trained(folder, language):
    last = load_backbone(config_of(folder, train=LastLayers(layers=1)), language, seed=0).hf
    trained = {name for name, p in last.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 3)[0] for name in trained if "self_attn.q" in name} == {"layers.1"}
    assert "norm.weight" in trained
    adapted = load_causal(config_of(folder, train=LoRA(rank=2)), language, seed=0).hf
    assert all("lora_" in name for name, p in adapted.named_parameters() if p.requires_grad)


def test_models_that_cannot_attend_by_sdpa_load(language, tmp_path):
    """Gemma 2 caps its attention; asking it for sdpa is an error."""
    config = CONFIGS["gemma2"]()
    config.vocab_size = 280
    causal(config).save_pretrained(tmp_path)
    language.tokenizer.save_pretrained(tmp_path)
    assert load_causal(config_of(tmp_path), language, seed=0).hf.config._attn_implementation == "eager"


def test_end_ids_come_from_the_generation_config_and_the_user(folder, language):
    eos, word = language.tokenizer.eos_token_id, language.tokenizer.convert_tokens_to_ids("t")
    edit_json(folder / "generation_config.json", eos_token_id=[9, 11])
    assert load_language(config_of(folder)).end_ids == (eos, 9, 11)
    found = load_language(config_of(folder, end_tokens=("t",)))
    assert set(found.end_ids) == {eos, 9, 11, word}
    assert found.renderer.response_ids("a", end=True)[-1] == word
    (folder / "generation_config.json").unlink()
    edit_json(folder / "config.json", eos_token_id=13)
    assert load_language(config_of(folder)).end_ids == (eos, 13)


def test_the_context_is_the_models(folder):
    assert load_language(config_of(folder)).context == 64


@pytest.mark.parametrize(("pad", "kept"), [("<pad>", True), ("</s>", False), (None, False)])
def test_an_end_token_is_no_padding_to_a_classifier(folder, language, pad, kept):
    """transformers scores the last token that isn't padding; a score at the token before the end is not ours."""
    edit_json(folder / "tokenizer_config.json", pad_token=pad)
    found = load_language(config_of(folder))
    hf = load_classifier(config_of(folder), found, seed=0).hf
    assert hf.config.pad_token_id == (found.tokenizer.pad_token_id if kept else None)


@pytest.mark.parametrize("train", [None, LoRA(rank=2)])
def test_checkpointed_activations_are_on_where_they_are_asked_for(folder, language, train):
    from plaudit.models.trunk import Trunk

    more = {} if train is None else {"train": train}
    plain = Trunk(load_causal(config_of(folder, **more), language, seed=0).hf)
    saving = Trunk(load_causal(config_of(folder, activation_checkpointing=True, **more), language, seed=0).hf)
    assert saving.inner.training
    calls = []
    saving.inner.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    for trunk in (plain, saving):
        trunk(packed(), {"logprobs"})["logprobs"].sum().backward()
    assert len(calls) == 2
    for one, two in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_a_name_that_holds_nothing_is_told_by_the_option_that_gave_it(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"models\.0\.path: .* can't be loaded"):
        check_reward_model(ModelConfig(path=str(folder)), "models.0.path")
