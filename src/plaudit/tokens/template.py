"""Prompts and answers to ids, through the tokenizer's chat template where there is one.

A prompt and its answer are tokenised apart, always: `prompt_ids` then `response_ids` are the ids that training sees,
and `prompt_ids` is what the sampler continues from. Tokenising both as one string could merge letters across the
border, and the ids in training would not be those in sampling.

Text is text: no control token forms where a user spells one (`tokens/chat.py`). BOS stands in front once where the
tokenizer uses one.
"""

import copy
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal

from plaudit.errors import UserError
from plaudit.records.text import Form, Message, Prompt
from plaudit.tokens.chat import Answering, ChatTemplate, check_turns
from plaudit.tokens.pieces import text_ends, text_pieces
from plaudit.tokens.tokenizer import (
    bos_id,
    decode,
    decode_continuing,
    encode_continuing,
    encode_plain,
    encode_with_controls,
    special_tokens,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Renderer:
    """One tokenizer's way of writing prompts and answers.

    Args:
        policy: what a bare string becomes. auto: one user turn where there is a chat template; raw: plain text.
        template: Jinja text used instead of the tokenizer's own chat template.
        variables: handed to the template, such as `{"enable_thinking": False}`.
        end_id: the token that ends documents and untemplated answers; the tokenizer's EOS if not given.
    Raises: UserError when the template can't be read.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        policy: Literal["auto", "raw"] = "auto",
        template: str | None = None,
        *,
        variables: Mapping[str, Any] | None = None,
        end_id: int | None = None,
    ):
        self.tokenizer = tokenizer
        self.policy = policy
        self.variables = dict(variables or {})
        self.template = template if template is not None else _own_template(tokenizer)
        """Jinja text, or None; save it with the policy."""
        self.for_tools = None if template is not None else _tool_template(tokenizer)
        """Jinja text for conversations with tools, where the tokenizer has one of its own for them."""
        self.bos = bos_id(tokenizer)
        """The id that stands in front of every sequence, or None."""
        self.end_id = tokenizer.eos_token_id if end_id is None else end_id
        self.closing = 0
        """So many ids at an answer's end stay where it is cut: none, because an answer that was cut hasn't ended."""
        self.whole_turns = False
        """Pairs of prompt and answer are written as the template writes the finished conversation, to its last token:
        what reward models from elsewhere have learnt to read."""
        self._plain = Answering(end_ids=() if self.end_id is None else (self.end_id,))
        template, ends = self.template, self._plain.end_ids
        self.chat: ChatTemplate | None = None
        if template is not None:
            self.chat = ChatTemplate(tokenizer, template, self.variables, ends, for_tools=self.for_tools)
        self._turn = self.chat.answering if self.chat else self._plain
        self.controls = self.chat.controls if self.chat else special_tokens(tokenizer)
        """Tokens that are letters when a user spells them."""
        self._last: tuple[Prompt | None, list[int]] = (None, [])
        """The last prompt and its ids: the answers to one come one after the other."""

    def with_controls(self, tokenizer: "PreTrainedTokenizerFast", tokens: Iterable[str]) -> "Renderer":
        """The same manners with `tokenizer`, which has further control tokens: letters when a user spells them."""
        renderer = copy.copy(self)
        renderer.tokenizer, renderer.controls = tokenizer, self.controls | frozenset(tokens)
        renderer._last = (None, [])
        if self.chat:
            renderer.chat = copy.copy(self.chat)
            renderer.chat.tokenizer, renderer.chat.controls = tokenizer, renderer.controls
        return renderer

    def with_whole_turns(self) -> "Renderer":
        """The same that writes pairs as finished conversations."""
        renderer = copy.copy(self)
        renderer.whole_turns = True
        return renderer

    @property
    def template_hash(self) -> str:
        """16 hex digits of the template's text, the policy and the variables: equal hashes render alike."""
        facts = [self.template, self.policy, *([self.variables] if self.variables else [])]
        facts += [self.for_tools] if self.for_tools is not None else []
        return hashlib.sha256(json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that `response_ids(…, end=True)` ends by; sampling must stop at them."""
        return tuple(dict.fromkeys((*self._turn.end_ids, *self._plain.end_ids)))

    def prompt_ids(self, prompt: Prompt, where: str = "") -> list[int]:
        """Ids ready for the answer, with BOS exactly once in front if the tokenizer uses one.

        UserError, beginning with `where`, when a conversation meets no template, the template refuses it (roles, order
        of turns, system turn), or nothing is left to condition on.
        """
        last, ids = self._last
        if last is prompt:
            return ids
        try:
            ids = self._prompt_ids(prompt)
        except UserError as error:
            raise UserError(_at(where, str(error))) from error
        if not ids:
            raise UserError(_at(where, "the prompt is empty and the tokenizer has no BOS: nothing to continue from"))
        self._last = (prompt, ids)
        return ids

    def response_ids(self, text: str, end: bool, form: Form = Form.TEXT) -> list[int]:
        """Ids that follow `prompt_ids` when the answer is `text`, the end token last if `end`. `form`: of the prompt;
        it matters only where a chat template exists and the policy is raw."""
        style = self._style(form)
        text = style.goes_on(text)
        text = style.lead + (text.strip() if style.strips else text)
        if end:
            text += style.tail
        encode = encode_plain if style.opens_text else encode_continuing
        return encode(self.tokenizer, text, self.controls) + list(style.end_ids if end else ())

    def pair_ids(
        self, prompt: Prompt, response: str, *, extra: Mapping[str, Any] | None = None, where: str = ""
    ) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of an answer that has ended; `extra` is what else the answer's turn says. They are
        `prompt_ids` and `response_ids`, unless the generation prompt opens a thought and the answer has none: then both
        are as the template writes such a turn. UserError as `prompt_ids`."""
        ids = self.prompt_ids(prompt, where)
        style = self._style(prompt.form)
        if self.chat is None or style is self._plain or prompt.form is Form.RENDERED:
            return ids, self.response_ids(response, end=True, form=prompt.form)
        try:
            if self.whole_turns:
                return self._whole_turns(self.chat, prompt, response)
            if extra:
                return self._written_turn(self.chat, prompt, Message(role="assistant", content=response, extra=extra))
        except UserError as error:
            raise UserError(_at(where, str(error))) from error
        written = self.response_ids(response, end=True, form=prompt.form)
        if style.has_thought(response):
            return ids, written
        if style.closes:
            return ids, self._closing(style, response, prompt.form) + written
        return self._prompt_ids(prompt, unopened=True), written

    def lacks_thought(self, prompt: Prompt, response: str) -> bool:
        """Whether the generation prompt opens a thought that the answer doesn't have."""
        return prompt.form is not Form.RENDERED and not self._style(prompt.form).has_thought(response)

    def _whole_turns(self, chat: ChatTemplate, prompt: Prompt, response: str) -> tuple[list[int], list[int]]:
        """The finished conversation, cut where it leaves the prompt: nothing is added, nothing left out."""
        turns = (*prompt.turns, Message(role="assistant", content=response))
        whole = encode_with_controls(self.tokenizer, chat.pieces(turns, prompt.tools, generation=False))
        opened = encode_with_controls(self.tokenizer, chat.pieces(prompt.turns, prompt.tools))
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, opened, strict=False)))
        shared = min(max(shared, 1), len(whole) - 1)
        return whole[:shared], whole[shared:]

    def _written_turn(self, chat: ChatTemplate, prompt: Prompt, turn: Message) -> tuple[list[int], list[int]]:
        """An answer as the template writes its whole turn, up to the end token."""
        style = chat.answering
        whole = chat.pieces((*prompt.turns, turn), prompt.tools, generation=False)
        opened = "".join(chat.pieces(prompt.turns, prompt.tools))
        bare = opened.removesuffix(style.opens)
        start = next((text for text in (opened, bare) if "".join(whole).startswith(text)), None)
        if start is None:
            names = ", ".join(turn.extra)
            raise UserError(f"the chat template writes an answer with {names} otherwise than its generation prompt")
        rest, left = list[str](), len(start)
        for piece in whole:
            rest += [piece[left:]] if left < len(piece) else []
            left = max(0, left - len(piece))
        ids = encode_with_controls(self.tokenizer, rest or [""], follows=not style.opens_text)
        ended = max((index + 1 for index, token in enumerate(ids) if token in style.end_ids), default=0)
        ids = ids[:ended] if ended else [*ids, *style.end_ids]
        return self._prompt_ids(prompt, unopened=start != opened), ids

    def response_text(self, ids: Sequence[int], form: Form = Form.TEXT) -> str:
        """The inverse of `response_ids`: what the answer says, without control tokens and the template's spaces, with
        the tag that the generation prompt has opened for it."""
        style = self._style(form)
        ended = len(ids) > 0 and ids[-1] in self.end_ids
        text = self._decode(form, ids[:-1] if ended else ids).removeprefix(style.lead)
        return style.opens + (text.removesuffix(style.tail) if ended else text)

    def text_of_pieces(self, ids: Sequence[int], pieces: Sequence[str], form: Form = Form.TEXT) -> str:
        """The same for the first of an answer's pieces, the last of them perhaps in part."""
        style, controls = self._style(form), set(self.tokenizer.all_special_ids)
        text = "".join("" if i in controls else piece for i, piece in zip(ids, pieces, strict=False))
        return style.opens + text.removeprefix(style.lead)

    def shown_text(self, ids: Sequence[int], form: Form = Form.TEXT) -> str:
        """What ids of an answer wrote, control tokens as they are spelled."""
        return self._decode(form, ids, keep_specials=True)

    def response_pieces(self, ids: Sequence[int], form: Form = Form.TEXT) -> list[str]:
        """What each id of an answer wrote, control tokens (the end token among them) as they are spelled."""
        return text_pieces(functools.partial(self.shown_text, form=form), ids)

    def response_ends(self, ids: Sequence[int], text: str, form: Form = Form.TEXT) -> list[int]:
        """How many characters of `text`, which is what `ids` say, stand once each id is written; control tokens write
        none, and the template's own spaces in front are not in the text."""
        read, style = functools.partial(self._decode, form), self._style(form)
        before = len(style.lead) if read(ids).startswith(style.lead) else 0  # a policy may not write it
        begun = len(style.opens) if text.startswith(style.opens) else 0
        return [min(max(end - before, 0) + begun, len(text)) for end in text_ends(read, ids)]

    def written_ends(self, text: str, form: Form = Form.TEXT) -> list[int]:
        """`response_ends` of the answer that `pair_ids` writes. Outer white space that the template strips is none of
        its ids': it counts with what follows in front, and behind with what ends the text. What closes a thought that
        the text doesn't have is none of the text."""
        style = self._style(form)
        rest = style.goes_on(text)
        body = rest.strip() if style.strips else rest
        before = len(text) - len(rest) + (len(rest) - len(rest.lstrip()) if body != rest else 0)
        ends = self.response_ends(self.response_ids(text, end=True, form=form), body, form)
        closing = [0] * len(self._closing(style, text, form))
        return closing + [len(text) if end == len(body) else before + end for end in ends]

    def _closing(self, style: Answering, text: str, form: Form) -> list[int]:
        """The ids that close the open thought in front of an answer without one."""
        if form is Form.RENDERED or not style.closes or style.has_thought(text):
            return []
        return encode_with_controls(self.tokenizer, [style.closes], follows=True)

    def text_ids(self, text: str, form: Form = Form.TEXT) -> list[int]:
        """A document: BOS if the tokenizer uses one, the text, the end token if there is one. A RENDERED one has its
        control tokens, and ends as it does."""
        if form is Form.RENDERED:
            return self._one_bos(encode_with_controls(self.tokenizer, [text]))
        return self._with_bos(encode_plain(self.tokenizer, text, self.controls)) + list(self._plain.end_ids)

    def spelled(self, text: str) -> set[str]:
        """The control tokens that a text spells."""
        return {token for token in self.controls if len(token) > 1 and token in text}

    def _style(self, form: Form) -> Answering:
        return self._plain if form is Form.TEXT and self.policy == "raw" else self._turn

    def _decode(self, form: Form, ids: Sequence[int], keep_specials: bool = False) -> str:
        read = decode if self._style(form).opens_text else decode_continuing
        return read(self.tokenizer, ids, keep_specials)

    def _prompt_ids(self, prompt: Prompt, unopened: bool = False) -> list[int]:
        if prompt.form is Form.RENDERED:
            return self._one_bos(encode_with_controls(self.tokenizer, [prompt.turns[0].content]))
        if prompt.form is Form.TEXT and (self.policy == "raw" or self.chat is None):
            return self._with_bos(encode_plain(self.tokenizer, prompt.turns[0].content, self.controls))
        if self.chat is None:
            raise UserError(
                "this prompt is a conversation, but the tokenizer has no chat template; give one "
                "(`model.chat_template`, a Jinja text or file), use a chat model, or write the prompt as a string"
            )
        check_turns(prompt.turns)
        *before, last = self.chat.pieces(prompt.turns, prompt.tools)
        last = last.removesuffix(self._turn.opens) if unopened else last
        return self._one_bos(encode_with_controls(self.tokenizer, [*before, last]))

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self.bos is None else [self.bos, *ids]

    def _one_bos(self, ids: list[int]) -> list[int]:
        """Rendered text may begin with BOS or not; a template's BOS stays even where the tokenizer adds none."""
        bos = self.bos if self.bos is not None else self.tokenizer.bos_token_id
        begin = 0
        while begin < len(ids) and ids[begin] == bos:
            begin += 1
        return [bos, *ids[begin:]] if begin or self.bos is not None else ids


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def _own_template(tokenizer: "PreTrainedTokenizerFast") -> str | None:
    if not tokenizer.chat_template:
        return None
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:  # several templates, none of them called default
        raise UserError(f"the tokenizer's chat template can't be chosen: {error}") from error


def _tool_template(tokenizer: "PreTrainedTokenizerFast") -> str | None:
    """The template named for conversations with tools, of a tokenizer that has several."""
    named = tokenizer.chat_template
    return named.get("tool_use") if isinstance(named, dict) else None
