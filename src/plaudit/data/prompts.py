"""The prompt of a raw row and its answer, in the shapes in which files write them."""

from __future__ import annotations

from typing import Any

from plaudit.data.kinds import CONTEXTS, QUESTIONS, Raw
from plaudit.data.turns import (
    RowError,
    chat_prompt,
    is_message,
    is_transcript,
    parse_message,
    parse_messages,
    transcript_answer,
    transcript_prompt,
    type_name,
)
from plaudit.records.text import Form, Message, Prompt


def parse_prompt(raw: Raw) -> tuple[Prompt, bool]:
    """The prompt of a row, and whether it was written as an HH transcript (so that its answer is a continuation)."""
    if _rendered(raw):
        return _rendered_prompt(raw), False
    context = next((c for c in CONTEXTS if raw.get(c)), None)
    if context:
        return _prompt_in_context(raw, context), False
    column = next((c for c in QUESTIONS if raw.get(c) is not None), None)
    if column:
        return _written_prompt(raw, column)
    if raw.get("messages") is not None:
        return chat_prompt(parse_messages(raw["messages"], "messages"), "messages"), False
    if "role" in raw and "content" in raw:
        return chat_prompt((parse_message(raw, "role"),), "content"), False
    present = next((c for c in QUESTIONS if c in raw), None)
    raise RowError(present or "prompt", "is null" if present else "is missing")


def prompt_columns(raw: Raw) -> tuple[str, ...]:
    """The columns that `parse_prompt` makes the prompt of."""
    if raw.get("prompt_rendered"):
        written = ("prompt",) if raw.get("prompt") is not None else ("role", "content")
        return ("prompt_rendered", *written)
    context = next((c for c in CONTEXTS if raw.get(c)), None)
    if context:
        return ("prompt_rendered", context, "prompt")
    for column in QUESTIONS:
        if raw.get(column) is not None:
            return ("prompt_rendered", column, *(("input",) if isinstance(raw[column], str) else ()))
    return (
        ("prompt_rendered", "messages") if raw.get("messages") is not None else ("prompt_rendered", "role", "content")
    )


def has_prompt(raw: Raw) -> bool:
    return any(raw.get(c) is not None for c in (*CONTEXTS, *QUESTIONS, "messages", "role"))


def _rendered(raw: Raw) -> bool:
    value = raw.get("prompt_rendered")
    if value is not None and not isinstance(value, bool):
        raise RowError("prompt_rendered", f"must be true or false, not {type_name(value)}")
    return bool(value)


def _rendered_prompt(raw: Raw) -> Prompt:
    column = "prompt" if raw.get("prompt") is not None else "content"
    text = raw.get(column)
    if not isinstance(text, str):
        raise RowError(column, f"a rendered prompt (`prompt_rendered: true`) must be a string, not {type_name(text)}")
    return Prompt.of_text(_not_blank(text, column), Form.RENDERED)


def _written_prompt(raw: Raw, column: str) -> tuple[Prompt, bool]:
    value = raw[column]
    if is_message(value):
        return chat_prompt((parse_message(value, column),), column), False
    if isinstance(value, list):
        return chat_prompt(parse_messages(value, column), column), False
    if not isinstance(value, str):
        raise RowError(column, f"must be a string or a list of messages, not {type_name(value)}")
    if is_transcript(value):
        return transcript_prompt(value, column), True
    extra = raw.get("input")
    if extra is not None and not isinstance(extra, str):
        raise RowError("input", f"must be a string, not {type_name(extra)}")
    text = f"{value}\n\n{extra}" if extra and extra.strip() else value
    return Prompt.of_text(_not_blank(text, column)), False


def _not_blank(text: str, column: str) -> str:
    if not text or text.isspace():
        raise RowError(column, "the prompt is empty")
    return text


def _prompt_in_context(raw: Raw, context: str) -> Prompt:
    """`conversations` are the turns so far; a `prompt` beside them is their last user turn, or the one that follows."""
    turns = parse_messages(raw[context], context)
    last = raw.get("prompt")
    if last is None or (turns[-1].role == "user" and turns[-1].content == last):
        return chat_prompt(turns, context)
    if not isinstance(last, str):
        raise RowError("prompt", f"beside `{context}` it must be a string, not {type_name(last)}")
    if turns[-1].role == "user":
        raise RowError("prompt", f"is not the last user turn of `{context}`")
    return chat_prompt((*turns, Message(role="user", content=last)), "prompt")


def parse_answer(value: Any, column: str, continues_transcript: bool = False) -> str:
    """An answer: a string, one assistant message, or a list of exactly one."""
    if isinstance(value, str):
        return transcript_answer(value) if continues_transcript else value
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if is_message(value):
        message = parse_message(value, column)
        if message.role != "assistant":
            raise RowError(column, f"an answer must be the assistant's turn, not the {message.role}'s")
        return message.content
    if isinstance(value, list):
        raise RowError(column, f"must be a string or one assistant message, not a list of {len(value)}")
    raise RowError(column, f"must be a string or a message, not {type_name(value)}" if value is not None else "is null")
