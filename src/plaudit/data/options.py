"""Which files are read, and how. No torch, no pyarrow."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import parse_qs

from plaudit.config.types import Without
from plaudit.errors import require

NO_PASSWORD = (
    "no password in a data base's address, which goes into the run's records: leave it out, and give it by the "
    "environment variable PGPASSWORD or the file ~/.pgpass"
)

KindName = Literal[
    "auto", "demonstration", "text", "comparison", "ranking", "rating", "verdict", "prompt", "candidates"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where a stage's rows come from."""

    path: str
    """A .jsonl, .json (list), .csv, .tsv or .parquet file, a folder or a glob of such files; hub:name[:split]; or
    label://PROJECT: a labelling project's rankings (docs/data.md)."""
    kind: KindName = "auto"
    """What a row teaches; auto tells it by the columns and says which it found."""
    columns: dict[str, str] = field(default_factory=dict)
    """Other names for columns, {the file's name: plaudit's name}, such as {question: prompt}."""
    prompt: str = ""
    """One prompt for all rows of a file that has none, such as texts with labels; they are divided by their texts."""
    accept: tuple[str, ...] = ()
    """Values of `label` that mean accept, all others mean reject, where labels are words or more than two numbers."""
    learn: Literal["all", "last"] = "all"
    """Which answers of a conversation SFT learns: all, each after what precedes it, or only the last one. Where turns
    have a `weight` (0 or 1), that decides."""
    rendered: bool = False
    """Prompts and texts stand as a chat template wrote them: what spells a control token in them is one."""
    answers: int = 0
    """Keep this many answers of a ranking at most, drawn by a hash of the prompt; 0 = all."""
    min_gap: float = 0.0
    """Keep only answers of a ranking whose scores differ by this much from those kept already, score units; 0 = all."""
    weight: float = 1.0
    """How often an epoch sees each row of this file: 2 twice, 0.5 every other row, drawn anew (SFT, reward models)."""
    limit: int = 0
    """Read this many rows at most (the first ones); 0 = all."""
    on_bad_row: Literal["error", "skip"] = "error"
    """A row that can't be read stops the run before any model loads (error), or is left out and counted (skip)."""
    max_bad_fraction: float = 0.01
    """With skip: the share of bad rows above which the run stops all the same, 0 to 1."""

    def __post_init__(self) -> None:
        if self.path.startswith("label://"):
            require(not holds_password(self.path.removeprefix("label://")), f"path: {NO_PASSWORD}")


PromptsConfig = Annotated[
    DataConfig, Without(("accept", "answers", "min_gap", "weight"), "prompts are read without their answers and labels")
]
"""Where prompts come from that a model answers anew."""


def holds_password(url: str) -> bool:
    """Whether the address of a data base server tells a password: behind the user's name, or as a parameter."""
    if not url.startswith(("postgresql", "postgres:")):
        return False
    return bool(re.search(r"://[^:/@]*:[^@]*@", url)) or "password" in parse_qs(url.partition("?")[2])
