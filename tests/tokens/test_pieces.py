"""What each token wrote: joined it is the text exactly, whatever the tokenizer, and it costs no square."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.records.text import Form
from plaudit.tokens.pieces import text_ends, text_pieces
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import decode_continuing, encode_continuing, train_tokenizer
from tests.tokens.test_tokenizer import EVERY, any_text, byte_level


def utf8(ids):
    """One byte, one token."""
    return bytes(ids).decode("utf-8", "replace")


def test_a_character_belongs_to_the_token_that_completes_it():
    assert text_pieces(utf8, list("né€x".encode())) == ["n", "", "é", "", "", "€", "x"]
    assert text_ends(utf8, list("né€x".encode())) == [1, 1, 2, 2, 2, 3, 4]


def test_half_a_character_at_the_end_is_told_by_the_last_token():
    assert text_pieces(utf8, [*b"a", 0xE2, 0x82]) == ["a", "", "\ufffd"]


def test_nothing_is_nothing():
    assert text_pieces(utf8, []) == []
    assert text_ends(utf8, []) == []


@EVERY
@given(text=any_text)
def test_joined_pieces_are_the_text(make, text):
    tokenizer = make()
    ids = encode_continuing(tokenizer, text)

    def read(part):
        return decode_continuing(tokenizer, part, keep_specials=True)

    found = text_pieces(read, ids)
    assert len(found) == len(ids)
    assert "".join(found) == read(ids)


@EVERY
@given(ids=st.lists(st.integers(3, 250), max_size=20))
def test_joined_pieces_are_what_random_ids_spell(make, ids):
    """Policies write bytes that are no text, too."""
    tokenizer = make()

    def read(part):
        return decode_continuing(tokenizer, part, keep_specials=True)

    ends = text_ends(read, ids)
    assert "".join(text_pieces(read, ids)) == read(ids)
    assert ends == sorted(ends)


@EVERY
def test_words_fall_to_their_own_tokens(make):
    tokenizer = make()
    ids = encode_continuing(tokenizer, "one two")
    found = text_pieces(lambda part: decode_continuing(tokenizer, part), ids)
    for index in range(len(ids) + 1):  # ASCII: every prefix of the ids is a prefix of the text
        assert "".join(found[:index]) == decode_continuing(tokenizer, ids[:index])


def test_a_decoder_that_disagrees_with_its_parts_still_joins_to_the_whole():
    def tidy(ids):  # as old decoders do: no space in front of a full stop
        return " ".join("abc."[i] for i in ids).replace(" .", ".")

    ids = [0, 3, 1, 3, 3, 2]
    assert "".join(text_pieces(tidy, ids)) == tidy(ids)


def test_the_work_grows_with_the_length():
    seen = []

    def counted(ids):
        seen.append(len(ids))
        return utf8(ids)

    text_ends(counted, [65] * 400)
    assert sum(seen) < 400 * 6


def test_a_response_shows_its_end_token_and_hidden_letters():
    renderer = Renderer(train_tokenizer(["one two three"], 300, chat=True))
    ids = renderer.response_ids("one </s> two", end=True)
    found = renderer.response_pieces(ids)
    assert found[-1] == "</s>"
    assert "".join(found) == "one </s> two</s>"
    assert "".join(found[:-1]) == renderer.response_text(ids)


@pytest.mark.parametrize("form", list(Form))
def test_every_form_of_prompt_reads_its_answers(form):
    renderer = Renderer(byte_level())
    ids = renderer.response_ids(" One ö", end=True, form=form)
    assert "".join(renderer.response_pieces(ids, form)) == " One ö</s>"


TURNS = (
    "{% for m in messages %}{{ '[' + m.role + ']SPACE' + (m.content TRIM) + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def test_a_leading_space_of_the_template_counts_only_where_it_was_written():
    renderer = Renderer(byte_level(), template=TURNS.replace("SPACE", " ").replace("TRIM", ""))
    with_lead = renderer.response_ids("ab cd", end=True)
    without = encode_continuing(renderer.tokenizer, "ab cd") + with_lead[-1:]
    for ids in (with_lead, without):
        assert renderer.response_text(ids) == "ab cd"
        pieces = renderer.response_pieces(ids)
        written = [min(len("".join(pieces[: i + 1]).lstrip()), 5) for i in range(len(ids))]
        assert renderer.response_ends(ids, "ab cd") == written
    assert renderer.response_pieces(without)[0][0] == "a"


@pytest.mark.parametrize("text", ["  ab cd", "ab cd \n", "   ab cd  ", "ab cd", "  "])
def test_white_space_that_the_template_strips_is_in_the_text_all_the_same(text):
    """Its ids say `ab cd`; where they end is told in the text that others wrote."""
    renderer = Renderer(byte_level(), template=TURNS.replace("SPACE", "").replace("TRIM", "| trim"))
    ids = renderer.response_ids(text, end=True)
    assert renderer.response_text(ids) == text.strip()
    ends = renderer.written_ends(text)
    assert len(ends) == len(ids)
    pieces, before = renderer.response_pieces(ids)[:-1], len(text) - len(text.lstrip())
    sizes = [before + len("".join(pieces[: i + 1])) for i in range(len(pieces))]
    assert ends[: len(sizes) - 1] == sizes[:-1]
    assert set(ends[-2:]) == {len(text)}  # the last word, and the end token, have said it all
