"""Models from a folder, a hub name, or `tiny` (trained from scratch, with its tokenizer)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from plaudit.models import adapters
from plaudit.models.adapters import Full, LastLayers, LoRA
from plaudit.runs.errors import UserError
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import end_ids, load_tokenizer, train_tokenizer

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """The shape of a model made from scratch (Llama architecture, tied embeddings)."""

    hidden_size: int = 128
    """Width."""
    layers: int = 3
    """Blocks."""
    heads: int = 4
    """Attention heads; must divide the width."""
    vocabulary: int = 512
    """At most so many tokens in the byte-level BPE vocabulary that is trained on the data."""
    context: int = 512
    """Positions."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Which model, and which part of it is trained (N1.2, N1.3)."""

    path: str = "tiny"
    """A folder in Hugging Face format, a hub name, or `tiny`: from scratch, with a tokenizer trained on the data."""
    tiny: TinyShape = field(default_factory=TinyShape)
    """Only with `path: tiny`."""
    train: Full | LastLayers | LoRA = field(default_factory=Full)
    """`full`, `last_layers` or `lora`."""
    template: Literal["auto", "raw"] = "auto"
    """auto: a bare string becomes one user turn where the tokenizer has a chat template; raw: always plain text."""
    end_tokens: tuple[str, ...] = ()
    """Tokens that end a response, beside the model's own EOS ids."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such a model is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What a model's text needs. It loads in moments, so that data can be checked before any weight is read."""

    tokenizer: PreTrainedTokenizerFast
    renderer: Renderer
    end_ids: tuple[int, ...]
    context: int
    """The most tokens that a sequence may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A transformers model and its language."""

    hf: nn.Module
    language: Language


def load_language(config: ModelConfig, texts: Iterable[str] = ()) -> Language:
    """Tokenizer, template, end ids and context length; `texts` train the tokenizer of a `tiny` model.

    Raises: UserError naming the folder or option.
    """
    if config.path == "tiny":
        tokenizer = train_tokenizer(texts, config.tiny.vocabulary)
        generation, context = None, config.tiny.context
    else:
        check_model_path(config.path)
        tokenizer = load_tokenizer(config.path)
        text_config = _config(config).get_text_config()
        generation = _generation_config(config)
        context = int(getattr(text_config, "max_position_embeddings", 0) or 10**9)
        if len(tokenizer) > text_config.vocab_size:
            raise UserError(
                f"model.path: the tokenizer of {config.path!r} has {len(tokenizer)} tokens but the model only "
                f"{text_config.vocab_size} embeddings"
            )
    renderer = Renderer(tokenizer, config.template, end_id=_first_end(tokenizer, config.end_tokens))
    # A chat template may end its turns by another token than the model's EOS; sampling must stop there too.
    ends = dict.fromkeys((*renderer.end_ids, *end_ids(tokenizer, generation, config.end_tokens)))
    return Language(tokenizer=tokenizer, renderer=renderer, end_ids=tuple(ends), context=context)


def _first_end(tokenizer: PreTrainedTokenizerFast, end_tokens: tuple[str, ...]) -> int | None:
    """What training puts after an answer: the user's own end token where one is named, else the tokenizer's."""
    return tokenizer.convert_tokens_to_ids(end_tokens[0]) if end_tokens else None


def load_causal(config: ModelConfig, language: Language, *, seed: int) -> Loaded:
    """A causal language model on the CPU in fp32, its trainable part chosen; `seed` initialises what is new."""
    if config.path == "tiny":
        hf = _from_scratch(LlamaForCausalLM, config.tiny, language, seed)
    else:
        hf = _pretrained(AutoModelForCausalLM, config, seed)
    return _finish(hf, language, config, seed)


def load_classifier(config: ModelConfig, language: Language, *, seed: int, num_labels: int = 1) -> Loaded:
    """A sequence classifier: the backbone of a reward model. A causal model's folder gives the backbone alone;
    the new head is drawn from N(0, 1/(d+1)) (Stiennon et al. 2020)."""
    if config.path == "tiny":
        hf = _from_scratch(LlamaForSequenceClassification, config.tiny, language, seed, num_labels=num_labels)
        fresh = True
    else:
        fresh = not _is_classifier(config)
        hf = _pretrained(AutoModelForSequenceClassification, config, seed, num_labels=num_labels)
    head = hf.score if hasattr(hf, "score") else hf.classifier
    if fresh and isinstance(head, nn.Linear):
        drawn = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
        head.weight.data.copy_(drawn / (head.in_features + 1) ** 0.5)
    return _finish(hf, language, config, seed)


def check_model_path(path: str, option: str = "model.path") -> None:
    """Say early, before anything is loaded, that a local folder is missing or holds no model."""
    if path == "tiny" or _looks_like_hub_name(path):
        return
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{option}: no folder {path!r}; give a folder in Hugging Face format, a hub name, or `tiny`")
    if not (folder / "config.json").is_file():
        raise UserError(f"{option}: {path!r} holds no config.json, so it is no model in Hugging Face format")


def _looks_like_hub_name(path: str) -> bool:
    parts = path.split("/")
    return len(parts) <= 2 and not Path(path).exists() and not path.startswith((".", "/", "~")) and "\\" not in path


def _config(config: ModelConfig):
    try:
        return AutoConfig.from_pretrained(config.path, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise UserError(f"model.path: {config.path!r} can't be loaded: {error}") from error


def _generation_config(config: ModelConfig) -> dict | None:
    try:
        return GenerationConfig.from_pretrained(config.path).to_dict()
    except OSError:
        return {"eos_token_id": _config(config).get_text_config().eos_token_id}


def _is_classifier(config: ModelConfig) -> bool:
    names = getattr(_config(config), "architectures", None) or []
    return any(name.endswith("ForSequenceClassification") for name in names)


def _from_scratch(cls: type, shape: TinyShape, language: Language, seed: int, **more) -> nn.Module:
    tokenizer = language.tokenizer
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
        attn_implementation="sdpa",
        **more,
    )
    with seeded(seed):
        return cls(config)


class seeded:
    """Libraries that draw initial weights from the global generator do so from this seed, and leave no trace."""

    def __init__(self, seed: int):
        self.fork, self.seed = torch.random.fork_rng(), seed

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        self.fork.__exit__(*error)


def _pretrained(auto: type, config: ModelConfig, seed: int, **more) -> nn.Module:
    try:
        with seeded(seed):
            return auto.from_pretrained(
                config.path,
                dtype=torch.float32,
                attn_implementation="sdpa",
                trust_remote_code=config.trust_remote_code,
                **more,
            )
    except (OSError, ValueError) as error:
        raise UserError(f"model.path: {config.path!r} can't be loaded: {error}") from error


def _finish(hf: nn.Module, language: Language, config: ModelConfig, seed: int) -> Loaded:
    if hf.config.pad_token_id is None:
        pad = language.tokenizer.pad_token_id
        hf.config.pad_token_id = pad if pad is not None else (language.end_ids or (0,))[0]
    hf = adapters.apply(hf, config.train, seed=seed)
    if config.activation_checkpointing:
        (hf.get_base_model() if hasattr(hf, "get_base_model") else hf).gradient_checkpointing_enable()
        hf.train()
    return Loaded(hf=hf, language=language)
