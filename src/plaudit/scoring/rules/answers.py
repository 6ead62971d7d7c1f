r"""Whether the response's final answer is right: numbers, and mathematics (N3.14).

Which part of a text is its answer is the same rule for both, with options:

    thoughts  skip: what stands in <think>…</think> is no answer (read: it is text like any other)
    after     the answer stands behind this mark's last place, and without the mark there is none
    extract   box: in the last \boxed{…} and nowhere else; last: the last number (formula, for mathematics);
              auto: the last box where there is one, else the last

What can't be read as a whole is no match, and in a `solution` an error in the data.
"""

import functools
import re
import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from types import FrameType
from typing import Any, Literal

from plaudit.scoring.rules.equality import same
from plaudit.scoring.rules.lexing import Unreadable
from plaudit.scoring.rules.mathematics import Reading, read
from plaudit.scoring.rules.notation import has_box, last_box, last_formula, outside_thoughts, plain_latex
from plaudit.scoring.rules.numbers import Number, numbers_in
from plaudit.scoring.rules.texts import (
    Completion,
    check_choice,
    check_not_negative,
    check_positive,
    may_hang,
    solutions_of,
    text_of,
    uses,
)

Extract = Literal["auto", "box", "last"]
Thoughts = Literal["skip", "read"]


def _check_rule(extract: str, thoughts: str) -> None:
    check_choice("extract", extract, ("auto", "box", "last"))
    check_choice("thoughts", thoughts, ("skip", "read"))


def _boxed(text: str, extract: str) -> tuple[bool, str | None]:
    """Whether a box decides, and what stands in the last one."""
    decides = extract == "box" or (extract == "auto" and has_box(text))
    return decides, last_box(text) if decides else None


def _texts(solution: Any) -> list[str]:
    """A row's solutions as text, whose numbers may be numbers."""
    several = solution if isinstance(solution, (list, tuple)) else [solution]
    return solutions_of([str(s) if type(s) in (int, float) else s for s in several])


# ------------------------------------------------------------------------------------------------------------- numbers


def _final(text: str, after: str, extract: str, thoughts: str) -> Number | None:
    """The last number by the rule; with `after` the first one behind that mark's last place, if it stands there."""
    text = outside_thoughts(text) if thoughts == "skip" else text
    if after:
        _, mark, behind = text.rpartition(after)
        return (numbers_in(behind) or [None])[0] if mark else None
    decides, inside = _boxed(text, extract)
    if decides:
        numbers = numbers_in(inside or "")
        return numbers[0] if len(numbers) == 1 else (numbers or [None])[-1] if "=" in (inside or "") else None
    return (numbers_in(text) or [None])[-1]


def wanted_numbers(solution: Any, *, after: str = "", **options: Any) -> list[Number]:
    """The numbers of a row's `solution`. ValueError where one has none that can be read as a whole."""
    numbers = []
    for entry in _texts(solution):
        number = _final(entry, after, "auto", "read") if after and after in entry else None
        number = number or _final(entry, "", "auto", "read")
        if number is None or number[0] is None:
            raise ValueError(f"`solution` has no number that can be read as a whole: {entry!r}")
        numbers.append(number)
    return numbers


@uses("solution", check=wanted_numbers)
def numeric_match(
    completions: Sequence[Completion],
    solution: Sequence[Any],
    after: str = "",
    tolerance: float = 0.0,
    relative: float = 0.0,
    extract: Extract = "auto",
    thoughts: Thoughts = "skip",
    **columns: Any,
) -> list[float]:
    r"""1.0 where |a − s| ≤ max(tolerance, relative · |s|) for the response's number a and a solution s, else 0.0.

    a is the number in the last \boxed{…}, or without one the last number of the text, outside of thoughts; with `after`
    ("####", "A:") the first one behind the last such mark, and 0.0 without the mark; `extract: last` looks at no boxes.
    Reads 1,234.5, 12 345, −3, 2e-3, 1.5 × 10³, 3/4, 3 1/2, ½, \frac{3}{4}, 0.(3), $5 and 50%, in digits of any script;
    exact, so 0.1 + 0.2 is 0.3; a per cent sign that only one of the two has may be meant or not: 50% is 50 and 0.5. A
    point is the decimal sign. A number that belongs to something larger (2√5, 2^x) is none. `solution` is text (its
    number is found likewise) or a number. "6 + 6 = 12 apples" for 12 → 1.0; "12 or 13" → 0.0.
    """
    check_not_negative("tolerance", tolerance)
    check_not_negative("relative", relative)
    _check_rule(extract, thoughts)
    wanted = [wanted_numbers(entry, after=after) for entry in solution]

    def right(answer: Number | None, several: list[Number]) -> bool:
        return answer is not None and any(_near(answer, s, Fraction(tolerance), Fraction(relative)) for s in several)

    answers = [_final(text_of(completion), after, extract, thoughts) for completion in completions]
    return [float(right(answer, several)) for answer, several in zip(answers, wanted, strict=True)]


def _near(answer: Number, solution: Number, tolerance: Fraction, relative: Fraction) -> bool:
    (a, a_percent), (s, s_percent) = answer, solution
    if a is None or s is None:
        return False
    readings = [(a, s)]
    if a_percent != s_percent:
        readings.append((a / 100, s) if a_percent else (a, s / 100))
    return any(abs(x - y) <= max(tolerance, relative * abs(y)) for x, y in readings)


