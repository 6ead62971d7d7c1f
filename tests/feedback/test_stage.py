"""The stage that waits for people, and what their judgements say of policies and judges."""

import json
import os
import signal
import threading
import time

import pytest

from plaudit.data.options import DataConfig
from plaudit.errors import StopRequested, UserError
from plaudit.feedback.findings import findings
from plaudit.feedback.options import LabelConfig, ProjectConfig
from plaudit.feedback.records import Judgement
from plaudit.feedback.sources import read_tasks
from plaudit.feedback.stage import label
from plaudit.feedback.store import Store
from plaudit.runs.folder import Run
from plaudit.telemetry.summary import read_results
from tests.data.files import write
from tests.feedback.people import judge, person
from tests.kills import kills


def config(tmp_path, **options) -> LabelConfig:
    rows = [{"prompt": f"q{i}", "responses": ["a", "b", "c"]} for i in range(3)]
    return LabelConfig(data=(DataConfig(path=write(tmp_path, rows)),), poll_seconds=0.02, **options)


def summary(folder) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_the_stage_waits_for_people_and_leaves_their_rankings(tmp_path):
    chosen = config(tmp_path, project=ProjectConfig(overlap=2))
    folder = tmp_path / "run"

    def people() -> None:
        while not Store.exists(str(folder / "project.db")):
            time.sleep(0.02)
        store = Store.open(str(folder / "project.db"))
        for name in ("ann", "bob"):
            who = person(store, name)
            for _ in range(3):
                judge(store, who, 1, 2, 3)

    at_work = threading.Thread(target=people)
    at_work.start()
    with Run.create(folder, "label", chosen) as run:
        label(chosen, run)
    at_work.join()
    rows = [json.loads(line) for line in (folder / "rankings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["labeller"] for row in rows] == ["ann"] * 3 + ["bob"] * 3
    left = summary(folder)
    assert (left["rankings"], left["judgements"], left["labellers"]) == (6, 6, 2)
    agreement = {(r.measure, r.subject): r.value for r in read_results(left, folder / "summary.json")}
    assert agreement["two_labellers_over_pairs", "labellers"] == 1.0
    assert agreement["verdict_alpha_over_pairs", "labellers"] == 1.0


def test_a_stopped_stage_goes_on_with_what_people_did(tmp_path):
    chosen = config(tmp_path, wait=False)
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"0 of 3 judgements are there. People rank by: plaudit label .*project.db"), \
            Run.create(folder, "label", chosen) as run:  # fmt: skip
        label(chosen, run)
    store = Store.open(str(folder / "project.db"))
    ann = person(store, "ann")
    judge(store, ann, 1, 2, 3)
    waiting = config(tmp_path)
    with pytest.raises(StopRequested), Run.open(folder) as run:
        os.kill(os.getpid(), signal.SIGTERM)
        label(waiting, run)
    judge(store, ann, 1, 2, 3), judge(store, ann, 3, 2, 1)
    with Run.open(folder) as run:
        label(chosen, run)
    assert summary(folder)["rankings"] == 3


def samples(tmp_path) -> str:
    sample = {"policy": "ppo", "against": "sft", "judge": "rm"}
    rows = [
        {**sample, "prompt": f"q{i}", "before": "x", "after": "x" if i == 4 else "y", "score_before": 0.0,
         "score_after": score}
        for i, score in enumerate((1.0, 1.0, -1.0, 1.0, 0.0))
    ]  # fmt: skip
    return write(tmp_path, rows)


@kills("feedback/findings.py", old="[task_id] = -sum(", new="[task_id] = sum(",
       why="the baseline's wins counted as the policy's")  # fmt: skip
def test_people_judge_policies_and_the_judge(tmp_path):
    """The policy wins, wins, ties, loses by people (the fifth prompt has equal answers); the judge says wins, wins,
    loses, wins."""
    store = Store.create(str(tmp_path / "p.db"), ProjectConfig(mode="two"))
    tasks = read_tasks(DataConfig(path=samples(tmp_path)))
    store.add_tasks(tasks)
    ann = person(store, "ann")
    by_prompt = {"q0": (2, 1), "q1": (2, 1), "q2": (1, 1), "q3": (1, 2)}
    for each in tasks:
        assignment = store.turn(ann).assignment
        assert assignment.task.id == each.id
        ranks = by_prompt[each.prompt.text]
        store.submit(assignment.id, ann, Judgement(ranks=ranks), each.id)
    results = {one.measure: one for one in findings(store, {("ppo", "sft"): 1})}
    win = results["people_win_rate_over_prompts"]
    assert (win.subject, win.against, win.value, win.ties, win.count) == ("ppo", "sft", (2 + 0.5 + 0.5) / 5, 2, 5)
    assert win.low < win.value < win.high
    assert dict(win.facts) == {"wins": 2, "losses": 1, "equal_answers": 1}
    judge_result = results["judge_with_people_over_prompts"]
    assert (judge_result.subject, judge_result.value, judge_result.count) == ("rm", pytest.approx(2 / 3), 3)
