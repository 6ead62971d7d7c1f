"""Optional places that metrics also go to, and findings as alerts. Each is imported only when asked for by name."""

from __future__ import annotations

import atexit
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import plaudit
from plaudit.errors import UserError
from plaudit.telemetry.console import warn
from plaudit.telemetry.health import Level, Symptom

_AS_WANDB = {Level.NOTICE: "INFO", Level.WARNING: "WARN", Level.ALARM: "ERROR"}


class Sink(Protocol):
    """A tracker's run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """One line of metrics."""

    def alert(self, finding: Symptom, step: int) -> None:
        """What the health rules found: an alert where the tracker has such, else a curve `health/<rule>`."""


class _Tensorboard:
    def __init__(self, folder: Path, stage: str, config: Mapping[str, Any], run_id: str) -> None:
        self._writer = _need("tensorboard.summary", "tensorboard").Writer(str(folder / "tensorboard"))
        atexit.register(self._writer.close)  # it buffers

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def alert(self, finding: Symptom, step: int) -> None:
        self.log(_as_curve(finding), step)


class _Wandb:
    def __init__(self, folder: Path, stage: str, config: Mapping[str, Any], run_id: str) -> None:
        name = {"project": "plaudit", "name": f"{folder.resolve().name}-{stage}"}
        init = _need("wandb", "wandb").init
        self._run = init(**name, dir=str(folder), config=dict(config), id=run_id, resume="allow")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def alert(self, finding: Symptom, step: int) -> None:
        if not hasattr(self._run, "alert"):
            return self.log(_as_curve(finding), step)
        self._run.alert(title=f"plaudit: {finding.rule}", text=finding.text, level=_AS_WANDB[finding.level])


class _Trackio:
    def __init__(self, folder: Path, stage: str, config: Mapping[str, Any], run_id: str) -> None:
        self._trackio = _need("trackio", "trackio")
        name = f"{folder.resolve().name}-{stage}-{run_id}"
        self._trackio.init(project="plaudit", name=name, config=dict(config), resume="allow")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def alert(self, finding: Symptom, step: int) -> None:
        if not hasattr(self._trackio, "alert"):
            return self.log(_as_curve(finding), step)
        level = self._trackio.AlertLevel[_AS_WANDB[finding.level]]
        self._trackio.alert(title=f"plaudit: {finding.rule}", text=finding.text, level=level)


SINKS: dict[str, Callable[[Path, str, Mapping[str, Any], str], Sink]] = {
    "tensorboard": _Tensorboard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}


def open_sink(name: str, folder: Path, stage: str, config: Mapping[str, Any], run_id: str) -> Sink:
    """A sink by name, into the tracker's run of that id, new or not.

    UserError when there is no such sink, its package is missing, or it does not start.
    """
    if name not in SINKS:
        raise UserError(f"no metrics sink is called {name!r}; choose from: {', '.join(SINKS)}")
    try:
        return _Forgiving(name, SINKS[name](Path(folder), stage, config, run_id))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the metrics sink {name!r} does not start: {type(error).__name__}: {error}") from error


class _Forgiving:
    """The same sink, except that its first failure is its last: one warning, and the run goes on without it."""

    def __init__(self, name: str, sink: Sink) -> None:
        self._name, self._sink = name, sink
        self._dead = False

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._try(lambda: self._sink.log(values, step))

    def alert(self, finding: Symptom, step: int) -> None:
        self._try(lambda: self._sink.alert(finding, step))

    def _try(self, send: Callable[[], None]) -> None:
        if self._dead:
            return
        try:
            send()
        except Exception as error:
            self._dead = True
            reason = f"{type(error).__name__}: {error}"
            warn(f"the metrics sink {self._name!r} failed and is left out from now on: {reason}")


def _as_curve(finding: Symptom) -> dict[str, float]:
    return {f"health/{finding.rule}": float(finding.level.rank + 1)}


def _need(module: str, sink: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the metrics sink {sink!r} needs a package that is not installed: pip install {_extra(sink)}"
        ) from error


def _extra(sink: str) -> str:
    """What pip takes for it: plaudit is on no index, so it is the checkout that has extras, or the package alone."""
    checkout = Path(plaudit.__file__).resolve().parents[2]
    if not (checkout / "pyproject.toml").is_file():
        return sink
    return f"'{'.' if checkout == Path.cwd() else checkout}[{sink}]'"
