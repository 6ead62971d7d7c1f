"""Weights of transformers models: all of them from files, or drawn from a seed."""

import contextlib
import itertools
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from plaudit.errors import UserError
from plaudit.models.options import ModelConfig, TinyShape

if TYPE_CHECKING:
    HFModel = PreTrainedModel
else:
    # peft's wrapper hands every attribute through to the model inside, `encoders.PooledForSequenceClassification` has a
    # classifier's methods; neither is a subclass, so at run time (jaxtyping's checks in tests) any module will do.
    HFModel = nn.Module
HFTokenizer = PreTrainedTokenizerFast

M = TypeVar("M", bound=HFModel)


def from_scratch(cls: type[M], shape: TinyShape, tokenizer: PreTrainedTokenizerFast, seed: int, **more: Any) -> M:
    """A Llama of this shape with random weights, for the tokenizer's vocabulary."""
    options: dict[str, Any] = {"attn_implementation": "sdpa", **more}  # PreTrainedConfig's own, which it does not list
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.hidden_size * 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **options,
    )
    with seeded(seed):
        return cls(config)


@contextlib.contextmanager
def seeded(seed: int) -> Generator[None]:
    """Libraries that draw initial weights from the global (CPU) generator do so from this seed, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def pretrained(auto: Any, config: ModelConfig, seed: int, new: tuple[str, ...] = (), **more: Any) -> HFModel:
    """All weights from the files, but those of modules whose name begins by one of `new`: transformers would draw
    others at random and say so in a log that nobody reads."""
    try:
        with seeded(seed):
            hf, report = auto.from_pretrained(
                config.path,
                dtype=torch.float32,
                trust_remote_code=config.trust_remote_code,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **more,
            )
    except Exception as error:  # of files, JSON, Rust, shapes: each means that this path won't do
        raise UserError(f"model.path: {config.path!r} can't be loaded: {error}") from error

    def old(name: str) -> bool:
        return not any(f".{part}" in f".{name}" for part in new)

    mismatched = sorted(report["mismatched_keys"])
    faults = [f"{name} is missing" for name in sorted(report["missing_keys"]) if old(name)]
    faults += [f"{name} is {list(is_)}, not {list(wanted)}" for name, is_, wanted in mismatched if old(name)]
    if faults:
        raise UserError(
            f"model.path: the weights of {config.path!r} are not those of its config.json as {type(hf).__name__}: "
            f"{'; '.join(faults[:3])}{' …' if len(faults) > 3 else ''}"
        )
    aligned(hf)
    return hf


def aligned(hf: HFModel) -> None:
    """Move weights that begin inside a cache line of 64 bytes, as in a mapped file, to where torch itself would have
    put them: kernels round by the address, and a model that was saved and loaded should say what it said."""
    for tensor in itertools.chain(hf.parameters(), hf.buffers()):
        if tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()
