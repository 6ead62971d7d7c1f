"""The stage that waits for people, and what their judgements say of policies and judges."""

import json
import os
import signal
import threading
import time

import pytest

from plaudit.data.options import DataConfig, holds_password
from plaudit.errors import StopRequested, UserError
from plaudit.feedback.findings import findings
from plaudit.feedback.options import LabelConfig, ProjectConfig
from plaudit.feedback.records import Judgement
from plaudit.feedback.sources import read_tasks
from plaudit.feedback.stage import label
from plaudit.feedback.store import Store
from plaudit.feedback.verdicts import leave_verdicts
from plaudit.records.results import Result
from plaudit.report.collect import RunData, collect
from plaudit.report.headline import headline
from plaudit.runs.folder import Run
from plaudit.telemetry.summary import read_results
from plaudit.telemetry.summary import summary as made
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


@kills("feedback/findings.py", old="[task_id] = -sign * sum(", new="[task_id] = sign * sum(",
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


def compared(folder, rows):
    folder.mkdir()
    (folder / "provenance.json").write_text('{"stage": "compare"}', "utf-8")
    own = Result(measure="win_rate_over_prompts", subject="ppo", against="sft", value=0.9, floor=0.5)
    kl = Result(measure="kl_baseline_over_prompts", subject="ppo", against="sft", value=1.5)
    (folder / "summary.json").write_text(json.dumps(made([own, kl])), "utf-8")
    about = {"policy": "ppo", "against": "sft", "judge": "rm"}
    lines = [
        {**about, "prompt": f"q{i}", **dict(zip(("before", "after"), row, strict=True))} for i, row in enumerate(rows)
    ]
    lines = [{**line, "score_before": 0.0, "score_after": 1.0} for line in lines]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


@kills("feedback/findings.py", old="len(verdicts) / len(own))", new="1)",
       why="ties that nobody is asked about outweigh the few verdicts that are there")  # fmt: skip
def test_what_people_say_of_a_comparison_stands_in_its_report(tmp_path):
    folder = compared(tmp_path / "compare", [("a", f"b{i}") for i in range(4)] + [("same", "same")] * 6)
    other = compared(tmp_path / "other", [("x", "y")])
    store = Store.create(str(tmp_path / "p.db"), ProjectConfig(mode="two", gold_share=0.0))
    for run in (folder, other):
        store.add_tasks(read_tasks(DataConfig(path=str(run / "samples.jsonl"))))
    assert leave_verdicts(store) == {} and not (folder / "people.json").exists()
    ann = person(store, "ann")
    tasks = [task for task in store.tasks() if "compare" in task.source]
    store.record(tasks[0], ann.name, Judgement(ranks=(2, 1)), "key-of-ann-0001")
    store.record(tasks[1], ann.name, Judgement(ranks=(1, 2)), "key-of-ann-0002")
    assert set(leave_verdicts(store)) == {folder}  # of the other nobody has said anything
    run = collect(folder)
    assert isinstance(run, RunData)
    assert [result.measure.split("_over")[0] for result in run.results] == [
        "win_rate", "people_win_rate", "judge_with_people", "kl_baseline"
    ]  # fmt: skip
    people, agrees = run.people
    assert (people.value, people.count, people.facts["equal_answers"]) == (0.5, 5, 3)  # two of four: half of six
    assert (agrees.subject, agrees.value) == ("rm", 0.5)
    (sentence,) = headline(run.results)
    assert sentence == "ppo: win rate 90 % against sft (by people 50 %), for 1.50 nats."


@kills("feedback/findings.py", old="sign = 1 if", new="sign = -1 if", why="the baseline's wins counted as the policy's")
def test_what_is_said_of_two_texts_counts_for_every_policy_that_wrote_them(tmp_path):
    """PPO and PPO-ptx wrote the same answer to q0, and are compared with each other too; the project asks once."""
    about = {"judge": "rm", "prompt": "q0", "score_before": 0.0, "score_after": 1.0}
    rows = [
        {**about, "policy": "ppo", "against": "sft", "before": "x", "after": "y"},
        {**about, "policy": "ptx", "against": "sft", "before": "x", "after": "y"},
        {**about, "policy": "sft", "against": "ptx", "before": "y", "after": "x"},
    ]
    folder = tmp_path / "compare"
    folder.mkdir()
    write(folder, rows, "samples.jsonl")
    store = Store.create(str(tmp_path / "p.db"), ProjectConfig(mode="two", gold_share=0.0))
    tasks = read_tasks(DataConfig(path=str(folder / "samples.jsonl")))
    assert store.add_tasks(tasks) == 1
    ann = person(store, "ann")
    ranks = tuple(1 if answer.text == "y" else 2 for answer in store.tasks()[0].answers)
    store.record(store.tasks()[0], ann.name, Judgement(ranks=ranks), "key-of-ann-0001")
    won = {(r.subject, r.against): r.value for r in leave_verdicts(store)[folder] if "win_rate" in r.measure}
    assert won == {("ppo", "sft"): 1.0, ("ptx", "sft"): 1.0, ("sft", "ptx"): 0.0}
    assert {(r.subject, r.against): r.value for r in findings(store, {}, tasks) if "win_rate" in r.measure} == won


def test_a_run_is_told_how_people_agree_on_its_own_tasks(tmp_path, monkeypatch):
    """Also from elsewhere: the samples are found beside the project where its tasks name them by a relative path."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        compared(tmp_path / name, [("x", f"{name} {i}") for i in range(2)])
    store = Store.create("p.db", ProjectConfig(mode="two", gold_share=0.0, overlap=2))
    for name in ("one", "two"):
        store.add_tasks(read_tasks(DataConfig(path=f"{name}/samples.jsonl")))
    gold = read_tasks(DataConfig(path=write(tmp_path, [{"prompt": "g", "chosen": "c", "rejected": "r"}])), gold=True)
    store.add_tasks(gold)
    names = {name: person(store, name).name for name in ("ann", "bob", "cid")}
    for number, task in enumerate(store.tasks()):
        is_first = "one" in task.source
        for who in ("ann", "bob", "cid") if task.gold_ranks else ("ann", "bob" if is_first else "cid"):
            ranks = (1, 2) if who == "ann" or is_first else (2, 1)
            store.record(task, names[who], Judgement(ranks=ranks), f"key-of-{who}-{number:04d}")
    store.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    left = leave_verdicts(Store.open(str(tmp_path / "p.db")))
    agreed = {run.name: {(r.measure, r.subject): r.value for r in results} for run, results in left.items()}
    alike = ("two_labellers_over_pairs", "labellers")
    assert (agreed["one"][alike], agreed["two"][alike]) == (1.0, 0.0)
    known = {name: {who for measure, who in facts if measure.startswith("gold")} for name, facts in agreed.items()}
    assert known == {"one": {"ann", "bob"}, "two": {"ann", "cid"}}


@pytest.mark.parametrize(
    "url", ["postgresql://ann:pw@db/x", "postgres://ann:p/w?@db/x", "postgresql://db/x?password=p"]
)
def test_a_password_goes_into_no_record(url):
    makers = [
        lambda: LabelConfig(data=(DataConfig(path="x"),), store=url),
        lambda: DataConfig(path=f"label://{url}?merged"),
    ]
    for make in makers:
        with pytest.raises(ValueError, match="PGPASSWORD"):
            make()
    with pytest.raises(UserError, match="PGPASSWORD"):
        Store.exists(url)
    assert not holds_password("postgresql://ann@db:5432/x?sslmode=require") and not holds_password("a:b@c.db")
