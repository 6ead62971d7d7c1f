"""Sinks by name."""

import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plaudit
from plaudit.errors import UserError
from plaudit.telemetry.health import Level, Symptom
from plaudit.telemetry.sinks import open_sink


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboard.summary"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_missing_package_names_its_extra(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    checkout = Path(plaudit.__file__).resolve().parents[2]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"pip install '{re.escape(str(checkout))}\[{name}\]'"):
        open_sink(name, tmp_path, "sft", {}, "id")
    monkeypatch.chdir(checkout)
    with pytest.raises(UserError, match=rf"pip install '\.\[{name}\]'"):
        open_sink(name, tmp_path, "sft", {}, "id")
    monkeypatch.setattr(plaudit, "__file__", str(tmp_path / "lib" / "plaudit" / "__init__.py"))
    with pytest.raises(UserError, match=f"pip install {name}$"):  # no index has plaudit
        open_sink(name, tmp_path, "sft", {}, "id")


def test_an_unknown_sink_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'wand'.*tensorboard, wandb, trackio"):
        open_sink("wand", tmp_path, "sft", {}, "id")


FINDING = Symptom(rule="loss_rises", level=Level.ALARM, key="k", since=3, value=1.0, says="it rose", do="lower it")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_wandb_and_trackio_get_lines_and_alerts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []
    fake: Any = types.ModuleType("fake")
    fake.log = lambda values, step: got.append((values, step))
    fake.init = lambda **options: got.append(options) or fake
    monkeypatch.setitem(sys.modules, name, fake)
    sink = open_sink(name, tmp_path, "sft", {"a": 1}, "id7")
    sink.log({"sft/loss_over_tokens": 0.5}, 3)
    sink.alert(FINDING, 3)  # of a version that knows no alerts
    options, *sent = got
    assert (options["config"], options["resume"]) == ({"a": 1}, "allow")
    assert "id7" in (options.get("id"), options["name"].rpartition("-")[2])
    assert sent == [({"sft/loss_over_tokens": 0.5}, 3), ({"health/loss_rises": 3.0}, 3)]
    fake.alert = lambda **options: got.append(options)
    fake.AlertLevel = {"ERROR": "ERROR"}
    sink.alert(FINDING, 3)
    assert got[-1] == {"title": "plaudit: loss_rises", "text": "it rose (step 3): lower it", "level": "ERROR"}


def test_tensorboard_gets_key_value_step_and_is_closed_at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            got.append(folder)

        def add_scalar(self, key: str, value: float, step: int) -> None:
            got.append((key, value, step))

        def close(self) -> None:
            got.append("closed")

    fake = types.ModuleType("tensorboard.summary")
    fake.Writer = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboard.summary", fake)
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    sink = open_sink("tensorboard", tmp_path, "sft", {}, "id")
    sink.log({"sft/loss_over_tokens": 0.5}, 3)
    sink.alert(FINDING, 3)
    at_exit[0]()
    sent = [("sft/loss_over_tokens", 0.5, 3), ("health/loss_rises", 3.0, 3)]
    assert got == [str(tmp_path / "tensorboard"), *sent, "closed"]


def test_a_sink_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("wandb")

    def init(**_: object) -> None:
        raise RuntimeError("no account")

    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(UserError, match="'wandb' does not start: RuntimeError: no account"):
        open_sink("wandb", tmp_path, "sft", {}, "id")
