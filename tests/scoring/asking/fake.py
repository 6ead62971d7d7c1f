"""A chat server on this machine that answers as a test wants, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from plaudit.records.text import Group, Prompt
from plaudit.scoring.asking.scorer import AskingScorer
from plaudit.scoring.build import asking_scorer
from plaudit.scoring.options import ChatJudgeConfig, QuestionConfig
from tests.training.tiny import CPU

Asked = dict[str, Any]


@dataclass
class Answer:
    """What goes out: `body` as it is, or a completion that says `text`."""

    text: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: bool = False
    """The connection ends before the body does."""
    logprobs: Any = None

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        choice = {"message": {"role": "assistant", "content": self.text}, "logprobs": self.logprobs}
        return json.dumps({"choices": [choice]}).encode()


@dataclass
class FakeServer:
    endpoint: str
    requests: list[Asked] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def texts(self) -> list[str]:
        """The last message of each request."""
        return [request["messages"][-1]["content"] for request in self.requests]


@contextlib.contextmanager
def fake_server(answer: Callable[[Asked, int], Answer | str]) -> Generator[FakeServer]:
    """`answer` gets the request and how many came before it."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                number = len(server.requests)
                server.requests.append(asked)
                server.keys.append(self.headers.get("Authorization"))
                server.busy += 1
                server.busiest = max(server.busiest, server.busy)
            said = answer(asked, number)
            with server.lock:
                server.busy -= 1
            said = Answer(text=said) if isinstance(said, str) else said
            content = said.content()
            with contextlib.suppress(OSError):
                self.send_response(said.status)
                for name, value in {"Content-Length": str(len(content)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if said.cut else content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = FakeServer(endpoint=f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def config(server: FakeServer | str, cache: object, question: dict[str, Any] | None = None, **more: Any):
    endpoint = server if isinstance(server, str) else server.endpoint
    asked = QuestionConfig(**(question or {}))
    return ChatJudgeConfig(endpoint=endpoint, model="m", cache=str(cache), question=asked, **more)


def judge(*arguments: Any, **more: Any) -> AskingScorer:
    return asking_scorer(config(*arguments, **more), CPU)


def group(*responses: str, prompt: str = "p", **columns: Any) -> Group:
    return Group(prompt=Prompt.of_text(prompt), responses=responses, columns=columns)


def shown(asked: Asked, tag: str = "answer") -> str:
    """The answer between the marks of the packaged questions."""
    return asked["messages"][-1]["content"].split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0]
