"""A run looked at while it grows is the run that the report reads."""

import json
import math
import random
from pathlib import Path

import pytest

from plaudit.report.collect import collect
from plaudit.report.columns import Columns
from plaudit.report.curves import smooth
from plaudit.report.live import LiveRun, thinned
from plaudit.report.views import page
from tests.kills import kills
from tests.report.folders import as_lines, ppo_lines, rollout_rows, sample_rows, summary, write_run


def whole(live: LiveRun, points: int = 1000):
    while True:
        live.advance(1.0)
        if live.whole:
            return live.read(points)


def same(live, read) -> None:
    names = ("status", "stage", "last_step", "seconds", "series", "results", "warnings", "problems", "health", "first")
    assert {name: getattr(live, name) for name in names} == {name: getattr(read, name) for name in names}


@pytest.mark.parametrize("found", [None, [{"measure": "pair_accuracy", "value": 0.7, "subject": "a"}]])
def test_what_is_read_piece_by_piece_is_what_the_report_reads(tmp_path, found):
    lines = ppo_lines(60)
    folder = write_run(
        tmp_path / "r",
        "ppo",
        lines=lines[:20],
        rollouts={1: rollout_rows(4), 9: rollout_rows(3)},
        samples=sample_rows(3),
    )
    live = LiveRun(folder)
    before = live.stamp
    whole(live)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(as_lines(lines[20:]))
        file.write(json.dumps({"step": 61, "ppo/grad_norm": None, "non_finite": {"ppo/grad_norm": "nan"}}) + "\n")
    (folder / "events.jsonl").write_text(as_lines([{"level": "warning", "message": "w", "step": 3}]), encoding="utf-8")
    if found:
        (folder / "summary.json").write_text(json.dumps(summary(found)), encoding="utf-8")
    assert live.stamp != before
    same(whole(live), collect(folder))
    assert live.stamp == live.stamp


def test_a_resumed_run_whose_log_was_cut_begins_anew(tmp_path):
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(40))
    live = LiveRun(folder)
    whole(live)
    (folder / "metrics.jsonl").write_text(as_lines([*ppo_lines(10), *ppo_lines(12, seed=1)[8:]]), encoding="utf-8")
    run = whole(live)
    same(run, collect(folder))
    assert run.last_step == 12
    assert run.series["entropy_over_tokens"].steps == tuple(range(1, 13))


def long_columns(count: int, *, seed: int = 0) -> Columns:
    noise = random.Random(seed)
    columns = Columns()
    values = [noise.gauss(0, 1) for _ in range(count)]
    values[1234], values[2345] = 50.0, -50.0
    lines = [{"step": step, "time": step / 2, "ppo/entropy_over_tokens": y} for step, y in enumerate(values)]
    lines[77]["ppo/entropy_over_tokens"] = None
    columns.add(lines)
    return columns


@kills("report/live.py", old="math.inf, table).argmin(1)", new="math.inf, table).argmax(1)", why="the lowest would go")
@kills("report/live.py", old="-math.inf, table).argmax(1)", new="-math.inf, table).argmin(1)", why="the highest too")
def test_thinned_curves_keep_their_ends_extremes_and_what_is_asked_for():
    columns = long_columns(5000)
    full = columns.series()["ppo/entropy_over_tokens"]
    thin = thinned(columns, 200, {3000})["ppo/entropy_over_tokens"]
    assert len(thin.steps) <= 202 and thin.steps == tuple(sorted(thin.steps))
    assert {0, 1234, 2345, 3000, 4999} <= set(thin.steps)
    assert all(full.values[step] == y for step, y in zip(thin.steps, thin.values, strict=True))
    assert all(full.seconds[step] == s for step, s in zip(thin.steps, thin.seconds, strict=True))
    assert len(thin.known) + thin.left_out == len(full.known) == 4999
    means = smooth(full.values, thin.width)
    assert thin.means == pytest.approx([math.nan if means[s] is None else means[s] for s in thin.steps], nan_ok=True)


def test_short_curves_stay_as_they_are():
    columns = long_columns(3000)
    assert thinned(columns, 3000, ()) == columns.series()


def test_a_figure_of_a_thinned_run_has_the_mean_of_all_points(tmp_path):
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(3000))
    live = LiveRun(folder)
    thin, full = page([whole(live, 150)]), page([collect(folder)])
    assert [figure.title for figure in thin.figures] == [figure.title for figure in full.figures]
    assert [figure.caption for figure in thin.figures] == [figure.caption for figure in full.figures]
    pairs = [each for each in zip(thin.figures, full.figures, strict=True) if each[0].title != "Length"]
    for few, many in pairs[:5]:
        raw, mean = few.plot["data"][:2]
        every = dict(zip(many.plot["data"][1]["x"], many.plot["data"][1]["y"], strict=True))
        shared = [(y, every[x]) for x, y in zip(mean["x"], mean["y"], strict=True) if x in every]
        assert len(raw["x"]) <= 152 and len(shared) > 50
        assert all(a == pytest.approx(b, rel=1e-5) for a, b in shared)
    assert thin.numbers[0].lines == full.numbers[0].lines


def test_a_sketch_opens_without_reading_the_log(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "r", "ppo", lines=ppo_lines(5000), rollouts={1: rollout_rows(4)})
    monkeypatch.setattr("plaudit.report.tail.objects", counting := Counting())
    live = LiveRun(folder)
    sketch = live.sketch()
    assert counting.lines < 200
    assert (sketch.last_step, sketch.series["entropy_over_tokens"].steps[0], sketch.first) == (5000, 1, None)
    assert live.sketch().series is not None and counting.lines < 200
    assert live.sketch(answers=True).first is not None


class Counting:
    def __init__(self) -> None:
        self.lines = 0

    def __call__(self, lines):
        rows = [json.loads(line) for line in lines]
        self.lines += len(rows)
        return rows


def test_health_is_what_the_summary_says_or_what_the_rules_find(tmp_path):
    lines = [
        {**line, "ppo/entropy_over_tokens": 2.0 - 0.06 * min(index, 33)} for index, line in enumerate(ppo_lines(60))
    ]
    folder = write_run(tmp_path / "r", "ppo", lines=lines)
    live = LiveRun(folder)
    assert live.sketch().health is None
    assert [one.rule for one in whole(live).health] == [one.rule for one in collect(folder).health] != []
    told = {"rule": "x", "level": "alarm", "key": "k", "since": 3, "until": None, "value": 1.0, "says": "s", "do": "d"}
    text = summary(health={"level": "alarm", "findings": [told, {"level": "odd"}, 3]})
    (folder / "summary.json").write_text(json.dumps(text), encoding="utf-8")
    (only,) = live.sketch().health
    assert (only.rule, only.since, only.level) == ("x", 3, "alarm")


def test_a_folder_that_is_gone_or_not_there_yet(tmp_path):
    live = LiveRun(Path(tmp_path / "none"))
    assert whole(live).status == "never started"
