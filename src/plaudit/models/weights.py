"""Weights of transformers models: all of them from files, or drawn from a seed."""

import contextlib
import itertools
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from plaudit.errors import UserError
from plaudit.models.foreign import (
    adapter_width,
    generation_facts,
    is_adapter,
    stored_names,
    tell_lost,
    weights_of,
    with_adapter,
    writable,
)
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
    base = weights_of(config.path)
    facts = generation_facts(base)
    generation, lost = writable(facts)
    if lost or generation.do_sample != facts.get("do_sample"):
        more = {**more, "generation_config": generation}
        tell_lost(config.path, tuple(lost))
    adapted = is_adapter(config.path)
    if adapted and adapter_width(config.path):
        new = (*new, "score.", "classifier.")  # the adapter brings the head that it was trained with
    try:
        with seeded(seed):
            hf, report = auto.from_pretrained(
                base,
                dtype=torch.float32,
                trust_remote_code=config.trust_remote_code,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **more,
            )
    except Exception as error:  # of files, JSON, Rust, shapes: each means that this path won't do
        of_adapter = f" (the base of the adapter {config.path!r})" if adapted else ""
        raise UserError(f"model.path: {base!r}{of_adapter} can't be loaded: {error}") from error

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
    if adapted:
        hf = with_adapter(hf, config.path)
    aligned(hf)
    check_finite(dict(hf.named_parameters()), config.path)
    return hf


def check_finite(tensors: Mapping[str, Tensor], path: str) -> None:
    """UserError naming file and tensor for weights that hold NaN or infinity: a merge gone wrong, an overflow."""
    # A sum may overflow by itself, but one that is finite had finite terms.
    spoilt = [name for name, t in tensors.items() if not t.sum().isfinite() and not t.isfinite().all()]
    if spoilt:
        file = stored_names(path).get(spoilt[0], "")
        more = f" and {len(spoilt) - 1} more" if len(spoilt) > 1 else ""
        raise UserError(
            f"model.path: the weights of {path!r} hold NaN or infinity: {spoilt[0]}{more}"
            f"{f' in {file}' if file else ''}; take a sound copy of the model"
        )


def aligned(hf: HFModel) -> None:
    """Move weights that begin inside a cache line of 64 bytes, as in a mapped file, to where torch itself would have
    put them: kernels round by the address, and a model that was saved and loaded should say what it said."""
    for tensor in itertools.chain(hf.parameters(), hf.buffers()):
        if tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()
