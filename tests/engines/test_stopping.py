"""Stop strings: found as soon as they are complete, however the tokens fall, and cut at the first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.engines.stopping import StopStrings, cut_at_stop
from plaudit.tokens.pieces import text_pieces
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import decode_continuing, encode_continuing, train_tokenizer
from tests.kills import kills
from tests.tokens.test_tokenizer import EVERY


def by_letters(ids) -> str:
    return "".join(chr(i) for i in ids)


def by_bytes(ids) -> str:
    """One byte a token: half a letter is no letter."""
    return bytes(ids).decode("utf-8", "replace")


def complete_at(stop: StopStrings, ids: list[int]) -> int | None:
    """After how many tokens it stops."""
    return next((n for n in range(1, len(ids) + 1) if stop(ids[:n])), None)


def test_a_string_that_straddles_tokens():
    pieces = ["Hello", "\n", "\nHu", "man", ": hi"]
    stop = StopStrings(lambda ids: "".join(pieces[i] for i in ids), ["\n\nHuman:"])
    assert complete_at(stop, [0, 1, 2, 3, 4]) == 5
    assert complete_at(stop, [0, 1, 2, 3]) is None
    assert cut_at_stop(pieces, stop.strings) == ["Hello", "", "", "", ""]


def test_a_string_inside_one_token():
    pieces = ["a", "b<end>c"]
    stop = StopStrings(lambda ids: "".join(pieces[i] for i in ids), ["<end>"])
    assert complete_at(stop, [0, 0, 1, 0]) == 3
    assert "".join(cut_at_stop(["a", "a", "b<end>c", "a"], stop.strings)) == "aab"


def test_letters_of_several_bytes():
    ids = list("so 你好。end".encode())
    stop = StopStrings(by_bytes, ["好。"])
    assert complete_at(stop, ids) == len("so 你好。".encode())


def test_the_first_one_wins_whatever_the_order_of_strings():
    for strings in (["END", "stop"], ["stop", "END"]):
        assert "".join(cut_at_stop("a stop b END c", strings)) == "a "
    assert "".join(cut_at_stop("a stop", ["stop", "sto"])) == "a "


@kills(
    "engines/stopping.py",
    old="text.find(s)) >= 0",
    new="text.find(s)) > 0",
    why="a stop string at the very beginning stays",
)
def test_text_without_the_string_stays_whole():
    assert cut_at_stop(["ab", "c "], ["x"]) == ["ab", "c "]
    assert cut_at_stop(["abc"], []) == ["abc"]
    assert cut_at_stop([], ["x"]) == []
    assert cut_at_stop(["xab", "c"], ["x"]) == ["", ""]  # at the very beginning too
    assert not StopStrings(by_letters, [])([97, 98])


@pytest.mark.parametrize("decode", [by_letters])
@given(text=st.text("abc", max_size=40), strings=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_the_window_never_misses_what_the_whole_text_holds(decode, text, strings):
    stop = StopStrings(decode, strings)
    places = [text.find(s) + len(s) for s in strings if s in text]
    assert complete_at(stop, [ord(c) for c in text]) == (min(places) if places else None)


def test_only_the_end_of_a_long_response_is_decoded_at_each_token():
    seen = []

    def decode(ids):
        seen.append(len(ids))
        return ""

    StopStrings(decode, ["12345678"])(range(5000))
    assert seen[0] < 20


@EVERY
@pytest.mark.parametrize(
    ("text", "string"),
    [("你好。再见。", "。"), ("naïve 🐈 café!", "café"), ("a.\n\nB", "\n\n"), ("Hello", "lo")],
)
def test_every_tokenizer_stops_at_the_first_prefix_whose_text_has_the_string(make, text, string):
    """Byte by byte too, where a window may begin inside a character."""
    tokenizer = make()
    ids = encode_continuing(tokenizer, text + text)

    def read(part) -> str:
        return decode_continuing(tokenizer, part, keep_specials=True)

    stop = StopStrings(read, [string])
    stop.window = 5
    wanted = next(n for n in range(1, len(ids) + 1) if string in read(ids[:n]))
    assert complete_at(stop, ids) == wanted
    pieces = text_pieces(read, ids[:wanted])
    assert "".join(cut_at_stop(pieces, [string])) == text[: text.index(string)]


def test_a_control_token_may_be_a_stop_string():
    tokenizer = train_tokenizer(["one two three"], 300, chat=True)
    renderer = Renderer(tokenizer)
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    ids = [*renderer.response_ids("one", end=False), user, *renderer.response_ids("two", end=False)]
    count = len(renderer.response_ids("one", end=False)) + 1
    for string in ("<|user|>", "one<|user|>"):
        assert complete_at(StopStrings(renderer.shown_text, [string]), ids) == count
        written = ids[:count]
        before = cut_at_stop(renderer.response_pieces(written), [string])
        assert renderer.text_of_pieces(written, before) == "one"[: 3 if string == "<|user|>" else 0]
