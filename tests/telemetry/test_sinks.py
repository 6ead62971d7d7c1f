"""Sinks by name."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.telemetry.sinks import open_sink


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "tensorboard.summary"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_a_missing_package_names_its_extra(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'plaudit\[{name}\]'"):
        open_sink(name, tmp_path, "sft", {})


def test_an_unknown_sink_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'wand'.*tensorboard, wandb, trackio"):
        open_sink("wand", tmp_path, "sft", {})


def test_wandb_and_trackio_get_key_value_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[object] = []
    fake = types.ModuleType("fake")
    fake.log = lambda values, step: got.append((values, step))  # type: ignore[attr-defined]
    fake.init = lambda **options: got.append(options["config"]) or fake  # type: ignore[attr-defined]
    for name in ("wandb", "trackio"):
        got.clear()
        monkeypatch.setitem(sys.modules, name, fake)
        open_sink(name, tmp_path, "sft", {"a": 1})("sft/loss_over_tokens", 0.5, 3)
        assert got == [{"a": 1}, ({"sft/loss_over_tokens": 0.5}, 3)]


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
    open_sink("tensorboard", tmp_path, "sft", {})("sft/loss_over_tokens", 0.5, 3)
    at_exit[0]()
    assert got == [str(tmp_path / "tensorboard"), ("sft/loss_over_tokens", 0.5, 3), "closed"]


def test_a_sink_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("wandb")

    def init(**_: object) -> None:
        raise RuntimeError("no account")

    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    with pytest.raises(UserError, match="'wandb' does not start: RuntimeError: no account"):
        open_sink("wandb", tmp_path, "sft", {})
