"""Prompts and answers to ids for encoders: the tokenizer's own way of writing two texts in one input.

    BERT      [CLS] x | [SEP] y [SEP]
    RoBERTa     <s> x | </s></s> y </s>
    T5              x | </s> y </s>

The bar is where `prompt_ids` end and `response_ids` begin; both together are exactly `tokenizer(x, y)`, so that every
model that was trained on pairs of texts sees what it knows. What stands before, between and behind is asked of the
tokenizer itself. Text is text here too: a separator that a user spells stays letters.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.errors import UserError
from plaudit.records.text import Form, Prompt
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a tokenizer puts around two texts a and b, and which token types it gives them."""

    before: tuple[int, ...]
    """In front of a: [CLS], <s>, or nothing."""
    between: tuple[int, ...]
    behind: tuple[int, ...]
    first_type: int
    """Of a and what precedes it."""
    second_type: int
    """Of b and what follows it."""
    between_first: int
    """How many of `between` are of a's type."""


class PairRenderer:
    """One tokenizer's way of writing a prompt and an answer as two texts; it stands where `Renderer` does for decoders.

    A conversation is written as a transcript, `role: content` a line, unless `prompts` has a chat template.

    Raises: UserError for a tokenizer that puts nothing between two texts.
    """

    def __init__(self, prompts: Renderer):
        self._prompts, self.tokenizer = prompts, prompts.tokenizer
        self.template, self.controls, self.variables = prompts.template, prompts.controls, prompts.variables
        self.chat, self.spelled = prompts.chat, prompts.spelled
        self.frame = pair_frame(prompts.tokenizer)
        self.bos = self.frame.before[0] if self.frame.before else None
        """The id that stands in front of every input, or None."""
        self.closing = len(self.frame.behind)
        """So many ids at an answer's end stay where it is cut: the model reads the whole input by them."""

    def with_controls(self, tokenizer: "PreTrainedTokenizerFast", tokens: Iterable[str]) -> "PairRenderer":
        """As `Renderer`'s."""
        return PairRenderer(self._prompts.with_controls(tokenizer, tokens))

    @property
    def template_hash(self) -> str:
        """As `Renderer`'s; never one of those."""
        return hashlib.sha256(f"pair {self._prompts.template_hash}".encode()).hexdigest()[:16]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The token that an input ends by."""
        return self.frame.behind[-1:]

    def prompt_ids(self, prompt: Prompt, where: str = "") -> list[int]:
        """Ids of the first text with what stands before it. An empty prompt is no mistake: the frame is there.
        UserError, beginning with `where`, where a chat template refuses the conversation."""
        return [*self.frame.before, *self.source_ids(prompt, where)]

    def source_ids(self, prompt: Prompt, where: str = "") -> list[int]:
        """Ids of the first text alone."""
        templated = self.template is not None and not (prompt.form is Form.TEXT and self._prompts.policy == "raw")
        if not templated and prompt.form is not Form.RENDERED:
            return encode_plain(self.tokenizer, prompt.text, self.controls)
        ids = self._prompts.prompt_ids(prompt, where)
        begin = len(self.frame.before)
        return ids[begin:] if begin and tuple(ids[:begin]) == self.frame.before else ids

    def answer_ids(self, text: str) -> list[int]:
        """Ids of the second text alone."""
        return encode_plain(self.tokenizer, text, self.controls)

    def response_ids(self, text: str, end: bool, form: Form = Form.TEXT) -> list[int]:
        """Ids that follow `prompt_ids`: what stands between, the second text, what stands behind if `end`."""
        return [*self.frame.between, *self.answer_ids(text), *(self.frame.behind if end else ())]

    def pair_ids(
        self, prompt: Prompt, response: str, *, extra: Mapping[str, Any] | None = None, where: str = ""
    ) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of a whole answer; the two texts have no room for `extra`."""
        return self.prompt_ids(prompt, where), self.response_ids(response, end=True, form=prompt.form)

    def lacks_thought(self, prompt: Prompt, response: str) -> bool:
        """As `Renderer`'s: nothing opens a thought here."""
        return False

    def token_types(self, prompt_length: int, response_length: int) -> list[int]:
        """The token type of each id of a prompt and a response: which of the two texts it belongs to."""
        first = prompt_length + min(self.frame.between_first, response_length)
        second = prompt_length + response_length - first
        return [self.frame.first_type] * first + [self.frame.second_type] * second


def pair_frame(tokenizer: "PreTrainedTokenizerFast") -> Frame:
    """What `tokenizer` puts around two texts, learned from what it makes of "a" and "b"."""
    a, b = encode_plain(tokenizer, "a"), encode_plain(tokenizer, "b")
    both = tokenizer("a", "b", return_token_type_ids=True)
    ids, types = both["input_ids"], both["token_type_ids"]
    begin_a = _find(ids, a, 0)
    begin_b = _find(ids, b, begin_a + len(a))
    between = ids[begin_a + len(a) : begin_b]
    if not between:
        raise UserError(
            "the tokenizer puts nothing between two texts, so an encoder can't tell prompt and answer apart"
        )
    first, second = types[begin_a], types[begin_b]
    return Frame(
        before=tuple(ids[:begin_a]),
        between=tuple(between),
        behind=tuple(ids[begin_b + len(b) :]),
        first_type=first,
        second_type=second,
        between_first=sum(kind == first for kind in types[begin_a + len(a) : begin_b]),
    )


def _find(ids: Sequence[int], part: Sequence[int], begin: int) -> int:
    """Where `part` stands in `ids`, from `begin` on."""
    for start in range(begin, len(ids) - len(part) + 1):
        if ids[start : start + len(part)] == part:
            return start
    raise UserError("the tokenizer rewrites a text when another stands beside it; plaudit can't write pairs with it")
