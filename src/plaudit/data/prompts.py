"""The prompt of a raw row and its answer, in the shapes in which files write them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plaudit.data.kinds import CONTEXTS, QUESTIONS, Raw
from plaudit.data.turns import (
    RowError,
    answer_text,
    chat_prompt,
    check_order,
    is_absent,
    is_message,
    is_transcript,
    parse_message,
    parse_messages,
    parse_transcript,
    parsed_json,
    transcript_answer,
    transcript_prompt,
    type_name,
)
from plaudit.records.text import Form, Message, Prompt

FRAME = ("system", "history", "tools")
"""Columns that belong to the prompt beside whatever else it is made of."""
VARIABLES = "chat_template_kwargs"
"""A column of TRL's, by which each row tells the chat template something else."""


def parse_prompt(raw: Raw) -> tuple[Prompt, bool]:
    """The prompt of a row, and whether it was written as an HH transcript (so that its answer is a continuation)."""
    prompt, transcript = _written(raw)
    return framed(raw, prompt), transcript


def _written(raw: Raw) -> tuple[Prompt, bool]:
    column = _source(raw)
    if is_rendered(raw):
        return _rendered_prompt(raw, column), False
    if column in CONTEXTS:
        return _prompt_in_context(raw, column), False
    if column in QUESTIONS:
        return _written_prompt(raw, column)
    if column == "messages":
        return chat_prompt(parse_messages(raw["messages"], "messages"), "messages"), False
    if column == "content":
        return chat_prompt((parse_message(raw, "role"),), "content"), False
    present = next((c for c in QUESTIONS if c in raw), None)
    raise RowError(present or "prompt", "is null" if present else "is missing")


def _source(raw: Raw) -> str:
    """The column that holds the prompt; empty where none does."""
    if raw.get("prompt_rendered"):
        return "prompt" if raw.get("prompt") is not None else "content"
    if context := next((c for c in CONTEXTS if raw.get(c)), None):
        return context
    if column := next((c for c in (*QUESTIONS, "messages") if raw.get(c) is not None), None):
        return column
    return "content" if raw.get("role") is not None and raw.get("content") is not None else ""


def prompt_columns(raw: Raw) -> tuple[str, ...]:
    """The columns that `parse_prompt` makes the prompt of."""
    column = _source(raw)
    beside: tuple[str, ...] = ()
    if column in CONTEXTS:
        beside = ("prompt",)
    elif column in QUESTIONS and isinstance(raw[column], str):
        beside = ("input",)
    elif column == "content":
        beside = ("role",)
    return ("prompt_rendered", column, *beside, *frame_columns(raw))


def has_prompt(raw: Raw) -> bool:
    return any(raw.get(c) is not None for c in (*CONTEXTS, *QUESTIONS, "messages", "role"))


def is_rendered(raw: Raw) -> bool:
    value = raw.get("prompt_rendered")
    if value is not None and not isinstance(value, bool):
        raise RowError("prompt_rendered", f"must be true or false, not {type_name(value)}")
    return bool(value)


def _rendered_prompt(raw: Raw, column: str) -> Prompt:
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
    return Prompt.of_text(_not_blank(_with_input(raw, value), column)), False


def _with_input(raw: Raw, text: str) -> str:
    extra = raw.get("input")
    if extra is not None and not isinstance(extra, str):
        raise RowError("input", f"must be a string, not {type_name(extra)}")
    return f"{text}\n\n{extra}" if extra and extra.strip() else text


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


# ------------------------------------------------------------------------------------------- what stands beside turns


def beside_prompt(raw: Raw, value: Any, column: str) -> tuple[Message, ...]:
    """The turns of a whole conversation, with what a prompt beside it adds: its system turn, or all of it where the
    conversation goes on from it. RowError where it is neither the conversation's beginning nor its last question."""
    question = question_beside(raw)
    own = _question_turns(raw, question) if question else ()
    goes_on = bool(own) and isinstance(value, list) and value != [] and _role_of(value[0], column) == "assistant"
    turns = parse_messages(value, column, goes_on=goes_on)
    if not own or _alike(own, turns):
        return turns
    if goes_on:
        together = (*own, *turns)
        check_order(together, column)
        return together
    system, rest = (own[:1], own[1:]) if own[0].role == "system" else ((), own)
    if system and turns[0].role != "system" and _alike(rest, turns):
        return (*system, *turns)
    questions = [turn for turn in turns[:-1] if turn.role == "user"]
    if not system and len(rest) == 1 and questions and _alike(rest, questions[-1:]):
        return turns
    raise RowError(
        question, f"is neither how `{column}` begins nor its last question; correct it, or rename the column"
    )


