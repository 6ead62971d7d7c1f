"""The wall before every page: Host, Origin, tokens, limits, headers. Each test is an attacker's try."""

import asyncio
import http.client
import socket
import threading
import time

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from plaudit.errors import SaveFailed, UserError
from plaudit.web import serve
from plaudit.web.app import build, call
from plaudit.web.security import HEADERS, Access, Guard, Limiter, one_token
from tests.kills import kills

TOKEN = "t" * 32
SECRET = "the data"


def access(**rules) -> Access:
    people = {TOKEN: "ann"}
    return Access(identify=people.get, cookie="plaudit-x", **rules)


def client(token: str = "", **rules) -> TestClient:
    def fail(request, body):
        raise {"user": UserError("give a rank"), "disk": SaveFailed("no space"), "bug": KeyError("x")}[body["how"]]

    async def whole(request: Request):
        return PlainTextResponse(str(len(await request.body())))

    routes = [
        Route("/", lambda request: PlainTextResponse(f"{SECRET} of {request.state.person}")),
        call("/api/echo", lambda request, body: {"data": SECRET, **body}),
        call("/api/read", lambda request, body: {"data": SECRET}, method="GET"),
        call("/api/fail", fail),
        Route("/upload", whole, methods=["POST"]),
    ]
    app = build(routes, access(**rules))
    cookies = {"plaudit-x": token} if token else {}
    return TestClient(app, "http://localhost:8300", cookies=cookies, raise_server_exceptions=False)


OURS = {"origin": "http://localhost:8300"}


@pytest.mark.parametrize(
    "path", ["/", "/api/read", "/api/echo", "/nothing", "/l/", "/l/wrong", f"/l/{TOKEN}x", "//l/x"]
)
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], "x" * 500, 'a"b'])
def test_without_a_valid_token_there_is_nothing(path, token):
    asked = client(token)
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        answer = asked.request(method, path, headers=OURS)
        assert answer.status_code == 403
        assert SECRET not in answer.text


def test_with_a_token_there_is_the_page_and_whose_it_is():
    assert client(TOKEN).get("/").text == f"{SECRET} of ann"


def test_the_link_becomes_a_cookie_that_scripts_and_other_sites_do_not_get():
    visitor = client()
    answer = visitor.get(f"/l/{TOKEN}")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in (f"plaudit-x={TOKEN}", "HttpOnly", "SameSite=strict", "Path=/"))
    assert "Secure" not in cookie
    assert TOKEN not in answer.text
    assert 'content="0;url=/"' in answer.text
    assert visitor.get("/").text.startswith(SECRET)
    assert "Secure" in client(https=True).get(f"/l/{TOKEN}").headers["set-cookie"]


@kills("web/security.py", old="or access.to_network", new="or True", why="any machine's name for itself would do")
@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("[::1]:9000", 200), ("LOCALHOST:1", 200), ("label.example:443", 200)]
    + [
        (host, 421)
        for host in ("evil.example", "127.0.0.1.evil.example", "192.168.1.5:8300", "", "localhost@evil", ":")
    ],
)
def test_only_our_own_names_are_answered(host, status):
    """A stranger's DNS name that points at this machine (rebinding) must not make his page one of ours."""
    asked = client(TOKEN, names=frozenset({"label.example"}))
    for method, path in (("GET", "/"), ("GET", "/static/base.css"), ("GET", f"/l/{TOKEN}")):
        assert asked.request(method, path, headers={"host": host}).status_code == status


