"""Run an app: one process, this machine only unless asked otherwise, until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from plaudit.errors import UserError

PORT = 8300
"""Tried first, so that links stay good from one day to the next."""
PATIENCE = 15.0
"""Seconds that a connection may owe us the rest of a request; it is closed after at most two of these."""


@contextlib.contextmanager
def listening(host: str, port: int | None) -> Generator[tuple[socket.socket, str]]:
    """A socket that listens, and its address `http://host:port`. No port: 8300, or any free one.

    Raises: UserError where the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for wish in (PORT, 0) if port is None else (port,):
            try:
                listener.bind((host, wish))
                break
            except (OSError, OverflowError) as error:
                if wish != PORT or port is not None:
                    raise UserError(f"cannot listen on {host}:{wish}: {getattr(error, 'strerror', error)}") from error
        listener.listen(256)
        shown = f"[{host}]" if ":" in host else "127.0.0.1" if host in ("", "0.0.0.0") else host
        yield listener, f"http://{shown}:{listener.getsockname()[1]}"


class Impatient(H11Protocol):
    """Closes connections that ask nothing, or never to the end: thousands of them would leave none for others."""

    owed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(PATIENCE, self.look)

    def look(self) -> None:
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        state = repr(self.conn.their_state)  # h11's name for it
        owes = state == "SEND_BODY" or (state == "IDLE" and not answering)
        if owes and self.owed:
            return self.transport.close()
        self.owed = owes
        self.loop.call_later(PATIENCE, self.look)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # a whole head has come
            self.owed = False


def serve(app: Starlette, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Answer until a signal; requests under way are finished. No access log: addresses hold secret links."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        http=Impatient,
        ws="none",
        proxy_headers=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=3,
        timeout_keep_alive=30,
    )
    # uvicorn puts its own handlers in, and afterwards raises the signal again for ours: the end is no accident.
    before = {signum: signal.signal(signum, lambda *_: None) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        ready()
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
