"""One spelling for the many in which numbers and mathematics are written, before anything is read."""

import re
import unicodedata

MINUS = "−–—‒―﹣－‐‑⁻˗➖"
_CHARACTERS = {
    **dict.fromkeys(MINUS, "-"),
    **dict.fromkeys("％﹪٪", "%"),
    **dict.fromkeys("\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u2061\u2062\u2063", ""),
    **dict.fromkeys("·⋅∙•＊∗", "*"),
    **{"×": r"\times ", "✕": r"\times ", "÷": "/", "∕": "/", "⁄": "/", "／": "/", "±": r"\pm ", "∓": r"\mp "},
    **{"√": r"\sqrt ", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "∞": r"\infty ", "π": r"\pi ", "𝜋": r"\pi "},
    **{"≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne "},
    **{"∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "⟨": "(", "⟩": ")", "º": "°", "˚": "°"},
    **{"٫": ".", "٬": ",", "，": ",", "、": ",", "；": ";", "：": ":", "＝": "=", "＜": "<", "＞": ">", "．": "."},
    **{"（": "(", "）": ")", "［": "[", "］": "]", "｛": "{", "｝": "}", "＋": "+", "＾": "^", "／": "/", "。": ". "},
    **{"＄": "$", "￥": "¥", "￡": "£", "'": "'", "’": "'", "′": "'"},
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞↉]")
_OVERLINED = re.compile("(?:[0-9][\u0304\u0305])+")


def _fraction(sign: str) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", sign).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}"


def plain_characters(text: str) -> str:
    """Digits, signs and spaces of every script as those of ASCII, roots and powers as LaTeX's.

    "−3½" → "-3\\frac{1}{2}", "２０％" → "20%", "x²" → "x^{2}", "0.3̅" → "0.\\overline{3}".
    """
    text = _OVERLINED.sub(lambda m: rf"\overline{{{re.sub('[^0-9]', '', m[0])}}}", unicodedata.normalize("NFD", text))
    text = unicodedata.normalize("NFC", text)
    text = _RAISED.sub(lambda m: "^{" + m[0].translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda m: "_{" + m[0].translate(_SUBSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda m: _fraction(m[0]), text)
    out = []
    for c in text:
        if c in _CHARACTERS:
            c = _CHARACTERS[c]
        elif c > "\x7f" and (digit := unicodedata.decimal(c, None)) is not None:
            c = str(digit)
        elif "\uff01" <= c <= "\uff5e":
            c = chr(ord(c) - 0xFEE0)
        out.append(c)
    return "".join(out)


_SPACES = re.compile(r"(?<!\\)\\[,;: ]|\\(?:quad|qquad|thinspace|enspace|medspace|thickspace)(?![A-Za-z])|~")
_NOTHING = re.compile(r"\\!|\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|mathstrut)(?![A-Za-z])\.?|__|`")
_FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_SAME = {
    r"\leq": r"\le", r"\leqslant": r"\le", r"\geq": r"\ge", r"\geqslant": r"\ge", r"\neq": r"\ne", r"\lt": "<",
    r"\gt": ">", r"\cdot": "*", r"\ast": "*", r"\div": "/", r"\degree": "°", r"\varnothing": r"\emptyset",
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\langle": "(", r"\rangle": ")", r"\lvert": "|", r"\rvert": "|",
    r"\vert": "|", r"\mid": "|", r"\percent": "%", r"\euro": "€", r"\pounds": "£", r"\lparen": "(", r"\rparen": ")",
}  # fmt: skip
_COMMAND = re.compile(r"\\[A-Za-z]+")


def plain_latex(text: str) -> str:
    """The same for LaTeX: spacing and sizes go, commands with one meaning become one.

    r"\\dfrac 12\\, \\text{cm}" → r"\\frac 12 \\text{cm}", r"90^{\\circ}" → "90°", "1{,}000" → "1,000".
    """
    text = plain_characters(text).replace(r"\text{,}", ",").replace("{,}", ",")
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", text).replace("**", "^")
    text = re.sub(r"(?<![^\s:(])\*([^\s*](?:[^*\n]*[^\s*])?)\*(?![^\s.,;:!?)])", r"\1", text)  # *emphasised*
    text = _FRACTIONS.sub(lambda m: r"\frac", _SPACES.sub(" ", _NOTHING.sub("", text)))
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", "°", text)
    text = _COMMAND.sub(lambda m: _SAME.get(m[0], m[0]), text)
    text = text.replace(">=", r"\ge ").replace("<=", r"\le ").replace("!=", r"\ne ")
    return text.replace("\\%", "%").replace("\\$", "$").replace("\\&", "&").replace("\\#", "#")


THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)


def outside_thoughts(text: str) -> str:
    """Without <think>…</think> and its like. A tag that nobody opened was opened by the prompt's template; a thought
    that doesn't end has no answer behind it."""
    return _THOUGHT_END.sub("", THOUGHT.sub("", text))


_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*")


def last_box(text: str) -> str | None:
    r"""What stands in the last \boxed{…} (or \boxed 7); None where there is no box, or the last one doesn't end."""
    starts = list(_BOX.finditer(text))
    if not starts:
        return None
    rest = text[starts[-1].end() :]
    if not rest.startswith("{"):
        bare = re.match(r"\\[A-Za-z]+|[^\s$\\]+", rest)
        return bare[0] if bare else None
    depth = 0
    for i, c in enumerate(rest):
        escaped = i > 0 and rest[i - 1] == "\\"
        depth += (c == "{") * (not escaped) - (c == "}") * (not escaped)
        if not depth:
            return rest[1:i]
    return None


def has_box(text: str) -> bool:
    return _BOX.search(text) is not None


_DISPLAY = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\$])\$(?!\$)((?:[^$\\]|\\.)+?)(?<!\\)\$(?![$0-9])", re.DOTALL
)


def last_formula(text: str) -> str | None:
    r"""What stands in the last $…$, $$…$$, \(…\) or \[…\]; None without one."""
    formulas = [next(filter(None, match.groups())) for match in _DISPLAY.finditer(text)]
    return formulas[-1] if formulas else None


def without_delimiters(text: str) -> str:
    r"""The text with the inside of its $…$, \(…\) and \[…\] in their places."""
    return _DISPLAY.sub(lambda m: " " + next(filter(None, m.groups())) + " ", text)
