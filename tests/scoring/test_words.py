"""What a word is, in text with and without spaces."""

from hypothesis import given
from hypothesis import strategies as st

from plaudit.scoring.words import distinct_share, ngrams, tokens, units, words


def test_words_are_cut_at_white_space_and_chinese_characters_stand_alone():
    assert words("Well,  你好 world\n") == ["Well,", "你", "好", "world"]
    assert words("カナ漢字abc") == ["カ", "ナ", "漢", "字", "abc"]
    assert words(" \t\n") == []


@given(st.text(alphabet="ab .,é\n\t'", max_size=40))
def test_without_such_scripts_words_are_those_of_split(text: str):
    assert words(text) == text.split()


def test_tokens_are_lower_case_and_part_from_punctuation():
    assert tokens("Don't STOP, 你好!") == ["don't", "stop", ",", "你", "好", "!"]
    assert tokens("a_b 3.5") == ["a_b", "3", ".", "5"]


def test_units_of_code_points():
    assert units("né 好", "characters") == ["n", "é", " ", "好"]


def test_ngrams_and_their_distinct_share():
    assert ngrams(["a", "b", "c"], 2) == [("a", "b"), ("b", "c")]
    assert ngrams(["a"], 2) == []
    assert distinct_share(["a", "b", "a", "b"], 2) == 2 / 3
    assert distinct_share(["a"], 2) == 1.0
