"""The outer form of the response: patterns, tags, JSON (N3.14)."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from plaudit.scoring.rules.texts import Completion, check_choice, may_hang, strings_option, text_of, uses


@may_hang
@uses()
def regex(
    completions: Sequence[Completion],
    *,
    pattern: str,
    match: Literal["search", "full"] = "search",
    ignore_case: bool = False,
    dot_all: bool = False,
    **columns: Any,
) -> list[float]:
    r"""1.0 where `pattern` occurs (`search`) or is the whole response (`full`), else 0.0.

    `\d+` in "abc 12": 1.0 with search, 0.0 with full. A pattern can take very long on some texts: keep it simple.
    """
    check_choice("match", match, ("search", "full"))
    try:
        compiled = re.compile(pattern, (re.IGNORECASE if ignore_case else 0) | (re.DOTALL if dot_all else 0))
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
    matches = compiled.search if match == "search" else compiled.fullmatch
    return [float(matches(text_of(completion)) is not None) for completion in completions]


@uses()
def tag_format(completions: Sequence[Completion], *, tags: Sequence[str] | str, **columns: Any) -> list[float]:
    """1.0 where the response is `<a>…</a>` for each tag in order, each once, with only white space between; else 0.0.

    tags [think, answer]: "<think>2+2</think> <answer>4</answer>" → 1.0; with a word before, between or after → 0.0;
    with a second <think> anywhere → 0.0. (The format reward of DeepSeek-R1, 2025.)
    """
    names = strings_option("tags", tags)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tags must be different names, at least one, not {tags!r}")
    blocks = (f"<{re.escape(name)}>.*?</{re.escape(name)}>" for name in names)
    whole = re.compile(r"\s*" + r"\s*".join(blocks) + r"\s*", re.DOTALL)
    marks = [mark for name in names for mark in (f"<{name}>", f"</{name}>")]

    def right(text: str) -> bool:
        return whole.fullmatch(text) is not None and all(text.count(mark) == 1 for mark in marks)

    return [float(right(text_of(completion))) for completion in completions]


TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
    "any": (object,),
}
"""Names of JSON Schema, and what Python reads them as."""
FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(?P<inside>.*)\n[ \t]*```\s*", re.DOTALL | re.IGNORECASE)


@uses()
def json_valid(
    completions: Sequence[Completion],
    *,
    required: Mapping[str, str] | Sequence[str] | str = (),
    extra: bool = True,
    fence: bool = False,
    **columns: Any,
) -> list[float]:
    """1.0 where the whole response is valid JSON (RFC 8259; no NaN), an object with the `required` keys if any; else 0.

    `required`: a list of keys, or key → type (string, number, integer, boolean, array, object, null, any).
    `extra: false` allows no other keys; `fence` also takes a response that is one ```json block. required
    {name: string, age: integer}: `{"name": "Li", "age": 7}` → 1.0; with "age": "7" → 0.0; "Here: {…}" → 0.0.
    """
    keys = required if isinstance(required, Mapping) else strings_option("required", required)
    types = dict(keys) if isinstance(keys, Mapping) else dict.fromkeys(keys, "any")
    for key, kind in types.items():
        if kind not in TYPES:
            raise ValueError(f"required: {key!r} must be one of {', '.join(TYPES)}, not {kind!r}")
    if not extra and not types:
        raise ValueError("`extra: false` needs `required` keys")

    def right(text: str) -> bool:
        fenced = FENCE.fullmatch(text) if fence else None
        try:
            value = json.loads(fenced["inside"] if fenced else text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return False
        if not types:
            return True
        return isinstance(value, dict) and _has(value, types) and (extra or value.keys() <= types.keys())

    return [float(right(text_of(completion))) for completion in completions]


def _has(value: Mapping[str, Any], types: Mapping[str, str]) -> bool:
    return all(key in value and _is(value[key], kind) for key, kind in types.items())


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # Python's True is an int
        return kind in ("boolean", "any")
    return isinstance(value, TYPES[kind])


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
