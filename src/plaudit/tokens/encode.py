"""Rows of text to rows of ids. A row that is too long is an error, dropped, or cut; never silently."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Form, Message, Prompt, PromptRow, Text
from plaudit.telemetry.console import warn
from plaudit.tokens.options import TooLong
from plaudit.tokens.pairs import PairRenderer
from plaudit.tokens.template import Renderer

EncodedRow = tuple[list[int], list[int]]
"""The ids of a prompt and those of its answer."""
Warned = set[tuple[str, str]]
"""What was warned of already: file and reason. Whoever encodes a few rows of a file at a time hands it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPrompt:
    """A prompt, one answer to it, and where the row stands in its file."""

    prompt: Prompt
    response: str
    where: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the answer's turn says, such as `tool_calls`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One entry per answer, in order; None where it was dropped."""

    rows: tuple[EncodedRow | None, ...]
    dropped: int
    truncated: int

    @property
    def remaining(self) -> list[EncodedRow]:
        return [row for row in self.rows if row is not None]


def fit(
    prompt_ids: list[int], response_ids: list[int], max_length: int, bos: int | None = None, closing: int = 0
) -> EncodedRow:
    """Cut to `max_length` tokens: the prompt loses its beginning first (but its BOS), only then the response its end.

    At least one prompt token stays, because something must predict the first response token. The response's last
    `closing` ids stay too: the separator by which an encoder's input ends.
    """
    if len(response_ids) > max_length - 1 and closing:
        response_ids = response_ids[: max_length - 1 - closing] + response_ids[-closing:]
    response_ids = response_ids[: max_length - 1]
    room = max_length - len(response_ids)
    if len(prompt_ids) > room and bos is not None and prompt_ids[0] == bos:
        return [bos, *prompt_ids[len(prompt_ids) - room + 1 :]], response_ids
    return prompt_ids[-room:], response_ids


def encode_answers(
    answers: Sequence[AnsweredPrompt],
    renderer: Renderer | PairRenderer,
    *,
    max_length: int,
    too_long: TooLong,
    warned: Warned | None = None,
) -> Encoded:
    """Prompt and response ids of each answer, the response with its end token. UserError naming the rows that are too
    long, where `too_long` is `error`."""
    warn_of_unread(answers, renderer, warned)
    rows: list[EncodedRow | None] = []
    long: list[str] = []
    for answer in answers:
        pair = renderer.pair_ids(answer.prompt, answer.response, extra=answer.extra, where=answer.where)
        if (length := len(pair[0]) + len(pair[1])) > max_length:
            long.append(f"{answer.where}: {length} tokens")
            rows.append(fit(*pair, max_length, renderer.bos, renderer.closing) if too_long == "truncate" else None)
        else:
            rows.append(pair)
    if long and too_long == "error":
        more = f" … and {len(long) - 5} more" if len(long) > 5 else ""
        raise UserError(
            f"{len(long)} row(s) are longer than max_length = {max_length} tokens: {'; '.join(long[:5])}{more}. "
            "Raise max_length, or set too_long to `drop` or `truncate`."
        )
    unthinking = [
        row
        for row in answers
        if not row.extra
        and renderer.lacks_thought(row.prompt, row.response)
        and _new_reasons(["no thought"], row.where, warned)
    ]
    if unthinking:
        count = _counted(len(unthinking), len(answers), warned)
        warn(
            f"{count}answers have no thought, although the chat template's generation prompt "
            "opens one: they are read as the template writes such a turn, not inside the open thought"
        )
    truncated = len(long) if too_long == "truncate" else 0
    return Encoded(rows=tuple(rows), dropped=len(long) - truncated, truncated=truncated)


def encode_learned(
    rows: Sequence[Demonstration | Text],
    renderer: Renderer,
    *,
    max_length: int,
    too_long: TooLong,
    warned: Warned | None = None,
) -> Encoded:
    """What a language model learns to write, demonstrations before texts: of demonstrations the answer (`too_long` is
    for them), of texts everything. Raises: UserError as `encode_answers`."""
    shown = [row for row in rows if isinstance(row, Demonstration)]
    answers = [
        AnsweredPrompt(prompt=row.prompt, response=row.response, where=row.where, extra=row.extra) for row in shown
    ]
    encoded = encode_answers(answers, renderer, max_length=max_length, too_long=too_long, warned=warned)
    documents = [row for row in rows if isinstance(row, Text)]
    warn_of_unread(documents, renderer, warned)
    texts = encode_texts(documents, renderer, max_length=max_length)
    return replace(encoded, rows=(*encoded.rows, *texts))


