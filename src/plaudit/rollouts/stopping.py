"""Stop strings: when a response has said enough."""

from collections.abc import Callable, Sequence

TAIL = 4
"""Tokens beyond the stop string's own length that are decoded at each step: a string may straddle tokens."""


class StopStrings:
    """Called with the ids so far: is one of the strings in their text? `cut` removes it and what follows."""

    def __init__(self, decode: Callable[[Sequence[int]], str], strings: Sequence[str]):
        self.decode, self.strings = decode, tuple(strings)
        self.window = max((len(s.encode()) for s in strings), default=0) + TAIL

    def __call__(self, ids: Sequence[int]) -> bool:
        tail = self.decode(ids[-self.window :])
        return any(s in tail for s in self.strings)

    def cut(self, text: str) -> str:
        """The text before the first stop string, whichever comes first."""
        places = [at for s in self.strings if (at := text.find(s)) >= 0]
        return text[: min(places)] if places else text
