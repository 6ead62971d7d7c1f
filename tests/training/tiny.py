"""Real models small enough for tests: one letter a token, one block, sixteen numbers wide."""

import functools
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from plaudit.hardware.machine import Machine
from plaudit.models.load import Language, load_language
from plaudit.models.options import ModelConfig
from plaudit.records.results import Result
from plaudit.telemetry.log import read_metrics
from plaudit.telemetry.summary import read_results
from plaudit.tokens.batches import TokenBatch, pack

CPU = Machine(torch.device("cpu"), "fp32")
BOS, END, UNKNOWN = 0, 1, 2
"""Ids of <s>, </s> and <unk>; the letters follow from 3 on."""


@functools.cache
def tokenizer(letters: str = "abcdefgh") -> PreTrainedTokenizerFast:
    """One letter, one token."""
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", "<unk>", *letters])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def ids(text: str, letters: str = "abcdefgh") -> list[int]:
    return [3 + letters.index(letter) for letter in text]


def model_folder(
    folder: Path,
    *,
    letters: str = "abcdefgh",
    width: int = 16,
    layers: int = 1,
    context: int = 32,
    seed: int = 0,
    spread: float = 0.02,
    tied: bool = False,
) -> str:
    """A causal model in Hugging Face format; `spread` is the standard deviation of its first weights."""
    config = LlamaConfig(
        vocab_size=3 + len(letters),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        initializer_range=spread,
        bos_token_id=BOS,
        eos_token_id=END,
        pad_token_id=UNKNOWN,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    if spread == 0.0:  # every token equally likely, whatever stands before
        model.requires_grad_(False).apply(lambda module: [p.zero_() for p in module.parameters(recurse=False)])
    model.save_pretrained(folder)
    tokenizer(letters).save_pretrained(folder)
    return str(folder)


def language(folder: str) -> Language:
    return load_language(ModelConfig(path=folder))


def jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def batch(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> TokenBatch:
    return pack([p for p, _ in rows], [r for _, r in rows])


TIMES = ("time", "seconds")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    return [{k: v for k, v in line.items() if not any(t in k for t in TIMES)} for line in read_metrics(folder)]


def results(folder: Path) -> list[Result]:
    """What a finished run found."""
    return read_results(json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8")))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of an exported model."""
    return {name: t for path in sorted(folder.glob("*.safetensors")) for name, t in load_file(path).items()}


def same_weights(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and len(a) > 0 and all(torch.equal(a[k], b[k]) for k in a)


def rollouts(folder: Path, iteration: int) -> list[dict[str, Any]]:
    with gzip.open(folder / "rollouts" / f"{iteration:06d}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def relative_difference(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    """|a − b| ÷ |b| over all gradients together."""
    assert a.keys() == b.keys() and len(b) > 0
    distance = sum(float((a[k] - b[k]).double().square().sum()) for k in a) ** 0.5
    return distance / sum(float(b[k].double().square().sum()) for k in b) ** 0.5


def hf(folder: Path | str) -> LlamaForCausalLM:
    """The model as transformers alone reads it."""
    return LlamaForCausalLM.from_pretrained(str(folder), attn_implementation="eager").eval()


def hf_logprobs(
    model: LlamaForCausalLM, prompt: Sequence[int], response: Sequence[int], temperature: float = 1.0
) -> torch.Tensor:
    """log π of each response token, [R], one row by itself, without any of plaudit."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].float() / temperature
    predicting = logits[len(prompt) - 1 : len(prompt) + len(response) - 1]
    return predicting.log_softmax(-1).gather(1, torch.tensor([list(response)]).T).squeeze(1)
