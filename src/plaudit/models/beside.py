"""Files of plaudit's own that lie beside a model's weights: plaudit.json, heads, a gate. In a folder or on the hub."""

import contextlib
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import _CACHED_NO_EXIST, constants, get_session, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from plaudit.config.objects import behind, is_stand_in
from plaudit.errors import UserError
from plaudit.files import atomic_write
from plaudit.runs import card
from plaudit.telemetry.console import warn
from plaudit.tokens.tokenizer import looks_local

PLAUDIT_JSON = "plaudit.json"
HUB_SECONDS = 4.0
"""Longer than any answer takes, and short enough to wait for once."""


@functools.cache
def reach_hub() -> None:
    """Before a hub name is asked for: where the hub doesn't answer one question, this process goes on as if offline,
    by the cache. Otherwise each file would be asked for again and again, for a minute in all."""
    if constants.HF_HUB_OFFLINE:
        return
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception as error:  # of sockets, names, proxies, certificates
        constants.HF_HUB_OFFLINE = True
        reason = str(error) or type(error).__name__
        warn(f"the hub doesn't answer ({reason}): models and data come from this machine's cache alone")


def file_beside(path: str | Path, name: str) -> Path:
    """Where `name` of the model at `path` (a folder or a hub name) lies on this machine; nothing is there where the
    model has no such file. Of a hub model it is fetched, as transformers fetches the weights."""
    if not looks_local(path):
        reach_hub()
    fetched = None if looks_local(path) else _fetched(str(path), name)
    return fetched or Path(path) / name


@functools.cache
def _fetched(path: str, name: str) -> Path | None:
    try:
        return Path(hf_hub_download(path, name))
    except (EntryNotFoundError, OSError, ValueError) as error:  # who reads the weights says what is wrong with the name
        if name == PLAUDIT_JSON and not _is_absent(error, path, name):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warn(f"{path}: can't ask the hub for {name}, so the model is taken to have none ({reason})")
        return None


def _is_absent(error: Exception, path: str, name: str) -> bool:
    """Whether the model is known to have no such file: the hub says so, or said so when it was last asked."""
    if isinstance(error, LocalEntryNotFoundError):  # no network, and no copy in the cache
        return try_to_load_from_cache(path, name) is _CACHED_NO_EXIST
    return isinstance(error, EntryNotFoundError)


def base_facts(path: str) -> dict[str, Any]:
    """Of what a run began from, for its card: its path, and licence and base as its own card says; nothing for a model
    that was handed in from Python."""
    if not path or behind(path) is not None or is_stand_in(path):
        return {}
    if path == "tiny":
        return {"path": path}
    beside = file_beside(Path(path).parent if Path(path).is_file() else path, card.NAME)
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        known = card.licence_facts(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return {"path": path, **known, **({} if looks_local(path) else {"base_model": path})}


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    atomic_write(folder / PLAUDIT_JSON, json.dumps(dict(facts), indent=2, ensure_ascii=False) + "\n")


def read_facts(folder: str | Path) -> dict[str, Any]:
    """What `plaudit.json` says, or nothing for a model that plaudit did not write. UserError for a damaged file."""
    path = file_beside(folder, PLAUDIT_JSON)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}") from error
