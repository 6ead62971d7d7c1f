"""Mathematics as tokens: numbers, symbols, commands, units and words (N3.14)."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

LONGEST = 400
"""Characters of an answer that is still read, and digits of a number; beyond float's range nobody means it."""


class Unreadable(ValueError):
    """The text, or a part of it, is no mathematics that we can read."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    """number, symbol, command, words, unit, sign."""
    text: str
    value: Fraction | None = None
    spaced: bool = False
    """White space stands before it."""


FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg",
    "exp", "sqrt", "min", "max", "gcd", "lcm", "asin", "acos", "atan", "cbrt",
}  # fmt: skip
MAGNITUDES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
MAGNITUDES |= {"万": 10**4, "亿": 10**8}
_WORD_NAMES = {"infinity": "infty", "inf": "infty", "pi": "pi", "and": "and", "or": "or", "oo": "infty"}
UNITS = {
    "mm", "cm", "dm", "km", "meter", "metre", "kilometer", "kilometre", "centimeter", "centimetre", "millimeter",
    "inch", "inches", "in", "ft", "feet", "foot", "yd", "yard", "mi", "mile", "mph", "kmh", "kph", "kg", "mg", "gram",
    "kilogram", "lb", "lbs", "pound", "oz", "ounce", "ton", "ml", "liter", "litre", "gallon", "hour", "hr", "min",
    "minute", "sec", "second", "day", "week", "month", "year", "hz", "khz", "mhz", "joule", "watt", "kw", "kwh",
    "volt", "newton", "degree", "deg", "rad", "radian", "dollar", "cent", "euro", "usd", "eur", "gbp", "yuan", "yen",
    "m", "s", "g", "h", "l", "am", "pm",
}  # fmt: skip
"""Those between which a mismatch is a mistake; other words behind a number name what was counted."""
NO_UNITS = {
    "a", "all", "an", "any", "are", "as", "at", "be", "because", "but", "by", "can", "even", "for", "has", "if",
    "is", "it", "less", "may", "more", "no", "not", "odd", "of", "on", "one", "only", "right", "so", "than", "that",
    "the", "then", "this", "to", "true", "was", "we", "when", "where", "which", "wrong", "yes",
}  # fmt: skip
"""Words that are neither what a number counts nor variables side by side."""
CURRENCY = {"$": "dollar", "€": "euro", "£": "gbp", "¥": "yuan", "₹": "rupee", "₩": "won", "元": "yuan"}
SINGLE_UNITS = {"m", "s", "g", "h", "L", "l", "N", "J", "W", "V", "K", "C"}

_GROUPED = r"[0-9]{1,3}(?:(?:,[0-9]{3})+|(?:[ ][0-9]{3})+)(?![0-9]|[, ][0-9]{3}(?![0-9])|\s*/)"
_TOKEN = re.compile(
    rf"""(?P<space>\s*)(?:
    (?P<repeating>[0-9]*\.[0-9]*(?:\((?P<r1>[0-9]+)\)|\\(?:overline|bar|dot)\s*\{{?(?P<r2>[0-9]+)\}}?(?:[0-9]*\\dot\s*\{{?[0-9]\}}?)?))
    |(?P<grouped>{_GROUPED}(?:\.[0-9]+)?)
    |(?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{{1,3}}(?![0-9A-Za-z]))?)
    |\\(?P<text>text|mathrm|textbf|textit|mbox|mathbf|mathit|textrm|operatorname)\s*\{{(?P<inside>[^{{}}]*)\}}
    |(?P<command>\\[A-Za-z]+|\\[{{}}|\\])
    |(?P<letters>[A-Za-z]+)
    |(?P<greek>[Ͱ-Ͽ])
    |(?P<words>[^\W\d_]+)
    |(?P<sign>\|\||[-+*/^_(){{}}\[\]|,;:<>=!%°'&$€£¥₹₩])
    )""",
    re.VERBOSE,
)


def tokens_of(text: str) -> list[Token]:
    """All of the text as tokens. Raises Unreadable for a sign that means nothing here."""
    if len(text) > LONGEST:
        raise Unreadable(f"is longer than {LONGEST} signs")
    tokens: list[Token] = []
    at, depth = 0, 0
    text = text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"{text[at : at + 10]!r} can't be read")
        if depth and "," in (match["grouped"] or "") and ",0" not in match["grouped"]:  # (100,200) is a point
            match = _FIRST_NUMBER.match(text, at) or match
        tokens += _read_token(match.groupdict())
        depth += tokens[-1].text in ("(", "[", "{", r"\{") if tokens else 0
        depth -= tokens[-1].text in (")", "]", "}", r"\}") if tokens else 0
        at = match.end()
    return _scaled(tokens)


_FIRST_NUMBER = re.compile(r"(?P<space>\s*)(?P<number>[0-9]+)")


def _scaled(tokens: list[Token]) -> list[Token]:
    """5 million as one number."""
    out: list[Token] = []
    for token in tokens:
        if token.text in MAGNITUDES and out and out[-1].value is not None:
            out[-1] = Token(
                "number", f"{out[-1].text} {token.text}", out[-1].value * MAGNITUDES[token.text], out[-1].spaced
            )
        else:
            out.append(token)
    return out


def _read_token(groups: dict[str, str | None]) -> list[Token]:
    spaced = bool(groups["space"])
    if periodic := groups.get("repeating"):
        return [Token("number", periodic, repeating(periodic), spaced)]
    if number := groups.get("grouped") or groups.get("number"):
        return [Token("number", number, _number(number), spaced)]
    if groups.get("text"):
        return _text_tokens((groups["inside"] or "").strip(), spaced)
    if command := groups.get("command"):
        name = command[1:]
        if name in ("mathbb", "mathcal", "mathfrak", "vec", "hat", "mathsf"):
            return []
        return [Token("sign", command, None, spaced) if name in "{}\\" else Token("command", name, None, spaced)]
    if letters := groups.get("letters"):
        return _letters(letters, spaced)
    if greek := groups.get("greek"):
        return [Token("symbol", greek, None, spaced)]
    if words := groups.get("words"):
        return [Token("words", words, None, spaced)]
    return [Token("sign", groups["sign"] or "", None, spaced)]


def _text_tokens(inside: str, spaced: bool) -> list[Token]:
    """What stands in \\text{…}: words, or signs as if they stood outside."""
    if not inside.strip(".,;"):
        return []
    if re.search(r"[^\W\d_]{2,}", inside) and not re.search(r"\d", inside):
        return _letters(inside, spaced, whole=True)
    first, *rest = tokens_of(inside)
    return [replace(first, spaced=True), *rest]  # \text{m/s} is no variable


def _letters(letters: str, spaced: bool, whole: bool = False) -> list[Token]:
    """A run of letters: a name, a unit, words, or variables side by side."""
    low = letters.lower().strip()
    if low in ("and", "or") or low in _WORD_NAMES:
        return [Token("command", _WORD_NAMES[low], None, spaced)]
    if low == "per":
        return [Token("sign", "/", None, spaced)]
    if len(letters) == 1:
        return [Token("symbol", letters, None, spaced)]
    if low in FUNCTIONS - {"min", "sec", "max"}:
        return [Token("command", low, None, spaced)]
    if unit_of(low) in UNITS:
        return [Token("unit", unit_of(low), None, spaced)]
    if whole or len(letters) > 3 or low in NO_UNITS:
        return [Token("words", low, None, spaced)]
    return [Token("symbol", letter, None, spaced and not i) for i, letter in enumerate(letters)]


def unit_of(word: str) -> str:
    """Its singular."""
    low = word.lower().strip()
    return low if low in UNITS or not low.endswith("s") else low[:-1]


def _number(text: str) -> Fraction:
    if len(text) > LONGEST:
        raise Unreadable("a number of so many digits is not read")
    return Fraction(text.replace(",", "").replace(" ", ""))


def repeating(text: str) -> Fraction:
    r"""0.(3), 0.1\overline{6}, 0.\dot{3}, 0.\dot{1}4\dot{2}: what is in brackets, below the line, or from dot to dot
    goes on for ever."""
    before, _, behind = text.partition(".")
    fixed = re.match("[0-9]*", behind)
    start = len(fixed[0]) if fixed else 0
    digits = re.sub("[^0-9]", "", behind)
    period = len(digits) - start
    whole = int(before or 0) + Fraction(int(digits[:start] or 0), 10**start)
    return whole + Fraction(int(digits[start:]), 10**start * (10**period - 1))
