"""Whether a task can be shown, and whether a judgement fits its task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from plaudit.data.formats import competition_ranks
from plaudit.feedback.options import ProjectConfig
from plaudit.feedback.records import Judgement, StoreRefuses, Task

MAX_ANSWERS = 26
"""A letter for each."""
MAX_COMMENT = 20_000
"""Characters; longer ones are cut."""


def check_task(task: Task, config: ProjectConfig) -> None:
    """Raises: StoreRefuses."""
    count = len(task.answers)
    where = f"{task.source}: " if task.source else ""
    if not 2 <= count <= MAX_ANSWERS:
        raise StoreRefuses(f"{where}a task needs 2 to {MAX_ANSWERS} answers, this one has {count}")
    if config.mode != "rank" and count != 2:
        raise StoreRefuses(f"{where}mode {config.mode} takes tasks of two answers, this one has {count}")
    if task.gold_ranks is not None and len(task.gold_ranks) != count:
        raise StoreRefuses(f"{where}{len(task.gold_ranks)} gold ranks for {count} answers")


def checked(judgement: Judgement, task: Task, config: ProjectConfig) -> Judgement:
    """The judgement with ranks as in a race (1, 1, 3). Raises: StoreRefuses where it doesn't fit."""
    count = len(task.answers)
    ranks = judgement.ranks
    if config.mode == "eight_step" and not judgement.none_acceptable:
        if not 1 <= judgement.step <= 8:
            raise StoreRefuses("choose a step from 1 to 8")
        ranks = (1, 2) if judgement.step <= 4 else (2, 1)
    elif judgement.step:
        both = "choose a step or say that none is acceptable, not both"
        raise StoreRefuses(both if config.mode == "eight_step" else "this project has no steps")
    if ranks or not judgement.none_acceptable:
        ranks = checked_ranks(ranks, count)
    _check_scalar(judgement, config, count)
    if unknown := set(judgement.flags) - set(config.flags):
        raise StoreRefuses(f"this project has no flag {min(unknown)!r:.40}")
    if any(len(values) != count or not all(isinstance(v, bool) for v in values) for values in judgement.flags.values()):
        raise StoreRefuses(f"each flag needs a yes or no for each of the {count} answers")
    if not (math.isfinite(judgement.seconds) and judgement.seconds >= 0):
        raise StoreRefuses("the seconds spent must be a number, not negative")
    return replace(judgement, ranks=ranks, comment=judgement.comment[:MAX_COMMENT])


def checked_ranks(ranks: Sequence[int], count: int) -> tuple[int, ...]:
    """As in a race (1, 1, 3). Raises: StoreRefuses."""
    if len(ranks) != count or not all(isinstance(rank, int) and not isinstance(rank, bool) for rank in ranks):
        raise StoreRefuses(f"every one of the {count} answers needs a rank (1 = best, ties share one)")
    return competition_ranks(ranks)


def _check_scalar(judgement: Judgement, config: ProjectConfig, count: int) -> None:
    numbers = judgement.scalar
    if not numbers:
        return
    if not config.scalar:
        raise StoreRefuses("this project asks for no numbers")
    if len(numbers) != count or not all(x is None or (isinstance(x, int) and 1 <= x <= 7) for x in numbers):
        raise StoreRefuses(f"numbers go from 1 to 7, one for each of the {count} answers")
