"""A chat in the terminal: what a model writes appears as it is written; of two, a vote is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from plaudit.api.talk import SIDES, Reply, Talk, Vote
from plaudit.errors import UserError
from plaudit.telemetry.numbers import number
from plaudit.telemetry.visible import visible

if TYPE_CHECKING:
    from plaudit.feedback.store import Store

HELP = "/reset forgets what was said, /quit ends, Ctrl-C stops an answer"
VOTE = "better: a, b, = (alike), x (both bad), Enter for no vote: "
VERDICTS = {"a": Vote.A, "b": Vote.B, "=": Vote.TIE, "x": Vote.BOTH_BAD, "both bad": Vote.BOTH_BAD}


def converse(
    talk: Talk,
    store: Store | None,
    *,
    read: Callable[[str], str] = input,
    write: Callable[[str], None] = lambda text: print(text, end="", flush=True),
) -> None:
    """Until /quit or the end of what is typed."""
    write(f"{HELP}\n")
    while True:
        try:
            line = read("\nyou: ").strip()
        except (EOFError, KeyboardInterrupt):
            write("\n")
            return
        match line:
            case "":
                continue
            case "/quit" | "/exit":
                return
            case "/reset":
                talk.reset()
                write("forgotten\n")
            case "/help":
                write(f"{HELP}\n")
            case _:
                _answer(talk, line, write)
                if len(talk.speakers) > 1:
                    _vote(talk, store, read, write)


def _answer(talk: Talk, line: str, write: Callable[[str], None]) -> None:
    shown: dict[int, str] = {}
    try:
        for side in talk.say(line):
            if side not in shown:
                write(f"\n{SIDES[side]}: " if len(talk.speakers) > 1 else "\n")
            text = visible(talk.replies[side].text, "\n")
            write(text.removeprefix(shown.get(side, "")))
            shown[side] = text
            if talk.replies[side].finish:
                write(_ended(talk.replies[side], blind=talk.is_blind))
    except KeyboardInterrupt:
        talk.stop()
        write(" (stopped)\n")


def _ended(reply: Reply, *, blind: bool) -> str:
    """What is known of a whole answer, in a line of its own."""
    if reply.problem:
        return f"({reply.problem})\n"
    facts = [f"{reply.tokens} tokens, cut by the limit"] if reply.finish == "length" else []
    facts += [] if blind else _measured(reply)
    return f"\n  [{', '.join(facts)}]\n" if facts else "\n"


def _measured(reply: Reply) -> list[str]:
    """What may tell a model: a KL near 0 is that of a model to itself."""
    facts = [f"score {number(reply.score, 3)}"] if reply.score is not None else []
    return facts + ([f"KL {number(reply.kl, 3)} nats"] if reply.kl is not None else [])


def _vote(talk: Talk, store: Store | None, read: Callable[[str], str], write: Callable[[str], None]) -> None:
    while True:
        try:
            choice = read(VOTE).strip().lower()
        except (EOFError, KeyboardInterrupt):
            return
        if not choice:
            return
        if choice not in VERDICTS:
            continue
        try:
            talk.vote(VERDICTS[choice], store)
        except UserError as error:
            write(f"{error}\n")
            return
        sides = zip(SIDES, talk.names, talk.replies, strict=True)
        names = (
            f"{side} was {name}" + "".join(f" [{', '.join(known)}]" for known in [_measured(reply)] if known)
            for side, name, reply in sides
        )
        write(f"{', '.join(names)}\n")
        return
