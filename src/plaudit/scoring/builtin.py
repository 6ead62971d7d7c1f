"""Reward functions that come with the house (N3.14): simple, explainable, stable rules.

They have the ecosystem's signature, `f(prompts, completions, **columns) -> list[float]`, so they run elsewhere too.

| name | value | range | wants |
|---|---|---|---|
| `edit_similarity` | 1 − edits / longer length, best solution | [0, 1] | column `solution` |
| `edit_distance` | **minus** the edits to the nearest solution | (−∞, 0] | column `solution` |
| `exact_match` | 1 where the response is one of the solutions | {0, 1} | column `solution` |
| `repetition` | 1 − distinct-n: a *fault*, so give it a negative weight | [0, 1) | |
| `distinct_n` | different n-grams / all n-grams | (0, 1] | |
| `length_target` | 1 at the target, falling to 0 at nothing and at twice the target | [0, 1] | option `target` |
| `keywords` | share of the required words found; 0 where a forbidden one is | [0, 1] | `required` or `forbidden` |
| `regex` | 1 where the pattern matches | {0, 1} | option `pattern` |
| `format` | 1 where the response is exactly the tagged blocks, in order | {0, 1} | option `tags` |

Nothing is normalised unless `normalise` asks for it: texts are compared code point by code point.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from plaudit.scoring.calls import RewardFunction
from plaudit.scoring.words import UNSPACED, Unit, distinct_share, units

Completion = str | Sequence[Mapping[str, Any]]
Step = Literal["nfc", "case", "whitespace"]


def uses(*columns: str) -> Callable[[RewardFunction], RewardFunction]:
    """Say which data columns a function reads. It is then given these only, and every row must fill them."""

    def mark(function: RewardFunction) -> RewardFunction:
        function.data_columns = columns  # type: ignore[attr-defined]
        return function

    return mark


def may_hang(function: RewardFunction) -> RewardFunction:
    """Say that some texts may keep a function for ever: it gets a process of its own, which has a time limit."""
    function.may_hang = True  # type: ignore[attr-defined]
    return function


def text_of(completion: Completion) -> str:
    """A completion's text: the string itself, or the contents of its messages joined."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)


def normalised(text: str, steps: Sequence[Step] | Step) -> str:
    """Apply "nfc" (canonical composition), "case" (casefold), "whitespace" (runs to one space, ends cut), as asked."""
    chosen = {steps} if isinstance(steps, str) else set(steps)
    unknown = chosen - {"nfc", "case", "whitespace"}
    if unknown:
        raise ValueError(f"normalise knows 'nfc', 'case' and 'whitespace', not {sorted(map(str, unknown))}")
    if "nfc" in chosen:
        text = unicodedata.normalize("NFC", text)
    if "case" in chosen:
        text = text.casefold()
    if "nfc" in chosen and "case" in chosen:
        text = unicodedata.normalize("NFC", text)  # casefolding can take a composition apart
    return " ".join(text.split()) if "whitespace" in chosen else text


def solutions_of(solution: Any) -> list[str]:
    """One string or several → several. Raises ValueError for none, TypeError for anything that is not text."""
    several = [solution] if isinstance(solution, str) else solution
    if not isinstance(several, (list, tuple)):
        raise TypeError(
            f"`solution` must be a string or a list of strings, not {type(solution).__name__}: {solution!r}"
        )
    if not several:
        raise ValueError("`solution` is an empty list")
    for entry in several:
        if not isinstance(entry, str):
            raise TypeError(f"`solution` holds a {type(entry).__name__}, {entry!r}: write it as text")
    return list(several)


def _pairs(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step
) -> list[tuple[str, list[str]]]:
    """Each completion with its solutions, both normalised."""
    normalised("", normalise)  # a wrong option is an error even where there is nothing to compare
    return [
        (normalised(text_of(completion), normalise), [normalised(text, normalise) for text in solutions_of(wanted)])
        for completion, wanted in zip(completions, solution, strict=True)
    ]


def _similarity(left: str, right: str) -> float:
    longer = max(len(left), len(right))
    return 1.0 - Levenshtein.distance(left, right) / longer if longer else 1.0


@uses("solution")
def edit_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """1 − Levenshtein(y, s) / max(|y|, |s|), the best of the row's solutions, in [0, 1]   (N3.14).

    Lengths and edits (insert, delete, replace: one each) count code points. Two empty texts are equal: 1.0.
    "kitten" for "sitting": 3 edits of 7, so 4/7.
    """
    pairs = _pairs(completions, solution, normalise)
    return [max(_similarity(text, wanted) for wanted in several) for text, several in pairs]


