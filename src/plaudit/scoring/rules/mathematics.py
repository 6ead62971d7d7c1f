"""Answers as mathematics: what a text says as a whole, and whether two of them say the same.

A reading is a value (with its unit), several of them (a list, a set, a tuple or interval), an interval of the line, an
equation or relation, a matrix, or words. What is not understood to its end is `Unreadable`: half a reading is none.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from plaudit.scoring.rules.expressions import Parser, equal, symbolic
from plaudit.scoring.rules.lexing import CURRENCY, NO_UNITS, SINGLE_UNITS, Token, Unreadable, tokens_of, unit_of
from plaudit.scoring.rules.notation import plain_latex, without_delimiters

Kind = Literal["value", "list", "set", "tuple", "region", "equation", "relation", "matrix", "text"]
RELATIONS = {"<": "<", ">": ">", "le": "<=", "ge": ">=", "ne": "!=", "=": "="}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    kind: Kind
    value: Any = None
    """An expression of sympy; an interval or union; words; the name or expression left of an equation's sign."""
    items: tuple["Reading", ...] = ()
    brackets: str = ""
    unit: str = ""
    percent: bool = False
    digits: int = 0
    """Behind the point, of a number that was written as a decimal."""


def read(text: str) -> Reading:
    """All of the text as mathematics (or as one word or a few). Raises Unreadable."""
    text = plain_latex(without_delimiters(text)).strip()
    text = re.sub(r"^(?:=|:|\\therefore|\\implies|\\Rightarrow)\s*|(?<=[^.\s])\s*[.,;]$", "", text).strip()
    text = re.sub(r"\s*\(\s*(?:approx(?:imately)?\.?)\s*\)$", "", text)
    if not text:
        raise Unreadable("is empty")
    if words := _words(text):
        return Reading(kind="text", value=words)
    text = re.sub(r"\bper\s?cent(?:age points?)?\b", "%", text)
    try:
        return _structure(tokens_of(text))
    except Unreadable:
        raise
    except (RecursionError, ArithmeticError, TypeError, AttributeError, ValueError, LookupError) as error:
        raise Unreadable(f"can't be worked out ({type(error).__name__})") from error


def _words(text: str) -> str:
    """The words where there is nothing else: one that isn't a variable, "no solution", or several in \\text{…}."""
    inside = re.fullmatch(r"(?:\\(?:text|mathrm|textbf|mbox|textit|mathbf)\s*\{([^{}]*)\}\s*)+", text)
    content = re.sub(r"\\[a-z]+\s*\{([^{}]*)\}", r"\1", text) if inside else text
    if re.fullmatch(r"(?:[^\W\d_]|[ '-])+", content) and re.search(r"[^\W\d_]{3,}|^(?:no|up|on|in|it|he)$", content):
        names = {"sin", "cos", "tan", "log", "infinity", "inf", "abc"}
        words = re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", content.casefold())
        phrase = len(words) == 1 or words[0] in ("no", "all", "not", "does", "infinitely", "never")
        if not (set(words) & names) and (inside or (phrase and len(words) <= 4)):
            return " ".join(words)
    return ""


# ----------------------------------------------------------------------------------------------------------- structure

_OPEN, _CLOSE = {"(", "[", "{", r"\{"}, {")", "]", "}", r"\}"}


def _depths(tokens: Sequence[Token]) -> list[int]:
    """How many brackets are open at each token; those of a pair belong to the outside."""
    depths: list[int] = []
    depth = 0
    for token in tokens:
        if token.kind == "sign" and token.text in _CLOSE:
            depth -= 1
        depths.append(depth)
        if token.kind == "sign" and token.text in _OPEN:
            depth += 1
        if depth < 0:
            raise Unreadable("a bracket is closed that was not opened")
    if depth:
        raise Unreadable("a bracket is not closed")
    return depths


def _split(tokens: Sequence[Token], *marks: str) -> list[list[Token]]:
    depths = _depths(tokens)
    parts: list[list[Token]] = [[]]
    for token, depth in zip(tokens, depths, strict=True):
        if not depth and token.kind in ("sign", "command") and token.text in marks:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _structure(tokens: list[Token]) -> Reading:
    if tokens and tokens[0].text == "begin":
        return _matrix(tokens)
    parts = _split(tokens, ",", ";", "and", "or")
    if len(parts) > 1:
        parts = [part for part in parts if part]  # "1, 2, and 3"
        items = tuple(_structure(part) for part in parts)
        if all(item.kind == "region" for item in items):
            shared = symbolic().Intersection(*(item.value for item in items))
            both = any(token.text == "and" for token in tokens) and not shared.is_empty  # 1 < x and x < 2
            return Reading(kind="region", value=shared) if both else united(items)
        items = tuple(i for item in items for i in (item.items if item.kind == "list" else (item,)))
        return items[0] if len(items) == 1 else Reading(kind="list", items=items)
    if len(parts := _split(tokens, ":")) > 1:  # 3:2 and 12:05
        return Reading(kind="tuple", items=tuple(_value(part) for part in parts), brackets="::")
    if len(parts := _split(tokens, "cup")) > 1:
        return united([_structure(part) for part in parts])
    depths = _depths(tokens)
    signs = [
        i
        for i, token in enumerate(tokens)
        if not depths[i] and token.text in RELATIONS and token.kind in ("sign", "command")
    ]
    if signs:
        return _relation(tokens, signs)
    if len(parts := _split(tokens, "in")) == 2 and len(parts[0]) == 1:
        return replace(_structure(parts[1]), unit="")
    return _bracketed(tokens) or _value(tokens)


