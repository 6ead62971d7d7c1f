"""Whether the response's final answer is right: numbers, and mathematics by math-verify (N3.14)."""

import logging
import re
import signal
import threading
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from plaudit.scoring.rules.texts import (
    Completion,
    check_not_negative,
    check_positive,
    may_hang,
    solutions_of,
    text_of,
    uses,
)

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.[0-9]+)?|(?<!\.)\.[0-9]+)(?:[eE][-+]?[0-9]{{1,3}}(?![0-9]))?"
NUMBER = re.compile(
    # A sign right after a letter, digit or bracket is an operator or a hyphen: "3-5", "GPT-4"; x2 and 1.5.2 hold none.
    rf"(?<![A-Za-z0-9_])(?<![0-9]\.)(?P<sign>(?<![\w)\]}}])[-+−])?[$€£¥]?"
    rf"(?:\\[dt]?frac\{{(?P<top>[0-9]+)\}}\{{(?P<bottom>[0-9]+)\}}|(?P<value>{_PLAIN})(?:\s?/\s?(?P<under>{_PLAIN}))?)"
    r"(?P<percent>\s?\\?%)?"
)
LONGEST = 400
"""Digits of a number that is still read; beyond float's range nobody means it."""


def numbers_in(text: str) -> list[tuple[Fraction, bool]]:
    """All numbers of the text in order, exact; True where a per cent sign follows. Division by 0 is no number."""
    numbers = []
    for match in NUMBER.finditer(text):
        whole = match["value"] if match["top"] is None else match["top"]
        under = (match["under"] if match["top"] is None else match["bottom"]) or "1"
        if len(whole) > LONGEST or len(under) > LONGEST or not (below := Fraction(under.replace(",", ""))):
            continue
        value = Fraction(whole.replace(",", "")) / below
        numbers.append((-value if match["sign"] in ("-", "−") else value, match["percent"] is not None))
    return numbers


def _final(text: str, after: str) -> tuple[Fraction, bool] | None:
    """The last number; with `after` the first one behind that mark's last place, if the mark stands there at all."""
    if not after:
        return (numbers_in(text) or [None])[-1]
    _, mark, behind = text.rpartition(after)
    return (numbers_in(behind) or [None])[0] if mark else None


def _wanted(solution: Any, after: str) -> list[tuple[Fraction, bool]]:
    several = solution if isinstance(solution, (list, tuple)) else [solution]
    numbers = []
    for entry in solutions_of([str(s) if type(s) in (int, float) else s for s in several]):
        number = (_final(entry, after) if after and after in entry else None) or _final(entry, "")
        if number is None:
            raise ValueError(f"`solution` has no number: {entry!r}")
        numbers.append(number)
    return numbers


@uses("solution")
def numeric_match(
    completions: Sequence[Completion],
    solution: Sequence[Any],
    after: str = "",
    tolerance: float = 0.0,
    relative: float = 0.0,
    **columns: Any,
) -> list[float]:
    r"""1.0 where |a − s| ≤ max(tolerance, relative · |s|) for the response's number a and a solution s, else 0.0.

    a is the last number of the text; with `after` ("####", "A:", "\boxed{") the first one behind the last such mark,
    and 0.0 without the mark. Reads 1,234.5, −3, 2e-3, 3/4, \frac{3}{4}, $5 and 50%; exact, so 0.1 + 0.2 is 0.3; a
    per cent sign that only one of the two has may be meant or not: 50% is 50 and 0.5. A point is the decimal sign.
    `solution` is text (its number is found likewise) or a number. "6 + 6 = 12 apples" for 12 → 1.0; "12 or 13" → 0.0.
    """
    check_not_negative("tolerance", tolerance)
    check_not_negative("relative", relative)
    wanted = [_wanted(entry, after) for entry in solution]

    def right(answer: tuple[Fraction, bool] | None, several: list[tuple[Fraction, bool]]) -> bool:
        return answer is not None and any(_near(answer, s, Fraction(tolerance), Fraction(relative)) for s in several)

    answers = [_final(text_of(completion), after) for completion in completions]
    return [float(right(answer, several)) for answer, several in zip(answers, wanted, strict=True)]


def _near(
    answer: tuple[Fraction, bool], solution: tuple[Fraction, bool], tolerance: Fraction, relative: Fraction
) -> bool:
    (a, a_percent), (s, s_percent) = answer, solution
    readings = [(a, s)]
    if a_percent != s_percent:
        readings.append((a / 100, s) if a_percent else (a, s / 100))
    return any(abs(x - y) <= max(tolerance, relative * abs(y)) for x, y in readings)


MATH_MARKS = ("$", "\\boxed", "\\(", "\\[")


@may_hang
@uses("solution")
def math_match(
    completions: Sequence[Completion], solution: Sequence[Any], seconds: int = 5, **columns: Any
) -> list[float]:
    r"""1.0 where the response's mathematical answer equals a solution (by math-verify and sympy), else 0.0.

    The answer is what math-verify finds: \boxed{…} before other LaTeX ($…$) before the last plain number. Equal means
    equal as mathematics: "$(x+1)^2$" for "x^2+2x+1", "0.5" for "\frac{1}{2}", "{2, 1}" for "{1, 2}" → 1.0. A parse or
    a comparison gets `seconds`, then the answer counts as wrong. Needs `pip install 'plaudit[math]'`.
    """
    check_positive("seconds", seconds, whole=True)
    parse, verify = _math_verify()
    # Its own limit is an alarm, which only a main thread on Unix can set; without one the worker's `timeout` remains.
    alarmed = hasattr(signal, "alarm") and threading.current_thread() is threading.main_thread()
    limit = seconds if alarmed else None

    def gold(text: str) -> Any:
        read = parse(text if any(mark in text for mark in MATH_MARKS) else f"${text}$", parsing_timeout=limit)
        if not read:
            raise ValueError(f"`solution` is no mathematics that can be read: {text!r}")
        return read

    def right(text: str, several: Any) -> bool:
        answer = parse(text, parsing_timeout=limit)
        return any(verify(wanted, answer, timeout_seconds=limit) for wanted in map(gold, solutions_of(several)))

    return [
        float(right(text_of(completion), several)) for completion, several in zip(completions, solution, strict=True)
    ]


def _math_verify() -> tuple[Any, Any]:
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise ValueError(f"math_match needs the package math-verify: pip install 'plaudit[math]' ({error})") from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it reports each answer that is no mathematics
    return parse, verify
