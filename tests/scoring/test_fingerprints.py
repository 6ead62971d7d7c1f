"""A reward function's file belongs to a run as its data does."""

from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.runs.folder import Run
from plaudit.scoring.loading import code_fingerprints
from plaudit.training.policy.loop import ppo
from tests.training import scripted


def test_a_resumed_run_refuses_a_reward_function_whose_file_has_changed(tmp_path: Path) -> None:
    chosen = scripted.config(tmp_path, iterations=1)
    folder = scripted.run(tmp_path, chosen)
    file = tmp_path / "judge.py"
    assert len(Run.open(folder).provenance["data"][str(file)]) == 64
    longer = scripted.config(tmp_path, iterations=2)
    file.write_text(file.read_text() + "\n# another one\n")
    with Run.open(folder) as run, pytest.raises(UserError, match=r"judge\.py: changed since the run"):
        ppo(longer, run)
    with Run.open(folder, change=True) as run:
        ppo(longer, run)


def test_what_has_a_file_has_a_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("x = 1\n")
    file = str(tmp_path / "f.py")
    assert list(code_fingerprints([f"{file}:a", f"{file}:b", "keywords", "json:dumps", "gone.py:f"])) == [file]
