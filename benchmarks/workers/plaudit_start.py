"""One command of plaudit in a process of its own: until it ends or, of the demo, until fine-tuning's first step stands
in metrics.jsonl.

Task: arguments. Figures: seconds on the wall and of CPU, peak memory.
"""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import answer, task

PPO = "prompts: p.jsonl\nrewards: [{function: repetition}]\nmodel: tiny\n"
"""A file whose own options are right."""


def has_stepped(folder: Path) -> bool:
    """Whether a stage of fine-tuning has logged a loss."""
    files = [path for path in folder.rglob("metrics.jsonl") if "sft" in path.parent.name]
    return any("sft/loss_over_tokens" in path.read_text(encoding="utf-8") for path in files)


def main() -> None:
    words = task()["arguments"]
    with tempfile.TemporaryDirectory() as folder:
        is_demo = words == ["demo"]
        command = [sys.executable, "-m", "plaudit", *words, *(["--out", folder + "/run"] if is_demo else [])]
        (Path(folder) / "ppo.yaml").write_text(
            "prompts: p.jsonl\nrewards: [{function: repetition}]\nmodel: tiny\n", encoding="utf-8"
        )
        began = time.perf_counter()
        with (Path(folder) / "output").open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, start_new_session=True)
        while process.poll() is None and not (is_demo and has_stepped(Path(folder))):
            time.sleep(0.02 if is_demo else 0.002)
        wall = time.perf_counter() - began
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        elif is_demo:
            raise SystemExit((Path(folder) / "output").read_text(encoding="utf-8")[-300:])
        process.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer(wall=wall, cpu=used.ru_utime + used.ru_stime, command_bytes=used.ru_maxrss * 1024)


main()
