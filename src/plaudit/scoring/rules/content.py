"""Which words the response uses (N3.14)."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from plaudit.scoring.rules.texts import Completion, check_choice, strings_option, text_of, uses
from plaudit.scoring.words import UNSPACED, tokens
from plaudit.scoring.words import words as pieces


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
    wanted, banned = strings_option("required", required), strings_option("forbidden", forbidden)
    if not wanted and not banned:
        raise ValueError("give `required` or `forbidden` words: without them every response scores 1")
    find = [_finder(word, whole_words, ignore_case) for word in wanted]
    ban = [_finder(word, whole_words, ignore_case) for word in banned]

    def value(text: str) -> float:
        if any(pattern.search(text) for pattern in ban):
            return 0.0
        return sum(pattern.search(text) is not None for pattern in find) / len(find) if find else 1.0

    return [value(text_of(completion)) for completion in completions]


Per = Literal["text", "word", "hundred_words"]


@uses()
def word_list(
    completions: Sequence[Completion],
    *,
    words: Mapping[str, float] | Sequence[str] = (),
    file: str = "",
    per: Per = "hundred_words",
    **columns: Any,
) -> list[float]:
    """Sum of the weights of the words found: a lexicon as a judge. In (−∞, ∞); each time a word stands there counts.

    `words`: {good: 1, bad: -1}, or a list, each of weight 1; `file`: a word a line, with its weight behind a tab where
    it isn't 1, lines with # left out. Case is ignored. An entry may be several words or Chinese; the longest that fits
    is taken, so that "not good" hides "good". `per` divides by nothing (`text`), by the words of the response (`word`),
    or by their hundreds. {good: 1, bad: -2}: "Good, good, bad luck" → 0.0 with `text`; "good luck" → 0.5 with `word`.
    """
    check_choice("per", per, ("text", "word", "hundred_words"))
    weights = dict(_weighted_words(words)) | (dict(_read(file, _changed(file))) if file else {})
    if not weights:
        raise ValueError("give `words` or a `file` with words: without them every response scores 0")
    entries = {tuple(tokens(word)): weight for word, weight in weights.items()}
    longest = max(map(len, entries))
    scale = {"text": 0.0, "word": 1.0, "hundred_words": 100.0}[per]

    def value(text: str) -> float:
        total = _lexicon_sum(tokens(text), entries, longest)
        return total * scale / max(len(pieces(text)), 1) if scale else total

    return [value(text_of(completion)) for completion in completions]


def _lexicon_sum(words: list[str], entries: Mapping[tuple[str, ...], float], longest: int) -> float:
    """Weights of the entries found from left to right, the longest first; no token counts twice."""
    weights: list[float] = []
    at = 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            weight = entries.get(tuple(words[at : at + length]))
            if weight is not None:
                weights.append(weight)
                at += length
                break
        else:
            at += 1
    return math.fsum(weights)


def _weighted_words(words: Any) -> list[tuple[str, float]]:
    if not isinstance(words, Mapping):
        return [(_entry(word), 1.0) for word in strings_option("words", words)]
    return [(_entry(word), _weight(weight, f"words: {word!r}")) for word, weight in words.items()]


def _entry(word: Any) -> str:
    if not isinstance(word, str) or not tokens(word):
        raise ValueError(f"words must be text, not {word!r}")
    return word


def _weight(value: Any, where: str) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: the weight must be a number, not {value!r}")
    return number


def _changed(file: str) -> int:
    if not Path(file).is_file():
        raise ValueError(f"there is no file {Path(file).absolute()}")
    return Path(file).stat().st_mtime_ns


@functools.lru_cache(maxsize=8)
def _read(file: str, changed: int) -> tuple[tuple[str, float], ...]:
    """The file's entries, read again when it has `changed`."""
    entries = []
    for number, line in enumerate(Path(file).read_text(encoding="utf-8").splitlines(), start=1):
        word, tab, weight = line.partition("\t")
        if line.strip() and not line.startswith("#"):
            where = f"{file}:{number}"
            entries.append((_entry(word.strip()), _weight(weight, where) if tab else 1.0))
    return tuple(entries)
