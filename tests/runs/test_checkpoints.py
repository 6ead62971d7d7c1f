"""Checkpoints: committed or absent, verified before use, purged last."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from plaudit.errors import SaveFailed, StopRequested, UserError
from plaudit.runs import checkpoints
from plaudit.runs.checkpoints import Corrupted, latest_checkpoint, read_manifest, verify
from plaudit.runs.folder import Run
from plaudit.telemetry.log import MetricsLog


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.create(tmp_path / "run", "sft", {}) as run:
        yield run


def save(run: Run, step: int, content: bytes = b"weights", **options: object) -> Path:
    with run.checkpoint(step, **options) as folder:  # type: ignore[arg-type]
        (folder / "weights.bin").write_bytes(content)
        (folder / "optim").mkdir()
        (folder / "optim" / "état.json").write_text(f'{{"step": {step}}}')
    return run.folder / "checkpoints" / f"{step:06d}"


def names(run: Run) -> list[str]:
    return sorted(path.name for path in (run.folder / "checkpoints").iterdir())


def test_a_save_is_committed_with_hashes_sizes_and_pointer(run: Run) -> None:
    path = save(run, 12)
    manifest = json.loads((path / "MANIFEST.json").read_text(encoding="utf-8"))
    assert manifest["step"] == 12 and manifest["format"] == 1
    assert manifest["files"] == {
        "optim/état.json": {"size": 12, "sha256": hashlib.sha256(b'{"step": 12}').hexdigest()},
        "weights.bin": {"size": 7, "sha256": hashlib.sha256(b"weights").hexdigest()},
    }
    assert (run.folder / "checkpoints" / "latest").read_text() == "000012\n"
    assert names(run) == ["000012", "latest"]
    assert run.latest() == path == latest_checkpoint(run.folder)


def test_nothing_is_visible_before_the_end(run: Run) -> None:
    save(run, 1)
    with run.checkpoint(2) as folder:
        (folder / "weights.bin").write_bytes(b"half")
        assert latest_checkpoint(run.folder) == run.folder / "checkpoints" / "000001"
    assert latest_checkpoint(run.folder) == run.folder / "checkpoints" / "000002"


def test_keep_counts_checkpoints(tmp_path: Path) -> None:
    for keep in (1, 3):
        with Run.create(tmp_path / str(keep), "sft", {}, keep=keep) as run:
            for step in range(5):
                save(run, step)
            assert len(names(run)) == keep + 1


def test_order_is_by_number_not_by_clock_or_spelling(run: Run) -> None:
    older = save(run, 999_999)
    newer = save(run, 1_000_000)
    os.utime(newer, (0, 0))
    os.utime(older, (2**31, 2**31))
    assert run.latest() == newer


def test_the_newest_complete_folder_wins_over_a_stale_pointer(run: Run) -> None:
    save(run, 1)
    newest = save(run, 2)
    for content in ("000001\n", "", "\x00\x00", "000099\n"):
        (run.folder / "checkpoints" / "latest").write_text(content)
        assert run.latest() == newest
    (run.folder / "checkpoints" / "latest").unlink()
    assert run.latest() == newest


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), StopRequested(15)])
def test_a_failing_body_leaves_everything_as_it_was(run: Run, error: BaseException) -> None:
    save(run, 1)
    with pytest.raises(type(error)), run.checkpoint(2) as folder:
        (folder / "weights.bin").write_bytes(b"half")
        raise error
    assert names(run) == ["000001", "latest"]
    assert run.latest() == run.folder / "checkpoints" / "000001"


def test_saving_a_step_again_replaces_it(run: Run) -> None:
    save(run, 1, b"old")
    path = save(run, 1, b"new")
    assert (path / "weights.bin").read_bytes() == b"new"
    assert names(run) == ["000001", "latest"]
    verify(path)


def test_an_earlier_step_than_the_newest_is_refused_before_any_work(run: Run) -> None:
    save(run, 5)
    with pytest.raises(UserError, match="000005 is newer than step 4"), run.checkpoint(4):
        pytest.fail("the body must not run")


def test_links_in_a_checkpoint_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="plain files"), run.checkpoint(1) as folder:
        (folder / "w").symlink_to("/etc/passwd")
    assert run.latest() is None


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "missing": lambda path: path.unlink(),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["weights.bin", "optim/état.json", "MANIFEST.json"])
def test_damage_is_found_named_and_passed_over_only_when_asked(
    run: Run, damage: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = save(run, 1), save(run, 2)
    DAMAGES[damage](bad / name)
    with pytest.raises(Corrupted) as caught:
        run.latest()
    assert str(bad / name) in str(caught.value) and "earlier checkpoint can be used" in str(caught.value)
    assert names(run) == ["000001", "000002", "latest"]
    assert latest_checkpoint(run.folder, fallback=True) == good
    assert names(run) == ["000001", "000002", "latest"], "a reader must not change the folder"
    capsys.readouterr()
    assert run.latest(fallback=True) == good
    warned = capsys.readouterr().err
    assert "FALLING BACK" in warned and str(bad / name) in warned
    assert names(run) == ["000001", "000002.damaged", "latest"]
    assert run.latest() == good


def test_after_a_fallback_the_good_checkpoint_is_not_purged_for_the_bad_ones(tmp_path: Path) -> None:
    with Run.create(tmp_path, "sft", {}, keep=3) as run:
        for step in (10, 20, 30):
            save(run, step)
        flip(tmp_path / "checkpoints" / "000020" / "weights.bin")
        flip(tmp_path / "checkpoints" / "000030" / "weights.bin")
        assert run.latest(fallback=True) == tmp_path / "checkpoints" / "000010"
        save(run, 15)
        assert names(run) == ["000010", "000015", "000020.damaged", "000030.damaged", "latest"]
        flip(save(run, 20) / "weights.bin")
        run.latest(fallback=True)
        assert "000020.damaged-2" in names(run)


def test_all_damaged_is_an_error_even_with_fallback(run: Run) -> None:
    flip(save(run, 1) / "weights.bin")
    with pytest.raises(Corrupted, match="there is no earlier one"):
        run.latest()
    with pytest.raises(Corrupted, match="all are damaged"):
        run.latest(fallback=True)
    assert "000001" in names(run)


def test_a_manifest_from_the_future_is_refused(run: Run) -> None:
    path = save(run, 1)
    manifest = read_manifest(path) | {"format": 2}
    manifest["checksum"] = checkpoints._checksum(manifest)
    (path / "MANIFEST.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="format 2, this version reads 1"):
        run.latest(fallback=True)


# ---- a disk that refuses


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["os.fsync", "os.rename", "pathlib.Path.mkdir"])
def test_a_full_disk_keeps_the_previous_and_purges_nothing(
    run: Run, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save(run, step)
    monkeypatch.setattr(MetricsLog, "sync", lambda _: None)
    monkeypatch.setattr(call, no_space)
    with pytest.raises(SaveFailed) as caught:
        save(run, 3)
    monkeypatch.undo()
    told = str(caught.value)
    assert str(run.folder / "checkpoints" / "000003") in told and "No space left on device (" in told
    assert "are free" in told
    assert names(run) == ["000001", "000002", "latest"]
    assert run.latest() == run.folder / "checkpoints" / "000002"
    save(run, 3)


def test_a_full_disk_told_by_a_library_in_its_own_words(run: Run) -> None:
    with pytest.raises(SaveFailed, match="5 bytes were to be written"), run.checkpoint(1) as folder:
        (folder / "w").write_bytes(b"12345")
        raise RuntimeError('Error: Os { message: "No space left on device (os error 28)" }')


def test_a_pointer_that_cannot_be_moved_costs_a_warning_and_no_purge(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save(run, step)
    monkeypatch.setattr("os.replace", no_space)
    path = save(run, 3)
    monkeypatch.undo()
    assert "the checkpoint itself is complete" in capsys.readouterr().err
    assert names(run) == ["000001", "000002", "000003", "latest"]
    assert run.latest() == path


def test_a_purge_that_fails_is_only_a_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save(run, step)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: no_space())
    path = save(run, 3)
    monkeypatch.undo()
    assert "cannot delete" in capsys.readouterr().err
    assert run.latest() == path
