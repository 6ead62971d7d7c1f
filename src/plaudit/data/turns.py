"""Turns of a conversation: messages, transcripts, and the prompt that two conversations share.

Everything here answers for one row; what is wrong is said by `RowError` (a fault of the row) or `RowDropped`
(a sound row that our records can't hold, left out by rule and counted).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from plaudit.records.text import Form, Message, Prompt

ROLES: dict[str, str] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "function_call"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
"""Role words of the ecosystem's files -> ours."""

EXTRAS = ("tool_calls", "tool_call_id", "name", "reasoning_content", "reasoning", "thinking")
"""What a turn may say beside its content, for chat templates that write it; every other key is counted as not used."""
TRAINED = ("weight", "train", "training", "loss")
"""0 or false: this answer is context, and not learned."""

SEVERAL_TURNS = "with answers of several turns"
NO_USER_TURN = "with a transcript whose last turn is not the human's"
NO_ANSWER = "with a transcript that ends with the human's turn, not with an answer"

_TURN = re.compile(r"\n\n(Human|Assistant):")
_TRANSCRIPT_ROLES = {"Human": "user", "Assistant": "assistant"}
_LABEL = re.compile(r"[^\s:][^:\n]{0,20}:")
_CONTENT_KEYS = ("content", "text", "value")
_ROLE_KEYS = ("role", "from")
TURN_KEYS = (*_ROLE_KEYS, *_CONTENT_KEYS)


class RowError(Exception):
    """A row that can't be read: the column at fault and the reason, for the user."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(f"{column}: {reason}")
        self.column = column
        self.reason = reason


class RowDropped(Exception):
    """A row left out by rule; the reason is counted and shown, and is never an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_absent(value: Any) -> bool:
    """null is absent, and so is what says nothing."""
    return value is None or (not isinstance(value, bool | int | float) and not value)


