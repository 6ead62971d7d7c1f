"""What the built-in reward functions share: marks, reading texts and solutions, checking options."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from plaudit.scoring.calls import RewardFunction
from plaudit.scoring.words import units

Completion = str | Sequence[Mapping[str, Any]]
Step = Literal["nfc", "case", "whitespace"]
LengthUnit = Literal["words", "characters", "tokens"]


def uses(*columns: str, check: Callable[..., object] | None = None) -> Callable[[RewardFunction], RewardFunction]:
    """Say which data columns a function reads. It is then given these only, and every row must fill them.

    `check` raises ValueError or TypeError for a value of the (one) column that it can't use; it gets the options too.
    """

    def mark(function: RewardFunction) -> RewardFunction:
        vars(function).update(data_columns=columns, value_check=check)
        return function

    return mark


def may_hang(function: RewardFunction) -> RewardFunction:
    """Say that some texts may keep a function for ever: it gets a process of its own, which has a time limit."""
    vars(function)["may_hang"] = True
    return function


def text_of(completion: Completion) -> str:
    """A completion's text: the string itself, or the contents of its messages joined."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)


def normalised(text: str, steps: Sequence[Step] | Step) -> str:
    """Apply "nfc" (canonical composition), "case" (casefold), "whitespace" (runs to one space, ends cut), as asked."""
    chosen = {steps} if isinstance(steps, str) else set(steps)
    unknown = chosen - {"nfc", "case", "whitespace"}
    if unknown:
        raise ValueError(f"normalise knows 'nfc', 'case' and 'whitespace', not {sorted(map(str, unknown))}")
    if "nfc" in chosen:
        text = unicodedata.normalize("NFC", text)
    if "case" in chosen:
        text = text.casefold()
    if "nfc" in chosen and "case" in chosen:
        text = unicodedata.normalize("NFC", text)  # casefolding can take a composition apart
    return " ".join(text.split()) if "whitespace" in chosen else text


def solutions_of(solution: Any) -> list[str]:
    """One string or several → several. Raises ValueError for none, TypeError for anything that is not text."""
    several = [solution] if isinstance(solution, str) else solution
    if not isinstance(several, (list, tuple)):
        raise TypeError(f"`solution` must be text or a list of texts, not {type(solution).__name__}: {solution!r}")
    if not several:
        raise ValueError("`solution` is an empty list")
    for entry in several:
        if not isinstance(entry, str):
            raise TypeError(f"`solution` holds a {type(entry).__name__}, {entry!r}: write it as text")
    return list(several)


def check_positive(name: str, value: Any, *, whole: bool) -> None:
    """ValueError for an option that is no positive number."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
        raise ValueError(f"{name} must be a positive {'whole number' if whole else 'number'}, not {value!r}")


def check_not_negative(name: str, value: Any) -> None:
    """ValueError for an option that is no number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number, 0 or more, not {value!r}")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """ValueError for an option that is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name} must be {', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}, not {value!r}")


def strings_option(name: str, values: Any) -> list[str]:
    """One word or several → several. ValueError for anything else."""
    several = [values] if isinstance(values, str) else values
    if not isinstance(several, (list, tuple)) or not all(isinstance(value, str) and value for value in several):
        raise ValueError(f"{name} must be a list of words, none of them empty, not {values!r}")
    return list(several)


def lengths_of(
    completions: Sequence[Completion], unit: LengthUnit, completion_ids: Sequence[Sequence[int]] | None
) -> list[int]:
    """In words, code points, or the policy's tokens (its end token included)."""
    if unit == "tokens":
        if completions and completion_ids is None:
            raise ValueError("unit 'tokens' needs the responses' ids, and these responses came as text alone")
        return [len(ids) for ids in completion_ids or ()]
    units("", unit)
    return [len(units(text_of(completion), unit)) for completion in completions]
