"""Reward functions that come with the house (N3.14): simple, explainable, stable rules. docs/reward-functions.md.

They have the ecosystem's signature, `f(prompts, completions, **columns) -> list[float]`, so they run elsewhere too.
Each says formula, range and example in its docstring.
"""

from collections.abc import Mapping

from plaudit.scoring.calls import RewardFunction
from plaudit.scoring.rules import answers, content, form, languages, strings, style

_NEARNESS = (
    strings.edit_similarity,
    strings.edit_distance,
    strings.exact_match,
    strings.word_edit_similarity,
    strings.damerau_similarity,
    strings.indel_similarity,
    strings.lcs_similarity,
    strings.jaro_winkler_similarity,
    strings.token_sort_similarity,
    strings.token_set_similarity,
)
_FINAL_ANSWER = (answers.numeric_match, answers.math_match)
_STYLE = (style.repetition, style.distinct_n, style.repeated_lines, style.length_target, style.length_penalty)
_WORDS = (content.keywords, content.word_list)
_FORM = (form.regex, form.json_valid)
_LANGUAGE = (languages.script, languages.language)

BUILTIN: Mapping[str, RewardFunction] = {
    function.__name__: function for function in (*_NEARNESS, *_FINAL_ANSWER, *_STYLE, *_WORDS, *_FORM, *_LANGUAGE)
} | {"format": form.tag_format}
