"""An OpenAI-compatible server as a judge: questions out, replies in, whatever the network does (docs/judges.md).

Nothing is asked twice that is in the cache. The key comes from the environment; it is sent to the endpoint alone, and
taken out of whatever the server says before that is kept or shown. No torch.
"""

import asyncio
import contextlib
import email.utils
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from plaudit.errors import StopRequested, UserError
from plaudit.scoring.asking.cache import ReplyCache, default_path, key_of, open_cache
from plaudit.scoring.asking.reply import JudgeReply, Malformed, Unanswered, parse_body
from plaudit.scoring.asking.template import Question
from plaudit.scoring.calls import wait_for
from plaudit.scoring.options import ChatJudgeConfig

BUSY = frozenset({408, 409, 425, 429})
"""Statuses to come back after; all from 500 on too."""
BACKOFF = 1.0
"""Seconds before the second attempt, doubled before each further one."""
LONGEST_WAIT = 60.0
HOPELESS = 4
"""So many questions unanswered, and none answered, before the rest is given up."""
LARGEST_REPLY = 8 * 2**20
"""Bytes."""
LISTEN = 0.2
"""Seconds between two looks at whether a stop was asked for."""
SHORTEST_KEY = 8
"""Characters: a shorter key is no secret, and its letters stand in replies by chance."""
LIKELIEST = 20
SHOWN = 300
"""Characters of a server's message."""


class _TryAgain(Exception):
    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after
        """Seconds that the server wants, None where it says nothing."""


