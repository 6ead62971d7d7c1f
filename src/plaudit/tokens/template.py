"""Prompts and answers to ids, through the tokenizer's chat template where there is one.

A prompt and its answer are tokenised apart, always: `prompt_ids` then `response_ids` are the ids that training sees,
and `prompt_ids` is what the sampler continues from. Tokenising both as one string could merge letters across the
border, and the ids in training would not be those in sampling.

Text is text. Where a user's message spells a control token, the message is rendered with a private mark inside that
spelling, so that templates may strip or move contents as they like, and the rendered string is cut at the marks before
it is tokenised: no control token can form there. Without such spellings (nearly always) the ids are exactly those of
`tokenizer.apply_chat_template`, save that BOS stands in front once where the tokenizer uses one, and that a template
which writes today's date gets the same day always: a run resumed tomorrow must see the same prompts.
"""

import copy
import dataclasses
import datetime
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from plaudit.errors import UserError
from plaudit.records.text import Form, Message, Prompt
from plaudit.tokens.pieces import text_ends, text_pieces
from plaudit.tokens.tokenizer import (
    bos_id,
    cut,
    cuts,
    decode,
    decode_continuing,
    encode_continuing,
    encode_plain,
    encode_with_controls,
    special_tokens,
    token_id,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TODAY = datetime.date(2024, 7, 26)
"""The day of every template that asks the clock: the one that Llama 3's templates fall back to."""
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_MARKS = range(0xE000, 0xF900)
"""Unicode's private use area: characters that mean nothing; one that the row doesn't contain becomes the mark."""
_QUESTION, _ANSWER = "\ue100question\ue101", "\ue100answer\ue101"
"""Contents that no template writes by itself; what stands around them is the template's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What stands around an answer."""

    header: str = ""
    """Text that opens the assistant's turn where the template has no generation prompt; it belongs to the prompt."""
    lead: str = ""
    """Spaces between the prompt and the answer; they belong to the answer, as the policy writes them."""
    tail: str = ""
    """Text between the answer and its end token (mostly none)."""
    end_ids: tuple[int, ...] = ()
    """The end token that follows; () when the tokenizer has none."""
    strips: bool = False
    """The template strips an answer's outer white space, so ours is stripped too."""
    opens_text: bool = False
    """The tokenizer treats the answer as a text's beginning (a space before the first word, SentencePiece)."""


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
        self._rendered_by = None if self.template is None else _stop_clock(self.template)
        self.bos = bos_id(tokenizer)
        """The id that stands in front of every sequence, or None."""
        self.end_id = tokenizer.eos_token_id if end_id is None else end_id
        self.controls = special_tokens(tokenizer)
        """Tokens that are letters when a user spells them."""
        self.closing = 0
        """So many ids at an answer's end stay where it is cut: none, because an answer that was cut hasn't ended."""
        self._plain = Answering(end_ids=() if self.end_id is None else (self.end_id,))
        self._turn = self._plain
        if self.template is not None:
            question = self._question()
            self.controls |= _turn_tokens(tokenizer, self._scaffold(question))
            self._turn = self._answering(question)

    def with_controls(self, tokenizer: "PreTrainedTokenizerFast", tokens: Iterable[str]) -> "Renderer":
        """The same manners with `tokenizer`, which has further control tokens: letters when a user spells them."""
        renderer = copy.copy(self)
        renderer.tokenizer, renderer.controls = tokenizer, self.controls | frozenset(tokens)
        return renderer

    @property
    def template_hash(self) -> str:
        """16 hex digits of the template's text, the policy and the variables: equal hashes render alike."""
        facts = [self.template, self.policy, *([self.variables] if self.variables else [])]
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
        try:
            ids = self._prompt_ids(prompt)
        except UserError as error:
            raise UserError(_at(where, str(error))) from error
        if not ids:
            raise UserError(_at(where, "the prompt is empty and the tokenizer has no BOS: nothing to continue from"))
        return ids

    def response_ids(self, text: str, end: bool, form: Form = Form.TEXT) -> list[int]:
        """Ids that follow `prompt_ids` when the answer is `text`, the end token last if `end`. `form`: of the prompt;
        it matters only where a chat template exists and the policy is raw."""
        style = self._style(form)
        text = style.lead + (text.strip() if style.strips else text)
        if end:
            text += style.tail
        encode = encode_plain if style.opens_text else encode_continuing
        return encode(self.tokenizer, text, self.controls) + list(style.end_ids if end else ())

    def response_text(self, ids: Sequence[int], form: Form = Form.TEXT) -> str:
        """The inverse of `response_ids`: what the answer says, without control tokens and the template's spaces."""
        style = self._style(form)
        ended = len(ids) > 0 and ids[-1] in self.end_ids
        text = self._decode(form, ids[:-1] if ended else ids).removeprefix(style.lead)
        return text.removesuffix(style.tail) if ended else text

    def response_pieces(self, ids: Sequence[int], form: Form = Form.TEXT) -> list[str]:
        """What each id of an answer wrote, control tokens (the end token among them) as they are spelled."""
        return text_pieces(functools.partial(self._decode, form, keep_specials=True), ids)

    def response_ends(self, ids: Sequence[int], text: str, form: Form = Form.TEXT) -> list[int]:
        """How many characters of `text`, which is what `ids` say, stand once each id is written; control tokens write
        none, and the template's own spaces in front are not in the text."""
        read, lead = functools.partial(self._decode, form), self._style(form).lead
        before = len(lead) if read(ids).startswith(lead) else 0  # a policy may not write it
        return [min(max(end - before, 0), len(text)) for end in text_ends(read, ids)]

    def written_ends(self, text: str, form: Form = Form.TEXT) -> list[int]:
        """`response_ends` of `response_ids(text, end=True)`. Outer white space that the template strips is none of its
        ids': it counts with what follows in front, and behind with what ends the text."""
        body = text.strip() if self._style(form).strips else text
        stripped = len(text) - len(text.lstrip()) if body != text else 0
        ends = self.response_ends(self.response_ids(text, end=True, form=form), body, form)
        return [len(text) if end == len(body) else stripped + end for end in ends]

    def text_ids(self, text: str) -> list[int]:
        """A document: BOS if the tokenizer uses one, the text, the end token if there is one."""
        return self._with_bos(encode_plain(self.tokenizer, text, self.controls)) + list(self._plain.end_ids)

    def _style(self, form: Form) -> Answering:
        return self._plain if form is Form.TEXT and self.policy == "raw" else self._turn

    def _decode(self, form: Form, ids: Sequence[int], keep_specials: bool = False) -> str:
        read = decode if self._style(form).opens_text else decode_continuing
        return read(self.tokenizer, ids, keep_specials)

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        if prompt.form is Form.RENDERED:
            return self._one_bos(encode_with_controls(self.tokenizer, [prompt.turns[0].content]))
        if prompt.form is Form.TEXT and (self.policy == "raw" or self.template is None):
            return self._with_bos(encode_plain(self.tokenizer, prompt.turns[0].content, self.controls))
        if self.template is None:
            raise UserError(
                "this prompt is a conversation, but the tokenizer has no chat template; give one "
                "(`model.chat_template`, a Jinja text or file), use a chat model, or write the prompt as a string"
            )
        _check_turns(prompt.turns)
        return self._one_bos(encode_with_controls(self.tokenizer, self._rendered_pieces(prompt.turns)))

    def _rendered_pieces(self, turns: Sequence[Message]) -> list[str]:
        """The rendered conversation, cut inside every control token that a message spells."""
        rendered = self._render(turns) + self._turn.header
        marked, mark = _mark(turns, self.controls)
        if not mark:
            return [rendered]
        pieces = (self._render(marked) + self._turn.header).split(mark)
        if "".join(pieces) == rendered:
            return pieces
        # The template reads the spelled tokens (some cut at `</think>`). If it took them out, its own result is clean.
        if len(cuts(rendered, self.controls)) == sum(len(cuts(piece, self.controls)) for piece in pieces):
            return [rendered]
        spelled = ", ".join(sorted(t for t in self.controls if any(t in turn.content for turn in turns)))
        raise UserError(f"the chat template rewrites messages that contain {spelled}; take it out of the message")

    def _render(self, turns: Sequence[Message], *, generation: bool = True) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                chat_template=self._rendered_by,
                tokenize=False,
                add_generation_prompt=generation,
                **self.variables,
            )
        # A template is a program from elsewhere; whatever it raises is its way of refusing these messages.
        except Exception as error:
            roles = ", ".join(turn.role for turn in turns)
            raise UserError(f"the chat template refuses this conversation ({roles}): {error}") from error
        assert isinstance(text, str)  # a list is given for several conversations, ids are where `tokenize` is set
        return text

    def _with_bos(self, ids: list[int]) -> list[int]:
        return ids if self.bos is None else [self.bos, *ids]

    def _one_bos(self, ids: list[int]) -> list[int]:
        """Rendered text may begin with BOS or not; a template's BOS stays even where the tokenizer adds none."""
        bos = self.bos if self.bos is not None else self.tokenizer.bos_token_id
        begin = 0
        while begin < len(ids) and ids[begin] == bos:
            begin += 1
        return [bos, *ids[begin:]] if begin or self.bos is not None else ids

    def _probe(self, *turns: Message, generation: bool = False) -> str | None:
        """What the template makes of made-up turns; None where it refuses them."""
        try:
            return self._render(turns, generation=generation)
        except UserError:
            return None

    def _question(self) -> tuple[Message, ...]:
        """The shortest made-up conversation that the template takes. Raises: UserError where it takes none."""
        system, user = Message(role="system", content="s"), Message(role="user", content=_QUESTION)
        if self._probe(user) is None and self._probe(system, user) is not None:
            return (system, user)
        self._render([user])  # a template that can't be read says so here
        return (user,)

    def _scaffold(self, question: tuple[Message, ...]) -> str:
        """What the template writes around finished turns, contents taken out."""
        turns = (*question, Message(role="assistant", content=_ANSWER))
        text = self._probe(*turns, question[-1]) or self._probe(*turns) or self._render(question, generation=False)
        return text.replace(_QUESTION, "").replace(_ANSWER, "")

    def _answering(self, question: tuple[Message, ...]) -> Answering:
        """Learn from the template what stands around an answer: template(x, y) = template(x) + lead + y + tail + end.

        Where that doesn't hold the answer stands alone, and ends by the turn's end token all the same.
        """
        opened = self._render(question)
        full = self._probe(*question, Message(role="assistant", content=_ANSWER))
        if full is None or full.count(_ANSWER) != 1:
            return self._opening(opened, self._plain)
        before, behind = full.split(_ANSWER)
        spaced = self._probe(*question, Message(role="assistant", content=f" \n{_ANSWER}\n "))
        header, lead = "", ""
        if before.startswith(opened):
            has_prompt = self._probe(*question) != opened
            header, lead = _between(before[len(opened) :], has_prompt)
        tail, end = self._ending(behind)
        style = Answering(header=header, lead=lead, tail=tail, end_ids=end, strips=spaced == full)
        return self._opening(opened + header, style)

    def _ending(self, behind: str) -> tuple[str, tuple[int, ...]]:
        """Tail and end token: the template's text behind an answer up to the first control token, else EOS."""
        first = min(
            ((behind.find(token), -len(token), token) for token in self.controls if token in behind), default=None
        )
        if first is None:
            return "", self._plain.end_ids
        position, _, token = first
        return behind[:position], (token_id(self.tokenizer, token),)

    def _opening(self, opened: str, style: Answering) -> Answering:
        """Is a first word behind this prompt tokenised as a text's beginning? Asked of the tokenizer itself."""
        before = encode_with_controls(self.tokenizer, [opened])
        both = encode_with_controls(self.tokenizer, [f"{opened}a"])
        return dataclasses.replace(style, opens_text=both == before + encode_plain(self.tokenizer, "a"))


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def _own_template(tokenizer: "PreTrainedTokenizerFast") -> str | None:
    if not tokenizer.chat_template:
        return None
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:  # several templates, none of them called default
        raise UserError(f"the tokenizer's chat template can't be chosen: {error}") from error


