"""Models from a folder, a hub name, or `tiny` (trained from scratch, with its tokenizer)."""

import contextlib
import functools
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from plaudit.config.objects import behind
from plaudit.errors import UserError
from plaudit.models import adapters
from plaudit.models.attention import attention_implementation
from plaudit.models.beside import reach_hub, read_facts
from plaudit.models.foreign import adapter_width, generation_facts, is_adapter, judges, value_head, weights_of
from plaudit.models.gguf import check_gguf, is_gguf
from plaudit.models.options import ModelConfig
from plaudit.models.weights import HFModel, from_scratch, pretrained
from plaudit.telemetry.console import say
from plaudit.tokens.pairs import PairRenderer
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import end_ids, holds_tokenizer, load_tokenizer, looks_local, token_id, train_tokenizer

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """What a model's text needs. It loads in moments, so that data can be checked before any weight is read."""

    tokenizer: PreTrainedTokenizerFast
    renderer: Renderer | PairRenderer
    end_ids: tuple[int, ...]
    context: int
    """The most tokens that a sequence may have."""
    texts_apart: bool = False
    """A pair model whose three texts have the tokenizer's frame one by one, as PairRM's authors wrote them."""

    @property
    def decoder_renderer(self) -> Renderer:
        """The renderer of a model that writes. TypeError for an encoder's, which only reads."""
        if not isinstance(self.renderer, Renderer):
            raise TypeError("an encoder writes no text")
        return self.renderer

    @property
    def pair_renderer(self) -> PairRenderer:
        """The renderer of a model that reads prompt and answer as two texts. TypeError for a decoder's."""
        if not isinstance(self.renderer, PairRenderer):
            raise TypeError("a decoder reads prompt and answer as one text")
        return self.renderer

    def limit(self, max_length: int, option: str = "max_length") -> int:
        """How long a sequence may be where `option` says `max_length`; 0 is the context. UserError beyond it."""
        if max_length > self.context:
            raise UserError(f"{option}: {max_length} exceeds the model's context of {self.context}")
        return max_length or self.context


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A transformers model and its language."""

    hf: HFModel
    language: Language


Architecture = Literal["decoder", "encoder", "encoder_decoder"]
OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "longformer"}
)
"""Families that count positions from pad_token_id + 1 on: so many fewer tokens fit."""
REWARD_MODELS = ("RewardModel",)
"""What OpenRLHF calls its classifiers of one number."""
PAIRRM_CONTEXT = 2048
"""1,224 of the prompt and twice 412, by its authors; more than DeBERTa's 512 positions, which are relative."""


def architecture(config: ModelConfig) -> Architecture:
    """Told from config.json, before any weight is read."""
    if config.path == "tiny":
        return "decoder"
    hf = read_config(config)
    if getattr(hf, "is_encoder_decoder", False):
        return "encoder_decoder"
    # T5's encoder alone has T5's model type, and no flag that tells.
    halves = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys() & MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.keys()
    reads_both_ways = hf.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES or hf.model_type in halves
    return "encoder" if reads_both_ways and not getattr(hf, "is_decoder", False) else "decoder"


def load_language(config: ModelConfig, texts: Iterable[str] = ()) -> Language:
    """Tokenizer, template, end ids and context length; `texts` train the tokenizer of a `tiny` model. UserError naming
    the folder or option."""
    if isinstance(in_hand := behind(config.path), Loaded):
        return in_hand.language
    if config.path == "tiny":
        tokenizer = train_tokenizer(texts, config.tiny.vocabulary)
        generation, context = None, config.tiny.context
    else:
        check_model_path(config.path)
        folder = config.path if holds_tokenizer(config.path) else weights_of(config.path)
        tokenizer = load_tokenizer(folder)
        text_config = read_config(config).get_text_config()
        generation = _generation_config(config)
        context = _context(config, tokenizer)
        if len(tokenizer) > text_config.vocab_size:
            raise UserError(
                f"model.path: the tokenizer of {config.path!r} has {len(tokenizer)} tokens but the model only "
                f"{text_config.vocab_size} embeddings"
            )
    if architecture(config) != "decoder":
        variables = _template_variables(config)
        pairs = PairRenderer(Renderer(tokenizer, config.template, _chat_template(config), variables=variables))
        apart = _is_pairrm(read_config(config))
        return Language(tokenizer=tokenizer, renderer=pairs, end_ids=pairs.end_ids, context=context, texts_apart=apart)
    return _decoder_language(tokenizer, config, generation, context)


