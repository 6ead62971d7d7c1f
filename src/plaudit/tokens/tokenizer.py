"""Tokenizers: load one, train a small one, and turn text into ids in which nothing the user wrote is a control token.

What fast tokenizers do, found by trial (transformers 5):

- `encode("a</s>b")` gives the control token; with `split_special_tokens=True` the letters stay letters. That option
  covers added tokens that are *special*. Those that are not (`<think>`, `<tool_call>`) are matched in either case: they
  are vocabulary like any other word, and so they stay, unless a template builds its turns from them (`controls`).
- Tokenizers in the manner of SentencePiece write a space before the first word of a text ("Once" is `▁Once`). Text
  that continues other text must not get one: `encode_continuing`, and `decode_continuing` on the way back.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plaudit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")
TINY_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' ~ message['role']) }}{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Of tokenizers trained with `chat=True`: a role token, the content, </s>."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "spm.model")
TOKENIZER_FILES += ("tekken.json",)
_AFTER = "\n"
"""Text put in front, and its ids taken off again, where a tokenizer would otherwise write a space."""


def load_tokenizer(path: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a local folder or a hub name. Code that comes with it is never run.

    UserError when the folder is missing or holds no tokenizer (found out before transformers is imported, and without
    asking the hub), or when it has no fast version.
    """
    local = looks_local(path)
    if local:
        _check_folder(Path(path).expanduser())
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # heavy, so only once the path is known to be right

    name = str(Path(path).expanduser()) if local else str(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=local)
    # Hub, JSON, Rust and missing-package failures come as a dozen types; each means that this path won't do.
    except Exception as error:
        raise UserError(f"the tokenizer of {name!r} can't be loaded: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{name!r} has no fast tokenizer (tokenizer.json); convert it with transformers first")
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, chat: bool = False) -> "PreTrainedTokenizerFast":
    """Byte-level BPE on `texts`, at most `vocab_size` tokens with the control tokens; the same texts give the same one.

    Every text, in any language, comes back exactly from `decode(encode_plain(text))`. Ids 0, 1, 2 are <s>, </s>, <pad>;
    <s> is put in front, as Llama's tokenizers do. `chat`: also tokens for the three roles, and a chat template.
    Raises: UserError when `vocab_size` has no room for the 256 bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [BOS, EOS, PAD, *(ROLE_TOKENS if chat else ())]
    if vocab_size < 256 + len(special):
        raise UserError(
            f"a vocabulary of {vocab_size} is too small: 256 bytes and {len(special)} control tokens need "
            f"{256 + len(special)}"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BOS, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    if chat:
        tokenizer.chat_template = TINY_TEMPLATE
    return tokenizer


def end_ids(
    tokenizer: "PreTrainedTokenizerFast", generation_config: Mapping[str, Any] | None, extra: Sequence[int | str] = ()
) -> tuple[int, ...]:
    """Every token that ends a response: the generation config's EOS ids, the tokenizer's, then the user's own, as ids
    or as they are spelled (some models end by `<s>`). UserError for one that the vocabulary doesn't have."""
    configured = (generation_config or {}).get("eos_token_id")
    ids = [configured] if isinstance(configured, int) else list(configured or ())
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    ids += [token_id(tokenizer, token) for token in extra]
    return tuple(dict.fromkeys(ids))


def encode_plain(tokenizer: "PreTrainedTokenizerFast", text: str, controls: Iterable[str] = ()) -> list[int]:
    """Ids of `text` as text: no BOS, no EOS, and a control token spelled out in it is letters, so are `controls` (added
    tokens that aren't special). UserError for text that is no Unicode (lone surrogates)."""
    first, *rest = cut(text, controls)
    return _ids(tokenizer, first) + [i for piece in rest for i in _continuing(tokenizer, piece)]


def encode_continuing(tokenizer: "PreTrainedTokenizerFast", text: str, controls: Iterable[str] = ()) -> list[int]:
    """As `encode_plain`, for text that stands right behind other text: no space is put in front of it."""
    return [i for piece in cut(text, controls) for i in _continuing(tokenizer, piece)]


def encode_with_controls(
    tokenizer: "PreTrainedTokenizerFast", pieces: Sequence[str], *, follows: bool = False
) -> list[int]:
    """Ids of rendered text, its control tokens recognised; nothing is put in front or behind. `follows`: it stands
    behind other text.

    The text comes in pieces that follow each other without a gap; no token spans two of them, so a cut inside a spelled
    control token makes letters of it.
    """
    first, *rest = pieces
    ids = _continuing(tokenizer, first, False) if follows else _ids(tokenizer, first, False)
    return ids + [i for piece in rest for i in _continuing(tokenizer, piece, False)]


def cut(text: str, controls: Iterable[str]) -> list[str]:
    """`text` in pieces, cut after the first letter of every control token spelled in it (of two letters or more)."""
    borders = [0, *cuts(text, controls), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(borders)]


