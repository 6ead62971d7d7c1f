"""Models in llama.cpp's format: the same numbers as the model that was written into the file."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from plaudit.errors import UserError
from plaudit.models import gguf as module
from plaudit.models.load import check_model_path, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.tokens.tokenizer import train_tokenizer
from tests.kills import kills

HEADS, KV_HEADS, WIDTH = 4, 2, 16


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module.converted.cache_clear()
    return tmp_path / "cache" / "plaudit" / "gguf"


def rows_as_llama_cpp_has_them(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rotary pairs stand side by side there, half a head apart here."""
    return weight.view(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def written(file: Path, architecture: str = "llama") -> LlamaForCausalLM:
    """A tiny Llama with a byte-level tokenizer, in a file of fp32 numbers."""
    gguf = pytest.importorskip("gguf")
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, initializer_range=0.3,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    out = gguf.GGUFWriter(str(file), architecture)
    out.add_context_length(64)
    out.add_embedding_length(WIDTH)
    out.add_block_count(2)
    out.add_feed_forward_length(24)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(10000.0)
    out.add_vocab_size(len(tokenizer))
    out.add_tokenizer_model("gpt2")
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    out.add_token_list(tokens)
    out.add_token_types([3 if i < 3 else 1 for i in range(len(tokens))])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    out.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    out.add_bos_token_id(0)
    out.add_eos_token_id(1)
    out.add_pad_token_id(2)
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    names |= {f"model.layers.{i}.{one}": f"blk.{i}.{other}" for i in range(2) for one, other in parts.items()}
    state = model.state_dict()
    for name, other in names.items():
        weight = state[f"{name}.weight"]
        heads = HEADS if name.endswith("q_proj") else KV_HEADS if name.endswith("k_proj") else 0
        out.add_tensor(f"{other}.weight", (rows_as_llama_cpp_has_them(weight, heads) if heads else weight).numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return model


@torch.no_grad()
def test_a_gguf_file_is_the_model_that_was_written_into_it(tmp_path, cache):
    model, path = written(tmp_path / "tiny.gguf"), str(tmp_path / "tiny.gguf")
    config = ModelConfig(path=path)
    check_model_path(path)
    language = load_language(config)
    assert (language.context, language.end_ids) == (64, (1,))
    ids = language.renderer.response_ids("the cat sat", end=True)
    assert language.tokenizer.decode(ids[:-1]) == "the cat sat"
    batch = torch.tensor([ids])
    loaded = load_causal(config, language, seed=0).hf.eval()
    torch.testing.assert_close(loaded(batch).logits, model(batch).logits, rtol=1e-5, atol=1e-5)
    (folder,) = cache.iterdir()
    assert (folder / "model.safetensors").is_file()
    assert "quantization_config" not in (folder / "config.json").read_text(encoding="utf-8")
    before = (folder / "model.safetensors").stat().st_mtime_ns
    module.converted.cache_clear()
    load_language(config)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_an_architecture_that_transformers_does_not_convert_is_refused(tmp_path, cache):
    written(tmp_path / "odd.gguf", architecture="nosuch")
    with pytest.raises(UserError, match=r"transformers can't convert .*odd.gguf.*nosuch"):
        load_language(ModelConfig(path=str(tmp_path / "odd.gguf")))
    assert not list(cache.iterdir())


@kills("models/gguf.py", old='if importlib.util.find_spec("gguf") is None:', new="if False:",
       why="transformers' own words for the missing package, after the data was read")  # fmt: skip
def test_what_is_missing_is_told_before_anything_loads(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"policies\.new: no file 'nowhere\.gguf'"):
        check_model_path("nowhere.gguf", option="policies.new")
    (tmp_path / "x.gguf").write_bytes(b"not one")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match="is no gguf file"):
        check_model_path(str(tmp_path / "x.gguf"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'plaudit\[gguf\]'"):
        check_model_path(str(tmp_path / "x.gguf"))
