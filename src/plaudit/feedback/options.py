"""Options of a labelling project. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from plaudit.config.types import Without
from plaudit.data.options import NO_PASSWORD, DataConfig, holds_password
from plaudit.errors import require

Mode = Literal["rank", "two", "eight_step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """What labellers are asked, and how tasks are shared out among them."""

    name: str = "answers"
    """Shown to labellers."""
    guidelines: str = ""
    """What a good answer is: Markdown, shown beside every task."""
    mode: Mode = "rank"
    """`rank`: all answers in order, ties allowed. `two`: A, B, a tie or both bad. `eight_step`: from 1, A is far
    better, to 8, B is. The last two take tasks of two answers."""
    scalar: bool = False
    """Whether each answer also gets a number from 1 to 7 (InstructGPT)."""
    flags: tuple[str, ...] = ()
    """Yes-or-no questions about each answer, such as `harmful`."""
    overlap: int = 1
    """How many labellers judge each task."""
    gold_share: float = 0.1
    """Share of a labeller's tasks whose ranking is known, as long as there are such tasks; 0 mixes none in."""
    daily_target: int = 0
    """Tasks that a labeller is asked for each day; 0: none."""
    lease_minutes: float = 30.0
    """How long a task that was handed out waits for its judgement before somebody else may get it."""
    seed: int = 0
    """Of the order in which each labeller sees the answers, and of where gold tasks come."""

    def __post_init__(self) -> None:
        require(self.overlap >= 1, "overlap must be at least 1")
        require(0 <= self.gold_share <= 1, "gold_share must be from 0 to 1")
        require(self.daily_target >= 0, "daily_target must not be negative")
        require(self.lease_minutes > 0, "lease_minutes must be above 0")
        require(len(set(self.flags)) == len(self.flags) and all(self.flags), "flags must be different words")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """People judge answers: the stage waits until enough judgements are there (`plaudit label` serves the page)."""

    data: tuple[DataConfig, ...]
    """Files whose answers are judged: candidates, rankings, comparisons, or the samples of `compare`."""
    gold: tuple[DataConfig, ...] = ()
    """Rankings that are known to be right, mixed in to check labellers; never exported."""
    project: Annotated[ProjectConfig, Without(("seed",), "the stage's own seed is used")] = field(
        default_factory=ProjectConfig
    )
    """What is asked."""
    store: str = ""
    """Where judgements are kept: a file or postgresql://…; empty: project.db in the run's folder."""
    judgements: int = 0
    """How many are enough; 0: `overlap` for every task."""
    merged: bool = False
    """Leave one ranking for each task, put together from all labellers', instead of one for each judgement."""
    wait: bool = True
    """Wait for people; otherwise the run stops where judgements are missing, and `plaudit resume` goes on with it."""
    poll_seconds: float = 2.0
    """How often a waiting run looks."""
    seed: int = 0
    """Of the order in which each labeller sees answers, and of where gold tasks come."""

    def __post_init__(self) -> None:
        require(self.data, "data must name at least one file")
        require(not holds_password(self.store), f"store: {NO_PASSWORD}")
        require(self.judgements >= 0, "judgements must not be negative")
        require(self.poll_seconds > 0, "poll_seconds must be above 0")