def language_of(hf: HFModel, tokenizer: PreTrainedTokenizerFast, config: ModelConfig) -> Language:
    """That of a causal model that the caller has loaded; of `config` the template and the end tokens count."""
    if not tokenizer.is_fast:
        raise UserError("the tokenizer is not a fast one (tokenizer.json); convert it with transformers first")
    text_config = hf.config.get_text_config()
    generation = getattr(hf, "generation_config", None)
    configured = generation.to_dict() if generation is not None else {"eos_token_id": text_config.eos_token_id}
    context = _positions(text_config, "the model")
    return _decoder_language(tokenizer, config, configured, context)


def _decoder_language(
    tokenizer: PreTrainedTokenizerFast, config: ModelConfig, generation: dict[str, Any] | None, context: int
) -> Language:
    # What training puts after an answer: the user's own end token where one is named, else the tokenizer's.
    end_id = token_id(tokenizer, config.end_tokens[0]) if config.end_tokens else None
    variables = _template_variables(config)
    renderer = Renderer(tokenizer, config.template, _chat_template(config), variables=variables, end_id=end_id)
    # A chat template may end its turns by another token than the model's EOS; sampling must stop there too.
    ends = dict.fromkeys((*renderer.end_ids, *end_ids(tokenizer, generation, config.end_tokens)))
    return Language(tokenizer=tokenizer, renderer=renderer, end_ids=tuple(ends), context=context)


def _context(config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> int:
    """The most tokens of a sequence; of an encoder no more than its tokenizer says either (T5 counts no positions)."""
    hf = read_config(config)
    if _is_pairrm(hf):
        return PAIRRM_CONTEXT
    positions = _positions(hf.get_text_config(), config.path)
    if architecture(config) == "decoder":
        return positions
    if hf.model_type in OFFSET_POSITIONS:
        positions -= hf.pad_token_id + 1
    return min(positions, int(tokenizer.model_max_length))


def _positions(text_config: Any, name: str) -> int:
    """How many tokens fit so that a row's numbers don't depend on its neighbours.

    Rotary positions of the type `longrope` change for a whole batch once its longest row passes the length of
    pre-training; so rows end there. `dynamic` ones change beyond max_position_embeddings, which no row passes; all
    others are the same for every length.
    """
    positions = int(getattr(text_config, "max_position_embeddings", 0) or 10**9)
    rope = getattr(text_config, "rope_parameters", None) or {}
    layers = [part for part in rope.values() if isinstance(part, dict)] or [rope]
    switches = [
        int(part.get("original_max_position_embeddings") or positions)
        for part in layers
        if part.get("rope_type") == "longrope"
    ]
    limit = min([positions, *switches])
    if limit < positions:
        _tell_context(name, limit, positions)
    return limit


@functools.cache
def _tell_context(name: str, limit: int, positions: int) -> None:
    say(
        f"{name}: rows end at {limit} tokens, not at {positions}: its rotary positions (longrope) are others for a "
        "whole batch once one row is longer, and a row's numbers would depend on its neighbours"
    )


def _is_pairrm(hf_config: PreTrainedConfig) -> bool:
    """Whether it is PairRM's, or that of a model trained further from it: it names the ids of PairRM's markers."""
    return hasattr(hf_config, "cand1_prefix_id")


def _chat_template(config: ModelConfig) -> str | None:
    """The user's own template, None for the tokenizer's."""
    template = config.chat_template
    if not template or "{" in template:
        return template or None
    try:
        return Path(template).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"model.chat_template: {template!r} is neither Jinja text nor a file: {error}") from error


def _template_variables(config: ModelConfig) -> dict[str, Any]:
    """Those that a saved model was trained with, and the user's own."""
    in_hand = config.path == "tiny" or behind(config.path) is not None
    return {**({} if in_hand else read_facts(config.path).get("template_variables", {})), **config.template_variables}


