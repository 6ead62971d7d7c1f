"""`plaudit push` against a hub of this machine that knows as much of the protocol as making a repository and one commit
take: huggingface_hub itself is real."""

import base64
import json
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from plaudit.cli import main
from plaudit.runs.folder import Run
from tests.kills import kills
from tests.runs.test_card import finished


class Hub(ThreadingHTTPServer):
    """What was asked of it, and what it holds."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.tokens: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization", ""))
        url = f"http://127.0.0.1:{self.server.server_port}/me/policy"
        if self.server.status != 200:
            return self.answer({"error": "no"}, self.server.status)
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            return self.answer({"url": url, "name": "me/policy"})
        if self.path == "/api/validate-yaml":
            head = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            errors = [] if set(head) >= {"library_name", "tags"} else [{"message": "no head"}]
            return self.answer({"errors": errors, "warnings": []})
        if self.path.endswith("/preupload/main"):
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer({"files": modes})
        assert self.path.endswith("/commit/main"), self.path
        for line in body.splitlines():
            part = json.loads(line)
            if part["key"] == "file":
                self.server.files[part["value"]["path"]] = base64.b64decode(part["value"]["content"])
        return self.answer({"commitUrl": f"{url}/commit/1", "commitOid": "1" * 40, "success": True})

    def answer(self, content: Any, status: int = 200) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_fake")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    finished(Path("ppo"), "ppo", {"model": {"path": "tiny"}}, "LlamaForCausalLM")
    return Path("ppo")


@kills("models/push.py", old="private=not public", new="private=public", why="everybody sees an upload at once")
def test_the_model_and_its_card_arrive_in_a_private_repository(run, hub, capsys):
    assert main(["push", "ppo", "me/policy"]) == 0
    assert capsys.readouterr().out.strip() == f"{constants.ENDPOINT}/me/policy"
    assert (hub.created["name"], hub.created["visibility"]) == ("policy", "private")
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors", "plaudit.json"]
    assert hub.files["model.safetensors"] == b"weights"
    assert b'from_pretrained("me/policy")' in hub.files["README.md"]
    assert hub.tokens == {"Bearer hf_fake"}


def test_it_is_public_where_that_is_said_and_the_model_folder_will_do(run, hub):
    assert main(["push", "ppo/model", "me/policy", "--public"]) == 0
    assert hub.created["visibility"] == "public"
    assert "config.json" in hub.files


def test_a_dry_run_shows_files_sizes_and_card_and_asks_nobody(run, monkeypatch, capsys):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["push", "ppo", "me/policy", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "       7 B  model.safetensors\n" in said
    assert "to me/policy (private if it is new)" in said
    assert "# ppo: PPO" in said


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "the token isn't valid"), (403, "the token may not write there"), (500, "the hub refused it")],
)
def test_what_the_hub_refuses_is_told(run, hub, capsys, status, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hub.status = status
    assert main(["push", "ppo", "me/policy"]) == 2
    assert f"error: me/policy: {message}" in capsys.readouterr().err


def test_mistakes_are_told_before_anything_is_sent(run, hub, capsys, monkeypatch):
    with Run.create(Path("open"), "ppo", {"model": {"path": "tiny"}}) as unfinished, unfinished.save_model() as model:
        (model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}', encoding="utf-8")
    with Run.create(Path("all"), "pipeline", {}):
        pass
    for arguments, message in {
        ("open", "me/policy"): "open has not finished; go on with `plaudit resume open`",
        ("all", "me/policy"): "all is a pipeline; name one of its stages that have a model: none yet",
        ("ppo", "me/policy", "--best"): "ppo has no folder best/ with a model",
        ("nothing", "me/policy"): "nothing is no run folder",
        ("ppo", "policy"): "a repository is named OWNER/NAME",
        ("ppo", "me/po licy"): "'me/po licy' can't be a repository's name",
    }.items():
        assert main(["push", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["push", "open", "me/policy", "--unfinished", "--dry-run"]) == 0
    assert "**The run has not finished**" in capsys.readouterr().out
    monkeypatch.setattr("plaudit.models.push.get_token", lambda: None)
    assert main(["push", "ppo", "me/policy"]) == 2
    assert "no token: set HF_TOKEN" in capsys.readouterr().err
    assert not hub.created


def test_the_card_that_the_run_wrote_goes_wherever_one_stands(run, tmp_path, monkeypatch, capsys):
    """The runs before were found by paths of the folder in which it worked; a card made elsewhere would lose them."""
    finished(Path("sft"), "sft", {"model": {"path": "tiny"}}, "LlamaForCausalLM")
    finished(Path("b/ppo"), "ppo", {"model": {"path": "sft/model"}}, "LlamaForCausalLM")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("../sft").rename("../moved")
    assert main(["push", str(tmp_path / "b" / "ppo"), "me/policy", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "### Supervised fine-tuning (sft)" in said and 'from_pretrained("me/policy")' in said
