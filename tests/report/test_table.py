"""The table of results in the terminal."""

import json

import pytest

from plaudit.report.table import print_table

ROW = {
    "name": "reward model (shuffled labels)",
    "metric": "held-out accuracy, expected under the known label probabilities",
    "value": 0.51349, "low": None, "high": None, "floor": 0.5, "ceiling": 0.777, "unit": "share of pairs",
}  # fmt: skip
RATED = {**ROW, "name": "ppo", "value": 2.0, "low": -1.9054, "high": 2.1, "ceiling": None}


@pytest.mark.parametrize(("columns", "width"), [(None, 100), ("140", 140)])
def test_a_piped_table_is_wide_enough_for_whole_words(tmp_path, capsys, monkeypatch, columns, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    stages = {"stages": [ROW, RATED], "seconds": 61.4, "peak_memory_bytes": 2**29, "seed": 3}
    (tmp_path / "summary.json").write_text(json.dumps(stages), encoding="utf-8")
    print_table(tmp_path)
    told = capsys.readouterr().out
    words = told.split()
    assert {"probabilities", "(shuffled", "labels)", "0.513", "0.777", "-1.905", "2.100"} <= set(words)
    assert 80 < max(map(len, told.splitlines())) <= width
    assert told.endswith("61 s, 0.50 GiB at most, seed 3\n")


def test_a_run_without_stages_prints_nothing(tmp_path, capsys):
    print_table(tmp_path)
    (tmp_path / "summary.json").write_text('{"stages": []}', encoding="utf-8")
    print_table(tmp_path)
    assert capsys.readouterr().out == ""
