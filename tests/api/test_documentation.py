"""docs/python.md and the notebook: every block runs, in order, as a reader would run it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "aligning_a_policy.ipynb"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M | re.S)


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def run(pieces: list[str], where: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for number, piece in enumerate(pieces, start=1):
        exec(compile(piece, f"{where} block {number}", "exec"), names)
    return names


def test_every_block_is_python_and_the_notebook_keeps_its_outputs() -> None:
    for number, piece in enumerate([*blocks(), *cells()]):
        compile(piece, f"block {number}", "exec")
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert sum(bool(cell["outputs"]) for cell in code) >= len(code) // 2
    assert NOTEBOOK.stat().st_size < 100_000


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(blocks(), "docs/python.md")
    assert names["run"].finished and (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_the_notebook_runs_and_aligns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(cells(), "aligning_a_policy.ipynb")
    before, after = names["before"], names["after"]
    assert sum(after) / len(after) > sum(before) / len(before) + 0.3
