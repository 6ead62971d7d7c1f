"""`plaudit eval reward` on a judge behind a server, killed in the middle and started anew, as a user would."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.scoring.asking.fake import fake_server, shown
from tests.training.tiny import jsonl

KEY = "sk-in-the-environment-alone"
SLOW_AT = 9


@pytest.mark.slow
def test_a_killed_run_asks_for_the_rest_alone_and_keeps_no_key(tmp_path):
    stuck = threading.Event()

    def answer(asked, number):
        if number == SLOW_AT:
            stuck.set()
            time.sleep(20.0)
        return f"[[{len(shown(asked))}]]"

    jsonl(tmp_path / "labels.jsonl", [{"prompt": f"p{i}", "chosen": "aaa", "rejected": "b"} for i in range(8)])
    with fake_server(answer) as server:
        judge = {"kind": "chat", "endpoint": server.endpoint, "model": "m", "cache": "judge.sqlite", "concurrency": 1}
        (tmp_path / "judge.yaml").write_text(json.dumps({"data": "labels.jsonl", "models": [judge]}), encoding="utf-8")
        environment = {**os.environ, "PLAUDIT_JUDGE_KEY": KEY, "PYTHONPATH": os.path.abspath("src")}
        begin = [sys.executable, "-m", "plaudit", "eval", "reward", "judge.yaml", "--out", "run"]
        child = subprocess.Popen(begin, cwd=tmp_path, env=environment)
        assert stuck.wait(300.0)
        child.send_signal(signal.SIGKILL)
        child.wait()
        again = [*begin[:-1], "again"]
        done = subprocess.run(again, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        asked = [(request["messages"][-1]["content"], request["seed"]) for request in server.requests]
        assert set(server.keys) == {f"Bearer {KEY}"}
    # Two answers to each of eight prompts, with two seeds; the one that was on its way is asked again.
    assert len(set(asked)) == 32
    assert len(asked) == 33 and asked[SLOW_AT] == asked[SLOW_AT + 1]
    summary = json.loads((tmp_path / "again" / "summary.json").read_text(encoding="utf-8"))
    accuracy = [r["value"] for r in summary["results"] if r["measure"] == "held_out_accuracy_over_pairs"]
    assert accuracy[0] == 1.0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in done.stdout + done.stderr
