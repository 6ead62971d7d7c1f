"""What stands on the page, by hand numbers."""

from __future__ import annotations

import json
from pathlib import Path

from plaudit.report import views
from plaudit.report.collect import RunStatus, collect
from plaudit.telemetry.events import append_event
from tests.kills import kills
from tests.report.folders import ppo_lines, reward_lines, summary, write_pipeline, write_run


def test_runs_of_one_stage_never_share_a_name(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "other"]
    runs = [collect(write_run(folder, "ppo")) for folder in folders]
    assert [run.name for run in views.name_apart([*runs, runs[0]])] == ["a/run", "b/run", "other", "a/run (2)"]


def test_a_pipelines_stages_bear_its_name_beside_others(tmp_path: Path) -> None:
    one, two = (collect(write_pipeline(tmp_path / name)) for name in ("one", "two"))
    assert [run.name for run in views.name_apart([one])][:2] == ["01-world", "02-sft"]
    assert {run.name for run in views.name_apart([one, two])} == {"one", "two"}


def test_only_options_that_differ_are_listed(tmp_path: Path) -> None:
    a = collect(write_run(tmp_path / "a", "ppo", config={"seed": 1, "kl": {"coef": 0.1}, "lr": 1e-5}))
    b = collect(write_run(tmp_path / "b", "ppo", config={"seed": 1, "kl": {"coef": 0.2}, "extra": "x"}))
    (block,) = views.page([a, b]).differences
    assert block.names == ("a", "b")
    assert dict(block.lines) == {
        "kl.coef": ("0.1", "0.2"), "lr": ("1e-05", None), "extra": (None, "x"),
    }  # fmt: skip
    assert views.page([a]).differences == ()
    (same,) = views.page([a, a]).differences
    assert same.lines == () and same.note == "Their configurations are the same."


def test_a_killed_pipeline_lists_the_stages_that_never_began(tmp_path: Path) -> None:
    page = views.page([collect(write_pipeline(tmp_path / "p", finished=False))])
    assert [line[:2] for line in page.stage_lists[0].lines][-2:] == [
        ("04-ppo", RunStatus.INTERRUPTED),
        ("compare", RunStatus.NEVER_STARTED),
    ]
    assert page.heads[0].status is RunStatus.INTERRUPTED
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
    assert {**head.facts, **head.more} == {
        "Started": "2025-06-01 10:20:30 UTC",
        "Took": "4 min 11 s",
        "Seed": "7",
        "Peak memory": "1.3 GiB",
        "Health": "healthy",
        "Versions": "plaudit 0.1.0, torch 2.13.0, transformers 5.16.1, Python 3.12.1",
        "Machine": "Linux-6.1, 2 CPU cores",
        "Commit": "abc123",
        "Command": "plaudit ppo configs/ppo.yaml --name 'a b'",
    }


def ill_lines() -> list[dict[str, float]]:
    """An update too far at iteration 4, which is over later; a KL out of bounds from 6 on."""
    lines = [{"step": i, "ppo/kl_ref_over_responses": 60.0 if i > 5 else 1.0, "ppo/length_over_responses": 30.0,
              "ppo/ratio_max": 99.0 if i == 4 else 1.5} for i in range(1, 15)]  # fmt: skip
    return lines


def test_health_stands_on_top_and_on_the_curve(tmp_path: Path) -> None:
    """Of a run that has no word of its own about it: the page reads metrics.jsonl by the rules."""
    folder = write_run(tmp_path / "ill", "ppo", lines=ill_lines())
    append_event(folder, {"level": "warning", "message": "health: the KL …"})
    view = views.page([collect(folder)])
    ((level, text),) = view.heads[0].health
    assert level == "alarm" and text.startswith("the KL to the reference is 60 nats") and "(step 6)" in text
    assert not any("health:" in problem for problem in view.problems)  # told above
    marks = [
        (figure.title, trace["x"], trace["y"], trace["meta"], trace["name"])
        for figure in view.figures
        for trace in figure.plot["data"]
        if trace["mode"] == "markers" and "health" not in trace and trace["marker"].get("symbol") == "x-thin"
    ]
    assert ("KL to the reference", [6], [60.0], 0, "alarm: kl_far") in marks
    assert ("Largest ratio", [4], [99.0], 0, "warning: ratio_high") in marks and len(marks) == 2
    well = views.page([collect(write_run(tmp_path / "well", "ppo", lines=ill_lines()[:3]))]).heads[0]
    assert well.health == () and well.facts["Health"] == "healthy"
    assert "Health" not in views.page([collect(write_run(tmp_path / "world", "world"))]).heads[0].facts


def test_a_pipelines_health_names_the_stage(tmp_path: Path) -> None:
    write_run(tmp_path / "p" / "01-ppo", "ppo", lines=ill_lines())
    write_run(tmp_path / "p" / "02-sft", "sft", lines=[{"step": 1, "sft/skipped_updates": 1}])
    found = views.page([collect(tmp_path / "p")]).heads[0].health
    assert [(level, text.partition(":")[0]) for level, text in found] == [("alarm", "01-ppo"), ("warning", "02-sft")]


