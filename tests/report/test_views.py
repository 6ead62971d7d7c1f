"""What stands on the page, by hand numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from plaudit.report import bars, terms, views
from plaudit.report.collect import StageRow, Status, collect
from plaudit.report.html import number, signed
from tests.report.folders import EXPECTED_ACCURACY, PROGRESS, ppo_lines, reward_lines, write_pipeline, write_run

UP = StageRow(
    name="reward", metric="reward/accuracy_over_pairs", unit="", value=0.8, low=0.7, high=0.9, floor=0.5, ceiling=0.9
)
DOWN = dataclasses.replace(
    UP, metric="sft/held_out_loss_over_tokens", value=2.0, low=1.8, high=2.2, floor=1.0, ceiling=5.0
)


def test_the_bar_runs_from_floor_to_ceiling() -> None:
    bar = bars.bar(UP)
    assert bar.dot == 230.0  # three quarters of 20 … 300
    assert [(tick.x, tick.label, tick.anchor) for tick in bar.ticks] == [
        (20.0, "floor 0.5", "start"),
        (300.0, "ceiling 0.9", "end"),
    ]
    assert bar.done == (20.0, 210.0)
    assert bar.interval == (160.0, 140.0)
    assert bar.share == "75%"
    assert bar.alt == "value 0.8, floor 0.5, ceiling 0.9, 75% of the way"


def test_where_less_is_better_the_bar_runs_the_other_way() -> None:
    bar = bars.bar(DOWN)
    assert bar.dot == 230.0
    assert {tick.label: tick.x for tick in bar.ticks} == {"ceiling 5": 20.0, "floor 1": 300.0}
    assert bar.share == "75%"
    assert bar.interval == (216.0, 28.0)


@pytest.mark.parametrize(
    ("metric", "floor", "ceiling", "share"),
    [
        ("held-out negative log-likelihood per answer", 1.0, 5.0, "75%"),
        ("held-out negative log-likelihood per answer", 5.0, 1.0, "75%"),
        ("sft/held_out_loss_over_tokens", 5.0, 1.0, "75%"),
        ("something new", 5.0, 1.0, "75%"),
        ("something new", 1.0, 5.0, "25%"),
    ],
)
def test_which_way_is_better(metric: str, floor: float, ceiling: float, share: str) -> None:
    """By definition for metrics and phrases that are known; else from floor to ceiling."""
    bar = bars.bar(dataclasses.replace(DOWN, metric=metric, floor=floor, ceiling=ceiling))
    assert bar.share == share
    assert bar.dot == (230.0 if share == "75%" else 90.0)


@pytest.mark.parametrize(("value", "share", "dot"), [(1.3, "200%", 300.0), (0.3, "-50%", 20.0)])
def test_values_beyond_the_references_stay_in_the_drawing(value: float, share: str, dot: float) -> None:
    bar = bars.bar(dataclasses.replace(UP, value=value, low=None, high=None))
    assert (bar.share, bar.dot, bar.interval) == (share, dot, None)
    assert all(20.0 <= tick.x <= 300.0 for tick in bar.ticks)


def test_one_reference_gives_a_place_but_no_share() -> None:
    bar = bars.bar(dataclasses.replace(UP, ceiling=None))
    assert (bar.share, bar.done) == ("", None)
    assert [tick.label for tick in bar.ticks] == ["floor 0.5"]


@pytest.mark.parametrize(
    "gone",
    [{"value": None}, {"floor": None, "ceiling": None}, {"value": 1, "low": 1, "high": 1, "floor": 1, "ceiling": 1}],
)
def test_no_bar_without_something_to_place(gone: dict) -> None:
    assert bars.bar(dataclasses.replace(UP, **gone)) is None


def test_references_close_together_share_a_label() -> None:
    bar = bars.bar(dataclasses.replace(UP, value=5.0, low=None, high=None))
    assert [tick.label for tick in bar.ticks] == ["", "floor 0.5 · ceiling 0.9"]


def test_numbers_and_changes_in_words() -> None:
    shown = [number(x) for x in (None, 0.0, 3.0, -0.51424, 1234.5, 123456.7, 1e-5, -2.5e7, 0.001)]
    assert shown == ["–", "0", "3", "−0.5142", "1234", "123,457", "1·10⁻⁵", "−2.5·10⁷", "0.001"]
    assert [signed(x) for x in (1.2345, -0.5, 0.0)] == ["+1.23", "−0.5", "0"]
    durations = [views.duration(x) for x in (None, 1.25, 42.4, 200, 7500)]
    assert durations == ["", "1.2 s", "42 s", "3 min 20 s", "2 h 05 min"]
    assert [views.size(x) for x in (None, 100, 2048, 1_400_000_000)] == ["", "100 B", "2 KiB", "1.3 GiB"]


def test_runs_of_one_stage_never_share_a_name(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "other"]
    runs = [collect(write_run(folder, "ppo")) for folder in folders]
    assert [run.name for run in views.name_apart([*runs, runs[0]])] == ["a/run", "b/run", "other", "a/run (2)"]


def test_a_pipelines_stages_bear_its_name_beside_others(tmp_path: Path) -> None:
    one, two = (collect(write_pipeline(tmp_path / name)) for name in ("one", "two"))
    assert [run.name for run in views.name_apart([one])][:2] == ["01-world", "02-sft"]
    assert {run.name for run in views.name_apart([one, two])} == {"one", "two"}


def test_only_options_that_differ_are_compared(tmp_path: Path) -> None:
    a = collect(write_run(tmp_path / "a", "ppo", config={"seed": 1, "kl": {"coef": 0.1}, "lr": 1e-5}))
    b = collect(write_run(tmp_path / "b", "ppo", config={"seed": 1, "kl": {"coef": 0.2}, "extra": "x"}))
    (block,) = views.page([a, b]).differences
    assert block.names == ("a", "b")
    assert {line.key: line.values for line in block.lines} == {
        "kl.coef": ("0.1", "0.2"), "lr": ("1e-05", None), "extra": (None, "x"),
    }  # fmt: skip
    assert views.page([a]).differences == ()
    (same,) = views.page([a, a]).differences
    assert same.lines == () and same.note == "Their configurations are the same."


def test_a_killed_pipeline_lists_the_stages_that_never_began(tmp_path: Path) -> None:
    page = views.page([collect(write_pipeline(tmp_path / "p", finished=False))])
    assert [(line.folder, line.status) for line in page.stage_lists[0].lines][-2:] == [
        ("04-ppo", Status.INTERRUPTED),
        ("compare", Status.NEVER_STARTED),
    ]
    assert page.heads[0].status is Status.INTERRUPTED
    assert any("04-ppo: no summary was written" in problem and "step is 31" in problem for problem in page.problems)


def test_answers_come_from_the_comparison_or_else_from_rollouts(tmp_path: Path) -> None:
    whole = collect(write_pipeline(tmp_path / "whole"))
    half = collect(write_pipeline(tmp_path / "half", finished=False))
    page = views.page([whole, half])
    assert [(block.title, block.lines[0].title) for block in page.samples] == [
        ("whole", "ppo: largest gains"),
        ("half", "Largest gains"),
    ]
    assert page.samples[1].lines[0].cards[0].sides[0][0] == "iteration 1"
    assert [block.title for block in views.page([whole]).samples] == [""]


def test_the_head_says_what_when_and_with_what(tmp_path: Path) -> None:
    (head,) = views.page([collect(write_pipeline(tmp_path / "p", seed=7))]).heads
    assert {fact.name: fact.value for fact in head.facts} == {
        "Started": "2025-06-01 10:20:30 UTC",
        "Took": "4 min 11 s",
        "Seed": "7",
        "Peak memory": "1.3 GiB",
        "Versions": "plaudit 0.1.0, torch 2.13.0, transformers 5.16.1, Python 3.12.1",
        "Machine": "Linux-6.1, 2 CPU cores",
        "Commit": "abc123",
        "Command": "plaudit ppo configs/ppo.yaml --name 'a b'",
    }


def test_a_nested_seed_is_found_unless_there_are_several(tmp_path: Path) -> None:
    one = collect(write_run(tmp_path / "a", "ppo", config={"ppo": {"seed": 5}}))
    two = collect(write_run(tmp_path / "b", "ppo", config={"ppo": {"seed": 5}, "data": {"seed": 6}}))
    seeds = [{f.name: f.value for f in views.page([run]).heads[0].facts}.get("Seed") for run in (one, two)]
    assert seeds == ["5", None]


def test_metrics_in_numbers(tmp_path: Path) -> None:
    lines = [{"step": step, "ppo/kl_coef": value} for step, value in enumerate((3.0, None, 1.0, 2.0))]
    page = views.page([collect(write_run(tmp_path / "r", "ppo", lines=lines))])
    (line,) = page.numbers[0].lines
    assert (line.first, line.last, line.low, line.high, line.points, line.unit) == (3.0, 2.0, 1.0, 3.0, 3, "score/nat")


def test_every_name_on_the_page_is_defined(tmp_path: Path) -> None:
    lines = [{**line, "ppo/of_another_version": 1.0} for line in ppo_lines(12)]
    other = collect(write_run(tmp_path / "q", "ppo", lines=lines))
    page = views.page([collect(write_pipeline(tmp_path / "p")), other])
    shown = {key for figure in page.figures for key in figure.keys}
    shown |= {line.metric for table in page.tables for line in table.lines}
    shown |= {line.key for block in page.numbers for line in block.lines}
    assert shown <= page.terms.keys()
    assert all(page.terms[key].meaning for key in shown)
    assert len({term.id for term in page.terms.values()}) == len(page.terms)
    assert "no definition" in page.terms["ppo/of_another_version"].meaning
    assert page.terms[EXPECTED_ACCURACY].unit == "share of pairs"
    assert page.terms[PROGRESS].formula.startswith("(J − J_ref) / (J* − J_ref)")


def test_phrases_lead_to_declared_metrics() -> None:
    assert [phrase.curve for phrase in terms.PHRASES if phrase.curve and terms.declared(phrase.curve) is None] == []
    assert (terms.better("sft/loss_over_tokens"), terms.unit("ppo/part/tone_over_responses")) == ("down", "score")


def test_a_control_stands_apart(tmp_path: Path) -> None:
    """A reward model of permuted rankings and PPO on it: not on the axes of the runs that should learn."""
    folder = write_pipeline(tmp_path / "p")
    spare = folder / "06-reward-control"
    write_run(spare, "reward", config={"shuffle_labels": True, "model": {"path": "m"}}, lines=reward_lines())
    config = {"model": {"path": f"{folder}/02-sft/model"}, "rewards": [{"kind": "model", "path": f"{spare}/model"}]}
    write_run(folder / "07-ppo-control", "ppo", config=config, lines=ppo_lines(9))
    judged = {"policies": {"control": f"{folder}/07-ppo-control/model"}}
    write_run(folder / "08-compare", "compare", config=judged, lines=[{"step": 1, "eval/perplexity": 2.0}])
    collected = collect(folder)
    assert [s.name for s in collected.stages if s.control] == ["06-reward-control", "07-ppo-control"]
    groups = {group.title: group for group in views.page([collected]).groups}
    for title, count in (("PPO", 60), ("PPO, control", 9)):
        (score,) = [figure for figure in groups[title].lines if figure.title == "Objective"]
        assert {trace["x"][-1] for trace in score.plot["data"][:1]} == {count}
        assert not any("control" in str(trace.get("name")) for trace in score.plot["data"])
    assert "permuted labels" in groups["Reward model, control"].note
    assert groups["PPO"].note == ""
