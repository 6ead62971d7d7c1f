"""PairRM as its authors saved it (LLM-Blender, arXiv 2306.02561): the names of its weights, and nothing more.

Its folder has a DeBERTa-v2 below `pretrained_model`, the head as `head_layer`, and the markers' ids in config.json.
Each of the three texts was written with a [CLS] and a [SEP] of its own, 2,048 tokens in all: `load_language` knows.
"""

import torch
from torch import Tensor, nn
from transformers import DebertaV2Config, DebertaV2Model, DebertaV2PreTrainedModel

from plaudit.errors import UserError
from plaudit.models.load import Language, read_config
from plaudit.models.options import ModelConfig
from plaudit.models.weights import HFModel, pretrained

ARCHITECTURE = "DebertaV2PairRM"


class _Published(DebertaV2PreTrainedModel):
    """What transformers needs to find every weight. Its own forward pass is never run."""

    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        size = config.hidden_size
        self.pretrained_model = DebertaV2Model(config)
        self.head_layer = nn.Sequential(
            nn.Dropout(0.0), nn.Linear(2 * size, size), nn.Tanh(), nn.Dropout(0.0), nn.Linear(size, 1)
        )
        self.post_init()


def is_published(config: ModelConfig) -> bool:
    """Told from config.json, before any weight is read."""
    return config.path != "tiny" and ARCHITECTURE in (getattr(read_config(config), "architectures", None) or ())


def check_markers(
    config: ModelConfig, language: Language, markers: tuple[str, str, str], option: str = "model.path"
) -> None:
    """UserError where the tokenizer gives the markers other ids than config.json, or the head judges several tasks."""
    stored = read_config(config)
    wanted = [getattr(stored, name, None) for name in ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")]
    actual = language.tokenizer.convert_tokens_to_ids(list(markers))
    if wanted != actual:
        raise UserError(
            f"{option}: {config.path!r} counts on the ids {wanted} for {', '.join(markers)}, but its tokenizer gives "
            f"{actual}; take the tokenizer's files from where the weights are from"
        )
    if (tasks := getattr(stored, "n_tasks", 1)) != 1:
        raise UserError(f"{option}: {config.path!r} judges by {tasks} tasks; a pair model has one")


def backbone_and_head(config: ModelConfig, seed: int) -> tuple[HFModel, dict[str, Tensor]]:
    """The DeBERTa, and the head's weights under the names that a pair model has for them."""
    hf = pretrained(_Published, config, seed)
    assert isinstance(hf, _Published)
    first, last = hf.head_layer[1], hf.head_layer[4]
    with torch.no_grad():
        head = {f"0.{name}": p.clone() for name, p in first.named_parameters()}
        head |= {f"2.{name}": p.clone() for name, p in last.named_parameters()}
    return hf.pretrained_model, head
