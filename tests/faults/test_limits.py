"""Where the machine gives no more: memory, disk, names, files that lie; and signals while a judge is at work."""

import contextlib
import json
import os
import resource
import signal
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.cli import main
from plaudit.errors import MEMORY_ADVICE, UserError, out_of_memory
from plaudit.models.load import load_causal
from plaudit.models.options import ModelConfig
from plaudit.runs.checkpoints import latest_checkpoint, step_of
from plaudit.runs.folder import Run
from plaudit.training import optim, state
from tests.faults.test_resume import STAGES, assert_same, config_file, run_worker
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.tiny import jsonl, language, metrics, model_folder

# ------------------------------------------------------------------------------------------------------ memory (12)


def host_memory() -> None:
    torch.empty(1 << 50)


def gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of …")


def python_memory() -> None:
    raise MemoryError


def test_out_of_memory_says_what_to_turn_and_keeps_the_checkpoint(tmp_path, capsys, monkeypatch):
    """In the last step of six, behind the checkpoint of the fourth."""
    path = config_file(tmp_path, "sft")
    assert main(["sft", path, "--out", str(tmp_path / "whole")]) == 0
    taken, step = [], optim.step

    def hungry(*arguments: Any, **options: Any) -> Any:
        taken.append(1)
        if len(taken) == 6:
            host_memory()
        return step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(optim, "step", hungry)
        capsys.readouterr()
        assert main(["sft", path, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "error: out of memory (" in said and MEMORY_ADVICE in said
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("allocate", [host_memory, gpu_memory, python_memory])
def test_out_of_memory_is_known_by_its_first_line(allocate):
    with pytest.raises(Exception) as raised:
        allocate()
    message = out_of_memory(raised.value)
    assert message.startswith("out of memory (") and "()" not in message and "total capacity" not in message


def test_other_errors_are_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# -------------------------------------------------------------------------------------------------------- disk (3, 32)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses files beyond `size` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("stage", ["sft", "ppo"])
def test_a_disk_that_is_full_at_a_save_ends_the_run_with_the_checkpoint_before(tmp_path, capsys, monkeypatch, stage):
    path = config_file(tmp_path, stage)
    assert main([stage, path, "--out", str(tmp_path / "whole")]) == 0
    saves, save = [], state.save

    def on_a_small_disk(*arguments: Any, **options: Any) -> None:
        saves.append(1)
        with largest_file(5_000) if len(saves) == 2 else contextlib.nullcontext():
            save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(state, "save", on_a_small_disk)
        capsys.readouterr()
        assert main([stage, path, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"error: cannot write {tmp_path / 'run' / 'checkpoints'}" in said and "are free" in said
    saved = latest_checkpoint(tmp_path / "run")
    assert saved is not None and step_of(saved) == 4
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_folders_may_have_spaces_and_any_letters(tmp_path, monkeypatch):
    place = tmp_path / "été 中文 'quoted' $HOME"
    place.mkdir()
    monkeypatch.chdir(place)
    assert main(["sft", config_file(place, "sft", epochs=1), "--out", "mes résultats"]) == 0
    assert main(["resume", "mes résultats", "--epochs", "2"]) == 0
    assert main(["report", "mes résultats"]) == 0


def test_a_name_that_is_too_long_is_told_before_anything_loads(tmp_path, capsys):
    assert main(["sft", config_file(tmp_path, "sft"), "--out", str(tmp_path / ("n" * 300))]) == 2
    assert "File name too long" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ weights that lie (42)


def header(facts: object, length: int | None = None) -> bytes:
    said = json.dumps(facts).encode()
    return struct.pack("<Q", len(said) if length is None else length) + said


TENSOR = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
LIES = {
    "a header of a terabyte": header({}, length=1 << 40),
    "a tensor of four terabytes": header({"model.embed_tokens.weight": TENSOR}),
    "a shape that overflows": header({"model.embed_tokens.weight": TENSOR | {"shape": [1 << 40, 1 << 40]}}),
    "no JSON": struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_weights_file_that_claims_too_much_is_named_and_nothing_is_allocated(tmp_path, lie):
    folder = Path(model_folder(tmp_path / "m"))
    (folder / "model.safetensors").write_bytes(LIES[lie])
    began = time.monotonic()
    with pytest.raises(UserError, match=str(folder)):
        load_causal(ModelConfig(path=str(folder)), language(str(folder)), seed=0)
    assert time.monotonic() - began < 20


# ----------------------------------------------------------------------------------------- judges and signals (17, 29)


def test_answers_that_are_all_worth_the_same_teach_nothing_and_stay_finite(tmp_path):
    path, chosen = tmp_path / "same.py", config(tmp_path)
    path.write_text("def same(completions, **columns):\n    return [7.0] * len(completions)\n", encoding="utf-8")
    lines = metrics(run(tmp_path, replace(chosen, rewards=(replace(chosen.rewards[0], function=f"{path}:same"),))))
    assert len(lines) == 2
    assert all(value is not None for line in lines for value in line.values())


SLOW_JUDGE = """
import os, signal, time


def slow(completions, **columns):
    os.kill({pid}, signal.{name})
    time.sleep(60)
    return [0.0] * len(completions)
"""


@kills(
    "runs/signals.py",
    old="        if self._at_once:\n            raise StopRequested(signum)\n",
    new="",
    why="an evaluation that hears a signal goes on until its judge is done",
)
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("isolate", [True, False])
def test_a_signal_in_an_evaluation_ends_it_though_the_judge_is_at_work(tmp_path, capsys, name, code, isolate):
    source = SLOW_JUDGE.format(pid=os.getpid(), name=name)
    (tmp_path / "judge.py").write_text(source, encoding="utf-8")
    rows = [{"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    data = jsonl(tmp_path / "rows.jsonl", rows[:1] * 3)
    judge = f"[{{kind: function, function: '{tmp_path}/judge.py:slow', isolate: {str(isolate).lower()}}}]"
    (tmp_path / "eval.yaml").write_text(f"data: {data}\nmodels: {judge}\n", encoding="utf-8")
    began = time.monotonic()
    assert main(["eval", "reward", str(tmp_path / "eval.yaml"), "--out", str(tmp_path / "run")]) == code
    assert time.monotonic() - began < 20
    assert not (tmp_path / "run" / "summary.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ------------------------------------------------------------------------------------------- the machine of before (7)


@kills(
    "runs/provenance.py",
    old="if name in before and before[name] != now.get(name)",
    new="if name not in before and before[name] != now.get(name)",
    why="a resume with another torch that nobody hears of",
)
def test_other_versions_are_told_when_a_run_goes_on(tmp_path, capsys):
    with Run.create(tmp_path / "run", "sft", {}):
        pass
    provenance = tmp_path / "run" / "provenance.json"
    facts = json.loads(provenance.read_text(encoding="utf-8"))
    assert not told_on_opening(tmp_path / "run", capsys)
    facts["versions"] |= {"torch": "1.0.0", "pydantic": "1.0.0"}
    provenance.write_text(json.dumps(facts), encoding="utf-8")
    (told,) = told_on_opening(tmp_path / "run", capsys).splitlines()
    assert f"torch 1.0.0 → {torch.__version__.partition('+')[0]}" in told
    assert "pydantic" not in told, "it computes nothing"


def told_on_opening(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    Run.open(folder).close()
    return capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- long runs


STEPS, AFTER = 10_000, 2_000
"""All, and those after which everything that is made once has been made."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
@STAGES
def test_ten_thousand_steps_need_no_more_memory(tmp_path, warm, stage):
    """In a process of its own: pytest keeps what is said."""
    (told,) = run_worker(warm, f"steps={STEPS}", str(tmp_path), stage, seconds=3000)
    sizes = {int(step): size for step, size in told["pages"].items()}
    assert max(sizes) >= 0.95 * STEPS
    settled = max(size for step, size in sizes.items() if step <= AFTER)
    assert max(sizes.values()) < 1.02 * settled, "a step leaves something behind"
