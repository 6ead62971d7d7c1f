"""The tiny world in a size in which every kind of reward model can be trained in seconds: one animal, all phrasings,
one token a word. The answers are a policy's own, its mistakes among them; labels are drawn from the true reward."""

import functools
import json
import math
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from plaudit.data import tinyworld
from plaudit.data.options import DataConfig
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Engine
from plaudit.models.load import Language, load_causal, load_language
from plaudit.models.options import ModelConfig
from plaudit.models.reward.seq2seq import QUESTION
from plaudit.models.trunk import Trunk
from plaudit.records.text import Prompt, PromptRow
from plaudit.rollouts.sampler import sample
from plaudit.runs.folder import Run
from plaudit.training.options import OptimConfig, SFTConfig
from plaudit.training.sft import sft

HELD_OUT = 150
"""Prompts that nothing is trained on."""
ROWS = 12000
"""Prompts with answers to learn from; the 490 training prompts come again with other answers."""
ANSWERS = 6
PIECES = re.compile(r"\w+|[^\w\s]")


@functools.cache
def prompts() -> tuple[str, ...]:
    """640 prompts of the world in a fixed order; the first HELD_OUT are not for training."""
    chosen = [p for p in tinyworld.all_prompts() if _is_here(p)]
    random.Random(0).shuffle(chosen)
    return tuple(chosen)


def _is_here(prompt: str) -> bool:
    case = tinyworld.read_prompt(prompt)
    return case.animal == "cat"


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word or mark."""
    words = {word for p in prompts() for text in (p, *tinyworld.answers(p)[::7]) for word in PIECES.findall(text)}
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", "<unk>", *sorted(words)])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # no space before a full stop
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def decoder(folder: Path, seed: int) -> str:
    """A Llama of two layers and width 64, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer()), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=64, tie_word_embeddings=True, bos_token_id=0,
                eos_token_id=1, pad_token_id=2,
            )
        ).save_pretrained(folder)  # fmt: skip
    tokenizer().save_pretrained(folder)
    return str(folder)


def encoder(folder: Path, seed: int) -> str:
    """A BERT of the same size and words, untrained."""
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    backend = _words(names, "[UNK]")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertForMaskedLM(
            BertConfig(
                vocab_size=backend.get_vocab_size(), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=64, pad_token_id=0,
            )
        ).save_pretrained(folder)  # fmt: skip
    words = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, **words).save_pretrained(folder)
    return str(folder)


def encoder_decoder(folder: Path, seed: int) -> str:
    """A T5 of the same size and words, untrained."""
    names = ("<pad>", "</s>", "<unk>")
    backend = _words(names, "<unk>", *PIECES.findall(QUESTION))
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        T5ForConditionalGeneration(
            T5Config(
                vocab_size=backend.get_vocab_size(), d_model=64, d_ff=128, d_kv=16, num_layers=2, num_decoder_layers=1,
                num_heads=4, dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
            )
        ).save_pretrained(folder)  # fmt: skip
    words = dict(zip(("pad_token", "eos_token", "unk_token"), names, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **words).save_pretrained(folder)
    return str(folder)


def _words(specials: Iterable[str], unknown: str, *more: str) -> Tokenizer:
    """One token a word or mark of the world, in a fixed order."""
    known = [token for token in tokenizer().get_vocab() if token not in ("<s>", "</s>", "<unk>")]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*specials, *sorted(known), *more]))}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return backend


def file(folder: Path, name: str, rows: Iterable[dict[str, Any]]) -> DataConfig:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(path=str(path))


Pool = dict[str, list[str]]
"""A policy's answers to every prompt."""


def pool(path: str, per_prompt: int = 60) -> Pool:
    """What the policy in the folder writes, sampled once: training prompts `per_prompt` times, held-out ones 8."""
    language, engine = _writer(path)
    counts = [8 if i < HELD_OUT else per_prompt for i in range(len(prompts()))]
    rows = [PromptRow(prompt=Prompt.of_text(p)) for p, n in zip(prompts(), counts, strict=True) for _ in range(n)]
    indices = [i for n in counts for i in range(n)]
    written = sample(engine, language, rows, SAMPLING, sample_indices=indices, seed=11)
    answers: Pool = {}
    for row, text in zip(rows, written.responses, strict=True):
        answers.setdefault(row.prompt.text, []).append(text)
    return answers


def answered(pool: Pool, count: int, seed: int, k: int, *, held_out: bool = False) -> list[tuple[str, list[str]]]:
    """`count` prompts with up to k different answers each, of the pool."""
    rng = random.Random(seed)
    asked = prompts()[:HELD_OUT] if held_out else prompts()[HELD_OUT:]
    drawn = []
    for i in range(count):
        prompt = asked[i % len(asked)]
        answers = list(dict.fromkeys(rng.sample(pool[prompt], k)))
        if len(answers) > 1:
            drawn.append((prompt, answers))
    return drawn


def worth(prompt: str, answers: list[str]) -> list[float]:
    return tinyworld.true_reward([prompt] * len(answers), answers)


def rankings(pool: Pool, count: int, seed: int, k: int = ANSWERS, *, held_out: bool = False) -> list[dict[str, Any]]:
    """Plackett–Luce rankings by the labeller."""
    rng = random.Random(seed + 1)
    pairs = answered(pool, count, seed, k, held_out=held_out)
    noisy = [[r - math.log(-math.log(rng.random())) for r in worth(prompt, texts)] for prompt, texts in pairs]
    ranks = [[1 + sum(other > own for other in row) for own in row] for row in noisy]
    return [{"prompt": p, "responses": list(a), "ranks": r} for (p, a), r in zip(pairs, ranks, strict=True)]


def demonstrations(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    pool = prompts()[HELD_OUT:]
    chosen = (pool * (count // len(pool) + 1))[:count]
    return [{"prompt": p, "completion": tinyworld.demonstrate(p, rng)} for p in chosen]


def policy(folder: Path, seed: int = 0) -> str:
    """A policy that writes about as the demonstrator does."""
    config = SFTConfig(
        data=(file(folder, "demonstrations", demonstrations(12000, seed)),),
        held_out_fraction=0.0,
        model=ModelConfig(path=decoder(folder / "base", seed)),
        optim=OptimConfig(learning_rate=4e-3, warmup_fraction=0.05, schedule="cosine"),
        minibatch_size=16,
        epochs=4,
        seed=seed,
    )
    with Run.create(folder / "sft", "sft", config) as run:
        sft(config, run)
    return str(folder / "sft" / "model")


SAMPLING = SamplingConfig(max_new_tokens=28, temperature=0.8)


def _writer(path: str) -> tuple[Language, Engine]:
    config = ModelConfig(path=path)
    language = load_language(config)
    return language, build_engine(Trunk(load_causal(config, language, seed=0).hf), language)


def true_rewards(path: str, seed: int = 7) -> torch.Tensor:
    """True rewards of what the policy in the folder writes to the held-out prompts, [HELD_OUT]."""
    language, engine = _writer(path)
    rows = [PromptRow(prompt=Prompt.of_text(p)) for p in prompts()[:HELD_OUT]]
    written = sample(engine, language, rows, SAMPLING, sample_indices=[0] * len(rows), seed=seed)
    return torch.tensor([worth(row.prompt.text, [text])[0] for row, text in zip(rows, written.responses, strict=True)])
