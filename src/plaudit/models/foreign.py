"""Folders of other makers: adapters without their base, heads under other names, generation configs."""

import functools
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from plaudit.config.objects import behind
from plaudit.errors import UserError
from plaudit.models.beside import file_beside
from plaudit.models.gguf import converted, is_gguf
from plaudit.telemetry.console import warn
from plaudit.tokens.tokenizer import looks_local

ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GENERATION = "generation_config.json"
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
VALUE_HEADS = ("v_head.summary", "value_head", "v_head")
"""What TRL, LLaMA-Factory and OpenRLHF call the one number at each token."""


def weights_of(path: str) -> str:
    """The folder or hub name of the whole model: for an adapter alone its base, for a gguf file the folder that it was
    made into. UserError where that isn't there."""
    if is_gguf(path):
        return converted(path)
    adapter = _adapter(path)
    if adapter is None:
        return path
    base = str(adapter.get("base_model_name_or_path") or "")
    for candidate in (base, str(Path(path) / base), str(Path(path).parent / base)):
        if base and (Path(candidate) / "config.json").is_file():
            return candidate
    if base and not looks_local(base) and not base.startswith("/"):
        return base
    raise UserError(
        f"{path!r} is a LoRA adapter, and its base {base!r}, which {ADAPTER} names, is no model folder here; put the "
        "base there, correct `base_model_name_or_path`, or merge the adapter into its base and give that folder"
    )


def is_adapter(path: str) -> bool:
    """Whether the folder holds an adapter without its base."""
    return _adapter(path) is not None


def judges(path: str) -> bool:
    """Whether it is an adapter that was trained as a classifier."""
    return (_adapter(path) or {}).get("task_type") == "SEQ_CLS"


def adapter_width(path: str) -> int:
    """How many numbers such an adapter's own head gives; 0 where it has none."""
    weights = file_beside(path, ADAPTER_WEIGHTS)
    if not weights.is_file():
        raise UserError(f"{path!r} holds an adapter without {ADAPTER_WEIGHTS}; save it anew with peft (no pickle)")
    with safe_open(weights, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    heads = [shape[0] for name, shape in shapes.items() if name.endswith(("score.weight", "classifier.weight"))]
    return int(heads[0]) if heads else 0


def with_adapter(hf: PreTrainedModel, path: str) -> PreTrainedModel:
    """The model with the adapter at `path` merged into its weights. UserError where they don't fit."""
    try:
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            from peft import PeftModel

            model = PeftModel.from_pretrained(hf, path)
        if missing := [str(w.message) for w in notices if "missing adapter keys" in str(w.message)]:
            raise ValueError(missing[0][:200])
        return model.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        base = weights_of(path)
        raise UserError(f"model.path: the adapter {path!r} doesn't fit its base {base!r}: {error}") from error


def _adapter(path: str) -> dict[str, Any] | None:
    if path == "tiny" or behind(path) is not None or file_beside(path, "config.json").is_file():
        return None
    file = file_beside(path, ADAPTER)
    return _json(file) if file.is_file() else None


def stored_names(path: str) -> dict[str, str]:
    """The tensors of a local folder's safetensors, and each one's file; nothing for other formats and hub names."""
    folder = Path(path)
    if (folder / INDEX).is_file():
        return dict(_json(folder / INDEX).get("weight_map", {}))
    if not (folder / WEIGHTS).is_file():
        return {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        return dict.fromkeys(file.keys(), WEIGHTS)


def value_head(path: str) -> dict[str, Tensor] | None:
    """Weight and bias of a reward head that another library put beside a language model. UserError for a pickle."""
    if path == "tiny" or behind(path) is not None:
        return None
    beside = file_beside(path, "value_head.safetensors")
    if beside.is_file():
        with safe_open(beside, framework="pt") as file:
            names = dict.fromkeys(file.keys(), str(beside))
    else:
        names = {name: str(Path(path) / file) for name, file in stored_names(path).items()}
    for prefix in VALUE_HEADS:
        if f"{prefix}.weight" in names:
            head = {key: _tensor(names, f"{prefix}.{key}") for key in ("weight", "bias") if f"{prefix}.{key}" in names}
            return {"bias": torch.zeros(head["weight"].shape[0]), **head}
    if (Path(path) / "value_head.bin").is_file():
        raise UserError(
            f"{path!r}: value_head.bin is a pickle, which runs code when it is loaded; convert it to "
            "value_head.safetensors with the names that it has"
        )
    return None


def stored_scale(path: str) -> tuple[float, float] | None:
    """Mean and standard deviation of its scores, where OpenRLHF wrote them down and they say something."""
    file = file_beside(path, "config.json")
    facts = _json(file) if file.is_file() else {}
    mean, std = facts.get("mean"), facts.get("std")
    is_scale = isinstance(mean, int | float) and isinstance(std, int | float) and (mean, std) != (0.0, 1.0)
    return (float(mean), float(std)) if is_scale else None


def _tensor(names: Mapping[str, str], name: str) -> Tensor:
    with safe_open(names[name], framework="pt") as file:
        return file.get_tensor(name).float()


def generation_facts(path: str) -> dict[str, Any]:
    """What generation_config.json says; nothing where there is none. UserError for a damaged file."""
    file = file_beside(path, GENERATION)
    facts = _json(file) if file.is_file() else {}
    return _options(facts)


def _options(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if not name.startswith("_") and name != "transformers_version"}


def writable(facts: Mapping[str, Any]) -> tuple[GenerationConfig, list[str]]:
    """A generation config that transformers writes again, and the options that had to be left out for it.

    transformers loads much that it refuses to save: sampling options without `do_sample` (which is set, then), options
    of beam search without beams, ids below 0.
    """
    for whole in (dict(facts), {**facts, "do_sample": True}):
        if (config := _valid(whole)) is not None:
            return config, []
    remaining = max(_remaining(facts), _remaining({**facts, "do_sample": True}), key=len)
    return GenerationConfig(**remaining), sorted(facts.keys() - remaining.keys())


def _remaining(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Option by option, whether they are valid together."""
    remaining: dict[str, Any] = {}
    for name in sorted(facts, key=lambda name: (name != "do_sample", name)):
        if _valid({**remaining, name: facts[name]}) is not None:
            remaining[name] = facts[name]
    return remaining


def make_writable(hf: Any) -> None:
    """Leave out of the model's generation config what transformers would refuse to write, and say so."""
    config = getattr(hf, "generation_config", None)
    if config is None:
        return
    try:
        config.validate(strict=True)
    except Exception:  # odd types come as anything
        hf.generation_config, lost = writable(_options(config.to_diff_dict()))
        tell_lost(str(getattr(hf, "name_or_path", "") or "the model"), tuple(lost))


@functools.cache
def tell_lost(path: str, names: tuple[str, ...]) -> None:
    """One line, once, for options that a saved model won't have."""
    if names:
        warn(
            f"{path}: {GENERATION} says {', '.join(names)} in a way that transformers loads and refuses to save; saved "
            "models go without"
        )


def _valid(facts: Mapping[str, Any]) -> GenerationConfig | None:
    try:
        config = GenerationConfig(**facts)
        config.validate(strict=True)
    except Exception:  # odd types come as anything
        return None
    return config


def _json(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(facts, dict):
        raise UserError(f"{file} holds no JSON object")
    return facts
