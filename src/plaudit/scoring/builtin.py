"""Reward functions that come with the house (N3.14): simple, explainable, stable rules. docs/reward-functions.md.

They have the ecosystem's signature, `f(prompts, completions, **columns) -> list[float]`, so they run elsewhere too.
Each says formula, range and example in its docstring.
"""

from collections.abc import Mapping

from plaudit.scoring.calls import RewardFunction
from plaudit.scoring.rules.answers import math_match, numeric_match
from plaudit.scoring.rules.content import keywords, word_list
from plaudit.scoring.rules.form import json_valid, regex, tag_format
from plaudit.scoring.rules.languages import language, script
from plaudit.scoring.rules.strings import (
    damerau_similarity,
    edit_distance,
    edit_similarity,
    exact_match,
    indel_similarity,
    jaro_winkler_similarity,
    lcs_similarity,
    token_set_similarity,
    token_sort_similarity,
    word_edit_similarity,
)
from plaudit.scoring.rules.style import distinct_n, length_penalty, length_target, repeated_lines, repetition

BUILTIN: Mapping[str, RewardFunction] = {
    # nearness to the row's `solution`
    "edit_similarity": edit_similarity,
    "edit_distance": edit_distance,
    "exact_match": exact_match,
    "word_edit_similarity": word_edit_similarity,
    "damerau_similarity": damerau_similarity,
    "indel_similarity": indel_similarity,
    "lcs_similarity": lcs_similarity,
    "jaro_winkler_similarity": jaro_winkler_similarity,
    "token_sort_similarity": token_sort_similarity,
    "token_set_similarity": token_set_similarity,
    # the final answer
    "numeric_match": numeric_match,
    "math_match": math_match,
    # style
    "repetition": repetition,
    "distinct_n": distinct_n,
    "repeated_lines": repeated_lines,
    "length_target": length_target,
    "length_penalty": length_penalty,
    # words
    "keywords": keywords,
    "word_list": word_list,
    # form
    "regex": regex,
    "format": tag_format,
    "json_valid": json_valid,
    # script and language
    "script": script,
    "language": language,
}
