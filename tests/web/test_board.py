"""The board's pages, without a browser: what they show, what they never show, and what they ask the disk for."""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from plaudit.errors import UserError
from plaudit.web.app import build
from plaudit.web.board.routes import board_routes
from plaudit.web.security import one_token
from tests.kills import kills
from tests.report.folders import (
    HOSTILE,
    as_lines,
    ppo_lines,
    rollout_rows,
    summary,
    token_row,
    write_pipeline,
    write_run,
)
from tests.report.test_html import hostile_run


def open_board(*folders: Path) -> TestClient:
    secret, access = one_token("test")
    app = build(board_routes([str(folder) for folder in folders]), access)
    return TestClient(app, "http://localhost:8300", cookies={access.cookie: secret})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("plaudit.web.board.shelf.AGAIN", 0.0)


def status_of(**facts) -> str:
    known = {"pid": os.getpid(), "host": socket.gethostname(), "process": "", "started": 1.0, "heartbeat": time.time()}
    return json.dumps({**known, "stage": "ppo", "step": 3, "of": 9, "state": "running", **facts})


def test_the_list_tells_running_from_dead_stopped_and_finished(tmp_path):
    for name in ("alive", "killed", "elsewhere", "silent", "stopped", "failed", "done"):
        done = summary() if name == "done" else None
        write_run(tmp_path / "runs" / name, "ppo", lines=ppo_lines(3), summary=done)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    mine = f"/proc/{os.getpid()}/stat"
    start = Path(mine).read_text("utf-8").rpartition(")")[2].split()[19]
    states = {
        "alive": status_of(process=start),
        "killed": status_of(pid=process.pid, process="1"),
        "elsewhere": status_of(host="far"),
        "silent": status_of(host="far", heartbeat=time.time() - 5000),
        "stopped": status_of(state="stopped"),
        "failed": status_of(state="failed"),
    }
    for name, text in states.items():
        (tmp_path / "runs" / name / "status.json").write_text(text, encoding="utf-8")
    html = open_board(tmp_path / "runs").get("/").text
    words = {name: row_of(html, f"runs/{name}") for name in (*states, "done")}
    assert "running" in words["alive"] and "3 / 9" in words["alive"]
    assert f"process {process.pid} is gone" in words["killed"] and ">dead<" in words["killed"]
    assert "running" in words["elsewhere"]
    assert ">silent<" in words["silent"] and "no sign of life from far" in words["silent"]
    assert ">stopped<" in words["stopped"] and "plaudit resume" in words["stopped"]
    assert ">failed<" in words["failed"]
    assert ">finished<" in words["done"] and "plaudit resume" not in words["done"]
    assert ">healthy<" in words["alive"]


def row_of(html: str, run: str) -> str:
    (row,) = [part for part in html.split("<tr")[1:] if f'value="{run}"' in part]
    return row.split("</tr>")[0]


def test_a_run_that_grows_is_brought_up_to_date_part_by_part(tmp_path):
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(5), rollouts={1: [token_row("old words", score=1.0)]})
    client = open_board(folder)
    html = client.get("/runs", params={"run": "r"}).text
    assert "Iteration 1" in html and "step 1 to step 5" in html
    first = client.get("/api/runs", params={"run": "r"}).json()
    have = ",".join(f"{name}.{known}" for name, known in {**first["hashes"], "version": first["version"]}.items())
    same = client.get("/api/runs", params={"run": "r", "have": have}).json()
    assert "parts" not in same and same["reading"] == 1.0
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(as_lines(ppo_lines(7)[5:]) + '{"step": 8, "ppo/')
    (folder / "events.jsonl").write_text(
        as_lines([{"time": "2026-01-01T10:00:00", "message": "KL brake pulled"}]), "utf-8"
    )
    new = client.get("/api/runs", params={"run": "r", "have": have}).json()
    assert {"top", "events", "numbers"} <= new["parts"].keys()
    assert {"curves", "configuration", "tokens", "samples"}.isdisjoint(new["parts"])
    assert "KL brake pulled" in new["parts"]["events"]
    figures = client.get("/api/figures", params={"run": "r", "at": "0,999,x"}).json()
    assert list(figures) == ["0"] and figures["0"]["plot"]["data"][0]["x"] == list(range(1, 8))
    path = folder / "rollouts" / "000002.jsonl.gz"
    path.write_bytes(gzip.compress(as_lines([token_row("new words", score=2.0)]).encode()))
    assert "Iteration 2" in client.get("/api/runs", params={"run": "r", "have": have}).json()["parts"]["tokens"]


