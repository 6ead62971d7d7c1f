"""Each built-in function against hand numbers, with answers that must pass and answers that must fail."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.scoring.builtin import BUILTIN
from plaudit.scoring.rules.content import keywords
from plaudit.scoring.rules.form import regex, tag_format
from plaudit.scoring.rules.strings import edit_distance, edit_similarity, exact_match
from plaudit.scoring.rules.style import distinct_n, length_target, repetition
from tests.kills import kills

short_text = st.text(alphabet="ab好é ", max_size=8)


@kills(
    "scoring/rules/strings.py",
    old="return 0.0 - Levenshtein.distance",
    new="return 0.0 + Levenshtein.distance",
    why="a distance as a reward: the policy is paid for being wrong",
)
def test_edit_similarity_of_the_textbook_pair():
    # kitten → sitting: two replacements and an insertion, over the 7 letters of the longer word.
    assert edit_similarity(["kitten"], solution=["sitting"]) == pytest.approx([4 / 7])
    assert edit_distance(["kitten"], solution=["sitting"]) == [-3.0]


def test_edit_functions_rank_the_nearer_answer_higher():
    answers = ["Paris", "Pariss", "Berlin"]
    for function in (edit_similarity, edit_distance):
        exact, near, far = function(answers, solution=["Paris"] * 3)
        assert exact > near > far


def test_the_best_of_several_solutions_counts_wherever_it_stands():
    for several in (["sitting", "kitten"], ["kitten", "sitting"], ("kitten", "sitting")):
        assert edit_similarity(["kitten"], solution=[several]) == [1.0]
        assert edit_distance(["kitten"], solution=[several]) == [0.0]
    assert edit_similarity(["kitten"], solution=[["sitting", "mitten"]]) == pytest.approx([5 / 6])


def test_each_row_has_its_own_solution():
    assert edit_similarity(["aa", "bb"], solution=["aa", "aa"]) == [1.0, 0.0]


def test_two_empty_texts_are_equal_and_empty_is_far_from_anything_else():
    assert edit_similarity(["", "", "abc"], solution=["", "abc", ""]) == [1.0, 0.0, 0.0]
    assert edit_distance(["", "", "abc"], solution=["", "abc", ""]) == [0.0, -3.0, -3.0]


def test_edits_count_code_points_not_bytes():
    assert edit_similarity(["日本語"], solution=["日本人"]) == pytest.approx([2 / 3])
    assert edit_distance(["🙂"], solution=["🙃"]) == [-1.0]


def test_nothing_is_normalised_unless_asked():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert edit_distance([decomposed], solution=[composed]) == [-2.0]
    assert edit_distance([decomposed], solution=[composed], normalise="nfc") == [0.0]
    assert exact_match([" The  Cat\n"], solution=["the cat"]) == [0.0]
    assert exact_match([" The  Cat\n"], solution=["the cat"], normalise=["case"]) == [0.0]
    assert exact_match([" The  Cat\n"], solution=["the cat"], normalise=["case", "whitespace"]) == [1.0]
    assert exact_match(["STRASSE"], solution=["straße"], normalise=["case"]) == [1.0]


def test_normalisation_reaches_the_solution_too():
    assert exact_match(["the cat"], solution=[" The  Cat "], normalise=["case", "whitespace"]) == [1.0]


@given(short_text, short_text)
def test_edit_similarity_is_one_for_equal_texts_only_and_symmetric(left: str, right: str):
    (similarity,) = edit_similarity([left], solution=[right])
    assert 0.0 <= similarity <= 1.0
    assert (similarity == 1.0) == (left == right)
    assert edit_similarity([right], solution=[left]) == [similarity]
    (distance,) = edit_distance([left], solution=[right])
    assert abs(len(left) - len(right)) <= -distance <= max(len(left), len(right))


@pytest.mark.parametrize("function", [edit_similarity, edit_distance, exact_match])
@pytest.mark.parametrize(
    ("solution", "error"),
    [(None, TypeError), ([], ValueError), (42, TypeError), (["a", 7], TypeError), ({"text": "a"}, TypeError)],
)
def test_a_solution_that_is_not_text_is_refused(function, solution, error):
    with pytest.raises(error, match="solution"):
        function(["a"], solution=[solution])


def test_unknown_normalisation_is_refused_even_for_an_empty_batch():
    with pytest.raises(ValueError, match="nfkc"):
        edit_similarity([], solution=[], normalise=["nfkc"])


def test_exact_match_wants_the_whole_text():
    assert exact_match(["Paris", "Paris.", "paris"], solution=["Paris"] * 3) == [1.0, 0.0, 0.0]
    assert exact_match(["b"], solution=[["a", "b"]]) == [1.0]


@kills(
    "scoring/rules/style.py",
    old="return [1.0 - share for share",
    new="return [share for share",
    why="repetition upside down",
)
def test_repetition_by_hand():
    # ab ba ab: three bigrams, two different ones.
    assert repetition(["a b a b"], n=2) == pytest.approx([1 / 3])
    assert distinct_n(["a b a b"], n=2) == pytest.approx([2 / 3])
    assert repetition(["a a a a"], n=1) == [0.75]
    assert repetition(["aaaa"], n=2, unit="characters") == pytest.approx([2 / 3])
    assert repetition(["你好你好"], n=1) == [0.5]


def test_without_ngrams_nothing_is_repeated():
    assert repetition(["", " ", "a"], n=2) == [0.0, 0.0, 0.0]
    assert distinct_n(["", " ", "a"], n=2) == [1.0, 1.0, 1.0]


def test_repetition_must_see_loops_and_must_not_see_prose():
    loop, prose = repetition(["go on " * 20, "the cat sat on a mat and then it slept"], n=2)
    assert loop > 0.9
    assert prose == 0.0


def test_length_target_is_a_tent():
    answers = ["", "w " * 5, "w " * 8, "w " * 10, "w " * 12, "w " * 20, "w " * 50]
    assert length_target(answers, target=10) == pytest.approx([0.0, 0.5, 0.8, 1.0, 0.8, 0.0, 0.0])
    assert length_target(["abcd"], target=8, unit="characters") == [0.5]


def test_length_in_tokens_comes_from_the_ids():
    assert length_target(["long text here", ""], target=4, unit="tokens", completion_ids=[[5, 6], [1, 2, 3, 4]]) == [
        0.5,
        1.0,
    ]
    with pytest.raises(ValueError, match="ids"):
        length_target(["a"], target=4, unit="tokens")


@pytest.mark.parametrize("target", [0, -3, True, "10", float("nan")])
def test_a_target_must_be_a_positive_number(target):
    with pytest.raises(ValueError, match="target"):
        length_target([], target=target)


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_n_must_be_a_positive_whole_number(n):
    with pytest.raises(ValueError, match="n must"):
        repetition([], n=n)


def test_keywords_share_of_the_required():
    answers = ["A cat and a DOG.", "a cat, a cat", "category dogma", ""]
    assert keywords(answers, required=["cat", "dog"]) == [1.0, 0.5, 0.0, 0.0]
    assert keywords(["category dogma"], required=["cat", "dog"], whole_words=False) == [1.0]
    assert keywords(["a DOG"], required=["dog"], ignore_case=False) == [0.0]


def test_keywords_forbidden_takes_all():
    assert keywords(["cat", "cat bad", "badger cat"], required=["cat"], forbidden=["bad"]) == [1.0, 0.0, 1.0]
    assert keywords(["fine", "bad"], forbidden="bad") == [1.0, 0.0]


def test_keywords_work_without_spaces_between_words_and_with_signs():
    assert keywords(["我爱猫和狗"], required=["猫", "鸟"]) == [0.5]
    assert keywords(["use C++ (not C)"], required=["C++"]) == [1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`required` or `forbidden`"),
        ({"required": [""]}, "required must"),
        ({"required": [3]}, "required must"),
        ({"forbidden": 3}, "forbidden must"),
    ],
)
def test_keywords_refuse_what_are_no_words(options, message):
    with pytest.raises(ValueError, match=message):
        keywords([], **options)


def test_regex_searches_or_matches_the_whole():
    assert regex(["abc 12", "abc"], pattern=r"\d+") == [1.0, 0.0]
    assert regex(["12", "abc 12", "12 "], pattern=r"\d+", match="full") == [1.0, 0.0, 0.0]
    assert regex(["A\nb"], pattern="a.b") == [0.0]
    assert regex(["A\nb"], pattern="a.b", ignore_case=True, dot_all=True) == [1.0]


def test_regex_refuses_what_is_no_pattern():
    with pytest.raises(ValueError, match="no regular expression"):
        regex([], pattern="(")
    with pytest.raises(ValueError, match="match"):
        regex([], pattern="a", match="whole")


def test_format_wants_every_tag_once_in_order_and_nothing_beside():
    good = ["<think>2+2</think><answer>4</answer>", " <think>a\nb</think>\n<answer></answer>\n"]
    bad = [
        "",
        "4",
        "<answer>4</answer><think>2+2</think>",
        "so <think>a</think><answer>4</answer>",
        "<think>a</think> so <answer>4</answer>",
        "<think>a</think><answer>4</answer> done",
        "<think>a</think><answer>4</answer><answer>5</answer>",
        "<think>a<think></think><answer>4</answer>",
        "<think>a</think><answer>4",
    ]
    assert tag_format(good, tags=["think", "answer"]) == [1.0, 1.0]
    assert tag_format(bad, tags=["think", "answer"]) == [0.0] * len(bad)
    with pytest.raises(ValueError, match="tags"):
        tag_format([], tags=["a", "a"])


def test_a_chat_completion_is_read_as_its_text():
    chat = [{"role": "assistant", "content": "kitten"}]
    assert edit_distance([chat], solution=["sitting"]) == [-3.0]
    assert repetition([[{"role": "assistant", "content": "a a"}]], n=1) == [0.5]


def test_every_builtin_takes_the_ecosystems_call():
    options = {
        "length_target": {"target": 3},
        "keywords": {"required": ["a"]},
        "regex": {"pattern": "a"},
        "format": {"tags": ["a"]},
        "length_penalty": {"limit": 3},
        "word_list": {"words": ["a"]},
        "script": {"script": "Latin"},
        "language": {"language": "de"},
    }
    for name, function in BUILTIN.items():
        values = function(
            prompts=["p", "q"],
            completions=["a", "b"],
            completion_ids=[[1], [2]],
            solution=["1", "1"],
            other=[1, 2],
            **options.get(name, {}),
        )
        assert len(values) == 2
        assert all(isinstance(value, float) for value in values)
