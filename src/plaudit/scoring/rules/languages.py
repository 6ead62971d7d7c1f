"""In which script, and in which language, the response is written (N3.14)."""

import functools
import unicodedata
from collections.abc import Sequence
from typing import Any

from plaudit.scoring.rules.texts import Completion, strings_option, text_of, uses

_ALPHABETS = (
    "Arabic Armenian Bengali Cyrillic Devanagari Ethiopic Georgian Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana "
    "Kannada Katakana Khmer Lao Latin Malayalam Myanmar Sinhala Tamil Telugu Thai Tibetan"
)
_HAN = ("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION MARK")
SCRIPTS = {name: _HAN if name == "Han" else (f"{name.upper()} ",) for name in _ALPHABETS.split()}
"""Script → how the Unicode names of its letters begin. The standard library knows names, not scripts."""


@functools.lru_cache(maxsize=65536)
def script_of(letter: str) -> str:
    """The script of one letter; empty where it is in none of `SCRIPTS`."""
    name = unicodedata.name(letter, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ")
    return next((script for script, beginnings in SCRIPTS.items() if name.startswith(beginnings)), "")


@uses()
def script(completions: Sequence[Completion], *, script: Sequence[str] | str, **columns: Any) -> list[float]:
    """Letters of the given script(s) / all letters, in [0, 1]; 0.0 for a response without letters.

    script Han: "你好 AI" → 0.5. Japanese: [Han, Hiragana, Katakana]. Digits, punctuation, spaces and accents that stand
    alone are no letters (Unicode categories L*).
    """
    wanted = set(strings_option("script", script))
    if unknown := wanted - SCRIPTS.keys():
        raise ValueError(f"script: {', '.join(sorted(unknown))} is not among {', '.join(SCRIPTS)}")
    if not wanted:
        raise ValueError("script must name at least one")

    def share(text: str) -> float:
        letters = [c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c).startswith("L")]
        return sum(script_of(letter) in wanted for letter in letters) / len(letters) if letters else 0.0

    return [share(text_of(completion)) for completion in completions]


@uses()
def language(
    completions: Sequence[Completion],
    *,
    language: Sequence[str] | str,
    among: Sequence[str] | str = (),
    **columns: Any,
) -> list[float]:
    """P(the response is in the given language(s)) by py3langid's naive Bayes on bytes, in [0, 1]; 0.0 without letters.

    ISO 639-1 codes: en, de, zh … `among` restricts the choice to these, which helps short texts: below some twenty
    letters it is a guess. language de: "Der Hund schläft im Garten." → above 0.9; the English sentence → below 0.1.
    Needs `pip install 'plaudit[language]'`; the model comes with the package, nothing is downloaded.
    """
    wanted, candidates = strings_option("language", language), strings_option("among", among)
    if not wanted:
        raise ValueError("language must name at least one")
    if candidates and not set(wanted) < set(candidates):
        others = ", ".join(candidates)
        raise ValueError(f"among must hold {', '.join(wanted)} and at least one other, not {others} alone")
    identifier = _identifier(tuple(sorted(set(candidates))))
    _check_known("language", wanted, identifier)

    def probability(text: str) -> float:
        if not any(map(str.isalpha, text)):
            return 0.0
        return min(1.0, sum(float(p) for code, p in identifier.rank(text) if code in wanted))

    return [probability(text_of(completion)) for completion in completions]


@functools.lru_cache(maxsize=8)
def _identifier(among: tuple[str, ...]) -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise ValueError(f"language needs the package py3langid: pip install 'plaudit[language]' ({error})") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    _check_known("among", among, identifier)
    identifier.set_languages(list(among) or None)
    return identifier


def _check_known(option: str, codes: Sequence[str], identifier: Any) -> None:
    if unknown := ", ".join(sorted(set(codes) - set(identifier.labels))):
        raise ValueError(f"{option}: py3langid doesn't know {unknown}; it knows {' '.join(identifier.labels)}")