def test_runs_are_laid_over_each_other_with_what_differs_and_a_pin_stays(tmp_path):
    for name, coef in (("a", 0.1), ("b", 0.2), ("c", 0.1)):
        write_run(tmp_path / "runs" / name, "ppo", config={"kl": {"coef": coef}, "seed": 1}, lines=ppo_lines(4))
    client = open_board(tmp_path / "runs")
    html = client.get("/runs", params={"run": ["runs/b"], "pin": "runs/a"}).text
    assert "a and b" in html and "kl.coef" in html and "what differs" in html
    names = client.get("/api/figures", params={"run": ["runs/b"], "pin": "runs/a", "at": "0"}).json()["0"]["plot"][
        "data"
    ]
    assert [trace["name"] for trace in names] == ["a", "b"]
    listed = client.get("/", params={"pin": "runs/a"}).text
    assert "/runs?run=runs/b&amp;pin=runs/a" in listed and "unpin" in row_of(listed, "runs/a")
    assert "Their configurations are the same" in client.get("/runs", params={"run": ["runs/a", "runs/c"]}).text


def test_pipelines_new_runs_and_patterns(tmp_path):
    write_pipeline(tmp_path / "runs" / "demo")
    client = open_board(tmp_path / "runs")
    html = client.get("/").text
    assert "runs/demo/02-sft" in html or "runs/demo/01-" in html
    assert "ppo raised the mean score" in client.get("/runs", params={"run": "runs/demo"}).text
    write_run(tmp_path / "runs" / "deep" / "er" / "late", "sft")
    assert "runs/deep/er/late" in client.get("/api/list").json()["html"]
    both = open_board(tmp_path / "runs" / "d*")
    assert {"demo", "deep/er/late"} <= {part.split('"')[0] for part in both.get("/").text.split('value="')}
    with pytest.raises(UserError, match="nothere is not a folder"):
        open_board(tmp_path / "nothere")


def test_search_over_runs_and_samples(tmp_path):
    for index, word in enumerate(("apple", "pear")):
        rows = [{**row, "response": f"an {word} {i}"} for i, row in enumerate(rollout_rows(3))]
        config = {"kl": {"coef": index}}
        write_run(tmp_path / "runs" / f"r{index}", "ppo", config=config, lines=ppo_lines(2), rollouts={1: rows})
    client = open_board(tmp_path / "runs")
    assert "runs/r0" not in client.get("/", params={"q": "kl.coef=1"}).text
    hits = client.get("/search", params={"q": "PEAR 2"}).text
    assert "1 found" in hits and "an pear 2" in hits and "apple" not in hits
    assert "0 found" in client.get("/search", params={"q": ""}).text


@pytest.mark.parametrize(
    "name",
    ["../secret", "runs/../../secret", "/etc", "runs/a/../../../secret", "%2e%2e/secret", "runs/link", "x\0y", ""],
)
def test_no_name_leads_out_of_the_folders(tmp_path, name):
    secret = write_run(tmp_path / "secret", "ppo", lines=ppo_lines(2), config={"word": "hidden"})
    write_run(tmp_path / "runs" / "a", "ppo", lines=ppo_lines(2))
    (tmp_path / "runs" / "link").symlink_to(secret)
    client = open_board(tmp_path / "runs")
    for path in ("/runs", "/api/runs", "/api/figures"):
        answer = client.get(path, params={"run": name, "at": "0"})
        assert answer.status_code == 404 and "hidden" not in answer.text
    for path in ("/assets/..%2freport.js", "/assets/report.html.j2", "/static/..%2fapp.py", "/assets/../../etc/passwd"):
        assert client.get(path).status_code == 404
    assert "runs/link" not in client.get("/").text


@kills("web/board/shelf.py", old="return out is None", new="return True", why="a link shows any file of the machine")
@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", "rollouts", "rollouts/000001.jsonl.gz", "status.json"]
)
def test_a_run_with_links_that_lead_out_is_not_shown(tmp_path, name):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f").write_text("word: hidden", encoding="utf-8")
    folder = write_run(tmp_path / "runs" / "a", "ppo", lines=ppo_lines(2), rollouts={2: rollout_rows(2)})
    path = folder / name
    if path.is_dir():
        path.rename(tmp_path / "moved")
    path.unlink(missing_ok=True)
    path.symlink_to(tmp_path / "outside" / "f")
    client = open_board(tmp_path / "runs")
    html = client.get("/").text
    assert "is a link that leads out" in html and "hidden" not in html
    assert client.get("/runs", params={"run": "runs/a"}).status_code == 404
    path.unlink()
    (tmp_path / "runs" / "kept").write_text("seed: 1", encoding="utf-8")
    path.symlink_to(tmp_path / "runs" / "kept")  # inside it may lead where it likes
    assert client.get("/runs", params={"run": "runs/a"}).status_code == 200


