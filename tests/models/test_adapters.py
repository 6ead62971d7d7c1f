"""Adapters: what is frozen stays, what is merged agrees, and the base answers when the adapter is off."""

import pydantic
import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from plaudit.errors import UserError
from plaudit.models.adapters import apply, base_off, freeze, merge
from plaudit.models.options import Full, LastLayers, LoRA, Trainable

IDS = torch.tensor([[1, 5, 9, 2, 7], [3, 3, 8, 30, 4]])


def tiny_llama(cls=LlamaForCausalLM, **more):
    torch.manual_seed(0)
    return cls(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            pad_token_id=0,
            **more,
        )
    )


def tiny_gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=2)
    ).eval()


def tied_llama():
    return tiny_llama(tie_word_embeddings=True)


MODELS = pytest.mark.parametrize("make", [tiny_llama, tied_llama, tiny_gpt2])


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def step(model: nn.Module, times: int = 1) -> None:
    """Plain gradient steps large enough that everything which is trained moves."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(times):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


@MODELS
def test_full_trains_everything(make):
    model = apply(make(), Full())
    before = snapshot(model)
    step(model)
    assert moved(model, before) == set(before)


def test_full_undoes_an_earlier_freeze():
    model = freeze(tiny_llama(), LastLayers(layers=1))
    assert all(parameter.requires_grad for parameter in freeze(model, Full()).parameters())


def test_last_layer_and_head_of_an_untied_llama():
    model = freeze(tiny_llama(tie_word_embeddings=False), LastLayers(layers=1))
    before = snapshot(model)
    step(model)
    expected = {n for n in before if n.startswith("model.layers.2.")} | {"model.norm.weight", "lm_head.weight"}
    assert moved(model, before) == expected


def test_last_layer_of_a_tied_llama_leaves_the_shared_matrix():
    model = freeze(tied_llama(), LastLayers(layers=1, head=True, embeddings=False))
    before = snapshot(model)
    step(model)
    assert moved(model, before) == {n for n in before if n.startswith("model.layers.2.")} | {"model.norm.weight"}


def test_embeddings_of_a_tied_llama_train_the_shared_matrix():
    model = freeze(tied_llama(), LastLayers(layers=0, head=False, embeddings=True))
    before = snapshot(model)
    step(model)
    assert moved(model, before) == {"model.embed_tokens.weight"}
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_last_layers_of_gpt2_with_position_embeddings():
    model = freeze(tiny_gpt2(), LastLayers(layers=2, head=False, embeddings=True))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n.rsplit(".", 1)[0] for n in trained if ".h." not in n} == {"transformer.wte", "transformer.wpe"}
    assert {n.split(".")[2] for n in trained if ".h." in n} == {"1", "2"}


def test_last_layers_of_an_encoder_decoder_are_the_decoders():
    torch.manual_seed(0)
    config = T5Config(vocab_size=32, d_model=16, d_ff=16, num_layers=2, num_decoder_layers=3, num_heads=2, d_kv=8)
    model = freeze(T5ForConditionalGeneration(config), LastLayers(layers=1, embeddings=True))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if not n.startswith("decoder.block.2.")} == {
        "shared.weight",
        "decoder.final_layer_norm.weight",
    }
    assert not any(n.startswith("encoder.") for n in trained)


def test_a_classifier_head_is_trained_whatever_the_rule():
    for rule in (LastLayers(layers=1, head=False), LoRA(rank=2)):
        model = apply(tiny_llama(LlamaForSequenceClassification, num_labels=1), rule)
        assert model.score.weight.requires_grad
        assert type(model.score) is nn.Linear


def test_too_many_layers_is_the_users_error():
    with pytest.raises(UserError, match=r"layers is 4.*only 3 blocks"):
        freeze(tiny_llama(), LastLayers(layers=4))


@MODELS
def test_lora_starts_as_the_base_and_freezes_it(make):
    base = logits(make())
    model = apply(make(), LoRA(rank=2, alpha=8), seed=3)
    assert torch.equal(logits(model), base)
    before = snapshot(model)
    step(model, times=2)  # B is zero at first, so A gets its first gradient in the second step
    changed = moved(model, before)
    assert changed == {n for n in before if "lora_" in n}
    assert not torch.allclose(logits(model), base, atol=1e-4)


@MODELS
def test_lora_spares_the_output_matrix(make):
    model = apply(make(), LoRA(rank=2))
    assert not any("lm_head" in n or "wte" in n for n, p in model.named_parameters() if p.requires_grad)


@MODELS
def test_merged_is_a_plain_model_with_the_same_logits(make):
    model = apply(make(), LoRA(rank=2, alpha=8), seed=3)
    step(model, times=3)
    plain = merge(model)
    assert type(plain) is type(make())
    assert plain.state_dict().keys() == make().state_dict().keys()
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-5, rtol=1e-5)


def test_merging_leaves_the_training_model_alone():
    model = apply(tied_llama(), LoRA(rank=2), seed=3)
    step(model, times=2)
    before, names = logits(model), set(snapshot(model))
    merge(model)
    assert set(snapshot(model)) == names
    assert torch.equal(logits(model), before)
    step(model)
    assert not torch.equal(logits(model), before)


def test_merged_ties_survive_saving(tmp_path):
    model = apply(tied_llama(), LoRA(rank=2, alpha=8), seed=3)
    step(model, times=2)
    plain = merge(model)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    plain.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(LlamaForCausalLM.from_pretrained(tmp_path)), logits(model), atol=1e-5, rtol=1e-5)


def test_merging_without_adapters_is_the_model_itself():
    model = apply(tied_llama(), Full())
    assert merge(model) is model


@MODELS
def test_base_off_is_the_original_and_comes_back(make):
    base = logits(make())
    model = apply(make(), LoRA(rank=2, alpha=8), seed=3)
    step(model, times=2)
    adapted = logits(model)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    with base_off(model):
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), adapted)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == trained


def test_base_off_comes_back_after_an_error():
    model = apply(tied_llama(), LoRA(rank=2), seed=3)
    step(model, times=2)
    adapted = logits(model)
    with pytest.raises(RuntimeError, match="boom"), base_off(model):
        raise RuntimeError("boom")
    assert torch.equal(logits(model), adapted)


def test_base_off_refuses_a_model_without_adapters():
    with pytest.raises(TypeError, match="LoRA"), base_off(tied_llama()):
        pass


def test_lora_is_seeded_and_leaves_the_global_generator_alone():
    def adapters(seed: int, noise: int) -> dict[str, torch.Tensor]:
        model = tied_llama()
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        model = apply(model, LoRA(rank=2), seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        return {n: p.detach() for n, p in model.named_parameters() if "lora_A" in n}

    first, again, other = adapters(7, noise=1), adapters(7, noise=2), adapters(8, noise=1)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not any(torch.equal(first[n], other[n]) for n in first)
    for name, matrix in first.items():
        bound = (24 if "down_proj" in name else 16) ** -0.5
        assert 0.5 * bound < matrix.abs().max() <= bound
    assert len({float(m.flatten()[0]) for m in first.values()}) == len(first)


def test_lora_scale_is_alpha_over_rank():
    model = apply(tied_llama(), LoRA(rank=2, alpha=6, target_modules=("q_proj",)))
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    with torch.no_grad():
        layer.lora_A["default"].weight.fill_(1.0)
        layer.lora_B["default"].weight.fill_(1.0)
    x = torch.ones(1, 16)
    difference = layer(x) - layer.base_layer(x)
    # B·A·x = 2 ranks · 16 inputs = 32 for each output; times 6/2.
    torch.testing.assert_close(difference, torch.full((1, 16), 96.0))


def test_unknown_target_names_what_there_is():
    with pytest.raises(UserError, match=r"no matrix 'query'.*q_proj"):
        apply(tied_llama(), LoRA(target_modules=("q_proj", "query")))


def test_adapter_on_a_tied_matrix_is_refused():
    with pytest.raises(UserError, match=r"lm_head.*tied"):
        apply(tied_llama(), LoRA(target_modules=("q_proj", "lm_head")))


def test_adapter_on_an_untied_output_matrix_merges():
    model = apply(tiny_llama(tie_word_embeddings=False), LoRA(rank=2, alpha=8, target_modules=("lm_head",)), seed=1)
    step(model, times=2)
    torch.testing.assert_close(logits(merge(model)), logits(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "lora", "rank": 0}, "rank is 0"),
        ({"kind": "lora", "alpha": -1}, "alpha is -1"),
        ({"kind": "lora", "target_modules": []}, "all-linear"),
        ({"kind": "last_layers", "layers": -1}, "layers is -1"),
        ({"kind": "last_layers", "layers": 0, "head": False}, "trains nothing"),
        ({"kind": "last_layer"}, "kind"),
    ],
)
def test_options_that_make_no_sense_are_refused(given, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        pydantic.TypeAdapter(Trainable).validate_python(given)


def test_options_are_read_by_kind():
    read = pydantic.TypeAdapter(Trainable).validate_python
    assert read({"kind": "full"}) == Full()
    assert read({"kind": "last_layers", "layers": 3}) == LastLayers(layers=3)
    assert read({"kind": "lora", "target_modules": ["q_proj"]}) == LoRA(target_modules=("q_proj",))
