"""Rows of text to ids: what is too long is said, dropped or cut, and a document's tokens are targets once each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Form, Prompt, Text
from plaudit.tokens.encode import AnsweredPrompt, encode_answers, encode_learned, encode_texts, fit
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import train_tokenizer

RENDERER = Renderer(train_tokenizer(["x"], 259))
"""Bytes, with <s> = 0 in front and </s> = 1 behind."""


def answer(prompt: str, response: str, where: str = "f:1") -> AnsweredPrompt:
    return AnsweredPrompt(prompt=Prompt.of_text(prompt), response=response, where=where)


def ids(text: str) -> list[int]:
    return RENDERER.response_ids(text, end=False)


# ---------------------------------------------------------------------------------------------------- fit


@pytest.mark.parametrize(
    ("prompt", "response", "max_length", "expected"),
    [
        ([0, 5, 6, 7], [8, 9], 6, ([0, 5, 6, 7], [8, 9])),
        ([0, 5, 6, 7], [8, 9], 5, ([0, 6, 7], [8, 9])),
        ([0, 5, 6, 7], [8, 9], 4, ([0, 7], [8, 9])),
        ([0, 5, 6, 7], [8, 9], 3, ([0], [8, 9])),
        ([0, 5, 6, 7], [8, 9], 2, ([0], [8])),
        ([0, 5, 6, 7], [8, 9], 1, ([0], [])),
        ([0], [8, 9, 10], 3, ([0], [8, 9])),
        ([5, 6, 7], [8, 9], 4, ([6, 7], [8, 9])),  # no BOS in front: nothing to keep
    ],
)
def test_fit_by_hand(prompt, response, max_length, expected):
    assert fit(prompt, response, max_length, bos=0) == expected


def test_without_a_bos_the_end_of_the_prompt_stays():
    assert fit([0, 5, 6, 7], [8, 9], 4) == ([6, 7], [8, 9])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.lists(st.integers(0, 9), max_size=9), st.integers(1, 12))
def test_fit_keeps_as_much_as_fits(prompt, response, max_length):
    kept_prompt, kept_response = fit(prompt, response, max_length, bos=0)
    assert len(kept_prompt) >= 1
    assert len(kept_prompt) + len(kept_response) == min(max_length, len(prompt) + len(response))
    assert kept_response == response[: len(kept_response)]
    tail = kept_prompt[1:] if prompt[0] == 0 else kept_prompt
    assert tail == prompt[len(prompt) - len(tail) :]
    if prompt[0] == 0:
        assert kept_prompt[0] == 0


# ---------------------------------------------------------------------------------------------------- answers


def test_an_answer_is_its_prompt_with_bos_and_its_response_with_its_end():
    encoded = encode_answers([answer("ab", "c")], RENDERER, max_length=10, too_long="error")
    assert encoded.rows == (([0, *ids("ab")], [*ids("c"), 1]),)
    assert encoded.remaining == list(encoded.rows)
    assert (encoded.dropped, encoded.truncated) == (0, 0)


ROWS = [answer("ab", "cd", "f:1"), answer("abcdefg", "hi", "f:2"), answer("x", "", "f:3")]
"""6, 11 and 3 tokens."""


def test_rows_that_are_just_as_long_as_allowed_are_not_too_long():
    assert encode_answers(ROWS, RENDERER, max_length=11, too_long="error").dropped == 0


def test_too_long_is_an_error_that_names_the_rows():
    with pytest.raises(UserError, match=r"^1 row\(s\) are longer than max_length = 10 tokens: f:2: 11 tokens\. Raise"):
        encode_answers(ROWS, RENDERER, max_length=10, too_long="error")
    many = [answer("abcdef", "g", f"f:{i}") for i in range(8)]
    with pytest.raises(UserError, match=r"^8 row\(s\).*f:4: 9 tokens … and 3 more\. Raise"):
        encode_answers(many, RENDERER, max_length=5, too_long="error")


def test_too_long_rows_are_dropped_in_place():
    encoded = encode_answers(ROWS, RENDERER, max_length=10, too_long="drop")
    assert [row is None for row in encoded.rows] == [False, True, False]
    assert len(encoded.remaining) == 2
    assert (encoded.dropped, encoded.truncated) == (1, 0)


def test_too_long_rows_are_cut_and_keep_their_bos():
    encoded = encode_answers(ROWS, RENDERER, max_length=8, too_long="truncate")
    assert encoded.rows[1] == ([0, *ids("defg")], [*ids("hi"), 1])
    assert encoded.rows[0] == ([0, *ids("ab")], [*ids("cd"), 1])
    assert (encoded.dropped, encoded.truncated) == (0, 1)


def test_answers_to_one_prompt_share_its_ids_and_other_prompts_do_not():
    encoded = encode_answers(
        [answer("ab", "c"), answer("ab", "d"), answer("a", "c")], RENDERER, max_length=9, too_long="error"
    )
    first, second, third = (row[0] for row in encoded.rows)
    assert first == second != third


def test_a_bad_prompt_names_its_place():
    with pytest.raises(UserError, match=r"^f:7: "):
        encode_answers([answer("ok\ud800", "c", "f:7")], RENDERER, max_length=9, too_long="error")


def test_nothing_to_encode():
    assert encode_answers([], RENDERER, max_length=9, too_long="error").rows == ()
    assert encode_texts([], RENDERER, max_length=9) == []


# ---------------------------------------------------------------------------------------------------- documents


def test_a_document_by_hand():
    a, b, c, d, e = ids("abcde")
    assert encode_texts([Text(text="abcde")], RENDERER, max_length=7) == [([0], [a, b, c, d, e, 1])]
    assert encode_texts([Text(text="abcde")], RENDERER, max_length=4) == [([0], [a, b, c]), ([c], [d, e, 1])]
    assert encode_texts([Text(text="abcde")], RENDERER, max_length=3) == [([0], [a, b]), ([b], [c, d]), ([d], [e, 1])]
    assert encode_texts([Text(text=""), Text(text="a")], RENDERER, max_length=4) == [([0], [1]), ([0], [a, 1])]


@given(st.lists(st.text("abc", max_size=12), max_size=4), st.integers(2, 9))
def test_every_token_but_the_first_is_a_target_exactly_once(texts, max_length):
    rows = encode_texts([Text(text=text) for text in texts], RENDERER, max_length=max_length)
    assert [token for _, targets in rows for token in targets] == [t for text in texts for t in (*ids(text), 1)]
    assert all(len(prompt) == 1 and 1 <= len(targets) < max_length for prompt, targets in rows)


def test_demonstrations_come_before_texts_and_too_long_is_for_them():
    rows = [
        Text(text="abcde"),
        Demonstration(prompt=Prompt.of_text("abcdefg"), response="hi", where="f:2"),
        Demonstration(prompt=Prompt.of_text("a"), response="b", where="f:3"),
    ]
    found = encode_learned(rows, RENDERER, max_length=4, too_long="drop")
    texts = encode_texts([Text(text="abcde")], RENDERER, max_length=4)
    assert found.rows == (None, ([0, *ids("a")], [*ids("b"), 1]), *texts)
    assert (found.dropped, found.truncated, len(texts)) == (1, 0, 2)


def test_control_tokens_of_a_rendered_text_are_control_tokens():
    spelled = "<s>a</s>"
    assert encode_texts([Text(text=spelled)], RENDERER, max_length=20)[0][1][-1] == 1
    assert len(encode_texts([Text(text=spelled)], RENDERER, max_length=20)[0][1]) == len(spelled) + 1  # letters
    assert encode_texts([Text(text=spelled, form=Form.RENDERED)], RENDERER, max_length=20) == [([0], [*ids("a"), 1])]