def test_in_the_network_an_address_is_a_good_host():
    assert client(TOKEN, to_network=True).get("/", headers={"host": "192.168.1.5:8300"}).status_code == 200
    assert client(TOKEN, to_network=True).get("/", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9", "https://localhost", ""])
def test_other_sites_get_nothing_done_and_nothing_read(origin):
    asked = client(TOKEN)
    for method, path in (("POST", "/api/echo"), ("GET", "/api/read"), ("GET", "/"), ("DELETE", "/")):
        answer = asked.request(method, path, headers={"origin": origin})
        assert (answer.status_code, SECRET in answer.text) == (403, False)


@kills(
    "web/security.py",
    old="and origin is None",
    new="and False",
    why="forms without Origin would be taken",
)
def test_what_changes_something_must_say_where_it_comes_from():
    assert client(TOKEN).post("/api/echo").status_code == 403
    assert client(TOKEN).post("/api/echo", headers=OURS).status_code == 200


def test_another_site_may_lead_here_but_not_read():
    asked = client(TOKEN)
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert asked.get("/", headers=visit).status_code == 200
    assert asked.get("/", headers={**visit, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert (
        asked.get("/api/read", headers={**visit, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}).status_code
        == 403
    )


@pytest.mark.parametrize("path", ["/", "/nothing", "/static/base.css", f"/l/{TOKEN}"])
def test_every_answer_wears_the_headers(path):
    for token in ("", TOKEN):
        headers = client(token).get(path).headers
        assert all(name in headers for name in HEADERS)
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")


def test_a_page_brings_no_script_or_style_of_its_own():
    text = client(TOKEN).get("/nothing", headers={"accept": "text/html"}).text
    assert "<style" not in text and "style=" not in text and "onclick" not in text and "https:" not in text


def test_bodies_have_a_size():
    asked = client(TOKEN, max_body=1000)
    assert asked.post("/upload", content=b"x" * 1000, headers=OURS).text == "1000"
    assert asked.post("/upload", content=b"x" * 1001, headers=OURS).status_code == 413
    assert asked.post("/upload", content=iter([b"x" * 600] * 2), headers=OURS).status_code == 413
    assert asked.post("/upload", content=b"", headers={**OURS, "content-length": "-1"}).status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"1", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body):
    assert client(TOKEN).post("/api/echo", content=body, headers=OURS).status_code == 400


def test_mistakes_are_told_and_bugs_are_not():
    asked = client(TOKEN)
    answers = {how: asked.post("/api/fail", json={"how": how}, headers=OURS) for how in ("user", "disk", "bug")}
    assert {how: answer.status_code for how, answer in answers.items()} == {"user": 409, "disk": 507, "bug": 500}
    assert "give a rank" in answers["user"].text
    assert "KeyError" not in answers["bug"].text and "Traceback" not in answers["bug"].text


def test_rates_are_limited_and_strangers_cannot_lock_people_out():
    asked = client(TOKEN, burst=3, per_second=0.001, strangers_burst=2, strangers_per_second=0.001)
    stranger = TestClient(asked.app, "http://localhost:8300")
    assert [stranger.get("/").status_code for _ in range(3)] == [403, 403, 429]
    assert [asked.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]


@kills(
    "web/security.py",
    old="self.burst, bucket.left +",
    new="10**9, bucket.left +",
    why="a quiet night buys a flood",
)
def test_a_bucket_fills_up_again_but_no_higher():
    now = 0.0
    limiter = Limiter(per_second=2.0, burst=3, clock=lambda: now)
    assert [limiter.take("a") for _ in range(4)] == [True, True, True, False]
    assert limiter.take("b")
    now = 1.0
    assert [limiter.take("a") for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert [limiter.take("a") for _ in range(4)] == [True, True, True, False]


def test_the_limiter_forgets_whom_it_need_not_know():
    now = 0.0
    limiter = Limiter(per_second=1.0, burst=1, clock=lambda: now)
    for index in range(10_000):
        limiter.take(str(index))
    now = 10.0
    limiter.take("one more")
    assert len(limiter.buckets) == 1


def test_one_token_is_one_owner():
    secret, owner = one_token()
    assert owner.identify(secret) == "owner"
    assert owner.identify(secret[:-1]) is owner.identify("") is owner.identify("ü") is None
    assert one_token()[0] != secret


def test_who_never_ends_a_request_is_shown_the_door(monkeypatch, capfd):
    """A slow loris: connections that say nothing, half a head, half a body; one in use stays."""
    monkeypatch.setattr(serve, "PATIENCE", 1.0)
    config = uvicorn.Config(client().app, log_level="error", http=serve.Impatient, ws="none")
    with serve.listening("127.0.0.1", 0) as (listener, address):
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /upload HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {address}\r\nCookie: plaudit-x={TOKEN}\r\n"
        slow = [socket.create_connection((host, int(port)), timeout=10) for _ in range(3)]
        slow[1].sendall(head.encode())
        slow[2].sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
        busy = http.client.HTTPConnection(host, int(port), timeout=10)
        for _ in range(6):
            busy.request("GET", "/", headers={"Cookie": f"plaudit-x={TOKEN}"})
            assert SECRET in busy.getresponse().read().decode()
            time.sleep(0.4)
        assert [each.recv(4096) for each in slow] == [b""] * 3
        server.should_exit = True
        thread.join()
        for each in (*slow, busy):
            each.close()
    assert "Traceback" not in capfd.readouterr().err


def test_no_websockets():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(None, access())({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