class Shape(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, tuple[str, ...]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.shape.append((tag, tuple(name for name, _ in attrs)))


def test_hostile_text_is_text(tmp_path):
    """Every page has the same elements and attributes whatever the models wrote, and no script but our files."""
    names = {"evil": HOSTILE.replace("/", "∕"), "tame": "=harmless words"}
    pages: dict[str, list[str]] = {}
    for kind, name in names.items():
        text = HOSTILE if kind == "evil" else name
        folder = hostile_run(tmp_path / kind / name, text)
        (folder / "summary.json").unlink()
        (folder / "events.jsonl").write_text(
            as_lines([{"time": text, "level": text, "message": text}]), encoding="utf-8"
        )
        client = open_board(tmp_path / kind)
        run = f"{kind}/{name}"
        addresses = [
            ("/", {}),
            ("/runs", {"run": run}),
            ("/runs", {"run": run, "pin": run}),
            ("/", {"q": text, "pin": run}),
        ]
        addresses += [("/search", {"q": text.split()[0]})]
        pages[kind] = [client.get(path, params=query).text for path, query in addresses]
        assert all(
            "<script>" not in html and "onerror=" not in html.replace("onerror=&#34;", "") for html in pages[kind]
        )
    for evil, tame in zip(pages["evil"], pages["tame"], strict=True):
        assert Shape(evil).shape == Shape(tame).shape


def test_nothing_can_be_written_and_nobody_comes_in_without_the_link(tmp_path):
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(3))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    client = open_board(folder)
    for path in ("/", "/runs", "/api/list", "/api/runs", "/search", "/assets/charts.js"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = client.request(method, path, params={"run": "r"}, headers={"origin": "http://localhost:8300"})
            assert answer.status_code == 405
        assert client.get(path, params={"run": "r"}).status_code == 200
        bare = TestClient(client.app, "http://localhost:8300")
        assert bare.get(path, params={"run": "r"}).status_code == 403
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    policy = client.get("/runs", params={"run": "r"}).headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy


def test_a_broken_run_does_not_hide_the_others(tmp_path):
    write_run(tmp_path / "runs" / "good", "ppo", lines=ppo_lines(3))
    write_run(tmp_path / "runs" / "old", "ppo", summary={"format": 1, "results": []})
    client = open_board(tmp_path / "runs")
    html = client.get("/").text
    assert "has format 1" in row_of(html, "runs/old") and "score" in row_of(html, "runs/good")
    assert client.get("/runs", params={"run": "runs/old"}).status_code == 409


def test_the_board_starts_without_torch():
    heavy = "'torch' in sys.modules, 'sqlalchemy' in sys.modules"
    code = f"import sys, plaudit.web.board.routes, plaudit.cli.board; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_board_speaks_chinese_and_what_runs_said_stays_as_it_was(tmp_path):
    folder = write_run(
        tmp_path / "runs" / "a", "ppo", lines=ppo_lines(3), rollouts={1: [token_row("words", score=1.0)]}
    )
    event = {"time": "2026-01-01T10:00:00", "level": "warning", "step": 2, "message": "KL brake pulled"}
    (folder / "events.jsonl").write_text(as_lines([event]), "utf-8")
    client = open_board(tmp_path / "runs")
    listed = client.get("/?lang=zh").text
    assert '<html lang="zh">' in listed and "筛选运行" in listed and ">已中断<" in listed and "1 条警告" in listed
    assert "interrupted" not in listed and 'data-as-of="更新于 {time}"' in listed
    assert "已中断" in client.get("/api/list").json()["html"]  # the cookie keeps the language
    for words in ("已中断", "interrupted"):
        assert "runs/a" in client.get("/", params={"q": words}).text
    page = client.get("/runs?run=runs/a&lang=zh").text
    assert "运行消息" in page and "第 2 步" in page and '<span dir="auto" lang="en">KL brake pulled</span>' in page
    assert '<div data-part="results" lang="en"' in page
    assert 'href="?run=runs%2Fa&amp;lang=en"' in page
    assert "找到 1 条" in client.get("/search?q=words").text
    assert "What it said" in client.get("/runs?run=runs/a&lang=en").text
    assert "1 found" in client.get("/search?q=words").text
