"""Tasks out of data files: candidates, rankings, comparisons, and the samples that `compare` leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.data.formats import competition_ranks, prompt_row
from plaudit.data.options import DataConfig
from plaudit.data.sources import load, read_raw
from plaudit.errors import UserError
from plaudit.feedback.records import Candidate, Task
from plaudit.records.text import Candidates, Comparison, Kind, Ranking
from plaudit.runs.records import SAMPLES
from plaudit.telemetry.console import say

SAMPLE_COLUMNS = ("policy", "before", "after")
"""By which `compare`'s samples are known."""
LEFT = (SAMPLES, "candidates.jsonl", "rankings.jsonl")
"""What `compare` and `collect` leave in their runs."""
_READ = (Kind.CANDIDATES, Kind.RANKING, Kind.COMPARISON)


def read_tasks(config: DataConfig, *, gold: bool = False) -> list[Task]:
    """The tasks of a file, each answer once; rows with fewer than two different answers give none.

    `gold`: the file's own ranks are the right ones, by which labellers are checked. Otherwise they are not looked at.
    Raises: UserError for a file without answers.
    """
    raw = read_raw(config)
    if set(SAMPLE_COLUMNS) <= set(raw.columns):
        tasks = [_sample(row, where) for where, row in raw.raws]
        return [task for task in tasks if task is not None]
    try:
        rows = load(config, *_READ, to_learn=False).rows
    except UserError as error:
        hint = "People judge answers: let a model write them first (`plaudit collect` without a labeller)."
        raise UserError(f"{error}\n{hint}" if "prompt rows" in str(error) else str(error)) from error
    return list(_tasks(rows, gold=gold))


def tasks_of(source: Path, *, gold: bool = False) -> list[Task]:
    """As `read_tasks`, of a data file or of what `compare` and `collect` left in a run folder."""
    files = [source / name for name in LEFT if (source / name).is_file()] if source.is_dir() else [source]
    if not files:
        raise UserError(f"{source}: left no answers to rank; with --samples 6 its model writes them meanwhile")
    tasks = read_tasks(DataConfig(path=str(files[0])), gold=gold)
    say(f"{files[0]}: {len(tasks)} tasks")
    return tasks


def _tasks(rows: Sequence[Any], *, gold: bool) -> Iterator[Task]:
    for row in rows:
        match row:
            case Comparison():
                task = task_of_answers(row, (row.chosen, row.rejected), {}, (1, 2) if gold else None)
            case Ranking():
                task = task_of_answers(row, row.responses, row.columns, row.ranks if gold else None)
            case Candidates():
                task = task_of_answers(row, row.responses, row.columns, None)
                if gold:
                    raise UserError(f"{row.where}: gold tasks need rankings: these answers have no ranks")
            case _:
                continue
        if task is not None:
            yield task


def task_of_answers(
    row: Candidates | Ranking | Comparison,
    texts: Sequence[str],
    columns: Mapping[str, Any],
    ranks: Sequence[int] | None,
) -> Task | None:
    """A task of the row's different answers; None for fewer than two."""
    models, samplings = columns.get("response_model") or (), columns.get("response_sampling") or ()
    first = [texts.index(text) for text in dict.fromkeys(texts)]
    if len(first) < 2:
        return None
    answers = [
        Candidate(
            text=texts[i],
            model=str(models[i] or "") if models else "",
            sampling=dict(samplings[i] or {}) if samplings else {},
        )
        for i in first
    ]
    gold_ranks = competition_ranks([ranks[i] for i in first]) if ranks is not None else None
    return Task.of(row.prompt, answers, gold_ranks=gold_ranks, source=row.where)


def _sample(raw: Mapping[str, Any], where: str) -> Task | None:
    """Two policies' answers to one prompt; equal ones need nobody's judgement (`wins` counts them as ties)."""
    if raw["before"] == raw["after"]:
        return None
    judge = str(raw.get("judge", "the judge"))
    answers = tuple(
        Candidate(text=raw[side], model=str(name), sampling={"judge": judge, "score": raw.get(f"score_{side}")})
        for side, name in (("before", raw.get("against", "baseline")), ("after", raw["policy"]))
    )
    return Task.of(prompt_row({"prompt": raw["prompt"]}, Kind.PROMPT, where).prompt, answers, source=where)
