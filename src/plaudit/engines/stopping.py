"""Stop strings: text that ends a response where it appears."""

from collections.abc import Callable, Sequence

TAIL = 4
"""Tokens beyond the stop string's own length that are decoded at each step: a string may straddle tokens."""


class StopStrings:
    """Called with the ids of a response so far: is one of the strings in their text?"""

    def __init__(self, decode: Callable[[Sequence[int]], str], strings: Sequence[str]):
        self.decode, self.strings = decode, tuple(strings)
        self.window = max((len(s.encode()) for s in strings), default=0) + TAIL

    def __call__(self, ids: Sequence[int]) -> bool:
        if not self.strings:
            return False
        tail = self.decode(ids[-self.window :])
        return any(s in tail for s in self.strings)


def cut_at_stop(text: str, strings: Sequence[str]) -> str:
    """The text before the first stop string, whichever comes first."""
    starts = [start for s in strings if (start := text.find(s)) >= 0]
    return text[: min(starts)] if starts else text