@kills(
    "report/heads.py",
    old="if one.level is level)",
    new="if one.level is not level)",
    why="other findings than the worst are named",
)
def test_a_sick_runs_headline_does_not_begin_with_its_success(tmp_path: Path) -> None:
    lines = [{**line, "ppo/score_over_responses": line["step"]} for line in ill_lines()]
    write_run(tmp_path / "p" / "01-ppo", "ppo", lines=lines)
    warned, told = views.page([collect(tmp_path / "p" / "01-ppo")]).heads[0].sentences
    assert warned == "Not to be relied on (alarm: kl_far). What was measured all the same:"
    assert told.startswith("score: from 1.00 to 14.00")


def test_a_config_that_no_run_has_costs_the_verdict_alone(tmp_path: Path) -> None:
    config = {"rewards": [{"name": "a", "weight": "much"}, {"name": "b"}], "critic_warmup": "long"}
    lines = [{"step": i, "ppo/explained_variance": 0.1, "ppo/part/a_over_responses": 1.0} for i in (1, 2)]
    view = views.page([collect(write_run(tmp_path / "r", "ppo", config=config, lines=lines))])
    assert view.heads[0].health == () and any("health can't be judged" in problem for problem in view.problems)


def test_metrics_in_numbers(tmp_path: Path) -> None:
    lines = [{"step": step, "ppo/kl_coef": value} for step, value in enumerate((3.0, None, 1.0, 2.0))]
    page = views.page([collect(write_run(tmp_path / "r", "ppo", lines=lines))])
    (line,) = page.numbers[0].lines
    assert line == ("kl_coef", (3.0, 2.0, 1.0, 3.0), 3)  # first, last, lowest, highest


def test_every_name_on_the_page_is_defined(tmp_path: Path) -> None:
    lines = [{**line, "ppo/of_another_version": 1.0} for line in ppo_lines(12)]
    other = collect(write_run(tmp_path / "q", "ppo", lines=lines))
    page = views.page([collect(write_pipeline(tmp_path / "p")), other])
    shown = {key for figure in page.figures for key in figure.keys}
    shown |= {row.result.measure for table in page.tables for _, rows in table.lines for row in rows}
    shown |= {key for block in page.numbers for key, *_ in block.lines}
    assert shown <= page.terms.keys()
    assert all(page.terms[key].meaning for key in shown)
    assert "no definition" in page.terms["of_another_version"].meaning
    assert page.terms["expected_accuracy_over_pairs"].unit == "share of pairs"


def test_results_stand_by_stage_with_the_sentence_above(tmp_path: Path) -> None:
    page = views.page([collect(write_pipeline(tmp_path / "p"))])
    assert [(stage, len(rows)) for stage, rows in page.tables[0].lines] == [("sft", 1), ("reward", 2), ("compare", 6)]
    (sentence,) = page.heads[0].sentences
    assert sentence.startswith("ppo raised the mean score by the judge from 0.41 to 1.62")
    killed = views.page([collect(write_pipeline(tmp_path / "q", finished=False))])
    assert killed.heads[0].sentences[0].startswith("SFT: held-out loss per answer 7.37 nats")


def test_what_is_not_asked_for_is_folded(tmp_path: Path) -> None:
    page = views.page([collect(write_pipeline(tmp_path / "p"))])
    (ppo,) = [group for group in page.groups if group.title == "PPO"]
    assert [figure.title for figure in ppo.lines][:3] == ["Score", "Objective", "KL to the reference"]
    assert len(ppo.lines) == views.OPEN_FIGURES and len(ppo.folded) > 6
    assert "Took" in page.heads[0].facts and "Command" in page.heads[0].more


def test_every_sample_can_be_searched_for(tmp_path: Path) -> None:
    page = views.page([collect(write_pipeline(tmp_path / "p"))])
    assert len(page.search) == 120
    assert [side[0] for side in page.search[0][1]] == ["before", "ppo"]
    alone = views.page([collect(write_pipeline(tmp_path / "q", finished=False))])
    assert [sides[0][0] for _, sides in alone.search] == ["iteration 31"] * 40


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
    assert (groups["PPO, control"].closed, groups["PPO"].closed, groups["PPO"].note) == (True, False, "")
    found = [
        {"measure": "win_rate_over_prompts", "subject": name, "against": "sft", "value": 0.5, "low": 0.4, "high": 0.6}
        for name in ("ppo", "control")
    ]
    (folder / "08-compare" / "summary.json").write_text(json.dumps(summary(found)), encoding="utf-8")
    (folder / "summary.json").unlink()
    (folder / "05-compare" / "summary.json").unlink()
    assert "the control gained nothing (50 %)" in " ".join(views.page([collect(folder)]).heads[0].sentences)
