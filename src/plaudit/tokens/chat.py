"""A chat template at work: conversations to text, and what it writes around an answer.

Text is text. Where a turn spells a control token, it is rendered with a private mark inside that spelling, so that
templates may strip or move contents as they like, and the rendered string is cut at the marks before it is tokenised:
no control token can form there. Without such spellings (nearly always) the text is exactly that of
`tokenizer.apply_chat_template`, save that a template which writes today's date gets the same day always: a run resumed
tomorrow must see the same prompts.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plaudit.errors import UserError
from plaudit.records.text import Message
from plaudit.tokens.tokenizer import cut, cuts, encode_plain, encode_with_controls, special_tokens, token_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TODAY = datetime.date(2024, 7, 26)
"""The day of every template that asks the clock: the one that Llama 3's templates fall back to."""
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_MARKS = range(0xE000, 0xF900)
"""Unicode's private use area: characters that mean nothing; one that the row doesn't contain becomes the mark."""
_QUESTION, _ANSWER = "\ue100question\ue101", "\ue100answer\ue101"
"""Contents that no template writes by itself; what stands around them is the template's."""
_TOOL = {
    "type": "function",
    "function": {
        "name": "nothing",
        "description": "Does nothing.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string", "description": "A text."}}},
    },
}
_OPEN_TAG = re.compile(r"\s*<[^<>/\s]+>\s*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """What stands around an answer."""

    header: str = ""
    """Text that opens the assistant's turn where the template has no generation prompt; it belongs to the prompt."""
    lead: str = ""
    """Spaces between the prompt and the answer; they belong to the answer, as the policy writes them."""
    opens: str = ""
    """What the generation prompt writes of the answer itself: a tag such as `<think>` that the answer goes on from."""
    closes: str = ""
    """What the template writes behind `opens` in the finished turn of an answer that has no thought."""
    tail: str = ""
    """Text between the answer and its end token (mostly none)."""
    end_ids: tuple[int, ...] = ()
    """The end token that follows; () when the tokenizer has none."""
    strips: bool = False
    """The template strips an answer's outer white space, so ours is stripped too."""
    opens_text: bool = False
    """The tokenizer treats the answer as a text's beginning (a space before the first word, SentencePiece)."""

    def goes_on(self, text: str) -> str:
        """`text` without the tag that the generation prompt has written already."""
        tag, begun = self.opens.strip(), text.lstrip()
        if not tag or not begun.startswith(tag):
            return text
        return begun[len(tag) :].removeprefix(self.opens[len(self.opens.rstrip()) :])

    def has_thought(self, text: str) -> bool:
        """Whether an answer goes on from the tag that is open; True where none is."""
        tag = self.opens.strip()
        return not tag or text.lstrip().startswith(tag) or f"</{tag[1:]}" in text


class ChatTemplate:
    """A tokenizer's chat template or the user's own, with its variables. UserError where it can't be read.

    `plain_end`: the end token of answers that the template ends by no control token. `for_tools`: the template of
    conversations with tools, used where answers begin and end in it as they do in the other.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        text: str,
        variables: Mapping[str, Any],
        plain_end: tuple[int, ...],
        for_tools: str | None = None,
    ):
        self.tokenizer, self.text, self.variables = tokenizer, text, dict(variables)
        self._rendered_by = self._tools_by = _stop_clock(text)
        question = self._question()
        if for_tools is not None:
            self._try_for_tools(question, _stop_clock(for_tools))
        self.controls = special_tokens(tokenizer) | _turn_tokens(tokenizer, self._scaffold(question))
        """Tokens that are letters when a turn spells them."""
        self.answering = self._answering(question, Answering(end_ids=plain_end))

    def pieces(self, turns: Sequence[Message], tools: Sequence[Any] = (), *, generation: bool = True) -> list[str]:
        """The rendered conversation, cut inside every control token that a turn or a tool spells. `generation`: with
        what opens the answer. UserError where the template refuses the turns, or writes such a spelling otherwise."""
        header = self.answering.header if generation else ""
        rendered = self.render(turns, tools, generation=generation) + header
        plain = [[turn.to_plain() for turn in turns], list(tools)]
        written = [text for text in _strings(plain) if cuts(text, self.controls)]
        if not written:
            return [rendered]
        everything = "".join(_strings(plain))
        mark = next((chr(code) for code in _MARKS if chr(code) not in everything), None)
        if mark is None:
            raise UserError("the conversation uses every private character of Unicode")
        marked, marked_tools = _mapped(plain, lambda text: mark.join(cut(text, self.controls)))
        pieces = (self._apply(marked, marked_tools, generation) + header).split(mark)
        if "".join(pieces) == rendered:
            return pieces
        # The template reads the spelled tokens (some cut at `</think>`). If it took them out, its own result is clean.
        if len(cuts(rendered, self.controls)) == sum(len(cuts(piece, self.controls)) for piece in pieces):
            return [rendered]
        spelled = ", ".join(sorted(t for t in self.controls if any(t in text for text in written)))
        raise UserError(f"the chat template rewrites messages that contain {spelled}; take it out of the message")

    def render(self, turns: Sequence[Message], tools: Sequence[Any] = (), *, generation: bool = True) -> str:
        """The conversation as the template writes it. UserError where it refuses."""
        return self._apply([turn.to_plain() for turn in turns], list(tools), generation)

    def _apply(self, messages: list[dict[str, Any]], tools: list[Any], generation: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                messages,
                tools=tools or None,
                chat_template=self._tools_by if tools else self._rendered_by,
                tokenize=False,
                add_generation_prompt=generation,
                **self.variables,
            )
        # A template is a program from elsewhere; whatever it raises is its way of refusing these messages.
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(f"the chat template refuses this conversation ({roles}): {error}") from error
        assert isinstance(text, str)  # a list is given for several conversations, ids are where `tokenize` is set
        return text

    def unwritten(self, turns: Sequence[Message], tools: Sequence[Any]) -> set[str]:
        """Keys of the turns, and `tools`, that change nothing of what the template writes."""
        rendered = self.render(turns, tools, generation=False)
        lost = {"tools"} if tools and self._probe(*turns) == rendered else set()
        for name in {name for turn in turns for name in turn.extra}:
            extras = [{key: value for key, value in turn.extra.items() if key != name} for turn in turns]
            less = [dataclasses.replace(turn, extra=extra) for turn, extra in zip(turns, extras, strict=True)]
            lost |= {name} if self._probe(*less, tools=tools) == rendered else set()
        return lost

    def _probe(self, *turns: Message, tools: Sequence[Any] = ()) -> str | None:
        """What the template makes of finished turns; None where it refuses them."""
        try:
            return self.render(turns, tools, generation=False)
        except UserError:
            return None

    def _question(self) -> tuple[Message, ...]:
        """The shortest made-up conversation that the template takes. Raises: UserError where it takes none."""
        system, user = Message(role="system", content="s"), Message(role="user", content=_QUESTION)
        if self._probe(user) is None and self._probe(system, user) is not None:
            return (system, user)
        self.render([user])  # a template that can't be read says so here
        return (user,)

    def _try_for_tools(self, question: tuple[Message, ...], text: str) -> None:
        """Let `text` write conversations with tools, if answers begin and end in it as they do in the other template:
        by the same generation prompt, with the same behind them."""
        answer = Message(role="assistant", content=_ANSWER)
        opened, full = self.render(question), self._probe(*question, answer)
        prompt = opened.removeprefix(self._probe(*question) or "")
        self._tools_by = text
        try:
            with_tool = self.render(question, [_TOOL])
        except UserError:
            with_tool = ""
        answered = self._probe(*question, answer, tools=[_TOOL])
        same_end = full and answered and full.partition(_ANSWER)[2] == answered.partition(_ANSWER)[2]
        if not (prompt and same_end and with_tool.endswith(prompt)):
            self._tools_by = self._rendered_by

    def _scaffold(self, question: tuple[Message, ...]) -> str:
        """What the template writes around finished turns, contents taken out."""
        turns = (*question, Message(role="assistant", content=_ANSWER))
        text = self._probe(*turns, question[-1]) or self._probe(*turns) or self.render(question, generation=False)
        return text.replace(_QUESTION, "").replace(_ANSWER, "")

    def _answering(self, question: tuple[Message, ...], plain: Answering) -> Answering:
        """Learn from the template what stands around an answer: template(x, y) = template(x) + lead + y + tail + end.

        Where that doesn't hold the answer stands alone, and ends by the turn's end token all the same. Where the
        generation prompt opens a tag that the finished turn closes at once or doesn't have, an answer goes on from it.
        """
        opened, bare = self.render(question), self._probe(*question)
        full = self._probe(*question, Message(role="assistant", content=_ANSWER))
        if full is None or full.count(_ANSWER) != 1:
            return self._begun(opened, plain)
        before, behind = full.split(_ANSWER)
        spaced = self._probe(*question, Message(role="assistant", content=f" \n{_ANSWER}\n "))
        tail, end = self._ending(behind, plain)
        style = Answering(tail=tail, end_ids=end, strips=spaced == full)
        tag = _OPEN_TAG.search(opened[len(bare) :]) if bare is not None and opened.startswith(bare) else None
        if before.startswith(opened):
            between = before[len(opened) :]
            if tag and f"</{tag[0].strip()[1:]}" in between:
                return self._begun(opened, dataclasses.replace(style, opens=tag[0], closes=between))
            header, lead = _between(between, bare != opened)
            return self._begun(opened + header, dataclasses.replace(style, header=header, lead=lead))
        if tag and bare is not None and len(bare) < len(before) and opened == before + opened[len(before) :]:
            style = dataclasses.replace(style, opens=opened[len(before) :])
        return self._begun(opened, style)

    def _ending(self, behind: str, plain: Answering) -> tuple[str, tuple[int, ...]]:
        """Tail and end token: the template's text behind an answer up to the first control token, else EOS."""
        first = min(
            ((behind.find(token), -len(token), token) for token in self.controls if token in behind), default=None
        )
        if first is None:
            return "", plain.end_ids
        position, _, token = first
        return behind[:position], (token_id(self.tokenizer, token),)

    def _begun(self, opened: str, style: Answering) -> Answering:
        """Is a first word behind this prompt tokenised as a text's beginning? Asked of the tokenizer itself."""
        before = encode_with_controls(self.tokenizer, [opened])
        both = encode_with_controls(self.tokenizer, [f"{opened}a"])
        return dataclasses.replace(style, opens_text=both == before + encode_plain(self.tokenizer, "a"))


def check_turns(turns: Sequence[Message]) -> None:
    """UserError for turns that no prompt may have."""
    if not turns:
        raise UserError("the conversation is empty")
    for number, turn in enumerate(turns, start=1):
        if turn.role not in ROLES:
            raise UserError(f"turn {number} has the unknown role {turn.role!r}; known are {', '.join(sorted(ROLES))}")
    if turns[-1].role == "assistant":
        raise UserError("the conversation ends with the assistant's turn; a prompt must end before the answer")


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


def _strings(value: Any) -> Iterator[str]:
    """Every text in lists, objects and their like, names of fields left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every such text changed."""
    if isinstance(value, Mapping):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mapped(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value
