"""The page of figures: each benchmark has its place, and only places with results change."""

import json
import re

from benchmarks.__main__ import SPEED
from benchmarks.page import PAGE, filled

RECORD = {
    "benchmark": "startup", "commit": "abc", "threads": 1, "peaks": [{"fp32": 2e9, "bf16": 1e9}, {"fp32": 3e9}],
    "machine": {"cpu": "a processor", "threads": 2, "torch": "2.13", "device": "cpu", "date": "2026-11-30"},
    "measurements": [
        {"case": {"command": "help"}, "side": "plaudit", "round": number, "load": number, "failed": "", "wall": 1,
         "figures": {"wall": number, "cpu": number / 10, "command_bytes": 2e6}, "peaks": {"fp32": 2e9}}
        for number in (1, 2, 9)
    ],
}  # fmt: skip


def test_only_places_with_results_change(tmp_path):
    (tmp_path / "startup.json").write_text(json.dumps(RECORD), encoding="utf-8")
    text = "A\n<!-- measured: startup -->\nold\n<!-- end -->\nB\n<!-- measured: ppo -->\nkept\n<!-- end -->\n"
    page = filled(text, tmp_path)
    assert "old" not in page
    assert page.endswith("<!-- end -->\nB\n<!-- measured: ppo -->\nkept\n<!-- end -->\n")
    assert "matmul peak fp32 3 GFLOP/s, bf16 1 GFLOP/s; load before each process 1.0 to 9.0" in page
    assert re.search(r"\| help\s+\|\s+0.2 \|\s+2 \|\s+2 \|", page), "medians"
    assert filled(page, tmp_path) == page


def test_every_benchmark_has_its_place():
    places = set(re.findall(r"<!-- measured: ([\w-]+) -->", PAGE.read_text(encoding="utf-8")))
    assert places == {*SPEED, "ppo-groups"}
