"""Stop strings: text that ends a response where it appears."""

from collections.abc import Callable, Sequence

from plaudit.tokens.pieces import UNFINISHED

TAIL = 4
"""Tokens beyond the stop string's own length that are decoded at each step: a string may straddle tokens."""


class StopStrings:
    """Called with the ids of a response so far: is one of the strings in their text? `decode` shows control tokens as
    they are spelled, so that a string may be one."""

    def __init__(self, decode: Callable[[Sequence[int]], str], strings: Sequence[str]):
        self.decode, self.strings = decode, tuple(strings)
        self.window = max((len(s.encode()) for s in strings), default=0) + TAIL

    def __call__(self, ids: Sequence[int]) -> bool:
        if not self.strings:
            return False
        begin = max(0, len(ids) - self.window)
        # Half a character in front spoils what follows it where tokenizers fall back to bytes: begin before it.
        while (tail := self.decode(ids[begin:])).startswith(UNFINISHED) and begin:
            begin = max(0, begin - TAIL)
        return any(s in tail for s in self.strings)


def cut_at_stop(pieces: Sequence[str], strings: Sequence[str]) -> list[str]:
    """The pieces of a text before the first stop string, whichever comes first; the last piece perhaps in part."""
    text = "".join(pieces)
    starts = [start for s in strings if (start := text.find(s)) >= 0]
    room, before = min(starts, default=len(text)), list[str]()
    for piece in pieces:
        before.append(piece[:room])
        room -= len(before[-1])
    return before
