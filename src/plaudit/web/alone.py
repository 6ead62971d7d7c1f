"""Pages with one user, such as the board and a chat: whoever has the link that is printed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from starlette.routing import BaseRoute

from plaudit.web.app import build
from plaudit.web.security import one_token
from plaudit.web.serve import listening, serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where pages are served."""

    host: str = "127.0.0.1"
    port: int | None = None
    """None: 8300, or a free one."""
    public: str = ""
    """The address under which a proxy or a tunnel makes them reached."""


def serve_alone(name: str, routes: Sequence[BaseRoute], address: Address) -> None:
    """Until Ctrl-C. Raises: UserError for an address that can't be had."""
    secret, access = one_token(f"{name} {address.host}")
    names = {known.lower() for known in (address.host, urlsplit(address.public).hostname) if known}
    to_network = address.host not in ("127.0.0.1", "localhost", "::1")
    access = replace(access, names=frozenset(names), to_network=to_network, https=address.public.startswith("https:"))
    with listening(address.host, address.port) as (listener, reached):
        link = f"{address.public.rstrip('/') or reached}/l/{secret}"
        serve(build(routes, access), listener, lambda: print(f"{name}: {link} (until Ctrl-C)", flush=True))
