"""What a set of responses looks like, whatever anybody thinks of them: length, endings, variety, repetition (N5)."""

from collections.abc import Sequence

from plaudit.records.text import FinishReason
from plaudit.scoring.words import distinct_share, ngrams, units


def text_statistics(
    responses: Sequence[str], *, finish_reasons: Sequence[FinishReason] = (), num_tokens: Sequence[int] = ()
) -> dict[str, float]:
    """Numbers of a set of responses; those whose input is not given are absent.

    `count`; `mean_characters`; `mean_words`; `mean_tokens` (from `num_tokens`); `empty_share` (nothing but space);
    `distinct_1`, `distinct_2`: different n-grams / all n-grams **of the whole set** (Li et al. 2016; it falls as a set
    grows, so compare sets of one size); `repetition`: mean over responses of 1 − distinct-2 *inside* the
    response; `eos_rate`, `stop_rate`, `length_rate`: shares of the ways to end, which sum to 1.
    Chinese characters are words.
    ValueError where there is no response or the lists differ in length.
    """
    count = len(responses)
    for name, several in (("finish_reasons", finish_reasons), ("num_tokens", num_tokens)):
        if several and len(several) != count:
            raise ValueError(f"text_statistics: {len(several)} {name} for {count} responses")
    if not count:
        raise ValueError("text_statistics: there is no response")
    pieces = [units(response, "words") for response in responses]
    statistics = {
        "count": float(count),
        "mean_characters": sum(map(len, responses)) / count,
        "mean_words": sum(map(len, pieces)) / count,
        "empty_share": sum(not response.strip() for response in responses) / count,
        "distinct_1": distinct_of_set(pieces, 1),
        "distinct_2": distinct_of_set(pieces, 2),
        "repetition": sum(1.0 - distinct_share(piece, 2) for piece in pieces) / count,
    }
    if num_tokens:
        statistics["mean_tokens"] = sum(num_tokens) / count
    if finish_reasons:
        statistics |= {f"{reason.value}_rate": list(finish_reasons).count(reason) / count for reason in FinishReason}
    return statistics


def distinct_of_set(pieces: Sequence[list[str]], n: int) -> float:
    """Different n-grams / all n-grams over all responses together; no n-gram spans two responses; 1.0 where none is."""
    grams = [gram for piece in pieces for gram in ngrams(piece, n)]
    return len(set(grams)) / len(grams) if grams else 1.0
