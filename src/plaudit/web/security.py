"""The wall before every page: who may ask, from where, how often and how much, and what no answer may do.

Text on these pages is written by models and by strangers. It is escaped or sanitised where it is rendered; the headers
here are the second wall: no script or style but our own files, no request elsewhere, no frame, nothing kept in caches.
"""

import ipaddress
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plaudit.web.templates import refusal

OPEN = ("/static/", "/l/")
"""Beginnings of paths that are answered without a cookie: files of this package, and the door itself."""
SAFE = ("GET", "HEAD", "OPTIONS")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # `no-referrer` would make the Origin of our own forms `null`
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may use an app, and under which names it is reached."""

    identify: Callable[[str], Any]
    """A secret token -> whose it is, None for nobody's. Asked at every request: a revoked link ends at once."""
    cookie: str
    """The cookie's name. Cookies don't know ports, so two projects on one machine need two names."""
    names: frozenset[str] = frozenset()
    """Host names under which it is reached besides `localhost`, lower case."""
    to_network: bool = False
    """Whether other machines may ask; an address of numbers is then a good Host (no DNS name can be bent to it)."""
    https: bool = False
    """Whether a proxy in front speaks https, so that the cookie need never travel without."""
    max_body: int = 1 << 20
    """Bytes of a request."""
    per_second: float = 20.0
    """Requests of one person, sustained."""
    burst: int = 100
    """Requests of one person at once."""
    strangers_per_second: float = 1.0
    """Requests without a valid token, of one address."""
    strangers_burst: int = 30


def one_token(name: str = "") -> tuple[str, Access]:
    """A fresh secret, and the access of whoever has it: for a server with one user, such as a board."""
    secret = secrets.token_urlsafe(24)

    def identify(token: str) -> str | None:
        return "owner" if secrets.compare_digest(token.encode(), secret.encode()) else None

    return secret, Access(identify=identify, cookie=cookie_name(name or secret))


def cookie_name(project: str) -> str:
    """The same for the same project, so that a restart on another port asks nobody for the link again."""
    import hashlib

    return f"plaudit-{hashlib.sha256(project.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


@dataclass(slots=True)
class Bucket:
    """Tokens of a token bucket, and when they were counted."""

    left: float
    counted: float


@dataclass(slots=True, kw_only=True)
class Limiter:
    """A token bucket for each key: `burst` at once, `per_second` in the long run."""

    per_second: float
    burst: int
    clock: Callable[[], float] = time.monotonic
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def take(self, key: str) -> bool:
        """Whether one more is allowed now."""
        now = self.clock()
        bucket = self.buckets.setdefault(key, Bucket(self.burst, now))
        bucket.left = min(self.burst, bucket.left + (now - bucket.counted) * self.per_second)
        bucket.counted = now
        if len(self.buckets) > 10_000:  # whoever has a full bucket again needs none
            full = self.burst / self.per_second
            self.buckets = {name: each for name, each in self.buckets.items() if now - each.counted < full}
        if bucket.left < 1:
            return False
        bucket.left -= 1
        return True


class Guard:
    """ASGI middleware that asks all of `Access` before the app hears of a request, and dresses every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access
        self.people = Limiter(per_second=access.per_second, burst=access.burst)
        self.strangers = Limiter(per_second=access.strangers_per_second, burst=access.strangers_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no websockets here
            return await send({"type": "websocket.close", "code": 1008})
        request, send = Request(scope, receive), _dressed(send, scope["path"])
        try:
            self._check_origin(request)
            length = request.headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > self.access.max_body:
                raise HTTPException(413, "too_large")
            await self._check_person(request)
        except HTTPException as error:
            return await refusal(request, error)(scope, receive, send)
        return await self.app(scope, _bounded(receive, self.access.max_body), send)

    def _check_origin(self, request: Request) -> None:
        """The Host must be ours (else a stranger's DNS name could point here), the Origin must be the Host itself."""
        headers = request.headers
        host = headers.get("host", "")
        if not _is_ours(host, self.access):
            raise HTTPException(421, "wrong_host")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and urlsplit(origin).netloc != host:
            raise HTTPException(403, "wrong_origin")
        if request.method not in SAFE and origin is None:
            raise HTTPException(403, "wrong_origin")
        visit = request.method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site not in (None, "same-origin", "none") and not visit:
            raise HTTPException(403, "wrong_origin")

    async def _check_person(self, request: Request) -> None:
        """Who asks, by the cookie or at the door by the link; then how often they did."""
        path = request.url.path
        token = path[len("/l/") :] if path.startswith("/l/") else _cookie(request.headers, self.access.cookie)
        person = await run_in_threadpool(self.access.identify, token) if token and len(token) <= 200 else None
        if person is None:
            if path.startswith("/static/"):
                return
            if not self.strangers.take(request.client.host if request.client else ""):
                raise HTTPException(429, "too_often")
            raise HTTPException(403, "no_access")
        if not path.startswith("/static/") and not self.people.take(token):
            raise HTTPException(429, "too_often")
        request.state.person, request.state.access = person, self.access


def _is_ours(host: str, access: Access) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        name, _ = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return False
    if name == "localhost" or name in access.names:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return access.to_network and name in (socket.gethostname().lower(), socket.getfqdn().lower())
    return address.is_loopback or access.to_network


def _cookie(headers: Headers, name: str) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _dressed(send: Send, path: str) -> Send:
    """Adds the headers that an answer doesn't set itself; files of the package may be kept, but are asked for anew."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if path.startswith("/static/"):
                headers.setdefault("cache-control", "no-cache")
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return dressed


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body that doesn't say how long it is may not become longer than `limit` either."""
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise HTTPException(413, "too_large")
        return message

    return bounded