def question_beside(raw: Raw) -> str:
    """The column with a prompt of its own beside a whole conversation; empty where there is none."""
    return next((c for c in QUESTIONS if not is_absent(raw.get(c))), "")


def _question_turns(raw: Raw, column: str) -> tuple[Message, ...]:
    value = raw[column]
    if isinstance(value, str):
        if is_transcript(value):
            turns = parse_transcript(value)
            return turns if turns[-1].content else turns[:-1]
        return (Message(role="user", content=_with_input(raw, value)),)
    listed = value if isinstance(value, list) else [value]
    return tuple(parse_message(turn, column) for turn in listed)


def _alike(own: Sequence[Message], turns: Sequence[Message]) -> bool:
    """Do the turns begin so, outer white space aside?"""
    return [(t.role, t.content.strip()) for t in own] == [(t.role, t.content.strip()) for t in turns[: len(own)]]


def _role_of(turn: Any, column: str) -> str:
    return parse_message(turn, column).role


def frame_columns(raw: Raw) -> tuple[str, ...]:
    """Those of `FRAME` that this row has in a shape that can be read; else they are columns like any other."""
    value = raw.get("history")
    has_history = isinstance(value, list) and (all(map(is_message, value)) or all(map(_is_pair, value)))
    fits = {
        "system": isinstance(raw.get("system"), str) and not raw["system"].isspace(),
        "history": has_history,
        "tools": isinstance(parsed_json(raw.get("tools")), list),
    }
    return tuple(column for column in FRAME if fits[column] and not is_absent(raw[column]))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def framed(raw: Raw, prompt: Prompt) -> Prompt:
    """The prompt with the system turn, the earlier turns and the tools that stand in columns of their own."""
    if not is_absent(raw.get(VARIABLES)):
        names = ", ".join(raw[VARIABLES]) if isinstance(raw[VARIABLES], dict) else ""
        raise RowError(
            VARIABLES,
            f"a row's own variables for the chat template ({names}) aren't used: say them for all rows by "
            f"`model.template_variables`, and give the column another name: `columns: {{{VARIABLES}: unused}}`",
        )
    columns = frame_columns(raw)
    if not columns:
        return prompt
    if prompt.form is Form.RENDERED:
        raise RowError(columns[0], "stands beside a rendered prompt, which must hold all; write it there, or drop it")
    turns = prompt.turns
    if "history" in columns:
        if len(turns) > 1:
            raise RowError("history", "stands beside a prompt of several turns; write all turns into one column")
        turns = (*_history(raw["history"]), *turns)
        check_order(turns, "history")
    if "system" in columns:
        if turns[0].role == "system" and turns[0].content.strip() != raw["system"].strip():
            raise RowError("system", "is not the system turn that the conversation has already")
        turns = turns if turns[0].role == "system" else (Message(role="system", content=raw["system"]), *turns)
    tools = tuple(parsed_json(raw["tools"])) if "tools" in columns else ()
    return replace(prompt, form=Form.CHAT, turns=turns, tools=tools)


def _history(value: list[Any]) -> tuple[Message, ...]:
    if is_message(value[0]):
        return parse_messages(value, "history")
    pairs = [(Message(role="user", content=q), Message(role="assistant", content=a)) for q, a in value]
    return tuple(turn for pair in pairs for turn in pair)


# ------------------------------------------------------------------------------------------------------------- answers


def parse_answer(value: Any, column: str, continues_transcript: bool = False) -> str:
    """An answer that is judged: text; see `answer_turn`."""
    return answer_text(answer_turn(value, column, continues_transcript), column)


def answer_turn(value: Any, column: str, continues_transcript: bool = False) -> Message:
    """An answer: a string, one assistant message, or a list of exactly one."""
    if isinstance(value, str):
        return Message(role="assistant", content=transcript_answer(value) if continues_transcript else value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if is_message(value):
        message = parse_message(value, column)
        if message.role != "assistant":
            raise RowError(column, f"an answer must be the assistant's turn, not the {message.role}'s")
        return message
    if isinstance(value, list):
        raise RowError(column, f"must be a string or one assistant message, not a list of {len(value)}")
    raise RowError(column, f"must be a string or a message, not {type_name(value)}" if value is not None else "is null")
