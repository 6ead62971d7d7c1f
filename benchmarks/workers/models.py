"""Write the models that are measured: random weights from fixed seeds, a tokenizer in which a character is a token.

Task: folder, shape (benchmarks/shapes.py), context, end (mean share of the maximum that answers reach; 1 never ends).
In the folder: policy/ (a causal model) and judge/ (the same shape with one number as output).

How often answers end is built into the weights: one hidden dimension is the same constant for every token, no block
writes to it, and the end token's row of the output matrix differs from the others' in it. Its probability is then
nearly the same everywhere, so that answers have geometric lengths, whoever samples.
"""

import math
import sys
from pathlib import Path

import torch
from common import answer, task
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.shapes import EOS, PAD, SHAPES, SPECIAL, Shape, alphabet

CLASSES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification),
    "llama": (LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification),
}
CONSTANT = 2.0
"""Of the last hidden dimension, large beside what the others hold."""


def tokenizer(shape: Shape) -> PreTrainedTokenizerFast:
    """Byte-level pairs that merge into characters; the same class comes back whatever the model's family."""
    written = bytes_to_unicode()
    letters = alphabet(shape.vocabulary)

    def spelled(text: bytes) -> str:
        return "".join(written[byte] for byte in text)

    whole = [*letters.beginnings, *(one.encode() for one in letters.characters)]
    spellings = [*written.values(), *map(spelled, whole)]
    # Where a size leaves room for no further character with its beginnings, ids are left that spell nothing.
    spare = [f"<spare {n}>" for n in range(shape.vocabulary - SPECIAL - len(spellings))]
    vocabulary = {token: id_ for id_, token in enumerate(["<pad>", "<eos>", *spellings, *spare])}
    merges = [(spelled(text[:-1]), spelled(text[-1:])) for text in whole]
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.normalizer, inner.decoder = normalizers.NFC(), decoders.ByteLevel()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=shape.context, **special)


def end_probability(share: float, longest: int) -> float:
    """p with E[min(G, longest)] = share · longest for a geometric G: (1 − (1 − p)^n) / p = share · n, by bisection."""
    if share >= 1:
        return math.exp(-30)
    low, high = 1e-9, 1.0
    for _ in range(80):
        p = (low + high) / 2
        low, high = (p, high) if (1 - (1 - p) ** longest) / p > share * longest else (low, p)
    return p


@torch.no_grad()
def set_end(hf: torch.nn.Module, shape: Shape, probability: float) -> None:
    """Make one dimension constant, and give the end token its probability, measured on random tokens."""
    embeddings = hf.get_input_embeddings().weight
    embeddings[:, -1] = CONSTANT
    for block in hf.base_model.layers:
        block.self_attn.o_proj.weight[-1] = 0
        block.mlp.down_proj.weight[-1] = 0
    letters = alphabet(shape.vocabulary)
    first, last = letters.first, letters.first + len(letters.characters)
    ids = torch.randint(first, last, (4, 64), generator=torch.Generator().manual_seed(2))
    hidden = hf.base_model(ids).last_hidden_state[:, 8:].flatten(0, 1)
    others = (hidden @ embeddings[first:last].T).logsumexp(1)
    wanted = others + math.log(probability / (1 - probability))
    mute = torch.ones(shape.vocabulary, dtype=torch.bool)
    mute[first:last] = False
    embeddings[mute] = 0  # what was written before plays no part
    embeddings[mute, -1] = ((others - 30) / hidden[:, -1]).mean()
    embeddings[EOS, -1] = (wanted / hidden[:, -1]).mean()


def main() -> None:
    given = task()
    shape, folder = SHAPES[given["shape"]], Path(given["folder"])
    config_class, causal_class, judge_class = CLASSES[shape.family]
    config = config_class(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context, tie_word_embeddings=True, pad_token_id=PAD, eos_token_id=EOS,
        bos_token_id=None, num_labels=1,
    )  # fmt: skip
    torch.manual_seed(0)
    policy = causal_class(config).eval()
    set_end(policy, shape, end_probability(given["end"], given["longest"]))
    policy.generation_config.eos_token_id, policy.generation_config.pad_token_id = EOS, PAD
    torch.manual_seed(1)
    judge = judge_class(config).eval()
    for name, model in (("policy", policy), ("judge", judge)):
        model.save_pretrained(folder / name)
        tokenizer(shape).save_pretrained(folder / name)
    (folder / "whole").write_text("", encoding="utf-8")
    answer()


main()
