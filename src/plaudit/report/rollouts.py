"""The rollout files of a run: what the policy wrote in an iteration, with numbers by token where the file has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.report.reading import clean_text, finite, read_json_lines, whole

TEXT, ID = "text", "id"
"""The columns of a token table that are not numbers."""
CUT = "length"
"""The finish reason of an answer that reached the largest number of tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response of one prompt, by one policy. A number is None where the file doesn't give it."""

    text: str
    score: float | None = None
    kl: float | None = None
    """Sum of the log-ratio to the reference over the response, nats."""
    length: int | None = None
    """Tokens."""
    finish_reason: str = ""

    @property
    def ended(self) -> str:
        """How it ended, in words: `eos`, `stop`, `cut by the limit`."""
        return "cut by the limit" if self.finish_reason == CUT else self.finish_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A response token by token: `columns[name][t]` is a number of token t, None where there is none."""

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    columns: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRollout:
    prompt: str
    prompt_id: str
    answer: Answer
    parts: Mapping[str, float | None] = field(default_factory=dict)
    """The components of the score."""
    reward: float | None = None
    """Σ_t r_t, what PPO optimises; None where the judge abstained."""
    kl_coef: float | None = None
    """β: what the KL costs in the rewards."""
    tokens: Tokens | None = None
    """None in files that keep no numbers by token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """The rollouts of one iteration."""

    number: int
    rollouts: tuple[KeptRollout, ...]


def iteration_files(run: Path) -> dict[int, Path]:
    """Number of the iteration -> its file, in order."""
    paths = sorted((run / "rollouts").glob("*.jsonl.gz"))
    return {int(number): path for path in paths if (number := path.name.split(".")[0]).isdecimal()}


def first_middle_last(run: Path, problems: list[str]) -> tuple[Iteration | None, Iteration | None, Iteration | None]:
    """The outermost rollout files with at least one readable line, and the one in their middle; None where it is
    missing. The others are not opened."""
    files = iteration_files(run)
    first = _first_readable(files, files, problems)
    last = _first_readable([n for n in reversed(files) if first is None or n != first.number], files, problems)
    between = [n for n in files if first and last and first.number < n < last.number]
    middle = _first_readable(between[len(between) // 2 :][:1], files, problems)
    return first, middle, last


def _first_readable(numbers: Iterable[int], files: Mapping[int, Path], problems: list[str]) -> Iteration | None:
    for number in numbers:
        rows = read_json_lines(files[number], problems)
        if rows:
            return Iteration(number=number, rollouts=tuple(rollout_of(row) for row in rows))
    return None


def rollout_of(row: Mapping[str, Any]) -> KeptRollout:
    """A line of a rollout file as a record; what is missing or of another type is left out."""
    text, prompt, prompt_id, finish = map(words, map(row.get, ("response", "prompt", "prompt_id", "finish_reason")))
    score, kl, reward, kl_coef = map(finite, map(row.get, ("score", "kl", "reward", "kl_coef")))
    answer = Answer(text=text, score=score, kl=kl, length=whole(row.get("length")), finish_reason=finish)
    parts = row.get("parts")
    parts = {words(name): finite(value) for name, value in parts.items()} if isinstance(parts, dict) else {}
    tokens = _tokens(row.get("tokens"))
    return KeptRollout(
        prompt=prompt, prompt_id=prompt_id, answer=answer, parts=parts, reward=reward, kl_coef=kl_coef, tokens=tokens
    )


def _tokens(table: Any) -> Tokens | None:
    """Columns of equal length; a column that isn't one is left out."""
    if not isinstance(table, dict) or not isinstance(texts := table.get(TEXT), list):
        return None
    known = {name: each for name, each in table.items() if isinstance(each, list) and len(each) == len(texts)}
    ids = tuple(int(finite(i) or 0) for i in known.get(ID, ()))
    columns = {words(name): tuple(map(finite, each)) for name, each in known.items() if name not in (TEXT, ID)}
    return Tokens(texts=tuple(map(words, texts)), ids=ids, columns=columns)


def words(value: Any) -> str:
    """Text; messages with roles are written one under the other."""
    if isinstance(value, list):
        return "\n".join(
            f"{words(item.get('role'))}: {words(item.get('content'))}" if isinstance(item, dict) else words(item)
            for item in value
        )
    return clean_text(value)
