"""From people to a reward model, nothing lost on the way: scripted labellers with known noise at the page's own API."""

import html
import json
import re

import pytest
from starlette.testclient import TestClient

import plaudit as pl
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Candidate, Task
from plaudit.feedback.store import Store
from plaudit.records.text import Prompt
from plaudit.web.app import build
from plaudit.web.label.project import project_access
from plaudit.web.label.routes import label_routes
from tests.learning import zoo_world as world

ADDRESS = "http://localhost:8300"
RANKINGS = 240


def once(row: dict) -> dict:
    """Each answer of a ranking once, as people get to see it."""
    ranks = dict(zip(reversed(row["responses"]), reversed(row["ranks"]), strict=True))
    responses = list(dict.fromkeys(row["responses"]))
    return {"prompt": row["prompt"], "responses": responses, "ranks": [ranks[text] for text in responses]}


def let_people_rank(store: Store, rows: list[dict]) -> None:
    """Three labellers share the tasks; each ranks as the row's noisy ranks say, by what the page shows them."""
    access = project_access(store)
    app = build(label_routes(store), access)
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


@pytest.mark.slow
def test_a_reward_model_of_the_export_is_as_good_as_one_of_the_rankings(tmp_path):
    (tmp_path / "policy").mkdir()
    policy = world.policy(tmp_path / "policy")
    pool = world.pool(policy)
    unique = {frozenset(row["responses"]): once(row) for row in world.rankings(pool, RANKINGS, seed=1)}
    rows = [row for answers, row in unique.items() if len(answers) > 1]
    held_out = world.rankings(pool, 100, seed=2, held_out=True)
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
    assert direct > 0.6
    assert abs(people - direct) <= 0.02, json.dumps([people, direct])
