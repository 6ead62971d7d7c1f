"""A conversation with one model, or with two of which nobody knows which is which until they have voted. No torch."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from plaudit.errors import UserError
from plaudit.records.text import Form, Message, Prompt

if TYPE_CHECKING:
    from plaudit.feedback.store import Store

SIDES = ("A", "B")


class Vote(StrEnum):
    """What somebody says of two answers."""

    A = "a"
    B = "b"
    TIE = "="
    BOTH_BAD = "both bad"


RANKS = {Vote.A: (1, 2), Vote.B: (2, 1), Vote.TIE: (1, 1), Vote.BOTH_BAD: ()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as far as it is written."""

    text: str = ""
    finish: str = ""
    """How it ended; empty while it is being written."""
    tokens: int = 0
    score: float | None = None
    """Of a judge, where one was wished."""
    kl: float | None = None
    """Σ_t log π/π_ref, nats, where a reference was wished."""
    problem: str = ""
    """Why there is no answer."""


class Speaker(Protocol):
    """Whoever answers."""

    @property
    def name(self) -> str: ...

    @property
    def sampling(self) -> Mapping[str, Any]:
        """How it writes, for the record."""
        ...

    def answer(self, turns: Sequence[Message], *, turn: int) -> Iterator[Reply]:
        """The answer to the last turn, longer each time; the last one has ended. Other `turn`, other draws."""
        ...


@dataclass(slots=True, kw_only=True)
class Talk:
    """What was said, and what is said now."""

    speakers: Sequence[Speaker]
    seed: int | None = None
    """Of who is A; none: drawn anew every time."""
    system: str = ""
    turns: list[Message] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    """To the newest message: of A, and of B where there are two."""
    verdict: Vote | None = None
    """On the newest replies."""
    count: int = 0
    """Messages since the beginning, those before a reset among them."""
    order: list[int] = field(default_factory=lambda: [0])
    """Which speaker is A, and which B."""

    @property
    def names(self) -> list[str]:
        """Whose the replies are; empty while that is not to be known."""
        shown = not self.is_blind and self.replies
        return [self.speakers[index].name for index in self.order] if shown else []

    @property
    def is_blind(self) -> bool:
        """Whether nothing may be shown by which a model could be known: its name, its scores, its KL."""
        return len(self.speakers) > 1 and self.verdict is None

    @property
    def is_writing(self) -> bool:
        return any(not reply.finish for reply in self.replies)

    def reset(self) -> None:
        """Forget what was said."""
        self.turns.clear()
        self.replies.clear()
        self.verdict = None

    def say(self, text: str, *, in_turns: bool = False) -> Iterator[int]:
        """A message. Yields the side (0, 1) whose reply has grown; the sides one after the other, or `in_turns`.

        Raises: UserError for an empty message.
        """
        if not text.strip():
            raise UserError("the message is empty")
        self._go_on()
        self.turns.append(Message(role="user", content=text))
        self.count += 1
        self.verdict = None
        self.order = list(range(len(self.speakers)))
        draw = secrets.token_hex(8) if self.seed is None else f"{self.seed}:{self.count}"
        random.Random(draw).shuffle(self.order)
        self.replies = [Reply() for _ in self.order]
        begin = [Message(role="system", content=self.system)] if self.system else []
        writing = {
            side: self.speakers[index].answer([*begin, *self.turns], turn=self.count)
            for side, index in enumerate(self.order)
        }
        while writing:
            for side in list(writing) if in_turns else list(writing)[:1]:
                reply = next(writing[side], None)
                if reply is None:
                    del writing[side]
                else:
                    self.replies[side] = reply
                    yield side

    def stop(self) -> None:
        """The replies stay as they are."""
        for side, reply in enumerate(self.replies):
            if not reply.finish:
                self.replies[side] = Reply(text=reply.text, finish="stopped", tokens=reply.tokens)

    def vote(self, verdict: Vote, store: Store | None, voter: str = "chat") -> None:
        """Of two replies; then their names may be known. It goes into the store as a judgement of a task of its own.

        Raises: UserError where there is nothing to vote on, or for the second time.
        """
        if len(self.replies) < 2 or self.is_writing or any(reply.problem for reply in self.replies):
            raise UserError("there are no two answers to vote on")
        if self.verdict is not None:
            raise UserError("this one is voted on already")
        if store is not None:
            _record(store, self._prompt(), self, verdict, voter)
        self.verdict = verdict

    def _prompt(self) -> Prompt:
        if len(self.turns) == 1 and not self.system:
            return Prompt.of_text(self.turns[0].content)
        begin = [Message(role="system", content=self.system)] if self.system else []
        return Prompt(form=Form.CHAT, turns=(*begin, *self.turns))

    def _go_on(self) -> None:
        """The better reply becomes a turn; of equal ones, or without a vote, A's."""
        if self.is_writing:
            raise UserError("the last answer is still being written")
        if self.replies:
            reply = self.replies[1 if self.verdict is Vote.B else 0]
            self.turns.append(Message(role="assistant", content=reply.text))
        self.replies.clear()


def _record(store: Store, prompt: Prompt, talk: Talk, verdict: Vote, voter: str) -> None:
    from plaudit.feedback.records import Candidate, Judgement, Task

    speakers = [talk.speakers[index] for index in talk.order]
    answers = [
        Candidate(text=reply.text, model=speaker.name, sampling=speaker.sampling)
        for reply, speaker in zip(talk.replies, speakers, strict=True)
    ]
    judgement = Judgement(ranks=RANKS[verdict], none_acceptable=verdict is Vote.BOTH_BAD, page_version="chat")
    store.record(Task.of(prompt, answers, source="chat"), voter, judgement, uuid.uuid4().hex)


def open_store(url: str) -> Store:
    """The project of votes, a new one where there is none. Raises: UserError where it takes no pairs."""
    from pathlib import Path

    from plaudit.feedback.options import ProjectConfig
    from plaudit.feedback.store import Store

    is_new = "://" not in url and not Path(url).exists()
    store = Store.create(url, ProjectConfig(name="chat", mode="two", gold_share=0.0)) if is_new else Store.open(url)
    if store.config.mode == "eight_step":
        raise UserError(f"--store {url}: this project wants eight steps, not votes; name another file")
    return store
