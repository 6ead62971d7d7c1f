"""Tensors to and from files: safetensors and JSON only, never pickle, which runs code on load."""

import copy
import itertools
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from plaudit.errors import UserError
from plaudit.models import adapters
from plaudit.models.beside import write_facts
from plaudit.models.foreign import make_writable
from plaudit.models.load import Language, Loaded
from plaudit.models.weights import HFTokenizer
from plaudit.tokens.template import Renderer


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name; tied ones once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def training_bytes(module: nn.Module) -> int:
    """How much a checkpoint takes: the trainable weights, and AdamW's two moments of each."""
    return 3 * sum(p.numel() * p.element_size() for p in trainable(module).values())


def save_training_state(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Trainable weights and the optimiser's moments, each tensor under its parameter's name."""
    parameters = trainable(module)
    save_file({n: p.detach().cpu().contiguous() for n, p in parameters.items()}, folder / "weights.safetensors")
    names = {id(p): n for n, p in parameters.items()}
    moments = {
        f"{names[id(p)]}::{key}": torch.as_tensor(value).detach().cpu().contiguous()
        for p, state in optimizer.state.items()
        for key, value in state.items()
    }
    save_file(moments, folder / "optimizer.safetensors")


def load_training_state(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The inverse, bit for bit. Raises ValueError, before anything is changed, where the parameters are not the saved
    ones."""
    parameters = trainable(module)
    weights = load_file(folder / "weights.safetensors")
    if weights.keys() != parameters.keys():
        different = sorted(weights.keys() ^ parameters.keys())
        raise ValueError(f"{folder}: the checkpoint's parameters are not the model's: {different[:5]} …")
    for name, parameter in parameters.items():
        if parameter.shape != weights[name].shape:
            raise ValueError(
                f"{folder}: {name} has shape {tuple(weights[name].shape)}, the model {tuple(parameter.shape)}"
            )
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        name, entry = key.rsplit("::", 1)
        moments.setdefault(name, {})[entry] = value
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            if name in moments:
                # A fused optimiser counts its steps where the weights live, the others on the CPU.
                fused = optimizer.defaults.get("fused")
                optimizer.state[parameter] = {
                    k: v.to(parameter.device) if fused or v.ndim else v for k, v in moments[name].items()
                }


def export(folder: Path, loaded: Loaded, facts: Mapping[str, Any]) -> None:
    """Write a model that loads in transformers without plaudit, and `plaudit.json` beside it.

    LoRA is merged into the weights; a policy's adapter also stands alone, in `adapter/`. `facts` says what the format
    can't: kind, head, bias, data fingerprints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hf, language = adapters.merge(loaded.hf), loaded.language
    tokenizer = _prepare(hf, language)
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if facts.get("kind") == "policy":
        adapters.save_alone(loaded.hf, folder / "adapter")
    readable(folder)
    own: dict[str, Any] = {"template_hash": language.renderer.template_hash, "end_ids": list(language.end_ids)}
    if language.renderer.variables:
        own["template_variables"] = language.renderer.variables
    write_facts(folder, {**own, **facts})


def check_savable(loaded: Loaded) -> None:
    """Before training: all of the model but its weights is written once, and thrown away. UserError names what
    transformers refuses to write: the end of a run would be too late for it."""
    hf, language = adapters.unwrapped(loaded.hf), loaded.language
    part = "its configuration"
    with tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer = _prepare(hf, language)
            hf.config.save_pretrained(folder)
            part = "its generation config"
            if isinstance(hf, PreTrainedModel) and hf.can_generate() and hf.generation_config is not None:
                hf.generation_config.save_pretrained(folder)
            part = "its tokenizer"
            tokenizer.save_pretrained(folder)
            part = "its weights"
            if isinstance(hf, PreTrainedModel):
                remove_tied_weights_from_state_dict(hf.state_dict(), hf)
        except Exception as error:  # of JSON, Rust, transformers' checks: each means that this model can't be kept
            raise UserError(
                f"this model could be trained but not saved: transformers can't write {part} ({error}). Mend that "
                "file, or start from another copy of the model"
            ) from error


def _prepare(hf: Any, language: Language) -> HFTokenizer:
    """Make model and tokenizer say, in transformers' files, what they are here; the tokenizer is a copy."""
    tokenizer = copy.deepcopy(language.tokenizer)
    template, own = language.renderer.template, tokenizer.chat_template
    if template is not None and not (isinstance(own, dict) and own.get("default") == template):
        tokenizer.chat_template = template  # several templates of the tokenizer's own stay as they are
    if (generation := getattr(hf, "generation_config", None)) is not None and language.end_ids:
        generation.eos_token_id = list(language.end_ids)
    if tokenizer.pad_token is None and language.end_ids:  # others pad batches by it; a model's own masks hide it
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(_padding(tokenizer, language.end_ids))
    if generation is not None and generation.pad_token_id is None:
        generation.pad_token_id = tokenizer.pad_token_id
    make_writable(hf)
    first, last = hf.get_input_embeddings(), hf.get_output_embeddings()
    if last is not None and last.weight is first.weight:
        hf.config.tie_word_embeddings = hf.config.get_text_config().tie_word_embeddings = True
    is_decoder = isinstance(language.renderer, Renderer)
    if is_decoder and type(hf).__name__.endswith("ForSequenceClassification"):
        hf.config.pad_token_id = padding_beside(tokenizer, language.end_ids)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(hf.config.pad_token_id)
    return tokenizer


def padding_beside(tokenizer: HFTokenizer, end_ids: Sequence[int]) -> int:
    """A token to pad with that ends no answer: transformers reads a decoder's score at the last token that is none, and
    the score stands at the end token. The tokenizer's own, <unk>, another control token, or else its last word."""
    words = (i for i in range(len(tokenizer) - 1, 0, -1) if i not in end_ids and i != tokenizer.bos_token_id)
    return next(itertools.chain(_controls(tokenizer, end_ids), words))


def _padding(tokenizer: HFTokenizer, end_ids: Sequence[int]) -> int:
    """What a policy's batches are padded with: a control token that ends no answer, or else the one that does."""
    return next(iter(_controls(tokenizer, end_ids)), end_ids[0])


def _controls(tokenizer: HFTokenizer, end_ids: Sequence[int]) -> list[int]:
    controls = sorted(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    candidates = [tokenizer.pad_token_id, tokenizer.unk_token_id, *controls]
    return [i for i in candidates if i is not None and i not in end_ids and i != tokenizer.bos_token_id]


def readable(folder: Path) -> None:
    """Weights get the mode of other new files: safetensors writes them for their owner alone."""
    mode = stat.S_IMODE((folder / "config.json").stat().st_mode)
    for file in folder.rglob("*.safetensors"):
        file.chmod(mode)
