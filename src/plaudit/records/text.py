"""Records made of text: prompts, rows of every data kind, groups handed to scorers. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# Scripts written without spaces: kana and Chinese characters. (Hangul has spaces; Thai, which has none, is not cut.)
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"


class Kind(StrEnum):
    """What a data row teaches. The value is the word that users read and write."""

    DEMONSTRATION = "demonstration"
    TEXT = "text"
    COMPARISON = "comparison"
    RANKING = "ranking"
    RATING = "rating"
    VERDICT = "verdict"
    PROMPT = "prompt"
    CANDIDATES = "candidates"


class Form(StrEnum):
    """How a prompt was written, which decides how it becomes tokens."""

    TEXT = "text"
    """A bare string: one user turn where the tokenizer has a chat template, plain text otherwise."""
    CHAT = "chat"
    """Messages with roles: always through the tokenizer's chat template."""
    RENDERED = "rendered"
    """Text with its role tokens already in it (`prompt_rendered: true`): no template, specials are control tokens."""


class FinishReason(StrEnum):
    """Why a response ended; never a bool, because what follows differs (score, penalty, bootstrap)."""

    EOS = "eos"
    """The policy wrote one of the model's end tokens; the token is kept and counts as an action."""
    STOP = "stop"
    """The text contains one of the stop strings; the token that completed it is kept."""
    LENGTH = "length"
    """The token limit came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else the turn says, for chat templates that write it: `tool_calls`, `reasoning_content`, `name` …"""

    def to_plain(self) -> dict[str, Any]:
        """The turn as files, chat templates and reward functions know it."""
        return {"role": self.role, "content": self.content, **self.extra}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The context that a response answers. A bare or rendered string is one user turn."""

    form: Form
    turns: tuple[Message, ...]
    tools: tuple[Any, ...] = field(default=(), hash=False)
    """Descriptions of functions that the answer may call, for chat templates that list them."""

    @classmethod
    def of_text(cls, text: str, form: Form = Form.TEXT) -> Prompt:
        return cls(form=form, turns=(Message(role="user", content=text),))

    @property
    def id(self) -> str:
        """16 hex digits of form, turns and tools only: the seed of everything sampled for this prompt."""
        turns = [[m.role, m.content, *([m.extra] if m.extra else [])] for m in self.turns]
        facts = [self.form.value, turns, *([self.tools] if self.tools else [])]
        canonical = json.dumps(facts, ensure_ascii=False, default=str)
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def text(self) -> str:
        """For people, and for models without a template: the string itself, or tools and turns one under the other."""
        if self.form is not Form.CHAT:
            return self.turns[0].content
        lines = [f"tools: {_written(self.tools)}"] if self.tools else []
        for turn in self.turns:
            lines += [f"{key}: {_written(value)}" for key, value in turn.extra.items()]
            lines.append(f"{turn.role}: {turn.content}")
        return "\n".join(lines)

    def to_columns(self) -> dict[str, Any]:
        """The columns of a data row that say this prompt."""
        is_chat = self.form is Form.CHAT
        columns: dict[str, Any] = {"prompt": [turn.to_plain() for turn in self.turns] if is_chat else self.text}
        columns |= {"prompt_rendered": True} if self.form is Form.RENDERED else {}
        return columns | ({"tools": list(self.tools)} if self.tools else {})


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """Kind.DEMONSTRATION: `prompt` answered by `response` as the demonstrator did (N1.1)."""

    prompt: Prompt
    response: str
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else the answer's turn says, as `Message.extra`: it is learned as the chat template writes it."""
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Kind.TEXT: a document for pre-training, SFT on plain text, or PPO-ptx (N4.12)."""

    text: str
    form: Form = Form.TEXT
    """RENDERED: control tokens that it spells are control tokens, as a chat template wrote them."""
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Kind.COMPARISON: `chosen` was preferred to `rejected`, by at least `margin` score units (N3.1)."""

    prompt: Prompt
    chosen: str
    rejected: str
    margin: float = 0.0
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Kind.RANKING: K answers of one prompt and the rank of each: 1 = best, ties share a rank (N2.1)."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """Kind.RATING: numbers given to one answer, by aspect; a plain `score` is the aspect `score` (N3.6, N3.7)."""

    prompt: Prompt
    response: str
    scores: Mapping[str, float]
    labeller: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Kind.VERDICT: accepted or not (N3.5)."""

    prompt: Prompt
    response: str
    label: bool
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRow:
    """Kind.PROMPT: what the policy answers in PPO; `columns` go to reward functions (N3.14)."""

    prompt: Prompt
    columns: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Kind.CANDIDATES: K answers of one prompt that nobody has ranked yet: what people get to see (N2.1)."""

    prompt: Prompt
    responses: tuple[str, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What else the row says; of each answer as `response_model`, `response_sampling` …"""
    where: str = ""


Row = Demonstration | Text | Comparison | Ranking | Rating | Verdict | PromptRow | Candidates
KIND_OF: Mapping[type[Row], Kind] = {
    Demonstration: Kind.DEMONSTRATION,
    Text: Kind.TEXT,
    Comparison: Kind.COMPARISON,
    Ranking: Kind.RANKING,
    Rating: Kind.RATING,
    Verdict: Kind.VERDICT,
    PromptRow: Kind.PROMPT,
    Candidates: Kind.CANDIDATES,
}
Labelled = Ranking | Rating | Verdict
"""What a judge of single answers can be measured by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a scorer judges: one prompt, its responses as text and as the ids that the policy wrote, the row's columns.

    `response_ids` may be empty where the texts come from a file; scorers that need ids say so.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    response_ids: tuple[tuple[int, ...], ...] = ()
    token_ends: tuple[tuple[int, ...], ...] = ()
    """For each id of `response_ids`, how many characters of the response are written once it stands: what maps a
    judge's tokens to the policy's. Empty where the ids are."""
    columns: Mapping[str, Any] = field(default_factory=dict)
