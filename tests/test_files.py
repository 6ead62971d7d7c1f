"""Writes that are whole or absent, and names that stay where they belong."""

import errno
import json
import os
from pathlib import Path

import pytest

from plaudit.errors import SaveFailed, UserError
from plaudit.files import atomic_write, free_bytes, inside, make_folder, remove_leftovers, safe_name, write_json


@pytest.mark.parametrize("name", ["run", "run-1", "Lauf_ü", "运行", "a b", "a.b", "x" * 200])
def test_ordinary_names_pass(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../../x", "/etc", "a/b", "a\\b", "a\0b", "a\nb", "\x7f", "-rf", ".hidden", "x.", "x ", "x" * 201],
)
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="name "):
        safe_name(name)


def test_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root)
    with pytest.raises(UserError, match="leads out of"):
        inside(root, "out")
    assert inside(root, "in") == root / "in"
    assert inside(root, "new") == root / "new"


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a ü.txt"
    atomic_write(path, "é\r\n")
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    atomic_write(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert [p.name for p in tmp_path.iterdir()] == ["a ü.txt"]


def test_atomic_write_obeys_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "x", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_content(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    atomic_write(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(SaveFailed) as caught:
        atomic_write(path, "new content")
    assert str(path) in str(caught.value) and "No space left on device (11 bytes were to be written" in str(
        caught.value
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_no_nan_and_takes_any_text(tmp_path: Path) -> None:
    value = {"a": [float("nan"), 1.5, {"b": float("-inf")}], 1: (2, "\ud800é"), "p": Path("x")}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": [None, 1.5, {"b": None}], "1": [2, "\ud800é"], "p": "x"}
    assert "é" in text


def test_make_folder_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file" / "run", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UserError, match="cannot write to the folder"):
            make_folder(folder)
    make_folder(tmp_path / "ü b" / "c")
    assert list((tmp_path / "ü b" / "c").iterdir()) == []


def test_leftovers_go_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-0" / "deep").mkdir(parents=True)
    (tmp_path / ".tmp-2-0").write_text("x")
    (tmp_path / "keep").write_text("x")
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["keep"]
    remove_leftovers(tmp_path / "absent")


def test_free_bytes_of_a_folder_to_be(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