def _stop_clock(template: str) -> str:
    """The template with its `strftime_now("…")` replaced by that day's text."""
    return re.sub(
        r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""", lambda call: json.dumps(TODAY.strftime(call[2])), template
    )


def _between(text: str, has_prompt: bool) -> tuple[str, str]:
    """Header and lead, out of what the template writes between the prompt and an answer."""
    if not text.strip():
        return "", text
    if has_prompt:
        return "", ""  # more than the generation prompt belongs to the answer itself (an empty `<think>`, say)
    header = text.rstrip(" ")
    return header, text[len(header) :]


def _turn_tokens(tokenizer: "PreTrainedTokenizerFast", scaffold: str) -> frozenset[str]:
    """Added tokens that build turns although they aren't marked special (some tokenizers forget to)."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values())
    return frozenset(token for token in added if token in scaffold and not token.isspace())


def _check_turns(turns: Sequence[Message]) -> None:
    if not turns:
        raise UserError("the conversation is empty")
    for number, turn in enumerate(turns, start=1):
        if turn.role not in ROLES:
            raise UserError(f"turn {number} has the unknown role {turn.role!r}; known are {', '.join(sorted(ROLES))}")
    if turns[-1].role == "assistant":
        raise UserError("the conversation ends with the assistant's turn; a prompt must end before the answer")


def _mark(turns: Sequence[Message], controls: frozenset[str]) -> tuple[list[Message], str]:
    """The turns with a mark inside every control token they spell; ("" and the turns when there is none)."""
    if not any(cuts(turn.content, controls) for turn in turns):
        return list(turns), ""
    written = "".join(turn.content for turn in turns)
    mark = next((chr(code) for code in _MARKS if chr(code) not in written), None)
    if mark is None:
        raise UserError("the conversation uses every private character of Unicode")
    return [Message(role=turn.role, content=mark.join(cut(turn.content, controls))) for turn in turns], mark