def _bracketed(tokens: list[Token]) -> Reading | None:
    """A set, tuple or interval, where one pair of brackets holds everything."""
    if len(tokens) == 1 and tokens[0].text == "emptyset":
        return Reading(kind="set")
    if len(tokens) < 2 or tokens[0].text not in _OPEN or tokens[-1].text not in _CLOSE:
        return None
    inner = tokens[1:-1]
    opening, closing = tokens[0].text, tokens[-1].text
    try:
        parts = _split(inner, ",", ";")
    except Unreadable:
        return None  # two pairs side by side
    if opening == "{" and len(parts) == 1 and inner:
        return _structure(inner)
    if opening in (r"\{", "{"):
        return Reading(kind="set", items=tuple(_structure(part) for part in parts) if inner else ())
    if len(parts) == 1:
        if opening + closing in ("()", "[]"):
            return None if not inner else _whole_or_none(inner)
        raise Unreadable("the brackets don't fit")
    items = tuple(_structure(part) for part in parts)
    whole = Reading(kind="tuple", items=items, brackets=opening + closing)
    if opening + closing in ("(]", "[)"):
        return as_region(whole)
    return whole


def _whole_or_none(inner: list[Token]) -> Reading | None:
    """What stands in brackets that only group; None where it is a factor of nothing, that is plain arithmetic."""
    return _structure(inner) if len(inner) == 1 or any(t.text in RELATIONS for t in inner) else None


def as_region(pair: Reading) -> Reading:
    if pair.kind == "region":
        return pair
    if pair.kind != "tuple" or len(pair.items) != 2 or any(item.kind != "value" for item in pair.items):
        raise Unreadable("is no interval")
    low, high = (item.value for item in pair.items)
    if not (low.is_extended_real and high.is_extended_real):
        raise Unreadable("is no interval of numbers")
    return Reading(
        kind="region", value=symbolic().Interval(low, high, pair.brackets[0] == "(", pair.brackets[1] == ")")
    )


def united(parts: Sequence[Reading]) -> Reading:
    sets = [
        symbolic().FiniteSet(*(i.value for i in part.items)) if part.kind == "set" else as_region(part).value
        for part in parts
    ]
    return Reading(kind="region", value=symbolic().Union(*sets))


def _relation(tokens: list[Token], signs: list[int]) -> Reading:
    bounds = [-1, *signs, len(tokens)]
    sides = [tokens[a + 1 : b] for a, b in itertools.pairwise(bounds)]
    operators = [RELATIONS[tokens[i].text] for i in signs]
    if set(operators) == {"="}:
        return _equation(sides)
    if "=" in operators:
        raise Unreadable("mixes = with other relations")
    if "!=" in operators and len(operators) > 1:
        raise Unreadable("mixes ≠ with other relations")
    values = [_value(side).value for side in sides]
    names = {symbol for value in values for symbol in value.free_symbols}
    if len(names) == 1 and all(value in names or not value.free_symbols for value in values):
        return _region_of(values, operators, names.pop())
    if len(operators) > 1:
        raise Unreadable("is a chain of relations")
    left, right = values
    return Reading(
        kind="relation",
        value=(left - right) * (-1 if operators[0][0] == ">" else 1),
        brackets=operators[0].replace(">", "<"),
    )


def _region_of(values: list[Any], operators: list[str], name: Any) -> Reading:
    """x > 2, 1 ≤ x < 3, x ≠ 0 as a set of numbers."""
    region: Any = symbolic().S.Reals
    for (a, b), operator in zip(itertools.pairwise(values), operators, strict=True):
        if (a == name) == (b == name):
            raise Unreadable("is no range of one variable")
        bound, smaller = (b, operator[0] == "<") if a == name else (a, operator[0] == ">")
        open_ = "=" not in operator
        if operator == "!=":
            piece: Any = symbolic().S.Reals - symbolic().FiniteSet(bound)
        elif smaller:
            piece = symbolic().Interval(-symbolic().oo, bound, True, open_)
        else:
            piece = symbolic().Interval(bound, symbolic().oo, open_, True)
        region = region & piece
    return Reading(kind="region", value=region)


def _is_name(tokens: Sequence[Token]) -> bool:
    """x, x_1, f(x), words, ∠ABC: what an equation only calls its other side."""
    texts = "".join(token.text for token in tokens)
    if all(token.kind in ("words", "unit", "symbol") for token in tokens) and len(tokens) > 0:
        return True
    function = r"(?:angle|triangle)?[A-Za-zͰ-Ͽ]+(?:_\{?\w+\}?)?'*(?:\([A-Za-z](?:,[A-Za-z])*\))?"
    return re.fullmatch(rf"{function}|\([A-Za-z](?:,[A-Za-z])+\)", texts) is not None


