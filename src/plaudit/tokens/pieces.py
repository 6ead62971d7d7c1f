"""What each token of a text wrote, piece by piece: for people who look at single tokens, and to map one tokenizer's
tokens to another's."""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What decoders write for bytes that are no whole character."""


def text_ends(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[int]:
    """For each id, how many characters of `decode(ids)` are written once it stands; never falling, the last is all.

    A character that is spread over several tokens counts as written by the last of them. Each step decodes only the
    tokens since the last two whole characters, so that the work grows with the length and not with its square.
    """
    if not ids:
        return []
    ends: list[int] = []
    begin, read, before, written = 0, 0, "", 0
    for index in range(len(ids)):
        now = decode(ids[begin : index + 1])
        if not now.endswith(UNFINISHED):
            written += len(now) - len(before)
            begin, read = read, index + 1
            before = decode(ids[begin:read])
        ends.append(written)
    whole = len(decode(ids))
    # Decoders that rewrite what stands before (spaces in front of a full stop) may disagree with their own parts.
    return [max(0, min(end, whole)) for end in ends[:-1]] + [whole]


Marked = tuple[tuple[str, bool], ...]
"""Pieces of a row, each with whether the loss counts it."""


def marked(decode: Callable[[Sequence[int]], str], context: Sequence[int], learned: Sequence[int]) -> Marked:
    """A row as its model sees it: the context, then what is learned from."""
    pieces = text_pieces(decode, [*context, *learned])
    return tuple((piece, index >= len(context)) for index, piece in enumerate(pieces))


def text_pieces(decode: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    """One text per id; joined they are `decode(ids)` exactly. Empty where a character isn't whole yet."""
    text, ends = decode(ids) if ids else "", text_ends(decode, ids)
    return [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)] if ids else []
