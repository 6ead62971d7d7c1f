"""Fifty runs of ten thousand steps: the list, a run, and all of them over each other open at once."""

import time
from pathlib import Path

import pytest

from tests.report.folders import ppo_lines, rollout_rows, summary, write_run
from tests.web.test_board import open_board

RUNS, STEPS, LIMIT = 50, 10_000, 2.0


@pytest.mark.slow
def test_fifty_long_runs_open_in_two_seconds(tmp_path):
    lines = ppo_lines(STEPS)
    for index in range(RUNS):
        health = summary(health={"level": "healthy", "findings": []})
        done = health if index % 5 else None  # the others were killed
        rollouts = {1: rollout_rows(seed=index), STEPS: rollout_rows(seed=index, mean=2)}
        config = {"seed": index, "kl": {"coef": index / 100}}
        write_run(
            tmp_path / "runs" / f"r{index:02d}", "ppo", config=config, lines=lines, rollouts=rollouts, summary=done
        )
    client = open_board(Path(tmp_path / "runs"))
    every = [("run", f"runs/r{index:02d}") for index in range(RUNS)]
    seconds = {}
    for path, query in (
        ("/", []),
        ("/runs", every[1:2]),
        ("/runs", every),
        ("/api/figures", [*every, ("at", "0,1,2")]),
    ):
        begin = time.process_time()
        answer = client.get(path, params=query)
        seconds[path, len(query)] = time.process_time() - begin
        assert answer.status_code == 200
    assert max(seconds.values()) < LIMIT, seconds
    assert "runs/r49" in client.get("/").text
