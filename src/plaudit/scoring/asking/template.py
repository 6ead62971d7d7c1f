"""What a judge is asked: a file with placeholders, and the messages that it becomes. No torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plaudit.errors import UserError
from plaudit.scoring.options import QuestionConfig

PACKAGED = Path(__file__).with_name("prompts")
NEEDED = {"score": ("prompt", "response"), "pair": ("prompt", "response_a", "response_b")}
_PLACEHOLDER = re.compile(r"\{(prompt|response|response_a|response_b|low|high)\}")
_HEADING = re.compile(r"^=== *(system|user|assistant) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question to a judge."""

    messages: tuple[Mapping[str, str], ...]
    """{role, content} each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A file of `=== system` and `=== user` parts with placeholders in braces."""

    parts: tuple[tuple[str, str], ...]

    def question(self, **texts: str) -> Question:
        """Filled in one pass: what an answer says in braces stays as it is."""

        def filled(part: str) -> str:
            text = _PLACEHOLDER.sub(lambda match: texts.get(match[1], match[0]), part)
            return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair can't be sent

        return Question(messages=tuple({"role": r, "content": filled(part)} for r, part in self.parts))


def template_text(config: QuestionConfig) -> str:
    """The file that a question names, or the packaged one of its form. UserError where it can't be read."""
    own = "score_digit" if config.form == "score" and config.read == "logprobs" else config.form
    path = Path(config.prompt).expanduser() if config.prompt else PACKAGED / f"{own}.md"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"question.prompt: {path} can't be read: {error}") from error


def load_template(config: QuestionConfig) -> Template:
    """UserError where the file lacks a part or a placeholder."""
    before, *rest = _HEADING.split(template_text(config))
    parts = tuple((role, text.strip()) for role, text in zip(rest[::2], rest[1::2], strict=True))
    if not parts or before.strip():
        raise UserError(f"question.prompt: {config.prompt} must begin with a line `=== system` or `=== user`")
    names = {name for _, text in parts for name in _PLACEHOLDER.findall(text)}
    if missing := [name for name in NEEDED[config.form] if name not in names]:
        raise UserError(
            f"question.prompt: {config.prompt} lacks {{{missing[0]}}}, which a {config.form} question needs"
        )
    return Template(parts=parts)
