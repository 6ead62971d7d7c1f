"""Rows of text to rows of ids. A row that is too long is an error, dropped, or cut; never silently."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Form, Prompt, Text
from plaudit.tokens.options import TooLong
from plaudit.tokens.pairs import PairRenderer
from plaudit.tokens.template import Renderer

EncodedRow = tuple[list[int], list[int]]
"""The ids of a prompt and those of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPrompt:
    """A prompt, one answer to it, and where the row stands in its file."""

    prompt: Prompt
    response: str
    where: str


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
    end: bool = True,
) -> Encoded:
    """Prompt and response ids of each answer, the response with its end token. UserError naming the rows that are too
    long, where `too_long` is `error`."""
    rows: list[EncodedRow | None] = []
    long: list[str] = []
    prompts: dict[str, list[int]] = {}
    for answer in answers:
        key = answer.prompt.id
        if key not in prompts:
            prompts[key] = renderer.prompt_ids(answer.prompt, where=answer.where)
        pair = (prompts[key], renderer.response_ids(answer.response, end=end, form=answer.prompt.form))
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
    truncated = len(long) if too_long == "truncate" else 0
    return Encoded(rows=tuple(rows), dropped=len(long) - truncated, truncated=truncated)


def encode_learned(
    rows: Sequence[Demonstration | Text], renderer: Renderer, *, max_length: int, too_long: TooLong
) -> Encoded:
    """What a language model learns to write, demonstrations before texts: of demonstrations the answer (`too_long` is
    for them), of texts everything. Raises: UserError as `encode_answers`."""
    shown = [row for row in rows if isinstance(row, Demonstration)]
    answers = [AnsweredPrompt(prompt=row.prompt, response=row.response, where=row.where) for row in shown]
    encoded = encode_answers(answers, renderer, max_length=max_length, too_long=too_long)
    texts = encode_texts([row for row in rows if isinstance(row, Text)], renderer, max_length=max_length)
    return replace(encoded, rows=(*encoded.rows, *texts))


def encode_texts(texts: Sequence[Text], renderer: Renderer, *, max_length: int) -> list[EncodedRow]:
    """Documents for language modelling, plain or rendered: every token but the first is a target. Long ones are cut
    into windows of `max_length`, each of which starts with the last token of the one before."""
    rows: list[EncodedRow] = []
    for text in texts:
        rendered = text.form is Form.RENDERED
        prompt = Prompt.of_text(text.text, Form.RENDERED)
        ids = renderer.prompt_ids(prompt, text.where) if rendered else renderer.text_ids(text.text)
        for begin in range(0, len(ids) - 1, max_length - 1):
            window = ids[begin : begin + max_length]
            rows.append((window[:1], window[1:]))
    return rows
