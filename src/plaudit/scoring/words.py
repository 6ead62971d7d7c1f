"""What counts as a word, for repetition, lengths and bags of words. Pure text: no torch here."""

import re
from typing import Literal

from plaudit.records.text import UNSPACED

Unit = Literal["words", "characters"]

_PIECES = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_TOKENS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+(?:['’][^\W{UNSPACED}]+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Cut at white space, case and punctuation kept; every Chinese character or kana is a word of its own.

    "Well, 你好 world" → ["Well,", "你", "好", "world"].
    """
    return _PIECES.findall(text)


def tokens(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: "Don't, 你好" → ["don't", ",", "你", "好"]."""
    return _TOKENS.findall(text.lower())


def units(text: str, unit: Unit) -> list[str]:
    """The text's words, or its code points."""
    if unit == "words":
        return words(text)
    if unit == "characters":
        return list(text)
    raise ValueError(f"unit must be 'words' or 'characters', not {unit!r}")


def ngrams(items: list[str], n: int) -> list[tuple[str, ...]]:
    """All len(items) − n + 1 windows of n items; none where there are fewer than n."""
    return list(zip(*(items[start:] for start in range(n)), strict=False))


def distinct_share(items: list[str], n: int) -> float:
    """Different n-grams / all n-grams, in (0, 1]; 1.0 where there are none: nothing said twice   (Li et al. 2016)."""
    grams = ngrams(items, n)
    return len(set(grams)) / len(grams) if grams else 1.0
