"""What people said of policies, left beside the comparison whose samples they judged (N5.1).

`plaudit label runs/compare` keeps its judgements in a project, which reports don't open: they read run folders. So the
win rates by people, their agreement with the judge and with each other go into the comparison's own folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plaudit.data.options import DataConfig
from plaudit.data.sources import read_raw
from plaudit.feedback.findings import Sides, labellers, wins
from plaudit.feedback.sources import SAMPLES
from plaudit.feedback.store import Store
from plaudit.records.results import Result
from plaudit.runs.records import write_people
from plaudit.telemetry.summary import summary

SAMPLES_FILE = "samples.jsonl"
"""In a comparison's folder."""


def leave_verdicts(store: Store) -> dict[Path, list[Result]]:
    """Write people.json into every run whose samples the project's tasks came from; folder -> results. Runs about which
    nobody has said anything yet, and those that are not here any more, are left alone."""
    left: dict[Path, list[Result]] = {}
    for file in sorted({Path(task.source.rpartition(":")[0]) for task in store.tasks()}):
        if file.name == SAMPLES_FILE and file.is_file():
            equal = equal_answers([DataConfig(path=str(file))])
            if results := wins(store, equal, source=f"{file}:"):
                left[file.parent] = [*results, *labellers(store)]
                write_people(file.parent, summary(left[file.parent], project=store.name))
    return left


def equal_answers(sources: Sequence[DataConfig]) -> Mapping[Sides, int]:
    """Of `compare`'s samples: (policy, baseline) → prompts on which both wrote the same."""
    equal: Counter[Sides] = Counter()
    for source in sources:
        raw = read_raw(source)
        if set(SAMPLES) <= set(raw.columns):
            same: list[Mapping[str, Any]] = [row for _, row in raw.raws if row["before"] == row["after"]]
            equal.update((str(row["policy"]), str(row.get("against", "baseline"))) for row in same)
    return equal
