"""The numbers of a text, exact, in the order in which they stand (N3.14)."""

import re
from fractions import Fraction

from plaudit.scoring.rules.lexing import LONGEST, MAGNITUDES, repeating
from plaudit.scoring.rules.notation import plain_latex

Number = tuple[Fraction | None, bool]
"""Its value, and whether a per cent sign follows; None stands for one that belongs to something larger, as in 2√5."""

_DIGITS = (
    r"(?:[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?![0-9])|[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?![0-9]|\s*/)|[0-9]+)"
)
_EXPONENT = r"(?:[eE][-+]?[0-9]{1,3}(?![0-9])|\s?(?:\\times|\*|x)\s*10\s?\^\s?\{?[-+]?[0-9]{1,3}\}?)"
_PLAIN = rf"(?:{_DIGITS}(?:\.[0-9]+)?|(?<!\.)\.[0-9]+){_EXPONENT}?"
_REPEATING = r"[0-9]*\.[0-9]*(?:\([0-9]+\)|\\overline\s?\{[0-9]+\})"
_LETTER = "A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
"""Of scripts that put spaces between words: a minus behind one is a hyphen, behind a Chinese character it is a sign."""
_FRACTION = r"\\frac\s?(?:\{\s?(?P<%s>[0-9]+)\s?\}\s?\{\s?(?P<%s>[0-9]+)\s?\}|(?P<%s>[0-9])\s?(?P<%s>[0-9])(?![0-9]))"
NUMBER = re.compile(
    # A sign right after a letter, digit or bracket is an operator or a hyphen: "3-5", "GPT-4"; x2 and 1.5.2 hold none.
    rf"(?<![A-Za-z0-9_])(?<![0-9]\.)(?P<sign>(?<![{_LETTER}0-9_)\]}}])[-+])?(?:\\?[$€£¥]\s?)?"
    rf"(?:(?P<repeating>{_REPEATING})"
    rf"|(?:(?P<whole>[0-9]+)\s?)?{_FRACTION % ('top', 'bottom', 'a', 'b')}"
    rf"|(?P<mixed>[0-9]+)\s(?P<over>[0-9]+)\s?/\s?(?P<below>[0-9]+)(?![0-9.,]*[0-9])"
    rf"|(?P<value>{_PLAIN})(?:\s?/\s?(?P<under>{_PLAIN}))?)"
    r"(?P<scale>\s?(?:hundred|thousand|million|billion|trillion)\b|[万亿])?(?P<percent>\s?%|\s?per\s?cent\b)?"
)
_PART_OF_MORE_BEFORE = re.compile(
    r"(?:\\sqrt\s*(?:\[[^\]]*\])?\s*\{?|\^\s*\{?|\\overline\s*\{?|\\log_?\{?|[0-9]\.[0-9]{3},)\s*$"
)
_PART_OF_MORE_BEHIND = re.compile(r"\s?(?:\\sqrt|\\pi|\\overline|\\dot|\^|!(?=\s*[-=+*/^}])|\.\.\.)|\([0-9]+\)")


def numbers_in(text: str) -> list[Number]:
    """All numbers of the text in order: 1,234.5, 12 345, −3, 2e-3, 1.5 × 10³, 3/4, 3 1/2, ½, 0.(3), $5, 50%.

    Minus and per cent signs, digits and spaces of any script. A point is the decimal sign. Division by 0 is no number.
    """
    text = plain_latex(text)
    numbers: list[Number] = []
    for match in NUMBER.finditer(text):
        if len(match[0]) > LONGEST:
            continue
        try:
            value = _value(match)
        except ZeroDivisionError:
            continue
        if value is not None and match["scale"]:
            value *= MAGNITUDES[match["scale"].strip()]
        before, behind = text[max(0, match.start() - 20) : match.start()], text[match.end() : match.end() + 20]
        if (
            (behind == "!" and not before.strip())
            or _PART_OF_MORE_BEFORE.search(before)
            or _PART_OF_MORE_BEHIND.match(behind)
        ):
            value = None
        elif match["sign"] == "-" and value is not None:
            value = -value
        numbers.append((value, match["percent"] is not None))
    return numbers


def _value(match: re.Match[str]) -> Fraction | None:
    if match["repeating"]:
        return repeating(match["repeating"])
    if top := match["top"] or match["a"]:
        part = Fraction(int(top), int(match["bottom"] or match["b"]))
        return part + int(match["whole"] or 0) if not match["whole"] or part < 1 else None
    if match["mixed"]:
        part = Fraction(int(match["over"]), int(match["below"]))
        return int(match["mixed"]) + part if part < 1 else None
    return _plain(match["value"]) / (_plain(match["under"]) if match["under"] else 1)


def _plain(text: str) -> Fraction:
    mantissa, _, power = re.sub(r"\s?(?:\\times|\*|x)\s*10\s?\^\s?\{?([-+]?[0-9]+)\}?$", r"@\1", text).partition("@")
    return Fraction(re.sub("[, ]", "", mantissa)) * Fraction(10) ** int(power or 0)
