"""What models wrote becomes HTML that can do nothing and hides nothing."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plaudit.web.rendering import MARKDOWN_LIMIT, as_written, rendered
from tests.kills import kills

ELEMENTS = {
    "div",
    "span",
    "pre",
    "code",
    "p",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "ul",
    "ol",
    "li",
    "blockquote",
    "table",
}
ELEMENTS |= {"thead", "tbody", "tr", "th", "td", "hr", "em", "strong", "s", "br"}
ATTRIBUTES = {"dir": {"auto", "ltr"}, "class": {"written", "written long", "code", "lang", "address", "hidden-char"}}


class Read(HTMLParser):
    """All elements and attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if value not in ATTRIBUTES.get(name, {value} if name == "start" and value.isdecimal() else ()):
                self.problems.append(f"{tag} {name}={value}")
        if tag not in ELEMENTS:
            self.problems.append(tag)

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.problems.append(f"comment {data}")


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    '[click](https://e.example/?"onmouseover="alert(1))',
    "![x](javascript:alert(1))",
    "![x](http://e.example/track.png)",
    "<https://e.example/>",
    "<javascript:alert(1)>",
    "[x](data:text/html;base64,PHN2Zy9vbmxvYWQ9YWxlcnQoMSk+)",
    '```"><script>alert(1)</script>\nx\n```',
    "<!-- hidden -->",
    "<style>*{display:none}</style>",
    "</div></article><h1>broken out</h1>",
    "&lt;script&gt;",
    "`</code><script>`",
    "| a |\n|:-:|\n| <b>x</b> |",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text):
    for html in (rendered(text), as_written(text)):
        assert Read(html).problems == []


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="<>&\"'`*_~[]()!#|-+=\\:/.0129 \n\tabé中\u202e\x00x", max_size=80))
def test_whatever_is_written_nothing_gets_out_and_nothing_gets_lost(text):
    read = Read(rendered(text))
    assert read.problems == []
    for character in set(filter(str.isalpha, text)):
        assert read.text.count(character) >= text.count(character)


@kills("web/rendering.py", old="return as_written(text) if _loses(", new="return html if _loses(", why="cells get lost")
@pytest.mark.parametrize("text", ["|a|\n|-|\n|1|gone|", ">" * 25 + "deep", "- " * 30 + "deep"])
def test_what_markdown_would_drop_is_shown_as_written(text):
    assert text.split("|")[-2 if "gone" in text else -1][-4:] in Read(rendered(text)).text


def test_a_link_shows_where_it_leads_and_leads_nowhere():
    html = rendered('[my bank](https://evil.example/x "title") and <https://plain.example>')
    assert "<a" not in html
    assert "my bank<span class=address> (https://evil.example/x &#34;title&#34;)</span>" in html
    assert html.count("plain.example") == 1


INVISIBLE = "\u00ad\u061c\u200b\u200e\u200f\u2060\u2064"


def test_joiners_and_selectors_stay_where_emoji_and_scripts_need_them():
    assert "👩\u200d🔬 ❤\ufe0f می\u200cروم" in rendered("👩\u200d🔬 ❤\ufe0f می\u200cروم")


@kills("web/rendering.py", old="\\u202a-\\u202e", new="\\u202a-\\u202d", why="the override itself would reorder")
@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\u2069", "\x07", "\u2028", "\U000e0041", *INVISIBLE])
def test_characters_that_reorder_or_hide_are_named(character):
    for html in (rendered(f"a{character}b"), rendered(f"`a{character}b`"), as_written(f"a{character}b")):
        assert character not in html
        assert f"U+{ord(character):04X}" in html


def test_markdown_and_code_are_shown():
    html = rendered("# T\n\n1. **a**\n2. `b`\n\n```python\nx < 1\n```\n\none\ntwo")
    for piece in ("<h1 dir=auto>T</h1>", "<strong>a</strong>", "<code>b</code>", "x &lt; 1", ">python<", "one<br>two"):
        assert piece in html


def test_right_to_left_and_chinese_are_left_alone():
    assert "dir=auto>مرحبا" in rendered("مرحبا")
    assert "你好" in rendered("**你好**，世界")


@pytest.mark.parametrize("text", ["<b>" * 333_333, "[" * MARKDOWN_LIMIT, "*a " * 6000])
def test_long_texts_are_whole(text):
    assert re.sub(r"\s", "", Read(rendered(text)).text) == re.sub(r"\s", "", text)


def test_a_lone_surrogate_can_be_sent():
    rendered("a\ud800b").encode("utf-8")
    as_written("a\ud800b").encode("utf-8")
