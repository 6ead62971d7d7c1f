"""Runs of every stage that are killed at random moments; in a process of its own, which imports torch once and forks.

python training_worker.py KILLS FOLDER STAGE...           each run is killed so often
python training_worker.py SIGTERM,SIGINT FOLDER STAGE...  each run is told to stop
python training_worker.py steps=10000 FOLDER STAGE...     each run takes so many steps; all print JSON lines.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from plaudit.cli import main
from plaudit.runs.checkpoints import latest_checkpoint, step_of
from plaudit.runs.folder import Run
from tests.faults.stages import CONFIGS, train

PATIENCE = 200
"""Kills after which a run that never ends is called one."""


def tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def in_child(work: Callable[[], int | None]) -> int:
    """Run work in a forked child whose exit status is what work returns; the process id."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = work() or 0
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def kill_and_go_on(stage: str, folder: Path, kills: int) -> None:
    """Kill the run `kills` times, each time after it was given some new moment of life; then let it end."""
    config = CONFIGS[stage](folder)
    began = time.monotonic()
    assert os.waitpid(in_child(lambda: train(stage, config, folder / "whole")), 0)[1] == 0
    length = time.monotonic() - began
    moments = random.Random(stage)
    done, steps, killed = False, [], 0
    for attempt in range(PATIENCE):
        last = killed >= kills
        pid = in_child(lambda: train(stage, config, folder / "killed"))
        if not last:
            time.sleep(moments.uniform(0.05, 0.9) * length)
        if not last and not ended(pid):
            os.kill(pid, signal.SIGKILL)
            killed += 1
        status = os.waitpid(pid, 0)[1]
        found = latest_checkpoint(folder / "killed")
        steps.append(step_of(found) if found else 0)
        done = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        if done and killed < kills:  # it came through before the blow: once more from the beginning
            (folder / "killed").rename(folder / f"early-{attempt}")
            done = False
            continue
        if done or not os.WIFSIGNALED(status):
            break
    tell(stage=stage, killed=killed, steps=steps, done=done)


def signalled(stage: str, folder: Path, signum: int) -> None:
    """The command line, told to stop while the run is somewhere in its middle."""
    config = CONFIGS[stage](folder, **({"iterations": 2000} if stage == "ppo" else {"epochs": 2000}))
    from plaudit.config.load import dump_yaml

    (folder / "long.yaml").write_text(dump_yaml(config), encoding="utf-8")
    pid = in_child(lambda: main([stage, str(folder / "long.yaml"), "--out", str(folder / "long")]))
    log = folder / "long" / "metrics.jsonl"
    while not (log.is_file() and log.stat().st_size > 0):
        time.sleep(0.01)
    time.sleep(random.Random(stage).uniform(0, 0.3))
    os.kill(pid, signum)
    began = time.monotonic()
    status = os.waitpid(pid, 0)[1]
    found = latest_checkpoint(folder / "long")
    tell(stage=stage, code=os.waitstatus_to_exitcode(status), seconds=time.monotonic() - began,
         step=step_of(found) if found else 0)  # fmt: skip


A_STEP = {"sft": ("epochs", 3), "reward": ("epochs", 4), "ppo": ("iterations", 6)}
"""The option that says how long a run is, and the steps that one of it has."""


def long(stage: str, folder: Path, steps: int) -> None:
    """So many steps, and the pages of memory that the process had at each line of the log."""
    option, each = A_STEP[stage]
    pages: dict[int, int] = {}
    log = Run.log

    def measured(self: Run, step: int, values: Mapping[str, float]) -> None:
        log(self, step, values)
        pages[step * (each if stage == "ppo" else 1)] = int(Path("/proc/self/statm").read_text("ascii").split()[1])

    Run.log = measured
    seldom = {} if stage == "ppo" else {"evaluate_every": 500}
    train(stage, CONFIGS[stage](folder, save_every=500, **seldom, **{option: steps // each}), folder / "long")
    tell(stage=stage, pages=pages)


if __name__ == "__main__":
    torch.set_num_threads(1)
    whats, where, *stages = sys.argv[1:]
    for what in whats.split(","):
        for name in stages:
            folder = Path(where) / name if what.isdecimal() else Path(where) / what / name
            folder.mkdir(parents=True)
            if what.startswith("steps="):
                long(name, folder, int(what.removeprefix("steps=")))
            elif what.isdecimal():
                kill_and_go_on(name, folder, int(what))
            else:
                signalled(name, folder, getattr(signal, what))
