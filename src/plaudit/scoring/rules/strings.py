"""How near the response is to the row's solutions, letter by letter or word by word (N3.14).

Texts are compared code point by code point; nothing is normalised unless `normalise` asks for it. `solution` is one
string or several, and the best counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

from rapidfuzz import fuzz
from rapidfuzz.distance import DamerauLevenshtein, Indel, JaroWinkler, LCSseq, Levenshtein

from plaudit.scoring.rules.texts import Completion, Step, normalised, solutions_of, text_of, uses
from plaudit.scoring.words import words


def _pairs(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step
) -> list[tuple[str, list[str]]]:
    """Each completion with its solutions, both normalised."""
    normalised("", normalise)  # a wrong option is an error even where there is nothing to compare
    return [
        (normalised(text_of(completion), normalise), [normalised(text, normalise) for text in solutions_of(wanted)])
        for completion, wanted in zip(completions, solution, strict=True)
    ]


def _best(
    similarity: Callable[[str, str], float],
    completions: Sequence[Completion],
    solution: Sequence[Any],
    normalise: Sequence[Step] | Step,
) -> list[float]:
    """The similarity to the nearest solution of each row. Equal texts are 1.0, two empty ones too."""
    return [
        max(1.0 if text == wanted else similarity(text, wanted) for wanted in several)
        for text, several in _pairs(completions, solution, normalise)
    ]


@uses("solution")
def edit_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """1 − Levenshtein(y, s) / max(|y|, |s|), the best of the row's solutions, in [0, 1]   (N3.14).

    Lengths and edits (insert, delete, replace: one each) count code points. Two empty texts are equal: 1.0.
    "kitten" for "sitting": 3 edits of 7, so 4/7.
    """
    return _best(Levenshtein.normalized_similarity, completions, solution, normalise)


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


@uses("solution")
def word_edit_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """1 − Levenshtein over words / words of the longer text, the best of the solutions, in [0, 1].

    One minus the word error rate where the response is the longer one. Words are cut at white space, their case and
    punctuation kept; a Chinese character is a word. "the cat sat" for "the dog sat down": 2 edits of 4, so 0.5.
    """
    return _best(
        lambda text, wanted: Levenshtein.normalized_similarity(words(text), words(wanted)),
        completions,
        solution,
        normalise,
    )


@uses("solution")
def damerau_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """1 − Damerau–Levenshtein(y, s) / max(|y|, |s|): swapping two neighbours is one edit, not two. In [0, 1].

    "form" for "from": one swap of 4 letters, so 0.75 (`edit_similarity`: 0.5).   (Damerau 1964)
    """
    return _best(DamerauLevenshtein.normalized_similarity, completions, solution, normalise)


@uses("solution")
def indel_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """2 · LCS(y, s) / (|y| + |s|), LCS the longest common subsequence: edits without replacement. In [0, 1].

    The F1 of characters in order, ROUGE-L's formula over letters. "kitten" for "sitting": LCS "ittn", 8/13.
    """
    return _best(Indel.normalized_similarity, completions, solution, normalise)


@uses("solution")
def lcs_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """LCS(y, s) / max(|y|, |s|), LCS the longest common subsequence. In [0, 1]. "kitten" for "sitting": 4/7.

    What stands in the response besides costs only as far as it makes it longer than the solution.
    """
    return _best(LCSseq.normalized_similarity, completions, solution, normalise)


@uses("solution")
def jaro_winkler_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """Jaro–Winkler: common letters near their places, with a bonus for the same beginning (0.1 a letter, at most 4).

    In [0, 1]. Made for names and short answers; on long texts almost everything looks alike. "MARTHA" for "MARHTA":
    Jaro 17/18, and 3 letters of common beginning: 17/18 + 0.3/18 = 0.961…   (Winkler 1990)
    """
    return _best(JaroWinkler.similarity, completions, solution, normalise)


@uses("solution")
def token_sort_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """`indel_similarity` of the two texts with their words sorted: order doesn't count. In [0, 1].

    "sat cat the" for "the cat sat": 1.0. Words are cut at white space.
    """
    return _best(lambda text, wanted: fuzz.token_sort_ratio(text, wanted) / 100.0, completions, solution, normalise)


@uses("solution")
def token_set_similarity(
    completions: Sequence[Completion], solution: Sequence[Any], normalise: Sequence[Step] | Step = (), **columns: Any
) -> list[float]:
    """Like `token_sort_similarity`, but words said twice count once, and what one text has besides the other is free.

    In [0, 1]. "the cat sat on the mat" for "the cat": 1.0. **Easy to cheat**: a response that says every word scores 1,
    so pair it with a length penalty.
    """
    return _best(lambda text, wanted: fuzz.token_set_ratio(text, wanted) / 100.0, completions, solution, normalise)
