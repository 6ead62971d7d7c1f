"""What a checkpoint gives back, bit for bit, and what an exported folder says to transformers."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig

from plaudit.errors import UserError
from plaudit.models.adapters import apply
from plaudit.models.beside import read_facts
from plaudit.models.checkpoint import export, load_training_state, save_training_state, trainable
from plaudit.models.load import Language, Loaded, load_causal, load_language
from plaudit.models.options import Full, LastLayers, LoRA, ModelConfig, TinyShape
from plaudit.models.policy import ActorCritic, value_head
from plaudit.models.trunk import Trunk
from tests.models.tiny import build, packed

TRAINED = {
    "full": ("llama", Full()),
    "tied": ("llama gqa", Full()),
    "last layers": ("llama", LastLayers(layers=1)),
    "last layers of a tied model": ("llama gqa", LastLayers(layers=1)),
    "lora": ("llama gqa", LoRA(rank=2)),
    "gpt2": ("gpt2", Full()),
}
WAYS = pytest.mark.parametrize("way", TRAINED)
LANGUAGE_CONFIG = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=1, heads=4, vocabulary=280))


def actor(way: str, seed: int = 0) -> ActorCritic:
    name, train = TRAINED[way]
    hf = apply(build(name), train, seed=seed)
    return ActorCritic(Trunk(hf, value_head=value_head(hf.config)), None)


def adamw(module: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.02, fused=True)


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        out = module(packed(), {"logprobs", "values"})
        (out["values"].sub(1).square().sum() - out["logprobs"].sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


def same_state(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(x, two.state_dict()[name]) for name, x in one.state_dict().items())


# ---------------------------------------------------------------------------------------------------- training state


@WAYS
def test_a_resumed_optimiser_takes_the_very_same_steps(way, tmp_path):
    straight = actor(way)
    optimizer = adamw(straight)
    train(straight, optimizer, 3)
    save_training_state(tmp_path, straight, optimizer)
    resumed = actor(way)
    again = adamw(resumed)
    load_training_state(tmp_path, resumed, again)
    assert same_state(resumed, straight)
    for (one, was), (two, now) in zip(
        zip(trainable(straight).values(), optimizer.state.values(), strict=True),
        zip(trainable(resumed).values(), again.state.values(), strict=True),
        strict=True,
    ):
        assert torch.equal(one, two)
        assert was.keys() == now.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(was[key], now[key]) and was[key].dtype == now[key].dtype for key in was)
    train(straight, optimizer, 2)
    train(resumed, again, 2)
    assert same_state(resumed, straight)
    assert not same_state(resumed, actor(way))


@WAYS
def test_a_checkpoint_holds_what_is_trained_each_once(way, tmp_path):
    module = actor(way)
    save_training_state(tmp_path, module, adamw(module))
    names = set(load_file(tmp_path / "weights.safetensors"))
    assert names == {name for name, p in module.named_parameters() if p.requires_grad}
    assert {"policy.value_head.weight", "policy.value_head.bias"} <= names
    assert not any("lm_head" in name for name in names) or way in ("full", "last layers")
    assert load_file(tmp_path / "optimizer.safetensors") == {}  # no step was taken
    if way == "lora":
        assert all("lora_" in name or "value_head" in name for name in names)


def test_tied_weights_are_still_tied_after_loading(tmp_path):
    module = actor("tied")
    optimizer = adamw(module)
    train(module, optimizer, 1)
    save_training_state(tmp_path, module, optimizer)
    resumed = actor("tied")
    load_training_state(tmp_path, resumed, adamw(resumed))
    hf = resumed.policy.hf
    assert hf.lm_head.weight is hf.model.embed_tokens.weight


def test_loading_replaces_moments_that_are_there_already(tmp_path):
    saved, used = actor("full"), actor("full")
    first, second = adamw(saved), adamw(used)
    train(saved, first, 1)
    train(used, second, 5)
    save_training_state(tmp_path, saved, first)
    load_training_state(tmp_path, used, second)
    train(saved, first, 1)
    train(used, second, 1)
    assert same_state(used, saved)


def test_another_models_checkpoint_is_refused_and_nothing_is_changed(tmp_path):
    module = actor("full")
    optimizer = adamw(module)
    train(module, optimizer, 1)
    save_training_state(tmp_path, module, optimizer)

    other = actor("last layers")
    with pytest.raises(ValueError, match=r"parameters are not the model's: \['policy.hf.model"):
        load_training_state(tmp_path, other, adamw(other))

    wider = actor("full")
    wider.policy.value_head = nn.Linear(16, 3)
    before = {name: x.clone() for name, x in wider.state_dict().items()}
    untouched = adamw(wider)
    with pytest.raises(ValueError, match=r"policy.value_head.weight has shape \(1, 16\), the model \(3, 16\)"):
        load_training_state(tmp_path, wider, untouched)
    assert all(torch.equal(x, before[name]) for name, x in wider.state_dict().items())
    assert not untouched.state


# ---------------------------------------------------------------------------------------------------- export


@pytest.fixture(scope="module")
def language() -> Language:
    return load_language(LANGUAGE_CONFIG, ["the cat sat on the mat"] * 3)


def exported(loaded: Loaded, folder: Path, **facts) -> Path:
    export(folder, loaded, {"kind": "policy", **facts})
    return folder


@pytest.mark.parametrize("name", ["llama", "llama gqa", "gpt2", "gemma2", "mistral window"])
@pytest.mark.parametrize("train_rule", [Full(), LoRA(rank=2)])
@torch.no_grad()
def test_an_exported_model_is_the_same_in_transformers(name, train_rule, language, tmp_path):
    hf = apply(build(name), train_rule, seed=1)
    for parameter_name, parameter in hf.named_parameters():
        if "lora_B" in parameter_name:
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([[1, 5, 9, 2, 7]])
    ours = hf(input_ids=ids).logits
    folder = exported(Loaded(hf=hf, language=language), tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(theirs(input_ids=ids).logits, ours, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hf(input_ids=ids).logits, ours, atol=0, rtol=0)
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.pt")) + list(folder.glob("adapter_*"))


def test_an_exported_folder_knows_how_answers_end(language, tmp_path):
    loaded = load_causal(LANGUAGE_CONFIG, language, seed=0)
    two_ends = Language(tokenizer=language.tokenizer, renderer=language.renderer, end_ids=(1, 7), context=512)
    folder = exported(Loaded(hf=loaded.hf, language=two_ends), tmp_path, stage="sft", data=["π"])
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [1, 7]
    again = load_language(ModelConfig(path=str(folder)))
    assert again.end_ids == (1, 7)
    assert again.renderer.template_hash == language.renderer.template_hash
    assert again.tokenizer.get_vocab() == language.tokenizer.get_vocab()
    facts = json.loads((folder / "plaudit.json").read_text(encoding="utf-8"))
    assert facts == {
        "template_hash": language.renderer.template_hash,
        "end_ids": [1, 7],
        "kind": "policy",
        "stage": "sft",
        "data": ["π"],
    }
    assert read_facts(folder) == facts
    assert "π" in (folder / "plaudit.json").read_text(encoding="utf-8")


def test_a_chat_template_goes_with_the_model(tmp_path):
    own = load_language(LANGUAGE_CONFIG, ["hello"] * 3)
    own.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    own.tokenizer.save_pretrained(tmp_path / "first")
    load_causal(LANGUAGE_CONFIG, own, seed=0).hf.save_pretrained(tmp_path / "first")
    config = ModelConfig(path=str(tmp_path / "first"))
    chatting = load_language(config)
    folder = exported(load_causal(config, chatting, seed=0), tmp_path / "second")
    again = load_language(ModelConfig(path=str(folder)))
    assert again.renderer.template == own.tokenizer.chat_template
    assert again.renderer.template_hash == chatting.renderer.template_hash


def test_several_chat_templates_stay_with_the_model(language, tmp_path):
    named = {
        name: f"{{% for m in messages %}}{{{{ m['content'] ~ '{name}' }}}}{{% endfor %}}"
        for name in ("tool_use", "rag")
    }
    named["default"] = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    loaded = load_causal(LANGUAGE_CONFIG, language, seed=0)
    tokenizer = copy.deepcopy(language.tokenizer)
    tokenizer.chat_template = named
    loaded.hf.save_pretrained(tmp_path / "first")
    tokenizer.save_pretrained(tmp_path / "first")
    for template, kept in (("", named), ("{{ messages[0]['content'] }}", "{{ messages[0]['content'] }}")):
        config = ModelConfig(path=str(tmp_path / "first"), chat_template=template)
        folder = exported(load_causal(config, load_language(config), seed=0), tmp_path / f"second{len(template)}")
        assert load_language(ModelConfig(path=str(folder))).tokenizer.chat_template == kept


def test_sampling_options_without_do_sample_do_not_stop_the_export(language, tmp_path):
    """Llama 2's own generation config is such: transformers loads it, trains for days, and refuses to save it."""
    loaded = load_causal(LANGUAGE_CONFIG, language, seed=0)
    loaded.hf.generation_config.temperature = 0.6
    folder = exported(loaded, tmp_path)
    assert GenerationConfig.from_pretrained(folder).temperature == 0.6


def test_facts_of_a_model_that_plaudit_did_not_write(tmp_path):
    assert read_facts(tmp_path) == {}
    assert read_facts("owner/name") == {}
    (tmp_path / "plaudit.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"plaudit.json.*no JSON"):
        read_facts(tmp_path)
