"""Every benchmark for real, on its smallest model: ours, and the peers whose environments stand here already."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.__main__ import SPEED
from benchmarks.environments import cache
from benchmarks.session import ROOT

pytestmark = pytest.mark.slow


def measured(tmp_path, *words: str) -> list[dict]:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", *words, "--quick", "--threads", "1", "--out", str(out)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, timeout=900)
    return json.loads(out.read_text(encoding="utf-8"))["measurements"]


@pytest.mark.parametrize("name", SPEED)
def test_ours(name, tmp_path):
    entries = measured(tmp_path, name, "--no-peers")
    assert entries
    assert [entry["failed"] for entry in entries if entry["failed"]] == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [("trl112", ["ppo"]), ("trl116", ["ppo", "--groups"]), ("trl116", ["reward"]), ("trl116", ["sft"])],
)
def test_beside_a_peer(environment, words, tmp_path):
    if not (cache() / "peers" / environment / "made").exists():
        pytest.skip(f"python -m benchmarks {words[0]} makes this environment, which takes network")
    entries = measured(tmp_path, *words)
    assert [entry["failed"] for entry in entries if entry["failed"]] == []
    assert {entry["side"] for entry in entries} > {"plaudit"}