@uses("solution")
def edit_distance(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """−Levenshtein(y, s) to the nearest of the row's solutions, in (−∞, 0]   (N3.14).

    Minus, so that a positive weight rewards coming nearer. In edits over code points: a long answer that is far off
    outweighs many near ones; `edit_similarity` is the bounded form. "kitten" for "sitting": −3.0.
    """
    pairs = _pairs(completions, solution, normalise)
    return [0.0 - min(Levenshtein.distance(text, wanted) for wanted in several) for text, several in pairs]


@uses("solution")
def exact_match(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """1.0 where the response equals one of the row's solutions, else 0.0. "Paris " for "Paris" needs `whitespace`."""
    return [float(text in several) for text, several in _pairs(completions, solution, normalise)]


def _positive(name: str, value: Any, *, whole: bool) -> None:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
        raise ValueError(f"{name} must be a positive {'whole number' if whole else 'number'}, not {value!r}")


@uses()
def distinct_n(completions: Sequence[Completion], n: int = 2, unit: Unit = "words", **columns: Any) -> list[float]:
    """Different n-grams / all n-grams of the response, in (0, 1]; 1.0 where it has none   (Li et al. 2016).

    "a b a b" with n = 2: ab, ba, ab → 2/3. Words are cut at white space; a Chinese character is a word.
    """
    _positive("n", n, whole=True)
    units("", unit)
    return [distinct_share(units(text_of(completion), unit), n) for completion in completions]


@uses()
def repetition(completions: Sequence[Completion], n: int = 2, unit: Unit = "words", **columns: Any) -> list[float]:
    """1 − distinct-n, in [0, 1): how much of the response is said again; 0.0 where it has no n-grams   (N3.14).

    A fault, not a merit: give it a negative weight. "a b a b" with n = 2: 1/3.
    """
    return [1.0 - share for share in distinct_n(completions, n=n, unit=unit)]


@uses()
def length_target(
    completions: Sequence[Completion],
    *,
    target: float,
    unit: Literal["words", "characters", "tokens"] = "words",
    completion_ids: Sequence[Sequence[int]] | None = None,
    **columns: Any,
) -> list[float]:
    """max(0, 1 − |length − target| / target), in [0, 1]: 1 at the target, 0 at nothing and from twice the target on.

    8 words for a target of 10: 0.8; so are 12. `tokens` counts the policy's ids, the end token included.
    """
    _positive("target", target, whole=False)
    if unit == "tokens":
        if completions and completion_ids is None:
            raise ValueError("unit 'tokens' needs the responses' ids, and these responses came as text alone")
        lengths = [len(ids) for ids in completion_ids or ()]
    else:
        units("", unit)
        lengths = [len(units(text_of(completion), unit)) for completion in completions]
    return [max(0.0, 1.0 - abs(length - target) / target) for length in lengths]


def _strings(name: str, values: Any) -> list[str]:
    several = [values] if isinstance(values, str) else values
    if not isinstance(several, (list, tuple)) or not all(isinstance(value, str) and value for value in several):
        raise ValueError(f"{name} must be a list of words, none of them empty, not {values!r}")
    return list(several)


def _finder(word: str, whole_words: bool, ignore_case: bool) -> re.Pattern[str]:
    # A Chinese character next to the word is no part of it: such text has no spaces to tell words apart.
    joined = rf"[^\W{UNSPACED}]"
    before = rf"(?<!{joined})" if whole_words and re.match(joined, word) else ""
    after = rf"(?!{joined})" if whole_words and re.match(joined, word[-1]) else ""
    return re.compile(before + re.escape(word) + after, re.IGNORECASE if ignore_case else 0)


@uses()
def keywords(
    completions: Sequence[Completion],
    *,
    required: Sequence[str] | str = (),
    forbidden: Sequence[str] | str = (),
    whole_words: bool = True,
    ignore_case: bool = True,
    **columns: Any,
) -> list[float]:
    """Share of the `required` words found (1.0 where none is asked); 0.0 where a `forbidden` one is found. In [0, 1].

    required [cat, dog]: "A cat." → 0.5; with forbidden [bad]: "cat and dog, bad" → 0.0. "category" is not "cat"
    unless `whole_words` is off. Saying a word twice earns nothing.
    """
    wanted, banned = _strings("required", required), _strings("forbidden", forbidden)
    if not wanted and not banned:
        raise ValueError("give `required` or `forbidden` words: without them every response scores 1")
    find = [_finder(word, whole_words, ignore_case) for word in wanted]
    ban = [_finder(word, whole_words, ignore_case) for word in banned]

    def value(text: str) -> float:
        if any(pattern.search(text) for pattern in ban):
            return 0.0
        return sum(pattern.search(text) is not None for pattern in find) / len(find) if find else 1.0

    return [value(text_of(completion)) for completion in completions]


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
    if match not in ("search", "full"):
        raise ValueError(f"match must be 'search' or 'full', not {match!r}")
    try:
        compiled = re.compile(pattern, (re.IGNORECASE if ignore_case else 0) | (re.DOTALL if dot_all else 0))
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
    found = compiled.search if match == "search" else compiled.fullmatch
    return [float(found(text_of(completion)) is not None) for completion in completions]


@uses()
def tag_format(completions: Sequence[Completion], *, tags: Sequence[str] | str, **columns: Any) -> list[float]:
    """1.0 where the response is `<a>…</a>` for each tag in order, each once, with only white space between; else 0.0.

    tags [think, answer]: "<think>2+2</think> <answer>4</answer>" → 1.0; with a word before, between or after → 0.0;
    with a second <think> anywhere → 0.0. (The format reward of DeepSeek-R1, 2025.)
    """
    names = _strings("tags", tags)
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tags must be different names, at least one, not {tags!r}")
    blocks = (f"<{re.escape(name)}>.*?</{re.escape(name)}>" for name in names)
    whole = re.compile(r"\s*" + r"\s*".join(blocks) + r"\s*", re.DOTALL)
    marks = [mark for name in names for mark in (f"<{name}>", f"</{name}>")]

    def right(text: str) -> bool:
        return whole.fullmatch(text) is not None and all(text.count(mark) == 1 for mark in marks)

    return [float(right(text_of(completion))) for completion in completions]


BUILTIN: Mapping[str, RewardFunction] = {
    "edit_similarity": edit_similarity,
    "edit_distance": edit_distance,
    "exact_match": exact_match,
    "repetition": repetition,
    "distinct_n": distinct_n,
    "length_target": length_target,
    "keywords": keywords,
    "regex": regex,
    "format": tag_format,
}
