"""Encoders and encoder-decoders that give n numbers an input: the architecture's own classifier, or a pooled head.

What transformers' `AutoModelForSequenceClassification` can say is said by it, and such a folder loads there. A head
over the mean or the maximum of all states it can't say: backbone and `head.safetensors` stand side by side, and the
head's file says how it pools.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTextEncoding
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING

from plaudit.errors import UserError
from plaudit.formulas.masks import at_least_float32
from plaudit.models.beside import file_beside
from plaudit.models.load import Language, Loaded, check_width, finish, is_classifier, read_config
from plaudit.models.options import ModelConfig
from plaudit.models.weights import HFModel, pretrained

HEAD = "head.safetensors"
NEW = ("pooler.", "classifier.", "classification_head.", "pre_classifier.", "head.")
"""What a classifier has beyond the backbone: drawn anew where the folder holds no classifier."""
Pooling = Literal["cls", "mean", "max"]


class PooledForSequenceClassification(nn.Module):
    """A linear head of n numbers on pooled last states, with the manners of a transformers classifier."""

    def __init__(self, backbone: HFModel, pooling: Pooling, width: int, seed: int):
        super().__init__()
        self.backbone, self.pooling = backbone, pooling
        backbone.config.num_labels = width
        size = backbone.config.hidden_size
        self.score = nn.Linear(size, width)
        drawn = torch.randn(width, size, generator=torch.Generator().manual_seed(seed))
        self.score.weight.data.copy_(drawn / (size + 1) ** 0.5)
        self.score.bias.data.zero_()

    @property
    def config(self) -> Any:
        return self.backbone.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **more: Tensor) -> SequenceClassifierOutput:
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        with torch.autocast(states.device.type, enabled=False):
            return SequenceClassifierOutput(logits=self.score(pooled(states, attention_mask.bool(), self.pooling)))

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def get_output_embeddings(self) -> None:
        return None

    def gradient_checkpointing_enable(self, options: dict[str, Any]) -> None:
        self.backbone.gradient_checkpointing_enable(options)

    def save_pretrained(self, folder: Path) -> None:
        self.backbone.save_pretrained(folder)
        head = {name: p.detach().cpu().contiguous() for name, p in self.score.named_parameters()}
        save_file(head, Path(folder) / HEAD, metadata={"pooling": self.pooling})


def pooled(states: Float[Tensor, "B L H"], mask: Bool[Tensor, "B L"], pooling: Pooling) -> Float[Tensor, "B H"]:
    """One state a row, out of the tokens that `mask` keeps, in fp32. Whatever stands in the padding is not touched."""
    states, keep = at_least_float32(states), mask.unsqueeze(2)
    match pooling:
        case "cls":
            return states[:, 0]
        case "mean":
            return torch.where(keep, states, 0.0).sum(dim=1) / keep.sum(dim=1)
        case "max":
            return torch.where(keep, states, -torch.inf).amax(dim=1)


def load_encoder_classifier(
    config: ModelConfig, language: Language, *, seed: int, width: int, fresh: bool = False
) -> Loaded:
    """A classifier of `width` numbers on the CPU in fp32: a saved one, or a new head on a saved backbone (`fresh`: in
    any case). UserError where the folder holds something else, not all of its weights, or another pooling."""
    stored = stored_pooling(config.path)
    if stored and config.pooling not in ("auto", stored):
        raise UserError(f"model.pooling: {config.path!r} was trained with {stored!r}, not {config.pooling!r}")
    pooling = stored or config.pooling
    if pooling == "auto":
        fresh = fresh or not is_classifier(config)
        if not fresh:
            check_width(config, width)
        new, auto = NEW if fresh else (), AutoModelForSequenceClassification
        return finish(pretrained(auto, config, seed, new=new, num_labels=width), language, config, seed)
    if pooling == "cls" and language.renderer.bos is None:
        raise UserError("model.pooling: the tokenizer puts no token in front of a text, so there is no `cls` to read")
    hf = PooledForSequenceClassification(encoder_backbone(config, seed), pooling, width, seed)
    if stored and not fresh:
        check_width(config, width)
        _load_head(hf.score, config.path)
    return finish(cast(HFModel, hf), language, config, seed)


def encoder_backbone(config: ModelConfig, seed: int) -> HFModel:
    """The blocks alone, without any head; of an encoder-decoder the encoder."""
    kind = type(read_config(config))
    text_only = kind in MODEL_FOR_TEXT_ENCODING_MAPPING
    auto = AutoModelForTextEncoding if text_only else AutoModel
    known: Mapping[type, Any] = MODEL_FOR_TEXT_ENCODING_MAPPING if text_only else MODEL_MAPPING
    options: dict[str, Any] = (
        {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(known[kind]).parameters else {}
    )
    return pretrained(auto, config, seed, **options)


def stored_pooling(path: str) -> Pooling | None:
    """How the pooled head in this folder pools; None where there is no such head."""
    file = file_beside(path, HEAD)
    if not file.is_file():
        return None
    with safe_open(file, framework="pt") as head:
        return (head.metadata() or {}).get("pooling")


def holds_head(config: ModelConfig) -> bool:
    """Whether the folder has a trained head, in a transformers classifier or beside a backbone."""
    return is_classifier(config) or stored_pooling(config.path) is not None


def _load_head(head: nn.Linear, path: str) -> None:
    with safe_open(file_beside(path, HEAD), framework="pt") as file, torch.no_grad():
        for name, parameter in head.named_parameters():
            saved = file.get_tensor(name)
            if saved.shape != parameter.shape:
                raise UserError(
                    f"model.path: {HEAD} of {path!r} has {name} {list(saved.shape)}, not {list(parameter.shape)}"
                )
            parameter.copy_(saved)
