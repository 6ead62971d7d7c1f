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
from plaudit.feedback.sources import SAMPLE_COLUMNS, read_tasks
from plaudit.feedback.store import Store
from plaudit.records.results import Result
from plaudit.runs.lineage import locate
from plaudit.runs.records import SAMPLES, write_people
from plaudit.telemetry.summary import summary


def leave_verdicts(store: Store) -> dict[Path, list[Result]]:
    """Write people.json into every run whose samples the project's tasks came from; folder -> results. Runs about which
    nobody has said anything yet, and those that are not here any more, are left alone.

    What was said of two texts counts for every policy of the run that wrote them; of the labellers stands there how
    they agree on this run's tasks, and how well those who judged them know gold.
    """
    left: dict[Path, list[Result]] = {}
    for named in sorted({Path(task.source.rpartition(":")[0]) for task in store.tasks()}):
        file = locate(str(named), Path(store.name)) if named.name == SAMPLES else None
        if file is not None and file.is_file():
            source = DataConfig(path=str(file))
            tasks = read_tasks(source)
            if results := wins(store, tasks, equal_answers([source])):
                run = named.parent if named.resolve() == file else file.parent
                left[run] = [*results, *labellers(store, {task.id for task in tasks})]
                write_people(run, summary(left[run], project=store.name))
    return left


def equal_answers(sources: Sequence[DataConfig]) -> Mapping[Sides, int]:
    """Of `compare`'s samples: (policy, baseline) → prompts on which both wrote the same."""
    equal: Counter[Sides] = Counter()
    for source in sources:
        raw = read_raw(source)
        if set(SAMPLE_COLUMNS) <= set(raw.columns):
            same: list[Mapping[str, Any]] = [row for _, row in raw.raws if row["before"] == row["after"]]
            equal.update((str(row["policy"]), str(row.get("against", "baseline"))) for row in same)
    return equal
