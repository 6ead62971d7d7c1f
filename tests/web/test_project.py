"""`plaudit label`: projects out of files and runs, links, exports, copies; the command itself over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from plaudit.cli import main
from plaudit.errors import UserError
from plaudit.feedback.records import Judgement, Role
from plaudit.feedback.store import Store
from plaudit.feedback.tables import Database
from plaudit.web.label import project, writing

ROWS = [{"prompt": f"Q{i}", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]} for i in range(3)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return tmp_path


@pytest.fixture
def unserved(monkeypatch):
    """The store that would have been served, and how."""
    served = []
    monkeypatch.setattr(project, "serve_project", lambda store, **how: served.append((store, how)))
    return served


def test_a_data_file_becomes_a_project_of_its_name(here, unserved):
    assert main(["label", "rankings.jsonl", "--overlap", "2", "--flags", "harmful", "rude", "--mode", "rank"]) == 0
    ((store, how),) = unserved
    assert (here / "rankings.db").is_file()
    assert (len(store.tasks()), store.config.overlap, store.config.flags) == (3, 2, ("harmful", "rude"))
    assert all(task.gold_ranks is None for task in store.tasks())
    assert how["host"] == "127.0.0.1"


@pytest.mark.parametrize("begin", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_every_way_to_write_a_servers_address_is_one(begin):
    url = f"{begin}ann@127.0.0.1:1/p"
    database = Database(url)
    assert project.is_project(url) and database.is_server
    assert (database.engine.url.drivername, database.engine.url.database) == ("postgresql+psycopg", "p")
    assert not project.is_project("postgres.jsonl")


def test_a_project_goes_on_with_more_data_and_other_options(here, unserved):
    main(["label", "rankings.jsonl", "--overlap", "2"])
    more = {"prompt": "Q9", "responses": ["a", "b"]}
    (here / "more.jsonl").write_text(json.dumps({**more, "ranks": [1, 2]}) + "\n", "utf-8")
    assert main(["label", "rankings.db", "more.jsonl", "--daily_target", "7"]) == 0
    store = unserved[-1][0]
    assert (len(store.tasks()), store.config.overlap, store.config.daily_target) == (4, 2, 7)


def test_gold_files_are_gold_even_where_the_data_has_them_too(here, unserved):
    (here / "gold.jsonl").write_text(json.dumps(ROWS[1]) + "\n", "utf-8")
    main(["label", "rankings.jsonl", "--gold", "gold.jsonl"])
    assert [task.gold_ranks for task in unserved[0][0].tasks()] == [(1, 2, 3), None, None]


def test_the_guidelines_are_a_files(here, unserved):
    (here / "guide.md").write_text("**Be kind.**", "utf-8")
    main(["label", "rankings.jsonl", "--guidelines", "guide.md"])
    assert unserved[0][0].config.guidelines == "**Be kind.**"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.db"], "there is no such project"),
        (["nothing.jsonl"], "nothing.jsonl"),
        ([], "which labelling project? there is none"),
        (["invite"], "one name"),
        (["invite", "ann"], "which labelling project?"),
        (["export", "x"], "no name"),
        (["rankings.jsonl", "--mode", "two"], "two answers"),
        (["rankings.jsonl", "--overlap", "0"], "overlap must be at least 1"),
        (["rankings.jsonl", "--guidelines", "none.md"], "--guidelines"),
        (["run"], "left no answers to rank"),
        (["run", "--samples", "4"], "says no prompts"),
    ],
)
def test_mistakes_are_told(here, capsys, unserved, arguments, message):
    (here / "run").mkdir()
    assert main(["label", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert unserved == []


def test_links_exports_and_copies(here, unserved, capsys):
    main(["label", "rankings.jsonl"])
    store = unserved[0][0]
    assert main(["label", "invite", "ann", "--public", "https://label.example/"]) == 0
    link = capsys.readouterr().out.strip()
    assert store.person(link.removeprefix("https://label.example/l/")).name == "ann"
    assert main(["label", "invite", "eve", "--port", "8411"]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:8411/l/")
    assert main(["label", "invite", "boss", "--lead"]) == 0
    said = capsys.readouterr()
    assert "say --port or --public" in said.err  # the link can't know where the pages are served
    token = said.out.strip().split("/l/")[1]
    assert store.person(token).role is Role.LEAD
    store.record(store.tasks()[0], "ann", Judgement(ranks=(2, 1, 2)), "key-of-ann")
    assert main(["label", "export"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["ranks"], row["labeller"]) == ([2, 1, 2], "ann")
    assert main(["label", "export", "--form", "label-studio", "--out", "ls.json"]) == 0
    assert "have ties" in capsys.readouterr().err
    assert json.loads((here / "ls.json").read_text("utf-8"))
    assert main(["label", "backup", "copy.db"]) == 0
    assert len(Store.open("copy.db").all_submissions()) == 1
    assert main(["label", "revoke", "ann", "--project", "rankings.db"]) == 0
    assert main(["label", "export", "--form", "nonsense", "--project", "rankings.db"]) == 2


def test_a_run_of_compare_gives_pairs_with_hidden_models(here, unserved):
    (here / "compare").mkdir()
    rows = [{"policy": "ppo", "prompt": "Q", "before": "x", "after": y, "against": "sft"} for y in ("y", "x")]
    (here / "compare" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert main(["label", "compare", "--mode", "two"]) == 0
    (task,) = unserved[0][0].tasks()
    assert [(answer.text, answer.model) for answer in task.answers] == [("x", "sft"), ("y", "ppo")]


def test_a_policys_answers_become_tasks_one_prompt_at_a_time(here, unserved, monkeypatch):
    started = []
    monkeypatch.setattr(project, "writing", lambda *a, **k: started.append((a, k)) or (lambda: True, lambda: None))
    (here / "sft" / "model").mkdir(parents=True)
    (here / "sft" / "config.yaml").write_text("data: [{path: p.jsonl}]\n", "utf-8")
    assert main(["label", "sft", "--samples", "6", "--temperature", "0.7"]) == 0
    assert started == [(("sft.db", "sft/model", ["p.jsonl"]), {"samples": 6, "temperature": 0.7})]
    assert unserved[0][1]["arriving"]()


def test_answers_that_are_all_the_same_are_no_task(tmp_path, monkeypatch):
    from plaudit.feedback.options import ProjectConfig
    from plaudit.records.text import Prompt, PromptRow

    class Same:
        def rollouts(self, rows, **_):
            texts = ["x"] * len(rows) if rows[0].prompt.text == "dull" else [f"y{i % 2}" for i in range(len(rows))]
            yield type("Rollout", (), {"responses": texts})

    monkeypatch.setattr("plaudit.api.models.Policy.load", lambda path: Same())
    store = Store.create(str(tmp_path / "p.db"), ProjectConfig())
    rows = [PromptRow(prompt=Prompt.of_text(text), where=text) for text in ("dull", "lively")]
    writing.write_answers(store.name, "m", rows, samples=4, temperature=1.0)
    (task,) = store.tasks()
    assert ([answer.text for answer in task.answers], task.answers[0].model) == (["y0", "y1"], "m")
    with pytest.raises(UserError, match="holds no model"):
        writing.writing(store.name, str(tmp_path), [])


def test_the_command_serves_until_a_signal(tmp_path):
    """The demo as a person starts it: a link that works, no token in what it writes to stderr, and a clean end."""
    command = [sys.executable, "-m", "plaudit", "label", "--demo", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, "cwd": tmp_path}
    with subprocess.Popen(command, **pipes) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        links = re.findall(r"http://127\.0\.0\.1:\d+/l/\S+", "".join(lines))
        assert len(links) == 2, lines
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert opener.open(links[1], timeout=20).status == 200
        page = opener.open(links[1].split("/l/")[0] + "/label", timeout=20).read().decode()
        assert "plaudit label --demo" in page
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
