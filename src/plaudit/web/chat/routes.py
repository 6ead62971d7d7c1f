"""The chat's page and what its script asks for. Answers are written in a thread; the page asks how far they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from plaudit.api.talk import SIDES, Reply, Talk, Vote
from plaudit.errors import UserError
from plaudit.telemetry.console import warn
from plaudit.web.app import Body, call
from plaudit.web.label.views import text_view
from plaudit.web.rendering import as_written
from plaudit.web.templates import page

if TYPE_CHECKING:
    from plaudit.feedback.store import Store

LONGEST = 20_000
"""Characters of a message."""


class Room:
    """One conversation, and the thread that writes its answers."""

    def __init__(self, talk: Talk, store: Store | None) -> None:
        self.talk, self.store = talk, store
        self.version = 0
        """Counts what has changed, so that a page learns only what is new."""
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._stopped = False

    def state(self) -> dict[str, Any]:
        with self._lock:
            talk = self.talk
            names = talk.names
            replies = [_plain(reply, side, names, blind=talk.is_blind) for side, reply in enumerate(talk.replies)]
            turns = [{"role": turn.role, "text": turn.content, **text_view(turn.content)} for turn in talk.turns]
            return {
                "version": self.version,
                "turns": turns,
                "replies": replies,
                "writing": self._is_writing(),
                "blind": len(talk.speakers) > 1,
                "verdict": talk.verdict,
                "votes_kept": self.store is not None,
            }

    def say(self, text: str) -> None:
        with self._lock:
            if self._is_writing():
                raise UserError("the last answer is still being written")
            self._stopped = False
            steps = self.talk.say(text, in_turns=True)
            next(steps)
            self.version += 1
            self._writer = threading.Thread(target=self._write, args=(steps,), daemon=True)
            self._writer.start()

    def _write(self, steps: Iterator[int]) -> None:
        try:
            for _ in steps:
                with self._lock:
                    self.version += 1
                    if self._stopped:
                        break
        except Exception as error:  # a thread's end would be silent
            warn(f"the answer failed: {error}")
            with self._lock:
                self.talk.replies = [_failed(reply, error) for reply in self.talk.replies]
        finally:
            with self._lock:
                self.talk.stop()
                self._writer = None
                self.version += 1

    def stop(self) -> None:
        with self._lock:
            self._stopped = True

    def vote(self, choice: str) -> None:
        if choice not in list(Vote):
            raise HTTPException(400, "no_vote")
        with self._lock:
            self.talk.vote(Vote(choice), self.store)
            self.version += 1

    def reset(self) -> None:
        with self._lock:
            if self._is_writing():
                raise UserError("the last answer is still being written; stop it first")
            self.talk.reset()
            self.version += 1

    def _is_writing(self) -> bool:
        return self._writer is not None


def chat_routes(talk: Talk, store: Store | None) -> Sequence[BaseRoute]:
    room = Room(talk, store)

    async def chat_page(request: Request) -> Response:
        return await run_in_threadpool(lambda: page(request, "chat.html.j2", blind=len(talk.speakers) > 1))

    def act(path: str, change: Callable[[Body], None]) -> Route:
        def changed(_: Request, body: Body) -> dict[str, Any]:
            change(body)
            return room.state()

        return call(path, changed)

    def news(_: Request, query: Body) -> dict[str, Any]:
        state = room.state()
        return {"version": state["version"]} if query.get("have") == str(state["version"]) else state

    return [
        Route("/", chat_page, methods=["GET"]),
        call("/api/news", news, "GET"),
        act("/api/say", lambda body: room.say(_message(body))),
        act("/api/stop", lambda body: room.stop()),
        act("/api/vote", lambda body: room.vote(str(body.get("choice", "")))),
        act("/api/reset", lambda body: room.reset()),
    ]


def _message(body: Body) -> str:
    text = body.get("text")
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise HTTPException(400, "no_message")
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(reply: Reply, side: int, names: Sequence[str], *, blind: bool) -> dict[str, Any]:
    """Without what may tell a model while that is `blind`: a KL near 0 is that of a model to itself."""
    text = reply.text.encode("utf-8", "replace").decode("utf-8")
    facts = {"finish": reply.finish, "tokens": reply.tokens}
    facts |= {"score": None, "kl": None} if blind else {"score": reply.score, "kl": reply.kl}
    html = text_view(text) if reply.finish else {"html": as_written(text), "written": ""}
    return {
        "side": SIDES[side],
        "text": text,
        **html,
        "problem": reply.problem,
        "name": names[side] if names else "",
        **facts,
    }


def _failed(reply: Reply, error: Exception) -> Reply:
    return reply if reply.finish else Reply(text=reply.text, finish="error", problem=f"the answer failed: {error}")
