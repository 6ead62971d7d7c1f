"""The chat's page, without a browser and without models."""

import time

import pytest
from starlette.testclient import TestClient

from plaudit.api.talk import Talk, open_store
from plaudit.web.app import build
from plaudit.web.chat.routes import chat_routes
from plaudit.web.security import one_token
from tests.api.test_talk import Parrot
from tests.report.folders import HOSTILE

OURS = {"origin": "http://localhost:8300"}


class Chat:
    def __init__(self, *speakers, store=None) -> None:
        secret, access = one_token("chat")
        app = build(chat_routes(Talk(speakers=list(speakers)), store), access)
        self.client = TestClient(app, "http://localhost:8300", cookies={access.cookie: secret}, headers=OURS)
        self.bare = TestClient(app, "http://localhost:8300", headers=OURS)

    def post(self, path, **body):
        return self.client.post(path, json=body)

    def whole(self):
        for _ in range(400):
            state = self.client.get("/api/news").json()
            if not state["writing"]:
                return state
            time.sleep(0.01)
        raise AssertionError("it is still being written")


def test_two_answers_a_vote_and_then_the_names(tmp_path):
    store = open_store(str(tmp_path / "v.db"))
    chat = Chat(Parrot("one", score=1.5, kl=0.0), Parrot("two", score=2.5, kl=3.0), store=store)
    assert chat.post("/api/vote", choice="a").status_code == 409
    assert chat.post("/api/say", text="hello").status_code == 200
    state = chat.whole()
    assert [reply["name"] for reply in state["replies"]] == ["", ""]
    assert {reply[name] for reply in state["replies"] for name in ("score", "kl")} == {None}
    assert "one" not in {reply["name"] for reply in state["replies"]} and state["verdict"] is None
    assert chat.client.get("/api/news", params={"have": state["version"]}).json() == {"version": state["version"]}
    assert chat.post("/api/vote", choice="c").status_code == 400
    voted = chat.post("/api/vote", choice="b").json()
    names = [reply["name"] for reply in voted["replies"]]
    assert sorted(names) == ["one", "two"] and voted["verdict"] == "b"
    assert {reply["name"]: reply["kl"] for reply in voted["replies"]} == {"one": 0.0, "two": 3.0}
    (vote,) = store.all_submissions()
    assert vote.judgement.ranks == (2, 1)
    chat.post("/api/say", text="more")
    assert [turn["text"] for turn in chat.whole()["turns"]] == ["hello", f"{names[1]} heard hello", "more"]
    assert chat.post("/api/reset").json()["turns"] == []


def test_markdown_is_shown_and_can_do_nothing():
    text = "\n\n# Sky\n\n**Blue**, see [this](javascript:alert(1)) <img src=x onerror=alert(1)>\n\n```py\nx = 1\n```"
    chat = Chat(Parrot("p", text))
    chat.post("/api/say", text="*why*?")
    state = chat.whole()
    (reply,), (turn,) = state["replies"], state["turns"]
    assert "<h1 dir=auto>" in reply["html"] and "<strong>Blue</strong>" in reply["html"] and "<pre" in reply["html"]
    assert "<img" not in reply["html"] and "href" not in reply["html"] and "<em>why</em>" in turn["html"]
    assert "**Blue**" in reply["written"] and "<img" not in reply["written"]


def test_messages_are_checked_and_a_failure_is_shown():
    class Broken(Parrot):
        def answer(self, turns, *, turn):
            yield from list(super().answer(turns, turn=turn))[:1]
            raise RuntimeError("out of luck")

    chat = Chat(Broken("b"))
    for text in (None, "", "  ", 3, "x" * 20_001):
        assert chat.post("/api/say", text=text).status_code == 400
    chat.post("/api/say", text="hello")
    (reply,) = chat.whole()["replies"]
    assert "out of luck" in reply["problem"]


def test_an_answer_can_be_stopped():
    class Endless(Parrot):
        def answer(self, turns, *, turn):
            for reply in [next(super().answer(turns, turn=turn))] * 3000:
                time.sleep(0.01)
                yield reply

    chat = Chat(Endless("e"))
    chat.post("/api/say", text="hello")
    assert chat.post("/api/say", text="again").status_code == 409
    assert chat.post("/api/reset").status_code == 409
    chat.post("/api/stop")
    assert chat.whole()["replies"][0]["finish"] == "stopped"


@pytest.mark.parametrize("path", ["/api/say", "/api/vote", "/api/stop", "/api/reset", "/api/news", "/"])
def test_strangers_get_nothing(path):
    chat = Chat(Parrot("secret"))
    method = "GET" if path in ("/", "/api/news") else "POST"
    assert chat.bare.request(method, path, json={"text": "x"}).status_code == 403
    other = chat.client.request(method, path, json={"text": "x"}, headers={"origin": "https://evil.example"})
    assert other.status_code == 403


def test_what_models_write_is_in_no_page():
    chat = Chat(Parrot("p", HOSTILE))
    chat.post("/api/say", text=HOSTILE)
    assert HOSTILE in chat.whole()["replies"][0]["text"]
    answer = chat.client.get("/")
    assert "onerror" not in answer.text and "script-src 'self';" in answer.headers["content-security-policy"]
    assert chat.client.get("/api/news").headers["content-type"] == "application/json"
    assert "对话" in chat.client.get("/?lang=zh").text
