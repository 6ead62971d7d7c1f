"""Files of plaudit's own that lie beside a model's weights: plaudit.json, heads, a gate. In a folder or on the hub."""

import functools
from pathlib import Path

from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from plaudit.telemetry.console import warn
from plaudit.tokens.tokenizer import looks_local


def file_beside(path: str | Path, name: str) -> Path:
    """Where `name` of the model at `path` (a folder or a hub name) lies on this machine; nothing is there where the
    model has no such file. Of a hub model it is fetched, as transformers fetches the weights."""
    fetched = None if looks_local(path) else _fetched(str(path), name)
    return fetched or Path(path) / name


@functools.cache
def _fetched(path: str, name: str) -> Path | None:
    try:
        return Path(hf_hub_download(path, name))
    except (EntryNotFoundError, OSError, ValueError) as error:  # who reads the weights says what is wrong with the name
        if not _is_absent(error, path, name):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warn(f"{path}: can't ask the hub for {name}, so the model is taken to have none ({reason})")
        return None


def _is_absent(error: Exception, path: str, name: str) -> bool:
    """Whether the model is known to have no such file: the hub says so, or said so when it was last asked."""
    if isinstance(error, LocalEntryNotFoundError):  # no network, and no copy in the cache
        return try_to_load_from_cache(path, name) is _CACHED_NO_EXIST
    return isinstance(error, EntryNotFoundError)
