"""Models in llama.cpp's format: one .gguf file, made into an ordinary folder (fp32, safetensors) at its first use.

The folder stays in the cache, `$XDG_CACHE_HOME/plaudit/gguf` or `~/.cache/plaudit/gguf`, under the file's name and
hash; it can be deleted at any time. What is trained from it is saved like any other model.
"""

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from plaudit.errors import UserError
from plaudit.files import write_json
from plaudit.telemetry.console import say

SUFFIX = ".gguf"
_MAGIC = b"GGUF"


def is_gguf(path: str) -> bool:
    """Whether the path is spelled as such a file's."""
    return path.lower().endswith(SUFFIX)


def check_gguf(path: str, option: str = "model.path") -> None:
    """UserError naming `option` for a file that isn't there or isn't one, or where the package is missing that reads
    it. Nothing is loaded."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{option}: no file {path!r}")
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"{option}: {path!r} needs a package that is not installed: pip install 'plaudit[gguf]'")
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise UserError(f"{option}: {path!r} is no gguf file, though its name says so")


@functools.cache
def converted(path: str) -> str:
    """The folder that the file was made into; made now where there is none yet. Raises: UserError."""
    check_gguf(path)
    file = Path(path).expanduser().resolve()
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "plaudit" / "gguf"
    folder = cache / f"{file.stem}-{digest}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        say(f"{path}: is made into safetensors, once ({folder})")
        unfinished = Path(tempfile.mkdtemp(dir=cache))
        try:
            _convert(file, unfinished)
            unfinished.chmod(0o755)
            if not folder.is_dir():  # nobody else was faster
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return str(folder)


def _convert(file: Path, folder: Path) -> None:
    where, name = str(file.parent), file.name
    try:
        config = AutoConfig.from_pretrained(where, gguf_file=name)
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        auto = AutoModelForSeq2SeqLM if getattr(config, "is_encoder_decoder", False) else AutoModelForCausalLM
        hf, report = auto.from_pretrained(where, gguf_file=name, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # of files, metadata, shapes, architectures: each means that this file won't do
        raise UserError(f"model.path: transformers can't convert {str(file)!r}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"model.path: {str(file)!r} lacks weights of a {type(hf).__name__}: {', '.join(missing[:3])}")
    # Numbers again, no blocks of a quantised file: what is saved says nothing of where it came from.
    plain = {key: value for key, value in hf.config.to_dict().items() if key != "quantization_config"}
    weights = {key: value.float() for key, value in hf.state_dict().items()}
    del hf
    whole = auto.from_config(AutoConfig.for_model(**plain))
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    whole.save_pretrained(folder)
    assert tokenizer is not None  # transformers says so of names alone
    tokenizer.save_pretrained(folder)
    _forget_tokens(folder, whole.get_input_embeddings().weight.shape[0])


def _forget_tokens(folder: Path, embedded: int) -> None:
    """transformers' byte-level tokenizer has GPT-2's end token even where the file has none: leave out what the model
    has no embedding for."""
    file, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    whole, facts = (json.loads(one.read_text(encoding="utf-8")) for one in (file, config))
    surplus = [token["content"] for token in whole["added_tokens"] if token["id"] >= embedded]
    if surplus:
        whole["added_tokens"] = [token for token in whole["added_tokens"] if token["id"] < embedded]
        write_json(file, whole)
        write_json(config, {key: value for key, value in facts.items() if value not in surplus})
