"""How near the response is to the row's solutions, letter by letter or word by word (N3.14).

Texts are compared code point by code point; nothing is normalised unless `normalise` asks for it. `solution` is one
string or several, and the best counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rapidfuzz import fuzz
from rapidfuzz.distance import DamerauLevenshtein, Indel, JaroWinkler, LCSseq, Levenshtein

from plaudit.scoring.calls import RewardFunction
from plaudit.scoring.rules.texts import Completion, Step, normalised, solutions_of, text_of, uses
from plaudit.scoring.words import words


def _check_solution(value: Any, **options: Any) -> None:
    solutions_of(value)


def _nearest(similarity: Callable[[str, str], float]) -> RewardFunction:
    """The reward function that takes each row's `similarity` (of response and solution) to its nearest solution."""

    @uses("solution", check=_check_solution)
    def reward(
        completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **others: Any
    ) -> list[float]:
        normalised("", normalise)  # a wrong option is an error even where there is nothing to compare
        texts = [normalised(text_of(completion), normalise) for completion in completions]
        several = [[normalised(text, normalise) for text in solutions_of(wanted)] for wanted in solution]
        return [max(similarity(text, one) for one in wanted) for text, wanted in zip(texts, several, strict=True)]

    for attribute in ("__name__", "__qualname__", "__doc__"):
        setattr(reward, attribute, getattr(similarity, attribute))
    return reward


@_nearest
def edit_similarity(text: str, wanted: str) -> float:
    """1 − Levenshtein(y, s) / max(|y|, |s|), the best of the row's solutions, in [0, 1]   (N3.14).

    Lengths and edits (insert, delete, replace: one each) count code points. Two empty texts are equal: 1.0.
    "kitten" for "sitting": 3 edits of 7, so 4/7.
    """
    return Levenshtein.normalized_similarity(text, wanted)


@_nearest
def edit_distance(text: str, wanted: str) -> float:
    """−Levenshtein(y, s) to the nearest of the row's solutions, in (−∞, 0]   (N3.14).

    Minus, so that a positive weight rewards coming nearer. In edits over code points: a long answer that is far off
    outweighs many near ones; `edit_similarity` is the bounded form. "kitten" for "sitting": −3.0.
    """
    return 0.0 - Levenshtein.distance(text, wanted)


@_nearest
def exact_match(text: str, wanted: str) -> float:
    """1.0 where the response equals one of the row's solutions, else 0.0. "Paris " for "Paris" needs `whitespace`."""
    return float(text == wanted)


@_nearest
def word_edit_similarity(text: str, wanted: str) -> float:
    """1 − Levenshtein over words / words of the longer text, the best of the solutions, in [0, 1].

    One minus the word error rate where the response is the longer one. Words are cut at white space, their case and
    punctuation kept; a Chinese character is a word. "the cat sat" for "the dog sat down": 2 edits of 4, so 0.5.
    """
    return Levenshtein.normalized_similarity(words(text), words(wanted))


@_nearest
def damerau_similarity(text: str, wanted: str) -> float:
    """1 − Damerau–Levenshtein(y, s) / max(|y|, |s|): swapping two neighbours is one edit, not two. In [0, 1].

    "form" for "from": one swap of 4 letters, so 0.75 (`edit_similarity`: 0.5).   (Damerau 1964)
    """
    return DamerauLevenshtein.normalized_similarity(text, wanted)


@_nearest
def indel_similarity(text: str, wanted: str) -> float:
    """2 · LCS(y, s) / (|y| + |s|), LCS the longest common subsequence: edits without replacement. In [0, 1].

    The F1 of characters in order, ROUGE-L's formula over letters. "kitten" for "sitting": LCS "ittn", 8/13.
    """
    return Indel.normalized_similarity(text, wanted)


@_nearest
def lcs_similarity(text: str, wanted: str) -> float:
    """LCS(y, s) / max(|y|, |s|), LCS the longest common subsequence. In [0, 1]. "kitten" for "sitting": 4/7.

    What stands in the response besides costs only as far as it makes it longer than the solution.
    """
    return LCSseq.normalized_similarity(text, wanted)


@_nearest
def jaro_winkler_similarity(text: str, wanted: str) -> float:
    """Jaro–Winkler: common letters near their places, with a bonus for the same beginning (0.1 a letter, at most 4).

    In [0, 1]. Made for names and short answers; on long texts almost everything looks alike. "MARTHA" for "MARHTA":
    Jaro 17/18, and 3 letters of common beginning: 17/18 + 0.3/18 = 0.961…   (Winkler 1990)
    """
    return JaroWinkler.similarity(text, wanted)


@_nearest
def token_sort_similarity(text: str, wanted: str) -> float:
    """`indel_similarity` of the two texts with their words sorted: order doesn't count. In [0, 1].

    "sat cat the" for "the cat sat": 1.0. Words are cut at white space.
    """
    return fuzz.token_sort_ratio(text, wanted) / 100.0


@_nearest
def token_set_similarity(text: str, wanted: str) -> float:
    """Like `token_sort_similarity`, but words said twice count once, and what one text has besides the other is free.

    In [0, 1]. "the cat sat on the mat" for "the cat": 1.0. **Easy to cheat**: a response that says every word scores 1,
    so pair it with a length penalty.
    """
    return 1.0 if text == wanted else fuzz.token_set_ratio(text, wanted) / 100.0