def _equation(sides: list[list[Token]]) -> Reading:
    if any(not side for side in sides):
        raise Unreadable("has an empty side")
    if _is_name(sides[0]):
        right = [_structure(side) for side in sides[1:]]
        if any(not equal(one.value, right[-1].value) for one in right[:-1]):
            raise Unreadable("says that different values are equal")
        return Reading(kind="equation", value="".join(token.text for token in sides[0]), items=(right[-1],))
    readings = [_value(side) for side in sides]
    if all(not reading.value.free_symbols for reading in readings):
        if all(equal(reading.value, readings[-1].value) for reading in readings):
            return readings[-1]  # 6 + 6 = 12
        raise Unreadable("says that different values are equal")
    if len(readings) != 2:
        raise Unreadable("is a chain of equations")
    return Reading(kind="relation", value=readings[0].value - readings[1].value, brackets="=")


def _matrix(tokens: list[Token]) -> Reading:
    """\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}, with any kind of brackets."""
    names = [i for i, token in enumerate(tokens) if token.text == "end"]
    opening = next((i for i, token in enumerate(tokens) if token.text == "}"), 0)
    name = "".join(token.text for token in tokens[2:opening])
    if len(names) != 1 or not name.endswith("matrix") or tokens[-1].text != "}":
        raise Unreadable("is a matrix that can't be read")
    rows: list[list[list[Token]]] = [[[]]]
    for token in tokens[opening + 1 : names[0]]:
        if token.text == "\\\\":
            rows.append([[]])
        elif token.text == "&":
            rows[-1].append([])
        else:
            rows[-1][-1].append(token)
    cells = [[_value(cell) for cell in row] for row in rows if row != [[]]]
    if len({len(row) for row in cells}) != 1:
        raise Unreadable("is a matrix with rows of unequal length")
    return Reading(kind="matrix", items=tuple(Reading(kind="tuple", items=tuple(row)) for row in cells), brackets="")


# -------------------------------------------------------------------------------------------------------------- values


def _value(tokens: list[Token]) -> Reading:
    """One value with its unit or per cent sign; with ± both of its values."""
    tokens, unit = _without_unit(list(tokens))
    percent = bool(tokens) and tokens[-1].text == "%"
    if percent:
        tokens = tokens[:-1]
    if not tokens:
        raise Unreadable("holds no value")
    digits = 0
    bare = [token for token in tokens if token.text not in ("-", "+")]
    if len(bare) == 1 and bare[0].kind == "number":
        digits = len(bare[0].text.partition(".")[2]) if re.fullmatch(r"[0-9, ]*\.[0-9]+", bare[0].text) else 0
    value = Parser(tokens).whole()
    about = {"unit": unit, "percent": percent}
    if any(token.kind == "command" and token.text in ("pm", "mp") for token in tokens):
        both = tuple(Reading(kind="value", value=v, **about) for v in (value, Parser(tokens, plus_minus=-1).whole()))
        return Reading(kind="list", items=both)
    return Reading(kind="value", value=value, digits=digits, **about)


def _without_unit(tokens: list[Token]) -> tuple[list[Token], str]:
    """Money's sign at either end, and the words or units behind a value, such as cm^2, km/h or apples."""
    at = next((i for i, token in enumerate(tokens[:3]) if token.text in CURRENCY), None)
    if at is not None and all(token.text in ("-", "+") for token in tokens[:at]) and len(tokens) > at + 1:
        return _with(tokens[:at] + tokens[at + 1 :], CURRENCY[tokens[at].text])
    if len(tokens) > 1 and tokens[-1].text in CURRENCY:
        return tokens[:-1], CURRENCY[tokens[-1].text]
    if len(tokens) > 1 and tokens[-1].text == "°" and not any(token.kind == "command" for token in tokens):
        return tokens[:-1], "degree"
    start = len(tokens)
    for i in range(len(tokens) - 1, 0, -1):
        token, before = tokens[i], tokens[i - 1]
        single = token.text in SINGLE_UNITS and (
            before.text == "/" or (token.spaced and before.kind in ("number", "unit", "words"))
        )
        if token.kind in ("words", "unit") or single:
            start = i
        elif token.text not in "^/{}-*" and not (token.kind == "number" and before.text in ("^", "{", "-")):
            break
    if start == len(tokens):
        return tokens, ""
    if NO_UNITS & {token.text for token in tokens[start:]} or sum(t.kind == "words" for t in tokens[start:]) > 3:
        raise Unreadable("has words that are no unit")
    unit = "".join(unit_of(token.text) for token in tokens[start:] if token.text not in "{}")
    rest = tokens[:start]
    if rest[-1].text == "/" or not any(token.kind in ("number", "command") for token in rest):
        raise Unreadable("has words that are no unit")
    return rest, "degree" if unit == "deg" else unit


def _with(tokens: list[Token], unit: str) -> tuple[list[Token], str]:
    """The value without the currency's name behind it, as in $5 USD."""
    return _without_unit(tokens)[0], unit
