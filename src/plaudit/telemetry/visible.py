"""Text of models and of anybody's files as text that acts on nothing: neither a terminal nor a page takes orders."""

from __future__ import annotations

import re
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]")
# Control characters have no place in HTML: C0 are shown by their pictures (␀ …), C1 by the replacement mark.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)

# Marks of direction, of width zero, of lines: they act on the text around them. Joiners (emoji, Persian) may stay.
_TRICKS = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]")


def clean_text(value: Any) -> str:
    """Any value as text that UTF-8 and HTML can carry: lone surrogates replaced, control characters made visible."""
    return "" if value is None else _SURROGATES.sub("\ufffd", str(value)).translate(_CONTROLS)


def visible(text: str, line_break: str = "↵\n") -> str:
    """Clean text in which nothing moves, hides or turns round what stands beside it: neither terminals nor pages take
    orders from it, and single tokens can be told apart."""
    coded = _TRICKS.sub(lambda match: f"\\u{ord(match[0]):04x}", clean_text(text))
    return coded.replace("\t", "⇥").replace("\n", line_break)
