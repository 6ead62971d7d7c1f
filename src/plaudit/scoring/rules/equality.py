"""Whether two readings say the same: numbers to 50 digits, formulas at eight points, the rest by its parts (N3.14)."""

import re
from collections.abc import Sequence
from typing import Any

from plaudit.scoring.rules.expressions import equal, proportional, symbolic
from plaudit.scoring.rules.lexing import CURRENCY, UNITS, Unreadable
from plaudit.scoring.rules.mathematics import Reading, as_region, united

ROUNDED = 6
"""A decimal with so many digits behind its point may stand for a number that it rounds."""


def same(gold: Reading, answer: Reading) -> bool:
    """Whether the two say the same."""
    gold, answer = _alone(gold), _alone(answer)
    kinds = {gold.kind, answer.kind}
    if kinds == {"equation"} and _name(gold.value) == _name(answer.value):
        return same(gold.items[0], answer.items[0])
    if kinds <= {"equation", "relation"} and "equation" in kinds:
        return _same_line(gold, answer)
    if "equation" in kinds:
        return same(*(x.items[0] if x.kind == "equation" else x for x in (gold, answer)))
    return _same_kind(gold, answer) if len(kinds) == 1 else _across(gold, answer)


def _same_kind(gold: Reading, answer: Reading) -> bool:
    match gold.kind:
        case "value":
            return _same_value(gold, answer)
        case "text":
            return gold.value == answer.value
        case "region":
            apart = (gold.value - answer.value, answer.value - gold.value)
            return gold.value == answer.value or all(rest.is_empty is True for rest in apart)
        case "list" | "set":
            return _matched(gold.items, answer.items)
        case "relation":
            one_sided = gold.brackets not in ("=", "!=")
            return gold.brackets == answer.brackets and proportional(gold.value, answer.value, positive=one_sided)
        case _:
            return gold.brackets == answer.brackets and _in_order(gold.items, answer.items)


def _in_order(left: Sequence[Reading], right: Sequence[Reading]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _name(name: str) -> str:
    return re.sub(r"[{}\s]", "", name).casefold()


def _same_line(gold: Reading, answer: Reading) -> bool:
    """y = 2x + 1 and 2x − y + 1 = 0."""
    differences = []
    for one in (gold, answer):
        if one.kind == "equation":
            if one.items[0].kind != "value" or len(one.value) != 1:
                return False
            differences.append(symbolic().Symbol(one.value) - one.items[0].value)
        elif one.brackets == "=":
            differences.append(one.value)
        else:
            return False
    return proportional(*differences, positive=False)


def _alone(reading: Reading) -> Reading:
    """A set, list or tuple of one thing is that thing."""
    while reading.kind in ("list", "set") and len(reading.items) == 1:
        reading = reading.items[0]
    return reading


def _across(gold: Reading, answer: Reading) -> bool:
    kinds = {gold.kind, answer.kind}
    if kinds == {"list", "set"}:
        return _matched(gold.items, answer.items)
    if kinds == {"list", "value"}:  # 3/4 or 75%
        return all(same(a, b) for a in gold.items or (gold,) for b in answer.items or (answer,))
    if kinds == {"list", "tuple"}:
        return _in_order(gold.items, answer.items)
    if kinds == {"region", "tuple"}:
        try:
            return same(as_region(gold), as_region(answer))
        except Unreadable:
            return False
    if kinds == {"region", "set"}:
        return same(*(united([one]) for one in (gold, answer)))
    if kinds == {"text", "value"}:
        one, other = (gold, answer) if gold.kind == "text" else (answer, gold)
        return one.value == str(other.value).casefold()
    return False


def _matched(left: Sequence[Reading], right: Sequence[Reading]) -> bool:
    """The same things in any order; what is said twice counts once."""
    return all(any(same(a, b) for b in right) for a in left) and all(any(same(a, b) for a in left) for b in right)


def _same_value(gold: Reading, answer: Reading) -> bool:
    if gold.unit and answer.unit and gold.unit != answer.unit and _known(gold.unit) and _known(answer.unit):
        return False
    values = [(gold.value, answer.value)]
    if gold.percent != answer.percent:  # it may be meant or not: 50% is 50 and 0.5
        values.append((gold.value / 100, answer.value) if gold.percent else (gold.value, answer.value / 100))
    turn = symbolic().pi / 180
    for one, other in ((gold, answer), (answer, gold)):  # 120° and 2π/3
        if one.unit == "degree" and not other.unit and other.value.has(symbolic().pi):
            values.append((one.value * turn, other.value))
    return any(equal(a, b) or _rounds(a, b, answer.digits) or _rounds(b, a, gold.digits) for a, b in values)


def _known(unit: str) -> bool:
    return any(part in UNITS | set(CURRENCY.values()) for part in re.split(r"[^a-z]+", unit.lower()) if part)


def _rounds(exact: Any, decimal: Any, digits: int) -> bool:
    """Whether `decimal`, written with ROUNDED digits or more, is `exact` as far as it goes."""
    if digits < ROUNDED or exact.free_symbols or not exact.is_real:
        return False
    if exact.is_Rational and set(symbolic().factorint(exact.q)) <= {2, 5}:
        return False  # it has a decimal of its own, which is exact
    return bool(abs(symbolic().N(exact - decimal, 40)) <= symbolic().Rational(1, 2 * 10**digits))
