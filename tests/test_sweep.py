"""Sweeps: every combination in a folder of its own, gone on with where they stopped, told as mean and spread."""

import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.cli import main
from plaudit.errors import StopRequested
from plaudit.records.results import Result
from plaudit.report.collect import collect
from plaudit.report.heads import head
from plaudit.report.html import render
from plaudit.report.sweep import sweep_table
from plaudit.runs.folder import Run
from plaudit.telemetry.summary import summary
from plaudit.training import dry_run, sft
from tests.kills import kills

CONFIG = "data: [d.jsonl]\nmodel: {path: 'a${b}/model'}\noptim: {learning_rate: 0.5}\n"
GRID = ["--sweep", "optim.learning_rate=0.1,0.2", "seed=0,1,2"]


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Stands in for training: what was run, in order; the loss is 10 × the rate + the seed."""
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    Path("d.jsonl").touch()
    begun: list[tuple[float, int]] = []

    def train(config: Any, run: Run) -> None:
        assert config.model.path == "a${b}/model"
        begun.append((config.optim.learning_rate, config.seed))
        if len(begun) == 3:
            raise StopRequested(2)
        value = 10 * config.optim.learning_rate + config.seed
        run.finish(summary([Result(measure="held_out_loss_over_tokens", subject="SFT", value=value)]))

    monkeypatch.setattr(sft, "sft", train)
    return begun


@kills(
    "report/sweep.py",
    old="statistics.stdev(values)",
    new="statistics.pstdev(values)",
    why="the spread over three seeds is too small by a fifth",
)
def test_a_sweep_is_run_gone_on_with_and_told(
    runs: list[tuple[float, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sft", "c.yaml", *GRID, "--epochs", "2", "--out", "runs/s"]) == 130
    assert "go on with `plaudit resume runs/s`" in capsys.readouterr().err
    assert main(["resume", "runs/s"]) == 0
    rates = [(rate, seed) for rate in (0.1, 0.2) for seed in (0, 1, 2)]
    assert runs == [*rates[:3], *rates[2:]]
    shown = capsys.readouterr()
    assert "seed=0 ── run 1 of 6, finished before" in shown.err and "run 6 of 6" in shown.err
    folders = sorted(path.name for path in Path("runs/s").iterdir() if path.is_dir())
    assert folders[0] == "01-optim.learning_rate=0.1,seed=0" and len(folders) == 6
    assert json.loads(Path("runs/s/summary.json").read_text())["results"][5]["value"] == 4.0
    item = collect(Path("runs/s"))
    table = sweep_table(item)
    assert table is not None and table.options == ("optim.learning_rate",)
    assert [(line.options, line.numbers) for line in table.lines] == [(("0.1",), ("2 ± 1",)), (("0.2",), ("3 ± 1",))]
    assert "mean ± standard deviation over 3 seeds" in shown.out and "2 ± 1" in shown.out
    assert "mean ± standard deviation over 3 seeds" in render([item])
    assert head(item).sentences == (f"Sweep: {table.title}.",) and "Seed" not in head(item).facts
    assert ", seed 0" not in shown.out


def test_runs_that_are_not_finished_are_counted(runs: list[tuple[float, int]]) -> None:
    assert main(["sft", "c.yaml", *GRID, "--out", "runs/s"]) == 130
    table = sweep_table(collect(Path("runs/s")))
    assert table is not None
    assert [line.numbers[0] for line in table.lines] == ["1.5 ± 0.7071 (2 of 3)", "–"]
    assert [line.status.value for line in table.lines] == ["interrupted", "never started"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["epohcs=1,2"], "--epohcs: unknown key; did you mean 'epochs'?"),
        (["epochs=1,two"], "--epochs: expected whole number, got 'two'"),
        (["epochs"], "--sweep epochs: write an option and its different values"),
        (["seed=1,1"], "--sweep seed=1,1: write an option and its different values"),
        (["seed=" + ",".join(map(str, range(100)))], "100 runs are more than"),
    ],
)
def test_every_run_is_checked_before_the_first(
    runs: list[tuple[float, int]], capsys: pytest.CaptureFixture[str], axes: list[str], message: str
) -> None:
    assert main(["sft", "c.yaml", "--sweep", *axes]) == 2
    assert message in capsys.readouterr().err and runs == [] and not Path("runs").exists()


def test_a_sweep_is_run_dry_by_its_first_combination(
    runs: list[tuple[float, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dry: list[float] = []
    monkeypatch.setattr(dry_run, "dry_run", lambda stage, config: dry.append(config.optim.learning_rate))
    assert main(["sft", "c.yaml", *GRID, "--dry-run"]) == 0
    assert (dry, runs) == ([0.1], []) and not Path("runs").exists()


def test_values_may_be_lists(runs: list[tuple[float, int]]) -> None:
    assert main(["sft", "c.yaml", "--sweep", "optim.betas=[0.9, 0.95],[0.8, 0.99]"]) == 0
    assert len(runs) == 2 and len(list(Path("runs/c").glob("0*"))) == 2