@dataclass(slots=True)
class ChatServer:
    """Asks one model on one server."""

    config: ChatJudgeConfig
    check_stop: Callable[[], None] = lambda: None
    """Called while replies are waited for; what it raises ends the wait. What was answered by then is kept."""
    key: str = field(init=False, repr=False)
    quiet_until: float = 0.0
    """The server wants no request before this moment of the loop's clock."""

    def __post_init__(self) -> None:
        self.key = os.environ.get(self.config.key_variable, "").strip()

    def ask(self, questions: Sequence[Question], seed: int) -> list[JudgeReply | Unanswered]:
        """One reply a question, in order; equal questions are asked once. UserError where the server refuses them."""
        requests = [self._request(question, seed) for question in questions]
        keys = [key_of(one) for one in requests]
        by_key = dict(zip(keys, requests, strict=True))
        with open_cache(Path(self.config.cache).expanduser() if self.config.cache else default_path()) as cache:
            replies: dict[str, JudgeReply | Unanswered] = {}
            for key, body in cache.read(by_key).items():
                replies[key] = parse_body(json.loads(body))
            if new := {key: one for key, one in by_key.items() if key not in replies}:
                replies |= wait_for(self._ask_all(new, cache))
        return [replies[key] for key in keys]

    def _request(self, question: Question, seed: int) -> dict[str, Any]:
        own = self.config.question
        parameters: dict[str, Any] = {"temperature": own.temperature, "max_tokens": own.max_tokens}
        if own.read == "logprobs":
            parameters |= {"logprobs": True, "top_logprobs": LIKELIEST}
        return {
            "endpoint": self.config.endpoint,
            "model": self.config.model,
            "messages": [dict(message) for message in question.messages],
            "parameters": parameters,
            "seed": seed,
        }

    async def _ask_all(
        self, questions: Mapping[str, Mapping[str, Any]], cache: ReplyCache
    ) -> dict[str, JudgeReply | Unanswered]:
        replies: dict[str, JudgeReply | Unanswered] = {}
        slots = asyncio.Semaphore(self.config.concurrency)
        self.quiet_until, silent = 0.0, 0

        async def one(key: str, request: Mapping[str, Any]) -> None:
            nonlocal silent
            async with slots:
                try:
                    if silent >= HOPELESS:
                        raise Unanswered(f"{self.config.endpoint}: not asked, nothing was answered before")
                    raw, replies[key] = await self._until_answered(client, key, request)
                except Unanswered as failure:
                    if self.config.on_error == "error":
                        hint = "what was answered is kept: the next call asks for the rest"
                        raise UserError(f"judge {self.config.name!r}: {failure} ({hint})") from failure
                    replies[key] = failure
                    silent += 1
                else:
                    cache.write(key, request, raw)
                    silent = -len(questions)

        options: dict[str, Any] = {
            "headers": {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {}),
            "limits": httpx2.Limits(max_connections=self.config.concurrency),
            "timeout": self.config.timeout,
            "verify": self.config.endpoint.startswith("https:"),  # else no certificates are read
        }
        try:
            async with httpx2.AsyncClient(**options) as client, asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen())
                await asyncio.wait([tasks.create_task(one(key, request)) for key, request in questions.items()])
                listening.cancel()
        except BaseExceptionGroup as errors:
            stopped, _ = errors.split(StopRequested)
            raise (stopped or errors).exceptions[0] from None
        return replies

    async def _listen(self) -> None:
        while True:
            self.check_stop()
            await asyncio.sleep(LISTEN)

    async def _until_answered(
        self, client: httpx2.AsyncClient, key: str, request: Mapping[str, Any]
    ) -> tuple[str, JudgeReply]:
        """The raw body and what it says, within the question's deadline. Raises: Unanswered, UserError."""
        clock, reason = asyncio.get_running_loop().time, "no reply yet"
        end = clock() + self.config.deadline
        try:
            async with asyncio.timeout_at(end):
                for attempt in range(self.config.attempts):
                    if self.quiet_until >= end:
                        break
                    await asyncio.sleep(max(0.0, self.quiet_until - clock()))
                    try:
                        return await self._attempt(client, request)
                    except _TryAgain as again:
                        reason = str(again)
                        if again.after is not None:
                            self.quiet_until = max(self.quiet_until, clock() + again.after)
                        wait = min(BACKOFF * 2.0**attempt, LONGEST_WAIT) * (0.5 + int(key[:4], 16) / 2**16)
                        wait = wait if again.after is None else again.after
                        if attempt + 1 == self.config.attempts or clock() + wait >= end:
                            break
                        await asyncio.sleep(wait)
        except TimeoutError:
            reason = f"nothing within the deadline of {self.config.deadline:g} s ({reason})"
        raise Unanswered(f"{self.config.endpoint}: {reason}")

    async def _attempt(self, client: httpx2.AsyncClient, request: Mapping[str, Any]) -> tuple[str, JudgeReply]:
        body = {
            "model": request["model"],
            "messages": request["messages"],
            "seed": request["seed"],
            **request["parameters"],
        }
        url = f"{self.config.endpoint.rstrip('/')}/chat/completions"
        raw = bytearray()
        try:
            async with asyncio.timeout(self.config.timeout), client.stream("POST", url, json=body) as response:
                async for part in response.aiter_bytes():
                    raw += part
                    if len(raw) > LARGEST_REPLY:
                        raise _TryAgain(f"a reply of more than {LARGEST_REPLY} bytes")
        except TimeoutError as error:
            raise _TryAgain(f"no whole reply within the timeout of {self.config.timeout:g} s") from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise _TryAgain(self._safe(f"{type(error).__name__}: {error}")) from error
        text = self._safe(raw.decode("utf-8", "replace"))
        status, message = response.status_code, _one_line(text)
        if status in BUSY or status >= 500:
            raise _TryAgain(f"status {status}: {message}", _retry_after(response.headers.get("Retry-After", "")))
        if status != 200:
            hint = f"; its key is expected in {self.config.key_variable}" if status in (401, 403) else ""
            raise UserError(f"judge {self.config.name!r}: {url} answered with status {status}{hint}: {message}")
        try:
            return text, parse_body(json.loads(text))
        except (Malformed, ValueError, RecursionError) as error:
            raise _TryAgain(f"no reply of a chat server: {_one_line(str(error))}") from error

    def _safe(self, text: str) -> str:
        """Without the key, should a server or a library repeat it."""
        return text.replace(self.key, "***") if len(self.key) >= SHORTEST_KEY else text


def _one_line(text: str) -> str:
    clean = "".join(c if c.isprintable() else " " for c in text)
    return clean if len(clean) <= SHOWN else clean[: SHOWN - 1] + "…"


def _retry_after(header: str) -> float | None:
    """Seconds: the header has them, or a date."""
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, min(float(header), 1e9)) if header else None
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    return None