def encode_texts(texts: Sequence[Text], renderer: Renderer, *, max_length: int) -> list[EncodedRow]:
    """Documents for language modelling, plain or rendered: every token but the first is a target. Long ones are cut
    into windows of `max_length`, each of which starts with the last token of the one before."""
    rows: list[EncodedRow] = []
    for text in texts:
        ids = renderer.text_ids(text.text, text.form)
        for begin in range(0, len(ids) - 1, max_length - 1):
            window = ids[begin : begin + max_length]
            rows.append((window[:1], window[1:]))
    return rows


def warn_of_unread(
    rows: Sequence[AnsweredPrompt | Text | PromptRow], renderer: Renderer | PairRenderer, warned: Warned | None = None
) -> None:
    """One line for the rows that spell control tokens as letters, and one for what their turns say in vain."""
    spelling: list[tuple[str, set[str]]] = []
    unwritten: Counter[str] = Counter()
    for row in rows:
        spelled = _new_reasons({token for text in _typed(row) for token in renderer.spelled(text)}, row.where, warned)
        spelling += [(row.where, spelled)] if spelled else []
        if isinstance(row, Text):
            continue
        turns = row.prompt.turns
        if isinstance(row, AnsweredPrompt) and row.extra:
            turns = (*turns, Message(role="assistant", content=row.response, extra=row.extra))
        lost = {key for turn in turns for key in turn.extra} | ({"tools"} if row.prompt.tools else set())
        if lost and renderer.chat:
            lost = renderer.chat.unwritten(turns, row.prompt.tools)
        elif isinstance(renderer, PairRenderer):  # it writes the prompt's text, which holds them
            lost = set()
        if "tool_calls" in lost and isinstance(row, AnsweredPrompt) and "tool_calls" in row.extra:
            raise UserError(
                f"{row.where}: the answer calls a tool (`tool_calls`), which this model's chat template can't write; "
                "name a template that can by `model.chat_template`, or leave such rows out"
            )
        unwritten.update(_new_reasons(lost, row.where, warned))
    if spelling:
        tokens = sorted(set().union(*(tokens for _, tokens in spelling)))
        count = _counted(len(spelling), len(rows), warned)
        warn(
            f"{count}rows spell control tokens of the tokenizer ({', '.join(tokens[:4])}; "
            f"first {spelling[0][0] or 'row 1'}): they are read as letters. If a chat template wrote them, give "
            "`messages` instead, or say `rendered: true` for the file"
        )
    if unwritten:
        counts = ", ".join(f"`{name}`" + f" ({count})" * (warned is None) for name, count in sorted(unwritten.items()))
        what = "the chat template writes" if renderer.chat else "without a chat template, there is"
        warn(f"{what} nothing of what the rows' turns say in {counts}: it is not read")


def _new_reasons(reasons: Iterable[str], where: str, warned: Warned | None) -> set[str]:
    """Those of a row's reasons to warn that are new for its file; they count as such from now on."""
    own = {(where.rpartition(":")[0], reason) for reason in reasons} - (warned or set())
    if warned is not None:
        warned |= own
    return {reason for _, reason in own}


def _counted(count: int, total: int, warned: Warned | None) -> str:
    """How many there are, where all rows are there to be counted."""
    return f"{count} of {total} " if warned is None else ""


def _typed(row: AnsweredPrompt | Text | PromptRow) -> list[str]:
    """The texts of a row in which control tokens are letters."""
    if isinstance(row, Text):
        return [] if row.form is Form.RENDERED else [row.text]
    prompt = [] if row.prompt.form is Form.RENDERED else [turn.content for turn in row.prompt.turns]
    return [*prompt, row.response] if isinstance(row, AnsweredPrompt) else prompt