def type_name(value: Any) -> str:
    """The JSON word for what a value is, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and any(k in value for k in _ROLE_KEYS)


def parse_message(value: Any, column: str) -> Message:
    """`{role, content}`, `{role, text}` or `{from, value}` -> Message, the role in our words, with its EXTRAS."""
    if not isinstance(value, Mapping):
        raise RowError(column, f"a turn must be an object with role and content, not {type_name(value)}")
    role = next((value[k] for k in _ROLE_KEYS if value.get(k) is not None), None)
    content = next((value[k] for k in _CONTENT_KEYS if value.get(k) is not None), None)
    ours = ROLES.get(role) if isinstance(role, str) else None
    if ours is None:
        _unknown_role(role, column)
    extra = {key: value[key] for key in EXTRAS if not is_absent(value.get(key)) and str(value[key]).strip()}
    if role == "function_call":  # its text is one call, as JSON
        content, extra = None, {**extra, "tool_calls": [{"type": "function", "function": parsed_json(content)}]}
    if "tool_calls" in extra:
        extra["tool_calls"] = _calls(extra["tool_calls"], column)
        content = "" if content is None else content
    if isinstance(content, list):
        content = "".join(_text_part(part, ours, column) for part in content)
    if not isinstance(content, str):
        raise RowError(column, f"the content of the {ours} turn must be a string, not {type_name(content)}")
    return Message(role=ours, content=content, extra=extra)


def _text_part(part: Any, role: str, column: str) -> str:
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else type_name(part)
    raise RowError(
        column, f"the content of the {role} turn has a part that is no text ({kind}); plaudit reads text only"
    )


def _calls(calls: Any, column: str) -> list[Any]:
    """Tool calls as chat templates take them: a list whose arguments are objects, not JSON inside a string."""
    calls = parsed_json(calls)
    if not isinstance(calls, list):
        raise RowError(column, f"`tool_calls` must be a list, not {type_name(calls)}")
    if not all(isinstance(call, Mapping) and isinstance(call.get("function", call), Mapping) for call in calls):
        raise RowError(column, "a call of a tool must be an object with its name and arguments")
    return [_call(call) for call in calls]


def _call(call: Any) -> Any:
    if not isinstance(call, Mapping):
        return call
    call = {key: value for key, value in call.items() if value is not None}
    for key, read in (("function", _call), ("arguments", parsed_json)):
        if key in call:
            call[key] = read(call[key])
    return call


def parsed_json(value: Any) -> Any:
    """A value, or what a string that is JSON says: tables can't hold objects of many shapes otherwise."""
    with contextlib.suppress(ValueError):
        return json.loads(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value
    return value


def is_trained(value: Mapping[str, Any], column: str) -> bool | None:
    """What a turn's own `weight` (or one of TRAINED) says of learning it; None where it has none."""
    key = next((k for k in TRAINED if value.get(k) is not None), None)
    if key is None:
        return None
    if value[key] not in (0, 1):
        raise RowError(column, f"`{key}` of a turn must be 0 or 1 (true or false), not {value[key]!r:.40}")
    return bool(value[key])


def unread_keys(turns: Any, *, extras: bool, trained: bool) -> list[str]:
    """The keys of turns that say something and that nobody reads; `extras`, `trained`: those are read here."""
    read = {*TURN_KEYS, *(EXTRAS if extras else ()), *(TRAINED if trained else ())}
    listed = turns if isinstance(turns, list) else [turns]
    return [key for turn in listed if is_message(turn) for key in turn if key not in read and not is_absent(turn[key])]


def _unknown_role(role: Any, column: str) -> NoReturn:
    if role is None:
        raise RowError(column, "a turn has no role")
    close = get_close_matches(str(role).lower(), ROLES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known roles: {', '.join(ROLES)}"
    raise RowError(column, f"unknown role {role!r}{hint}")


def parse_messages(value: Any, column: str, *, goes_on: bool = False) -> tuple[Message, ...]:
    """A list of turns, in an order that chat templates accept: an optional system turn first, then user and
    assistant by turns, the user first (unless it `goes_on` from a prompt). RowError with the number of the odd turn
    (from 1)."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        inside = "; the list stands inside a string: store it as a list" if parsed_json(value) is not value else ""
        raise RowError(column, f"must be a list of turns, not {type_name(value)}{inside}")
    if not value:
        raise RowError(column, "the list of turns is empty")
    turns = tuple(parse_message(v, column) for v in value)
    check_order(turns, column, before="user" if goes_on else "")
    return turns


def check_order(turns: Sequence[Message], column: str, before: str = "") -> None:
    """RowError where chat templates would refuse the order; `before` is the role of the turn in front."""
    for number, turn in enumerate(turns, 1):
        if turn.role == "system" and (number > 1 or before):
            raise RowError(column, f"turn {number} is a system turn; only the first turn may be one")
        calls = number > 1 and "tool_calls" in turns[number - 2].extra  # one turn a call, in some files
        if turn.role == before and turn.role in ("user", "assistant") and not calls:
            raise RowError(column, f"turns {number - 1} and {number} are both {turn.role} turns")
        if turn.role in ("assistant", "tool") and before in ("", "system") and len(turns) > 1:
            raise RowError(column, f"turn {number} is the {turn.role}'s; a conversation begins with the user's turn")
        before = turn.role


def chat_prompt(turns: tuple[Message, ...], column: str) -> Prompt:
    """Turns that wait for an answer: the last one is the user's (or a tool's) and not blank."""
    if not turns or turns[-1].role not in ("user", "tool"):
        last = turns[-1].role if turns else "no"
        raise RowError(column, f"the last turn of a prompt must be the user's, here it is the {last} turn")
    if not turns[-1].content.strip():
        raise RowError(
            column, "the prompt is empty" if len(turns) == 1 else f"its last turn, the {turns[-1].role}'s, is empty"
        )
    return Prompt(form=Form.CHAT, turns=turns)


def is_transcript(text: Any) -> bool:
    """Is this an HH transcript: turns that begin with blank line, `Human:` or `Assistant:`, the first a human one?

    Without the blank line before the first `Human:` there must be an `Assistant:` turn too, so that an ordinary text
    that happens to begin with the word is left alone.
    """
    if not isinstance(text, str) or "Human:" not in text[:40]:
        return False
    if text.startswith("\n\nHuman:"):
        return True
    return text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def parse_transcript(text: str) -> tuple[Message, ...]:
    """HH transcript -> turns. White space around each turn is the format's and goes; turns of one speaker in a row
    (the format allows them, chat templates don't) become one, joined by a blank line. A trailing `Assistant:` with
    nothing after it gives a last, empty assistant turn."""
    pieces = _TURN.split("\n\n" + text.lstrip())
    turns: list[Message] = []
    for word, content in zip(pieces[1::2], pieces[2::2], strict=True):
        role, content = _TRANSCRIPT_ROLES[word], content.strip()
        if turns and turns[-1].role == role:
            content = "\n\n".join(part for part in (turns.pop().content, content) if part)
        turns.append(Message(role=role, content=content))
    return tuple(turns)


def transcript_prompt(text: str, column: str) -> Prompt:
    """A transcript that ends in `Assistant:` (or after a human turn) -> the turns before it."""
    turns = parse_transcript(text)
    if turns[-1].role == "assistant" and not turns[-1].content:
        turns = turns[:-1]
    if not turns or turns[-1].role != "user":
        raise RowDropped(NO_USER_TURN)
    return chat_prompt(turns, column)


def transcript_answer(text: str) -> str:
    """What follows a transcript's last `Assistant:`; more than this one turn can't be held by our records."""
    if "\n\nHuman:" not in text and "\n\nAssistant:" not in text:
        return text.strip()
    turns = parse_transcript("\n\nAssistant:" + text)
    if len(turns) > 1:
        raise RowDropped(SEVERAL_TURNS if turns[-1].role == "assistant" else NO_ANSWER)
    return turns[0].content


def split_turns(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> tuple[Prompt, str, str]:
    """Two conversations -> the turns they share as prompt, and the one assistant turn in which they differ."""
    shared = 0
    limit = min(len(chosen), len(rejected)) - 1
    while shared < limit and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == 0:
        raise RowError("chosen", "shares no first turn with rejected, so the prompt can't be told; add `prompt`")
    ends = chosen[shared:], rejected[shared:]
    for column, end in zip(("chosen", "rejected"), ends, strict=True):
        if end[-1].role != "assistant":
            raise RowError(column, f"ends with the {end[-1].role}'s turn; an answer is the assistant's")
    if any(len(end) != 1 for end in ends):
        raise RowDropped(SEVERAL_TURNS)
    answers = [answer_text(end[0], column) for column, end in zip(("chosen", "rejected"), ends, strict=True)]
    return chat_prompt(chosen[:shared], "chosen"), answers[0], answers[1]


def answer_text(turn: Message, column: str) -> str:
    """What a judge compares. An answer that is a call has no text to be judged by."""
    if "tool_calls" in turn.extra:
        raise RowError(column, "the answer calls a tool (`tool_calls`); only answers in text are judged")
    return turn.content


def split_texts(chosen: str, rejected: str) -> tuple[Prompt, str, str]:
    """Two whole texts -> their common beginning as prompt, and the two rests. Nothing is lost: prompt + rest = text.

    The cut is made where a person would make it: after the last whole line that both share, and after a short label
    (`Answer:`) that follows it; where they share no whole line, before the last blank they share, so that a leading
    blank belongs to the answer (as in TRL).
    """
    if is_transcript(chosen) and is_transcript(rejected):
        return split_turns(parse_transcript(chosen), parse_transcript(rejected))
    length = _common_length(chosen, rejected)
    cut = chosen.rfind("\n", 0, length) + 1
    label = _LABEL.match(chosen, cut, length) if cut else None
    if label:
        cut = label.end()
    if cut == 0:
        cut = _blanks_before(chosen, length)
    prompt = chosen[:cut]
    if not prompt.strip():
        raise RowError("chosen", "has no common beginning with rejected, so the prompt can't be told; add `prompt`")
    return Prompt.of_text(prompt), chosen[cut:], rejected[cut:]


def _common_length(a: str, b: str) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:  # bisection on slices: much faster than a loop over characters
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _blanks_before(text: str, length: int) -> int:
    """Where the last run of blanks within text[:length] begins; 0 if there is none."""
    blanks = [m.start() for m in re.finditer(r"\s+", text[:length])]
    return blanks[-1] if blanks else 0