def load_causal(config: ModelConfig, language: Language, *, seed: int) -> Loaded:
    """A causal language model on the CPU in fp32, its trainable part chosen; `seed` initialises what is new. UserError
    where the folder holds something else, or not all of its weights."""
    if isinstance(in_hand := behind(config.path), Loaded):
        return in_hand
    _check_decoder(config)
    if config.path == "tiny":
        hf = from_scratch(LlamaForCausalLM, config.tiny, language.tokenizer, seed)
    elif is_classifier(config):
        raise UserError(
            f"model.path: {config.path!r} holds a reward model (a classifier), but a language model is needed"
        )
    else:
        hf = pretrained(AutoModelForCausalLM, config, seed)
    return finish(hf, language, config, seed)


def load_backbone(config: ModelConfig, language: Language, *, seed: int) -> Loaded:
    """The blocks alone, without output matrix or score: of a language model's folder or a reward model's."""
    _check_decoder(config)
    if config.path == "tiny":
        hf = from_scratch(LlamaForCausalLM, config.tiny, language.tokenizer, seed).model
    else:
        hf = pretrained(AutoModel, config, seed)
    return finish(hf, language, config, seed)


def load_classifier(
    config: ModelConfig, language: Language, *, seed: int, num_labels: int = 1, fresh: bool = False
) -> Loaded:
    """A sequence classifier: the backbone of a reward model. A causal model's folder, or `fresh`, gives the backbone
    alone; the new head is drawn from N(0, 1/(d+1)) (Stiennon et al. 2020). Encoders: `models/encoders.py`."""
    _check_decoder(config)
    if config.path == "tiny":
        hf = from_scratch(LlamaForSequenceClassification, config.tiny, language.tokenizer, seed, num_labels=num_labels)
        fresh = True
    else:
        fresh = fresh or not is_classifier(config)
        if not fresh:
            check_width(config, num_labels)
        new = ("score.",) if fresh or value_head(config.path) is not None else ()
        hf = pretrained(AutoModelForSequenceClassification, config, seed, new=new, num_labels=num_labels)
    if not isinstance(head := getattr(hf, "score", None), nn.Linear):
        raise UserError(
            f"model.path: {type(hf).__name__} has no linear head `score`; give a decoder such as Llama or Qwen"
        )
    if not fresh and (own := value_head(config.path)) is not None and own["weight"].shape == head.weight.shape:
        head.weight.data.copy_(own["weight"])
    if fresh:
        drawn = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(seed))
        head.weight.data.copy_(drawn / (head.in_features + 1) ** 0.5)
    # transformers reads the score at the last token that is not padding, so an end token must not count as padding.
    pad = language.tokenizer.pad_token_id
    hf.config.pad_token_id = None if pad in language.end_ids else pad
    return finish(hf, language, config, seed)


def _check_decoder(config: ModelConfig) -> None:
    """UserError for a model that writes no text from left to right, or an option that only others have."""
    if (kind := architecture(config)) != "decoder":
        raise UserError(f"model.path: {config.path!r} holds an {kind.replace('_', '-')}, but a decoder is needed")
    if config.pooling != "auto":
        raise UserError(f"model.pooling: {config.pooling!r} is for encoders; a decoder is read at its last token")


def check_model_path(path: str, option: str = "model.path") -> None:
    """Say early, before anything is loaded, that a local folder is missing or holds no model."""
    if path == "tiny" or behind(path) is not None:
        return
    if is_gguf(path):
        return check_gguf(path, option)
    if not looks_local(path):
        reach_hub()
        return
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{option}: no folder {path!r}; give a folder in Hugging Face format, or a hub name")
    if not (folder / "config.json").is_file() and not is_adapter(path):
        inside = next((one for one in ("model", "best") if (folder / one / "config.json").is_file()), None)
        hint = f"; did you mean {str(folder / inside)!r}?" if inside else ""
        raise UserError(f"{option}: {path!r} holds no config.json, so it is no model in Hugging Face format{hint}")
    weights_of(path)


