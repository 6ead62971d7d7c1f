"""Text of models and strangers as HTML that can do nothing: Markdown and code for reading, and the text as written.

markdown-it-py with HTML off is the reader; what is written is a fixed list of elements without any attribute that comes
from the text. Links don't lead anywhere: their address is shown instead (a labeller judges what is there, and a click
would tell another site who is judging). Characters that reorder or hide text are shown by their number; joiners
(U+200C, U+200D) and variation selectors are not, because scripts and emoji need them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

MARKDOWN_LIMIT = 20_000
"""Characters; longer texts are shown as written, whole: reading a megabyte as Markdown would take seconds."""
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u2069\u2028\u2029\ufeff\U000e0000-\U000e007f]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr"}
_BLOCKS |= {"table", "thead", "tbody", "tr", "th", "td"}
_ELEMENTS = _BLOCKS | {"em", "strong", "s", "br"}


def as_written(text: str) -> Markup:
    """The text itself, nothing interpreted; line breaks are kept by the style sheet. A long text has one direction:
    browsers take half a minute to find one for each line of a megabyte."""
    kind = "written" if len(text) <= MARKDOWN_LIMIT else "written long"
    return Markup('<div class="{}" dir="auto">').format(kind) + plain(text) + Markup("</div>")


def rendered(text: str) -> Markup:
    """The text as Markdown; as written where that is too long, or where Markdown would leave something out."""
    if len(text) > MARKDOWN_LIMIT:
        return as_written(text)
    tokens = _reader().parse(_unix(text))
    html = _html(tokens)
    return as_written(text) if _loses(text, html, tokens) else html


def _loses(text: str, html: Markup, tokens: Sequence[Token]) -> bool:
    """Whether a letter or digit is missing: Markdown drops a table's surplus cells and whatever is nested too deep, and
    what a labeller can't see can't be judged."""
    numbers = "".join(token.info for token in tokens if token.type == "list_item_open")
    shown = Counter(filter(str.isalnum, html.striptags() + numbers))
    return bool(Counter(filter(str.isalnum, _SURROGATE.sub("", text))) - shown)


class _Reader(MarkdownIt):
    def normalizeLink(self, url: str) -> str:
        """As written: an address is shown, not followed."""
        return url


@cache
def _reader() -> MarkdownIt:
    """References and entities would hide or change what is written."""
    reader = _Reader("commonmark", {"html": False})
    return reader.enable(["table", "strikethrough"]).disable(["reference", "entity"])


def _html(tokens: Sequence[Token]) -> Markup:
    pieces: list[Markup] = []
    links: list[tuple[int, str]] = []
    for token in tokens:
        if token.type == "link_open":
            title = f' "{token.attrGet("title")}"' if token.attrGet("title") else ""
            links.append((len(pieces), f"{token.attrGet('href')}{title}"))
        elif token.type == "link_close":
            begin, address = links.pop()
            if Markup("").join(pieces[begin:]).striptags() != address:
                pieces.append(Markup("<span class=address> (") + plain(address) + Markup(")</span>"))
        else:
            pieces.append(_token(token))
    return Markup("").join(pieces)


def _token(token: Token) -> Markup:
    """Only what is known here is written as an element: an unknown token's content becomes text."""
    match token.type:
        case "fence" | "code_block":
            label = Markup("<span class=lang>") + plain(token.info) + Markup("</span>") if token.info.strip() else ""
            code = Markup("<pre dir=ltr><code>") + plain(token.content) + Markup("</code></pre>")
            return Markup("<div class=code>") + label + code + Markup("</div>")
        case "inline":
            return _html(token.children or [])
        case "code_inline":
            return Markup("<code>") + plain(token.content) + Markup("</code>")
        case "softbreak":
            return Markup("<br>")  # chat answers mean their line ends
        case "image":
            return plain(f"![{token.content}]({token.attrGet('src')} {token.attrGet('title') or ''})")
        case kind if token.tag in _ELEMENTS and kind != "text":
            return _tag(token)
        case _:
            return plain(token.content)


def _tag(token: Token) -> Markup:
    if token.hidden:
        return Markup("")
    if token.nesting < 0:
        return Markup(f"</{token.tag}>")
    start = token.attrGet("start") if token.tag == "ol" else None
    number = f' start="{int(start)}"' if start is not None else ""
    return Markup(f"<{token.tag}{' dir=auto' if token.tag in _BLOCKS else ''}{number}>")


def plain(text: str) -> Markup:
    """Escaped, with a visible name for each character that would hide, or reorder what stands around it."""
    safe = _SURROGATE.sub("\ufffd", str(escape(_unix(text))))
    return Markup(_HIDDEN.sub(lambda match: f"<span class=hidden-char>U+{ord(match[0]):04X}</span>", safe))


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
