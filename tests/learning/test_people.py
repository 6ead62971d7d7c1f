"""From people to a reward model, nothing lost on the way: scripted labellers with known noise at the page's own API."""

import html
import json
import random
import re
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

import plaudit as pl
from plaudit.data import tinyworld
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Prompt
from plaudit.web.app import build
from plaudit.web.label.project import project_access
from plaudit.web.label.routes import label_routes
from tests.learning import zoo_world as world

ADDRESS = "http://localhost:8300"
RANKINGS = 600
ANSWERS = 4


def let_people_rank(store: Store, rows: list[dict]) -> None:
    """Three labellers share the tasks; each ranks as the row's noisy ranks say, by what the page shows them."""
    access = project_access(store)
    app = build(label_routes(store), replace(access, per_second=1e6, burst=10**6))  # scripts don't read
    ranks = {frozenset(row["responses"]): dict(zip(row["responses"], row["ranks"], strict=True)) for row in rows}
    for number in range(3):
        cookies = {access.cookie: store.invite(f"labeller {number}")}
        browser = TestClient(app, ADDRESS, cookies=cookies, headers={"origin": ADDRESS})
        task = browser.get("/api/next").json()["assignment"]
        count = 0
        while task is not None and (number == 2 or count < RANKINGS // 3):
            texts = [html.unescape(re.sub("<.*?>", "", answer["html"])).strip() for answer in task["answers"]]
            known = ranks[frozenset(texts)]
            body = {"assignment": task["id"], "key": f"{number}-{count:09d}", "ranks": [known[text] for text in texts]}
            task = browser.post("/api/submit", json={**body, "seconds": 1.0}).json()["assignment"]
            count += 1
        store.revoke(f"labeller {number}")  # whoever leaves leaves the task in hand to others


def accuracy(policy: str, data, held_out: list[dict]) -> float:
    run = pl.reward(
        policy,
        data,
        held_out=held_out,
        epochs=4,
        minibatch_size=16,
        optim_learning_rate=2e-3,
        evaluate_every=10_000,
        truth_function="plaudit.data.tinyworld:true_reward",
        floors=False,
    )
    return next(one.value for one in run.results if one.measure == "expected_accuracy_over_pairs")


def pool() -> world.Pool:
    """Answers of every quality, as a policy early in training writes them."""
    rng = random.Random(3)
    return {prompt: rng.sample(tinyworld.answers(prompt), 12) for prompt in world.prompts()}


@pytest.mark.slow
def test_a_reward_model_of_the_export_is_as_good_as_one_of_the_rankings(tmp_path):
    """The labellers' noise is known: each ranking is drawn from the true reward (Plackett–Luce)."""
    policy = world.decoder(tmp_path / "policy", seed=0)
    answers = pool()
    drawn = world.rankings(answers, RANKINGS, seed=1, k=ANSWERS)
    rows = list({(row["prompt"], frozenset(row["responses"])): row for row in drawn}.values())
    held_out = world.rankings(answers, 150, seed=2, k=ANSWERS, held_out=True)
    path = tmp_path / "project.db"
    store = Store.create(str(path), ProjectConfig(gold_share=0.0))
    tasks = [
        Task.of(Prompt.of_text(row["prompt"]), [Candidate(text=text) for text in row["responses"]]) for row in rows
    ]
    assert store.add_tasks(tasks) == len(rows)
    let_people_rank(store, rows)
    exported = pl.load_data(f"label://{path}")
    assert len(exported) == len(rows)
    assert {one["labeller"] for one in exported} == {f"labeller {number}" for number in range(3)}
    direct = accuracy(policy, rows, held_out)
    people = accuracy(policy, f"label://{path}", held_out)
    assert direct > 0.7
    assert abs(people - direct) <= 0.02, json.dumps([people, direct])
