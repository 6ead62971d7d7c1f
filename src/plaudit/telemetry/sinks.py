"""Optional places that metrics also go to. Each is imported only when asked for by name."""

from __future__ import annotations

import atexit
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import UserError
from plaudit.telemetry.console import warn

Sink = Callable[[str, float, int], None]
"""(key, value, step) -> nothing."""


def _need(module: str, sink: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the metrics sink {sink!r} needs a package that is not installed: pip install 'plaudit[{sink}]'"
        ) from error


def _tensorboard(folder: Path, stage: str, config: Mapping[str, Any]) -> Sink:
    writer = _need("tensorboard.summary", "tensorboard").Writer(str(folder / "tensorboard"))
    atexit.register(writer.close)  # it buffers
    return lambda key, value, step: writer.add_scalar(key, value, step)


def _wandb(folder: Path, stage: str, config: Mapping[str, Any]) -> Sink:
    wandb = _need("wandb", "wandb")
    run = wandb.init(project="plaudit", name=f"{folder.name}-{stage}", dir=str(folder), config=dict(config))
    return lambda key, value, step: run.log({key: value}, step=step)


def _trackio(folder: Path, stage: str, config: Mapping[str, Any]) -> Sink:
    trackio = _need("trackio", "trackio")
    trackio.init(project="plaudit", name=f"{folder.name}-{stage}", config=dict(config))
    return lambda key, value, step: trackio.log({key: value}, step=step)


SINKS = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}


def open_sink(name: str, folder: Path, stage: str, config: Mapping[str, Any]) -> Sink:
    """A sink by name; UserError when there is no such sink, its package is missing, or it does not start."""
    if name not in SINKS:
        raise UserError(f"no metrics sink is called {name!r}; choose from: {', '.join(SINKS)}")
    try:
        return forgiving(name, SINKS[name](Path(folder), stage, config))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the metrics sink {name!r} does not start: {type(error).__name__}: {error}") from error


def forgiving(name: str, sink: Sink) -> Sink:
    """The same sink, except that its first failure is its last: one warning, and the run goes on without it."""
    dead = False

    def send(key: str, value: float, step: int) -> None:
        nonlocal dead
        if dead:
            return
        try:
            sink(key, value, step)
        except Exception as error:
            dead = True
            warn(f"the metrics sink {name!r} failed and is left out from now on: {type(error).__name__}: {error}")

    return send
