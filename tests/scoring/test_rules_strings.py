"""String similarities against hand numbers: each judges by what its formula says and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.scoring.rules import strings
from tests.kills import kills

short_text = st.text(alphabet="ab好 ", max_size=8)
SIMILARITIES = [
    strings.edit_similarity,
    strings.word_edit_similarity,
    strings.damerau_similarity,
    strings.indel_similarity,
    strings.lcs_similarity,
    strings.jaro_winkler_similarity,
    strings.token_sort_similarity,
    strings.token_set_similarity,
]
by_name = pytest.mark.parametrize("function", SIMILARITIES, ids=lambda function: function.__name__)

HAND = [
    # 3 edits of 7; "ittn" is the longest common subsequence: 4/7 of the longer, 2·4/13 of both.
    (strings.edit_similarity, "kitten", "sitting", 4 / 7),
    (strings.lcs_similarity, "kitten", "sitting", 4 / 7),
    (strings.indel_similarity, "kitten", "sitting", 8 / 13),
    # "abc" in "xaxbxcx": LCS 3 of 7, though 4 edits.
    (strings.lcs_similarity, "abc", "xaxbxcx", 3 / 7),
    (strings.lcs_similarity, "abc", "cba", 1 / 3),
    # one swap of 4 letters; two replacements for Levenshtein.
    (strings.damerau_similarity, "form", "from", 3 / 4),
    (strings.edit_similarity, "form", "from", 2 / 4),
    # unrestricted: "ca" → "ac" → "abc" is 2 edits of 3 (optimal string alignment would need 3).
    (strings.damerau_similarity, "ca", "abc", 1 / 3),
    # Winkler's own pair: 6 of 6 letters match, one transposition: (1 + 1 + 5/6)/3 = 17/18, and a beginning of 3.
    (strings.jaro_winkler_similarity, "MARTHA", "MARHTA", 17 / 18 + 3 * 0.1 * (1 / 18)),
    # "dixon" and "dicksonx": 4 match, none transposed: (4/5 + 4/8 + 1)/3, a beginning of 2.
    (strings.jaro_winkler_similarity, "DIXON", "DICKSONX", 23 / 30 + 2 * 0.1 * (7 / 30)),
    (strings.jaro_winkler_similarity, "abc", "xyz", 0.0),
    # one word replaced, one added, of four.
    (strings.word_edit_similarity, "the cat sat", "the dog sat down", 1 / 2),
    (strings.word_edit_similarity, "我爱猫", "我爱狗", 2 / 3),
    (strings.word_edit_similarity, "a  b\n", "a b", 1.0),
    (strings.token_sort_similarity, "sat cat the", "the cat sat", 1.0),
    (strings.token_sort_similarity, "b a", "c a", 2 / 3),  # "a b" and "a c": LCS 2 of 3 letters each
    (strings.token_set_similarity, "the cat sat on the mat", "the cat", 1.0),
]


@kills(
    "scoring/rules/strings.py",
    old="return Indel.normalized_similarity(",
    new="return LCSseq.normalized_similarity(",
    why="longest common subsequence over the longer text, not over both",
)
@pytest.mark.parametrize(("function", "text", "solution", "value"), HAND)
def test_by_hand(function, text, solution, value):
    assert function([text], solution=[solution]) == pytest.approx([value])


@by_name
def test_the_same_is_one_and_something_else_is_less(function):
    same, near, far = function(["Paris", "Pariss", "Oslo"], solution=["Paris"] * 3)
    assert same == 1.0 > near >= far
    assert function(["wholly different"], solution=["Paris"])[0] < 0.6


@by_name
def test_empty_texts(function):
    assert function(["", "abc", ""], solution=["", "", "abc"]) == [1.0, 0.0, 0.0]


@kills(
    "scoring/rules/strings.py",
    old="return [max(similarity(text, one)",
    new="return [min(similarity(text, one)",
    why="the worst of several solutions counts",
)
@by_name
def test_the_best_of_several_wherever_it_stands(function):
    near = function(["kitten"], solution=["mitten"])
    for several in (["zzz", "mitten"], ["mitten", "zzz"]):
        assert function(["kitten"], solution=[several]) == near
    assert function(["kitten"], solution=[["zzz", "kitten"]]) == [1.0]


@by_name
def test_each_row_has_its_own_solution_and_nothing_is_normalised_unless_asked(function):
    assert function(["aa", "bb"], solution=["aa", "aa"]) == [1.0, 0.0]
    assert function(["PARIS"], solution=["paris"]) == [0.0]
    assert function(["PARIS"], solution=["paris"], normalise="case") == [1.0]
    with pytest.raises(ValueError, match="nfkc"):
        function([], solution=[], normalise="nfkc")
    with pytest.raises(TypeError, match="solution"):
        function(["a"], solution=[7])


@by_name
@given(left=short_text, right=short_text)
def test_between_nothing_and_one_and_the_same_from_both_sides(function, left, right):
    (value,) = function([left], solution=[right])
    assert 0.0 <= value <= 1.0
    assert function([left], solution=[left]) == [1.0]
    assert function([right], solution=[left]) == pytest.approx([value])


def test_who_forgives_what():
    """The differences for which one chooses one of them."""
    swapped, sorted_words = ["b a c"], ["a b c"]
    assert strings.token_sort_similarity(swapped, solution=sorted_words) == [1.0]
    assert strings.word_edit_similarity(swapped, solution=sorted_words)[0] < 0.5
    assert strings.token_sort_similarity(["a a b"], solution=["a b"])[0] < 1.0
    assert strings.token_set_similarity(["a a b"], solution=["a b"]) == [1.0]
