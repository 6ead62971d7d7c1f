"""Tensors to and from files: safetensors and JSON only, never pickle, which runs code on load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GenerationConfig

from plaudit.errors import UserError
from plaudit.files import atomic_write
from plaudit.models import adapters
from plaudit.models.beside import file_beside
from plaudit.models.load import Loaded

PLAUDIT_JSON = "plaudit.json"


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

    LoRA is merged into the weights. `facts` says what the format can't: kind, head, bias, data fingerprints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hf = adapters.merge(loaded.hf)
    language = loaded.language
    if (generation := getattr(hf, "generation_config", None)) is not None and language.end_ids:
        generation.eos_token_id = list(language.end_ids)
        _make_valid(generation)
    hf.save_pretrained(folder)
    if language.renderer.template is not None:
        language.tokenizer.chat_template = language.renderer.template
    language.tokenizer.save_pretrained(folder)
    write_facts(folder, {"template_hash": language.renderer.template_hash, "end_ids": list(language.end_ids), **facts})


def _make_valid(generation: GenerationConfig) -> None:
    """Some models have sampling options without `do_sample`: transformers loads that, and refuses to save it."""
    try:
        generation.validate(strict=True)
    except ValueError:
        generation.do_sample = True


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    atomic_write(folder / PLAUDIT_JSON, json.dumps(dict(facts), indent=2, ensure_ascii=False) + "\n")


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What `plaudit.json` says, or nothing for a model that plaudit did not write. UserError for a damaged file."""
    path = file_beside(folder, PLAUDIT_JSON)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
