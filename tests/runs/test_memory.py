"""A run without a folder offers what a folder's run does, and leaves nothing on disk."""

import inspect
import math
import os
import re
from pathlib import Path

import pytest

from plaudit.errors import UserError
from plaudit.runs import records
from plaudit.runs.folder import Run
from plaudit.telemetry.console import warn
from tests.config.schema import Config, Data


def test_what_is_written_can_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Run.memory("sft", Config(seed=5, data=(Data(path="a"),))) as run:
        run.check_data({"a": "12"})
        for step in (1, 2, 3):
            run.log(step, {"loss_over_tokens": 1.0 if step < 3 else math.nan})
        run.truncate_metrics(1)
        run.log(2, {"loss_over_tokens": math.inf})
        warn("mind")
        run.write_rollouts(2, [{"score": math.nan}])
        run.write_rows("rankings.jsonl", iter([{"a": 1}]))
        for saved in (run.checkpoint(1), run.save_model(), run.keep_batch(1)):
            with saved as folder:
                (folder / "weights").write_text("w")
        run.check_space(10**18)
        run.check_stop()
        assert run.latest() is None and not run.saves and not run.finished
        run.finish({"results": [], "seconds": math.inf})
    assert run.config["seed"] == 5 and run.stage == run.provenance["stage"] == "sft"
    assert run.provenance["data"] == {"a": "12"}
    assert [(line["step"], line["sft/loss_over_tokens"]) for line in run.files.metrics] == [(1, 1.0), (2, None)]
    assert [(event["level"], event["message"], event["step"]) for event in run.files.events] == [
        ("warning", "mind", 2),
        ("notice", "health: healthy", 2),
    ]
    assert run.files.rollouts == {2: [{"score": None}]} and run.files.rows("rankings.jsonl") == [{"a": 1}]
    assert run.finished and {"results": [], "seconds": None}.items() <= run.summary.items()
    assert os.listdir(tmp_path) == []


def test_it_has_no_folder() -> None:
    with pytest.raises(UserError, match="this run is in memory"):
        _ = Run.memory("sft", {}).folder


def test_every_sort_of_records_offers_the_same() -> None:
    """`Run` asks of all three what it asks of one."""
    asked = set(re.findall(r"_records\.(\w+)", inspect.getsource(Run)))
    assert len(asked) > 8
    for sort in (records.NoRecords(), records.MemoryRecords("sft", {})):
        assert [name for name in asked if not hasattr(sort, name)] == []