# --------------------------------------------------------------------------------------------------------- mathematics

_CUE = re.compile(
    r"(?:(?:answers?|result|solution|total|value)\s*(?:is|are|equals|=|:)|答案(?:是|为|：|:)|####|\bis\b(?!.*\bis\b))\s*:?\s*",
    re.IGNORECASE | re.DOTALL,
)
_ALONE_BEFORE = re.compile(r"(?:^|[^-+*/^_√,{(\[<>≤≥±|\\\w]|\w\s|[.:,;]\s)\s*$")
_ALONE_BEHIND = re.compile(r"\s*(?:$|[^-+*/^_√{(\[<>≤≥±|\\\w=%!]|\.(?![.0-9])|[A-Za-z]{2,}|\s[A-Za-z])")
CHOICE = re.compile(r"\(?([A-Ja-j])(?:[).:\]]|\s*$)")


@functools.lru_cache(maxsize=65536)
def gold(text: str) -> Reading:
    """A solution, read: its last box, else all of it. ValueError where that isn't mathematics that can be read."""
    inside = last_box(text) if has_box(text) else text
    try:
        return read(inside or "")
    except Unreadable as error:
        raise ValueError(f"`solution` is no mathematics that can be read as a whole: {text!r} ({error})") from error


def wanted_mathematics(solution: Any, **options: Any) -> list[Reading]:
    """A row's solutions, read. ValueError where one can't be."""
    return [gold(text) for text in _texts(solution)]


@may_hang
@uses("solution", check=wanted_mathematics)
def math_match(
    completions: Sequence[Completion],
    solution: Sequence[Any],
    seconds: int = 5,
    after: str = "",
    extract: Extract = "auto",
    thoughts: Thoughts = "skip",
    **columns: Any,
) -> list[float]:
    r"""1.0 where the response's mathematical answer equals a solution, else 0.0.

    The answer is what stands in the last \boxed{…}; without a box in the last formula ($…$); without one behind "the
    answer is", or the last number of the text, outside of thoughts; with `after` ("####") what stands behind the last
    such mark on its line. It is read as a whole or not at all. Equal means equal as mathematics: "$(x+1)^2$" for
    "x^2+2x+1", "0.5" for "\frac{1}{2}", "{2, 1}" for "{1, 2}", "1 < x ≤ 2" for "(1, 2]", "x = 5", "5 cm" for "5" → 1.0;
    "5 m" for "5 cm" → 0.0. docs/reward-functions.md has the notations. An answer gets `seconds`, then it is wrong.
    """
    check_positive("seconds", seconds, whole=True)
    _check_rule(extract, thoughts)

    def right(text: str, several: list[Reading]) -> bool:
        try:
            with _limited(seconds):
                return any(_says(text, wanted, after, extract, thoughts) for wanted in several)
        except _TooSlow:
            return False

    wanted = [wanted_mathematics(several) for several in solution]
    return [float(right(text_of(completion), several)) for completion, several in zip(completions, wanted, strict=True)]


def _says(text: str, wanted: Reading, after: str, extract: str, thoughts: str) -> bool:
    for candidate in _candidates(outside_thoughts(text) if thoughts == "skip" else text, after, extract):
        if wanted.kind == "value" and wanted.value.is_Symbol and re.fullmatch("[A-J]", wanted.value.name):
            choice = CHOICE.match(plain_latex(candidate).replace(r"\text{", "").strip(" *{}"))
            if choice:
                return choice[1].upper() == wanted.value.name
        try:
            return same(wanted, read(candidate))
        except Unreadable:
            continue
        except (RecursionError, OverflowError, ArithmeticError, TypeError, AttributeError, NotImplementedError):
            return False
    return False


def _candidates(text: str, after: str, extract: str) -> Generator[str]:
    """What may be the answer; the first that can be read as a whole is."""
    if after:
        _, mark, behind = text.rpartition(after)
        yield behind.strip().split("\n")[0] if mark else ""
        return
    decides, inside = _boxed(text, extract)
    formula = last_formula(text)
    if decides or formula is not None:
        yield (inside if decides else formula) or ""
        return
    yield text
    cues = list(_CUE.finditer(text))
    if cues:
        behind = text[cues[-1].end() :].strip()
        yield re.split(r"\n|(?<=[^\d\s])[.。!](?:\s|$)|(?<=\d)[.。](?:\s|$)", behind)[0]
    yield from _last_alone(text)


def _last_alone(text: str) -> Generator[str]:
    """The last number where it is no part of a formula in the running text."""
    from plaudit.scoring.rules.numbers import NUMBER

    plain = plain_latex(text)
    numbers = list(NUMBER.finditer(plain))
    if numbers and numbers_in(text)[-1:] != [] and numbers_in(text)[-1][0] is not None:
        match = numbers[-1]
        before = plain[: match.start()]
        if (_ALONE_BEFORE.search(before) or re.search(r"=\s*$", before)) and _ALONE_BEHIND.match(plain[match.end() :]):
            yield match[0]


class _TooSlow(Exception):
    """An answer took longer than its limit."""


@contextmanager
def _limited(seconds: int) -> Generator[None]:
    """_TooSlow after so many seconds. By an alarm, which only a main thread on Unix can set; without one the worker's
    `timeout` remains."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlow(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
