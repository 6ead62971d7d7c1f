"""From what a judge wrote to a number: a score, or one of five verdicts. No torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plaudit.scoring.options import QuestionConfig

VERDICTS = {"A>>B": 3.0, "A>B": 1.0, "A=B": 0.0, "B>A": -1.0, "B>>A": -3.0}
"""How far the answer shown first is ahead: a clear win counts three times, as in Arena-Hard."""
NUMBER = r"\[\[\s*(-?\d+(?:\.\d+)?)\s*\]\]"
VERDICT = r"\[\[\s*(A>>B|A>B|A=B|B>A|B>>A)\s*\]\]"


class Unanswered(Exception):
    """A question that was left without a reply; the message says why."""


class Malformed(Exception):
    """A body that is no reply of a chat server; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """What a judge wrote."""

    text: str
    tokens: tuple[tuple[str, Mapping[str, float]], ...] = ()
    """Each token as it was written, and the log-probabilities of the likeliest ones in its position, nats."""


def number_of(reply: JudgeReply, config: QuestionConfig) -> float | None:
    """The score, or the verdict's value; None where the reply holds none, or one outside of the scale.

    Of several the last counts: reasons may quote others. `read: logprobs` is the mean over the probabilities of the
    scale's digits where the reply has its first number: what follows, as in "7/9", is about it.
    """
    if config.read == "logprobs":
        return _mean_digit(reply, config)
    matches = re.findall(config.pattern or (VERDICT if config.form == "pair" else NUMBER), reply.text)
    if not matches:
        return None
    last = (matches[-1] if isinstance(matches[-1], str) else matches[-1][0]).strip()
    if config.form == "pair":
        return VERDICTS.get(last)
    try:
        number = float(last)
    except ValueError:
        return None
    low, high = config.scale
    return number if math.isfinite(number) and low <= number <= high else None


def _mean_digit(reply: JudgeReply, config: QuestionConfig) -> float | None:
    low, high = config.scale
    digits = {str(digit): float(digit) for digit in range(low, high + 1)}
    behind = [*(token for token, _ in reply.tokens[1:]), ""]
    for (token, likely), following in zip(reply.tokens, behind, strict=True):
        if not any(map(str.isdecimal, token)):
            continue
        if token.strip() not in digits or following[:1].isdecimal():
            return None
        mass: dict[str, float] = {}
        for text, logprob in likely.items():
            if text.strip() in digits:
                mass[text.strip()] = mass.get(text.strip(), 0.0) + math.exp(min(logprob, 0.0))
        total = math.fsum(mass.values())
        return math.fsum(digits[d] * p for d, p in mass.items()) / total if total > 0.0 else None
    return None


def parse_body(body: Any) -> JudgeReply:
    """An OpenAI-compatible `chat.completion` as a `JudgeReply`. Raises: Malformed."""
    try:
        choice = body["choices"][0]
        content = choice["message"]["content"]
        steps = (choice.get("logprobs") or {}).get("content") or []
        likely = [{str(one["token"]): float(one["logprob"]) for one in step["top_logprobs"]} for step in steps]
        tokens = tuple((str(step["token"]), own) for step, own in zip(steps, likely, strict=True))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"it has no choices[0].message.content ({type(error).__name__})") from error
    if not isinstance(content, str | None):
        raise Malformed(f"its content is {type(content).__name__}, not text")
    if any(math.isnan(p) for _, likely in tokens for p in likely.values()):
        raise Malformed("a log-probability is NaN")
    return JudgeReply(text=content or "", tokens=tokens)