def cuts(text: str, controls: Iterable[str]) -> list[int]:
    """Where `cut` cuts: positions inside `text`, in order."""
    spelled = [re.escape(token) for token in sorted(controls) if len(token) > 1 and token in text]
    if not spelled:
        return []
    # Looking ahead, because spelled tokens may overlap.
    return [match.start() + 1 for match in re.finditer(f"(?={'|'.join(spelled)})", text)]


def decode(tokenizer: "PreTrainedTokenizerFast", ids: Sequence[int], keep_specials: bool = False) -> str:
    """The text of `ids`; control tokens are left out unless wanted. Bytes that are no UTF-8 become U+FFFD."""
    text = tokenizer.decode(list(ids), skip_special_tokens=not keep_specials, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # transformers gives a list for a list of lists only
    return text


def decode_continuing(tokenizer: "PreTrainedTokenizerFast", ids: Sequence[int], keep_specials: bool = False) -> str:
    """The text of ids that stand behind other text: the inverse of `encode_continuing`.

    SentencePiece's decoders take a space off the front of a text, which here would be the response's own.
    """
    if not ids or not writes_space(tokenizer):
        return decode(tokenizer, ids, keep_specials)
    front = _ids(tokenizer, "a")
    before, both = decode(tokenizer, front), decode(tokenizer, [*front, *ids], keep_specials)
    return both[len(before) :] if both.startswith(before) else decode(tokenizer, ids, keep_specials)


def bos_id(tokenizer: "PreTrainedTokenizerFast") -> int | None:
    """The id that the model's own tokenizer puts in front of a text; None when it puts nothing there."""
    bare, full = _ids(tokenizer, "a"), tokenizer.encode("a", add_special_tokens=True)
    return full[0] if full and full[1 : 1 + len(bare)] == bare else None


def special_tokens(tokenizer: "PreTrainedTokenizerFast") -> frozenset[str]:
    """The tokens that control: named ones (BOS, EOS, pad …) and added ones marked special."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(added | set(tokenizer.all_special_tokens))


@functools.lru_cache(maxsize=16)
def writes_space(tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Does this tokenizer write a space before a text's first word, as SentencePiece does?"""
    return _ids(tokenizer, f"{_AFTER}a") != _ids(tokenizer, _AFTER) + _ids(tokenizer, "a")


def _continuing(tokenizer: "PreTrainedTokenizerFast", text: str, special_is_text: bool = True) -> list[int]:
    if text and writes_space(tokenizer):
        front = _ids(tokenizer, _AFTER)
        both = _ids(tokenizer, _AFTER + text, special_is_text)
        if both[: len(front)] == front:
            return both[len(front) :]
    return _ids(tokenizer, text, special_is_text)


def _ids(tokenizer: "PreTrainedTokenizerFast", text: str, special_is_text: bool = True) -> list[int]:
    """As `tokenizer.encode` without added tokens, in a third of its time: rows by the ten thousand pass here."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # a tokenizer's file may ask for both
    backend.no_padding()
    if backend.encode_special_tokens != special_is_text:
        backend.encode_special_tokens = special_is_text
    try:
        return backend.encode(text, add_special_tokens=False).ids
    except TypeError as error:  # what the Rust side says of a string that can't be UTF-8
        if isinstance(text, str):
            raise UserError(f"this text is no valid Unicode (a lone surrogate?): {text[:60]!a}") from error
        raise


def token_id(tokenizer: "PreTrainedTokenizerFast", token: int | str) -> int:
    """The id of a token as it is spelled, or a checked id. UserError for one that the vocabulary doesn't have."""
    if isinstance(token, str):
        if (known := tokenizer.get_vocab().get(token)) is None:
            raise UserError(f"end token {token!r} is not in the tokenizer's vocabulary; try a stop string instead")
        return known
    if not 0 <= token < len(tokenizer):
        raise UserError(f"end token {token} is outside the tokenizer's {len(tokenizer)} ids")
    return token


def looks_local(path: str | Path) -> bool:
    """A hub name is `name` or `owner/name`; anything else, and anything that exists, is a path."""
    text = str(path)
    if isinstance(path, Path) or text.startswith((".", "/", "~")) or "\\" in text or text.endswith("/"):
        return True
    return text.count("/") > 1 or Path(text).exists() or ("/" in text and Path(text).parent.is_dir())


def holds_tokenizer(path: str | Path) -> bool:
    """Whether a local folder has files of a tokenizer; of hub names that is taken for granted."""
    return not looks_local(path) or any((Path(path).expanduser() / name).is_file() for name in TOKENIZER_FILES)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}; give a folder in Hugging Face format, or a hub name")
    if not holds_tokenizer(folder):
        raise UserError(
            f"{str(folder)!r} holds no tokenizer (none of {', '.join(TOKENIZER_FILES)}); "
            "copy the model's tokenizer files there"
        )
