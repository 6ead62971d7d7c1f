"""The dictionary of the pages: every word in both languages, none missing, none left over."""

import re
from pathlib import Path

import plaudit.web
from plaudit.web.templates import LANGUAGES, dictionary

WEB = Path(plaudit.web.__file__).parent
SOURCES = [path for pattern in ("**/*.j2", "**/*.js", "**/*.py") for path in WEB.glob(pattern)]
ASKED = {
    ".j2": [r"\bt\.(\w+)"],
    ".js": [r"\bwords\.(\w+)", r'fill\("(\w+)"'],
    ".py": [r'HTTPException\(\d+, "(\w+)"'],
}
"""How each kind of file asks for a word."""
MADE_UP = ("role_", "ask_", "choice_", "step_", "then_digit_", "form_", "life_", "why_", "health_")
"""Beginnings of keys that are put together from a value."""


def test_every_word_is_there_in_every_language():
    for key, words in dictionary().items():
        assert set(words) == set(LANGUAGES), key
        assert all(words.values()), key
        names = [set(re.findall(r"\{\w+\}", text)) for text in words.values()]
        assert names[0] == names[1], f"{key}: the languages fill in other values"


def test_every_word_that_is_asked_for_is_there():
    asked = {}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        patterns = {
            ".j2": [r"\bt\.(\w+)"],
            ".js": [r"\bwords\.(\w+)", r'fill\("(\w+)"'],
            ".py": [r'HTTPException\(\d+, "(\w+)"'],
        }
        for pattern in patterns[path.suffix]:
            asked |= dict.fromkeys(re.findall(pattern, text), path.name)
    missing = {key: name for key, name in asked.items() if key not in dictionary() and key not in ("get", "format")}
    assert missing == {}


def test_no_word_is_left_over():
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    unused = [
        key for key in dictionary() if not re.search(rf"\b{re.escape(key)}\b", text) and not key.startswith(MADE_UP)
    ]
    assert unused == ["Not Found"]  # starlette's own words for 404