def read_config(config: ModelConfig, option: str = "model.path") -> Any:
    """transformers' configuration of the model, before any weight is read; not to be changed, for all who ask share it
    while the file is the same. UserError naming `option` where there is none."""
    try:
        base = weights_of(config.path)
        stamp = file.stat() if (file := Path(base) / "config.json").is_file() else None
        more = (("num_labels", width),) if judges(config.path) and (width := adapter_width(config.path)) else ()
        return _config_of(base, config.trust_remote_code, more, stamp and (stamp.st_ino, stamp.st_mtime_ns))
    except UserError:
        raise
    except Exception as error:  # as in `pretrained`
        raise UserError(f"{option}: {config.path!r} can't be loaded: {error}") from error


@functools.lru_cache(maxsize=16)
def _config_of(base: str, trust: bool, more: tuple[tuple[str, int], ...], _: tuple[int, int] | None) -> Any:
    return AutoConfig.from_pretrained(base, trust_remote_code=trust, **dict(more))


def _generation_config(config: ModelConfig) -> dict[str, Any]:
    """What its generation_config.json says, or else what config.json itself says of the end: an architecture's own
    default is nobody's word on this vocabulary."""
    facts = generation_facts(base := weights_of(config.path))
    if "eos_token_id" in facts:
        return facts
    stated, _ = PreTrainedConfig.get_config_dict(base)
    return {"eos_token_id": (stated.get("text_config") or stated).get("eos_token_id", stated.get("eos_token_id"))}


def is_classifier(config: ModelConfig, option: str = "model.path") -> bool:
    """Whether the folder's config names a sequence classifier, which is what a saved reward model is."""
    names = getattr(read_config(config, option), "architectures", None) or []
    return judges(config.path) or any(name.endswith(("ForSequenceClassification", *REWARD_MODELS)) for name in names)


def number_of_labels(config: ModelConfig) -> int:
    """How many numbers a classifier's head gives."""
    hf_config = read_config(config)
    names = getattr(hf_config, "architectures", None) or []
    return 1 if any(name in REWARD_MODELS for name in names) else int(hf_config.num_labels)


def check_width(config: ModelConfig, wanted: int) -> None:
    """UserError, before any weight is read, for a classifier whose head gives another number of numbers."""
    if (width := number_of_labels(config)) != wanted:
        raise UserError(
            f"model.path: {config.path!r} holds a classifier whose head gives {width} number(s) an answer, and "
            f"{wanted} are needed here; give the model that it was trained from, or a reward model of the same kind"
        )


def name_labels(hf_config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Call a classifier's numbers by their names, so that whoever loads it elsewhere knows them."""
    hf_config.id2label = dict(enumerate(names))
    hf_config.label2id = {name: i for i, name in enumerate(names)}


def label_names(config: ModelConfig) -> tuple[str, ...]:
    """What they are called, `LABEL_0` and so on where nobody said."""
    names = read_config(config).id2label
    return tuple(str(names[i]) for i in sorted(names))


def finish(hf: HFModel, language: Language, config: ModelConfig, seed: int) -> Loaded:
    hf = adapters.apply(hf, config.train, seed=seed)
    if config.activation_checkpointing:
        checkpoint_activations(adapters.unwrapped(hf))
    return Loaded(hf=hf, language=language)


def checkpoint_activations(hf: HFModel) -> None:
    """Recompute the blocks' activations in the backward pass, by the attention and adapter of the forward pass."""

    def contexts() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        now = hf.config.get_text_config()._attn_implementation
        return contextlib.nullcontext(), _as_before(hf, now, adapters.answering(hf))

    # transformers renamed the method within 5.x, and warns at the old name.
    enable = getattr(hf, "activation_checkpointing_enable", hf.gradient_checkpointing_enable)
    enable({"use_reentrant": False, "context_fn": contexts})
    hf.train()


@contextlib.contextmanager
def _as_before(hf: HFModel, attention: str | None, adapter: str) -> Generator[None]:
    with (
        attention_implementation(hf, attention),
        adapters.critic_on(hf) if adapter == adapters.CRITIC else contextlib.nullcontext(),
    ):
        yield
