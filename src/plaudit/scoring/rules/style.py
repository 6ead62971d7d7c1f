"""How the response is written, whatever it says: length and repetition (N3.14)."""

from collections.abc import Sequence
from typing import Any

from plaudit.scoring.rules.texts import (
    Completion,
    LengthUnit,
    check_not_negative,
    check_positive,
    lengths_of,
    text_of,
    uses,
)
from plaudit.scoring.words import Unit, distinct_share, units


@uses()
def distinct_n(completions: Sequence[Completion], n: int = 2, unit: Unit = "words", **columns: Any) -> list[float]:
    """Different n-grams / all n-grams of the response, in (0, 1]; 1.0 where it has none   (Li et al. 2016).

    "a b a b" with n = 2: ab, ba, ab → 2/3. Words are cut at white space; a Chinese character is a word.
    """
    check_positive("n", n, whole=True)
    units("", unit)
    return [distinct_share(units(text_of(completion), unit), n) for completion in completions]


@uses()
def repetition(completions: Sequence[Completion], n: int = 2, unit: Unit = "words", **columns: Any) -> list[float]:
    """1 − distinct-n, in [0, 1): how much of the response is said again; 0.0 where it has no n-grams   (N3.14).

    A fault, not a merit: give it a negative weight. "a b a b" with n = 2: 1/3.
    """
    return [1.0 - share for share in distinct_n(completions, n=n, unit=unit)]


@uses()
def repeated_lines(completions: Sequence[Completion], **columns: Any) -> list[float]:
    """Lines that stood before / all lines that aren't blank, in [0, 1); 0.0 where there is none   (N3.14).

    A fault, not a merit: give it a negative weight. Lines are compared without the space around them.
    "yes\\nno\\nyes\\nyes": 2 of 4, so 0.5. For lists that go round in circles, which `repetition` sees less of.
    """

    def share(text: str) -> float:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return 1.0 - len(set(lines)) / len(lines) if lines else 0.0

    return [share(text_of(completion)) for completion in completions]


@uses()
def length_target(
    completions: Sequence[Completion],
    *,
    target: float,
    unit: LengthUnit = "words",
    completion_ids: Sequence[Sequence[int]] | None = None,
    **columns: Any,
) -> list[float]:
    """max(0, 1 − |length − target| / target), in [0, 1]: 1 at the target, 0 at nothing and from twice the target on.

    8 words for a target of 10: 0.8; so are 12. `tokens` counts the policy's ids, the end token included.
    """
    check_positive("target", target, whole=False)
    lengths = lengths_of(completions, unit, completion_ids)
    return [max(0.0, 1.0 - abs(length - target) / target) for length in lengths]


@uses()
def length_penalty(
    completions: Sequence[Completion],
    *,
    limit: float,
    buffer: float = 0,
    unit: LengthUnit = "words",
    completion_ids: Sequence[Sequence[int]] | None = None,
    **columns: Any,
) -> list[float]:
    """0 up to `limit`, then falling to −1 over the next `buffer` units, −1 beyond. In [−1, 0].

        −min(1, (length − limit) / buffer)   where length > limit;   buffer 0: −1 at once

    limit 10, buffer 5: 10 words → 0.0, 12 → −0.4, 15 and more → −1.0. With unit `tokens` and limit + buffer =
    `max_new_tokens` it is the soft overlong punishment of DAPO (Yu et al. 2025).
    """
    check_positive("limit", limit, whole=False)
    check_not_negative("buffer", buffer)
    over = [length - limit for length in lengths_of(completions, unit, completion_ids)]
    return [0.0 if by <= 0 else -min(1.0, by / buffer) if buffer else -1.0 for by in over]
