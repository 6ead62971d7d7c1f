"""The flow of a run: what it reads out of provenance, what it refuses to show, and what is drawn."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from plaudit.errors import UserError
from plaudit.records.results import Result
from plaudit.report import lineage
from plaudit.report.collect import PipelineData, RunData, collect
from plaudit.report.flow import Flow, flow
from plaudit.report.flow_drawing import drawing, wrapped
from plaudit.report.html import write_flow
from tests.kills import kills
from tests.report.folders import (
    CHINESE,
    HOSTILE,
    PROVENANCE,
    as_lines,
    rollout_rows,
    sample_rows,
    summary,
    write_pipeline,
    write_run,
)  # fmt: skip
from tests.web.test_board import open_board

SVG = "{http://www.w3.org/2000/svg}"
HARD = HOSTILE + "\ufffe\u202e\x00"
"""Hostile, and with what XML can't carry."""


def stage(
    folder: Path, kind: str, config: Mapping[str, Any], *results: Result, files: Sequence[Path] = (), **more: Any
):
    """A finished stage that has written down what it read."""
    found = [result.to_plain() for result in results]
    write_run(folder, kind, config=config, summary=summary(found), **more)
    read = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (folder / "provenance.json").write_text(json.dumps({**PROVENANCE, "stage": kind, "data": read}), "utf-8")
    return folder


def rows(path: Path, *lines: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_lines(lines), "utf-8")
    return path


def whole(folder: Path, *, words: str = "a cow") -> Path:
    """World, SFT, answers, reward model, PPO, comparison, and a control of the last three."""
    demos = rows(
        folder / "01-world" / "demos.jsonl", *[{"prompt": f"{words} {i}", "completion": "moo"} for i in range(9)]
    )
    prompts = rows(folder / "01-world" / "prompts.jsonl", {"prompt": words}, {"prompt": "b"})
    stage(folder / "02-sft", "sft", {"data": [{"path": str(demos), "limit": 7}], "model": {"path": "tiny"}},
          Result(measure="held_out_nll_over_answers", subject="SFT", value=6.56, floor=29.0, ceiling=6.49),
          files=[demos])  # fmt: skip
    config: dict[str, Any] = {"prompts": [{"path": str(prompts)}], "model": {"path": str(folder / "02-sft" / "model")}}
    judge = {"kind": "function", "function": "plaudit.data.tinyworld:true_reward"}
    stage(
        folder / "03-answers", "collect", {**config, "samples": 4, "labeller": [judge], "noise": 1.0}, files=[prompts]
    )
    ranked = {"prompt": words, "responses": ["p", "q", "r", "s"], "ranks": [3, 3, 2, 1]}
    answers = rows(folder / "03-answers" / "rankings.jsonl", {**ranked, "ranks": [1, 2, 3, 4]}, ranked)
    learned = {"data": [{"path": str(answers)}], "model": config["model"], "objective": {"kind": "kwise"}}
    accuracy = Result(measure="expected_accuracy_over_pairs", subject="r", value=0.763, floor=0.5, ceiling=0.776)
    stage(folder / "04-reward", "reward", learned, accuracy, files=[answers])
    stage(folder / "05-control", "reward", {**learned, "shuffle_labels": True}, files=[answers])
    for name, reward in (("06-ppo", "04-reward"), ("07-ppo-control", "05-control")):
        rewards = [{"kind": "model", "path": str(folder / reward / "model")}]
        score = Result(measure="score_over_responses", subject="policy", value=1.35, floor=0.31)
        stage(folder / name, "ppo", {**config, "rewards": rewards, "kl": {"coef": 0.4}}, score, files=[prompts],
              rollouts={3: rollout_rows(4)})  # fmt: skip
    policies = {"sft": str(folder / "02-sft" / "model"), "ppo": str(folder / "06-ppo" / "model")}
    policies["other"] = str(folder / "07-ppo-control" / "model")
    won = [Result(measure="win_rate_over_prompts", subject=name, against="sft", value=value, low=0.4, high=0.9)
           for name, value in (("other", 0.51), ("ppo", 0.85))]  # fmt: skip
    best = Result(measure="objective_over_prompts", subject="ppo", value=1.2, floor=0.2, ceiling=1.4)
    compare = {"prompts": [{"path": str(prompts)}], "policies": policies, "baseline": "sft", "judge": [judge]}
    stage(folder / "08-compare", "compare", compare, *won, best, samples=sample_rows(3), files=[prompts])
    (folder / "provenance.json").write_text(json.dumps({**PROVENANCE, "stage": "pipeline"}), "utf-8")
    return folder


def steps(folder: Path, **how: bool) -> Flow:
    shown = flow(collect(folder), **how)
    assert shown is not None
    return shown


def box(shown: Flow, name: str):
    return next(each for each in shown.boxes if each.id == name)


@kills("report/flow.py", old="        before = f\"{spoken(score.floor", new="        before = f\"{spoken(score.value",
       why="the score before is told as the score after")  # fmt: skip
def test_a_whole_pipeline_says_rows_hashes_measures_and_ceilings(tmp_path: Path) -> None:
    shown = steps(whole(tmp_path / "p"))
    assert [[each.id for each in column.boxes] for column in shown.columns] == [
        ["demonstrations", "sft"], ["answers", "ranking", "reward"], ["prompts", "ppo", "comparison"]
    ]  # fmt: skip
    digest = hashlib.sha256((tmp_path / "p" / "01-world" / "demos.jsonl").read_bytes()).hexdigest()[:8]
    assert box(shown, "demonstrations").leaves == (f"7 rows · {digest}",)  # of nine: it has a limit
    number, bounds = (text.replace("\u00a0", " ") for text in box(shown, "sft").leaves)
    assert number.endswith("6.56 nats") and bounds == "ceiling 6.49 nats, floor 29.00 nats, 99.7 % of the way"
    assert box(shown, "ranking").order == "D > C > A = B"
    assert box(shown, "answers").title == "4 answers a prompt" and box(shown, "answers").leaves[-1].endswith("noise 1")
    ppo = box(shown, "ppo")
    assert ppo.facts[:4] == ("06-ppo", "starts from 02-sft", "rewarded by 04-reward, β 0.4", "score 0.31 → 1.35")
    assert ppo.facts[4] == "control 07-ppo-control: 1.35" and "objective" in ppo.leaves[1]
    contests = [fact.replace("\u00a0", " ") for fact in box(shown, "comparison").facts]
    assert contests[0].startswith("ppo against sft: won 85.0 % [40.0, 90.0]")
    assert contests[1].startswith("other (control) against sft: won 51.0 %")
    assert shown.links == (("sft", "answers"), ("reward", "ppo"))
    assert all(each.example is not None for each in shown.boxes)
    assert [label for label, _ in box(shown, "ranking").example.sides] == ["1. D", "2. C", "3. A", "3. B"]


@kills("report/lineage.py", old="if content.fingerprint and content.fingerprint != fingerprint:", new="if False:",
       why="a file that changed since, or that the run never read, is shown as the run's own")  # fmt: skip
def test_nothing_is_shown_of_a_file_that_is_not_what_the_run_read(tmp_path: Path) -> None:
    folder, secret = whole(tmp_path / "p"), rows(tmp_path / "secret.jsonl", {"prompt": "key", "completion": "s3cret"})
    config = (folder / "02-sft" / "config.yaml").read_text("utf-8")
    demos = folder / "01-world" / "demos.jsonl"
    (folder / "02-sft" / "config.yaml").write_text(config.replace(str(demos), str(secret)), "utf-8")
    lured = box(steps(folder), "demonstrations")
    assert lured.leaves == ("rows",) and lured.example is None and not lured.quote
    (folder / "02-sft" / "config.yaml").write_text(config, "utf-8")
    rows(demos, {"prompt": "other", "completion": "words"})
    assert box(steps(folder), "demonstrations").leaves[0].endswith("(changed since)")
    demos.unlink()
    assert box(steps(folder), "demonstrations").leaves[0].endswith("(not here any more)")


@kills("report/lineage.py", old="isinstance(run, RunData) or fingerprint in self.read_hashes", new="True",
       why="somebody else's run that names your folder puts your rankings into its report")  # fmt: skip
def test_a_strangers_run_quotes_none_of_your_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, strange = tmp_path / "runs", tmp_path / "strange"
    monkeypatch.chdir(tmp_path)
    demos = rows(mine / "demos.jsonl", {"prompt": "private words", "completion": "s3cret"})
    stage(mine / "sft", "sft", {"data": [{"path": str(demos)}]}, files=[demos])
    secret = {"prompt": "private words", "responses": ["s3cret", "b", "c"], "ranks": [2, 1, 1]}
    stage(mine / "label", "label", {"data": [{"path": "runs/candidates.jsonl"}]})
    left = rows(mine / "label" / "rankings.jsonl", secret)
    stage(mine / "ppo", "ppo", {"model": {"path": "runs/sft/model"}}, rollouts={1: rollout_rows(2)})
    stage(mine / "compare", "compare", {"policies": {"p": "runs/ppo/model"}}, samples=sample_rows(2))
    config = {"data": [{"path": "runs/label/rankings.jsonl"}], "model": {"path": "runs/sft/model"}}
    stage(strange / "reward", "reward", config)
    stage(strange / "ppo", "ppo", {"model": {"path": "runs/ppo/model"}, "rewards": [{"path": "strange/reward/model"}]})
    for name in ("reward", "ppo"):
        shown = steps(strange / name)
        assert {"sft", "reward"} <= {each.id for each in shown.boxes}  # the names, not the texts
        assert "s3cret" not in str(shown) and "private" not in str(shown)
        assert not any(each.example for each in shown.boxes)
    own = stage(mine / "reward", "reward", config, files=[left])
    provenance = json.loads((own / "provenance.json").read_text("utf-8"))
    provenance["data"] = {"runs/label/rankings.jsonl": provenance["data"][str(left)]}
    (own / "provenance.json").write_text(json.dumps(provenance), "utf-8")
    assert box(steps(own), "ranking").order == "B = C > A"  # what the run itself read


def test_a_file_that_grows_when_unpacked_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "LARGEST", 30_000)
    monkeypatch.setattr(lineage, "LONGEST", 10_000)
    row, notes = b'{"prompt": "x", "completion": "y"}\n', {}
    contents = {
        "fine.jsonl.gz": gzip.compress(row * 200),
        "many.jsonl.gz": gzip.compress(row * 2000),
        "line.jsonl.gz": gzip.compress(b" " * 15_000),
        "list.json": b"[" + b" " * 15_000 + b"]",
        "half.jsonl.gz": gzip.compress(row * 200)[:-20],
        "rows.csv": b"prompt,completion\nx,y\n",
        "rows.parquet": b"PAR1",
        "junk.jsonl": b"{",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        file = tmp_path / name
        run = stage(tmp_path / f"of-{name}", "sft", {"data": [{"path": str(file)}]}, files=[file])
        (found,) = lineage.lineage(item := collect(run)).files(as_run(item), "data")
        notes[name] = found.note or found.rows
    assert notes == {
        "fine.jsonl.gz": 200,
        "many.jsonl.gz": "too large to count",
        "line.jsonl.gz": "too large to count",
        "list.json": "too large to count",
        "half.jsonl.gz": "can't be read",
        "rows.csv": "rows of .csv aren't counted",
        "rows.parquet": "rows of .parquet aren't counted",
        "junk.jsonl": "can't be read",
    }


def test_what_is_no_file_of_this_machine_is_not_lost(tmp_path: Path) -> None:
    paths = ["hub:org/x:train", "label://p.db", "rows/*.jsonl", "-", "gone.jsonl"]
    item = collect(stage(tmp_path / "sft", "sft", {"data": [{"path": path} for path in paths]}))
    notes = [file.note for file in lineage.lineage(item).files(as_run(item), "data")]
    assert notes == ["", "", "", "", "not here any more"]


def as_run(item: RunData | PipelineData) -> RunData:
    assert isinstance(item, RunData)
    return item


def test_the_board_opens_nothing_outside_of_what_it_was_given(tmp_path: Path) -> None:
    demos = rows(tmp_path / "mine.jsonl", {"prompt": "private words", "completion": "kept"})
    sft = stage(tmp_path / "runs" / "p" / "01-sft", "sft", {"data": [{"path": str(demos)}]}, files=[demos])
    stage(sft.parent / "02-ppo", "ppo", {"model": {"path": str(sft / "model")}}, rollouts={1: rollout_rows(2)})
    assert "private words" in box(steps(sft.parent), "demonstrations").quote
    text = open_board(tmp_path / "runs").get("/runs?run=runs/p").text
    assert 'id="flow-ppo"' in text and "private words" not in text and demos.name in text


def test_a_moved_pipeline_reads_its_own_files(tmp_path: Path) -> None:
    before = steps(whole(tmp_path / "p"))
    shutil.move(tmp_path / "p", tmp_path / "elsewhere")
    after = steps(tmp_path / "elsewhere")
    assert [each.leaves for each in after.boxes] == [each.leaves for each in before.boxes]
    assert all(each.example is not None for each in after.boxes)


def test_a_single_run_finds_the_runs_it_was_made_from(tmp_path: Path) -> None:
    whole(tmp_path / "p")
    shown = steps(tmp_path / "p" / "06-ppo")
    assert {"demonstrations", "sft", "answers", "ranking", "reward", "prompts", "ppo"} == {b.id for b in shown.boxes}
    assert box(shown, "reward").facts[0] == "04-reward" and shown.columns[-1].end == "the policy"


def test_steps_that_a_run_lacks_are_left_out(tmp_path: Path) -> None:
    rule = {"kind": "function", "function": "rules.py:exact"}
    config = {"model": {"path": "org/base"}, "rewards": [rule], "prompts": [{"path": "hub:org/prompts"}]}
    shown = steps(write_run(tmp_path / "ppo", "ppo", config=config, rollouts={1: rollout_rows(2)}))
    assert [column.title for column in shown.columns] == ["The start", "Reward function", "PPO"]
    assert box(shown, "start").facts == ("org/base", "no SFT in this run") and box(shown, "reward").facts == ("exact",)
    assert flow(collect(write_run(tmp_path / "world", "world"))) is None


def test_people_instead_of_a_rule_and_their_verdict(tmp_path: Path) -> None:
    folder = tmp_path / "round"
    candidates = str(folder / "01-answers" / "candidates.jsonl")
    stage(folder / "01-answers", "collect", {"samples": 3, "model": {"path": "base"}})
    agreed = Result(measure="two_labellers_over_pairs", subject="labellers", value=0.73, role="people")
    stage(folder / "02-labels", "label", {"data": [{"path": candidates}]}, agreed)
    for path in (Path(candidates), folder / "02-labels" / "rankings.jsonl"):
        rows(path, {"prompt": "x", "responses": ["a", "b", "c"], "ranks": [2, 1, 1]})
    stage(folder / "03-reward", "reward", {"data": [{"path": str(folder / "02-labels" / "rankings.jsonl")}]})
    stage(folder / "04-ppo", "ppo", {"rewards": [{"path": str(folder / "03-reward" / "model")}]})
    policies = {"before": "base", "after": str(folder / "04-ppo" / "model")}
    stage(folder / "05-compare", "compare", {"policies": policies, "baseline": "before"}, samples=sample_rows(2))
    samples = str(folder / "05-compare" / "samples.jsonl")
    won = Result(measure="people_win_rate_over_prompts", subject="after", against="before", value=0.66)
    stage(folder / "06-verdict", "label", {"data": [{"path": samples}]}, won)
    shown = steps(folder)
    assert box(shown, "answers").leaves[-2:] == ("ranked by people in 02-labels", "two labellers agree 73.0\u00a0%")
    assert box(shown, "ranking").order == "B = C > A"
    assert box(shown, "comparison").facts == ("by people: after against before: won 66.0\u00a0%",)


def test_several_runs_of_a_step_share_a_box(tmp_path: Path) -> None:
    for index in range(7):
        score = Result(measure="score_over_responses", subject="policy", value=index / 10)
        stage(tmp_path / "sweep" / f"{index + 1:02d}-ppo-{index}", "ppo", {"prompts": [], "rewards": []}, score)
    ppo = box(steps(tmp_path / "sweep"), "ppo") if flow(collect(tmp_path / "sweep")) else None
    assert ppo and ppo.title == "PPO · 7 runs" and ppo.facts[0].startswith("01-ppo-0: 0")
    assert ppo.facts[-1] == "and 3 more" and ppo.leaves[0] == "01-ppo-0:"


@pytest.mark.parametrize("narrow", [False, True])
def test_boxes_hold_their_texts_and_never_overlap(tmp_path: Path, narrow: bool) -> None:
    shown = drawing(steps(whole(tmp_path / "p", words=f"{CHINESE} " + "word" * 60)), narrow=narrow)
    assert shown.width <= (390 if narrow else 1010)
    for shape in shown.shapes:
        assert all(shape.y < text.y < shape.y + shape.height for text in shape.texts)
        assert shape.x > 0 and shape.x + shape.width < shown.width and shape.y + shape.height < shown.height
    columns = {x: [shape for shape in shown.shapes if shape.x == x] for x in {shape.x for shape in shown.shapes}}
    assert len(columns) == (1 if narrow else 3)
    for inside in columns.values():
        assert all(one.y + one.height < two.y for one, two in pairwise(inside))


def test_lines_are_broken_cut_and_whole_when_they_fit() -> None:
    assert wrapped("one two three", 60, 13, 3) == ["one two", "three"]
    assert wrapped("word " * 99, 100, 13, 2)[-1].endswith("…") and len(wrapped("x" * 999, 100, 13, 2)) == 2
    assert wrapped("a\u00a0b", 500, 13, 1) == ["a\u00a0b"] and wrapped("", 50, 13, 2) == []
    assert wrapped("语" * 20, 13 * 10.6, 13, 3) == ["语" * 10, "语" * 10]


def test_the_picture_stands_alone_and_hostile_text_is_text(tmp_path: Path) -> None:
    folder = whole(tmp_path / "p", words=HARD)
    report, wide, narrow = write_flow([folder], None)
    assert (report.name, wide.name, narrow.name) == ("report.html", "flow.svg", "flow-narrow.svg")
    page = report.read_text("utf-8")
    for path in (wide, narrow):
        root = ElementTree.fromstring(path.read_text("utf-8"))
        tags = {each.tag.removeprefix(SVG) for each in root.iter()}
        assert tags == {"svg", "title", "style", "defs", "marker", "path", "rect", "text", "a", "g"}
        assert "</script><img" in "".join(root.itertext()) and "\u202e" not in path.read_text("utf-8")
        links = [each.get("href") for each in root.iter(f"{SVG}a")]
        assert len(links) == 8 and all(link and link.startswith("report.html#flow-") for link in links)
        assert all(f'id="{link.partition("#")[2]}"' in page for link in links if link)
        style = path.read_text("utf-8").partition("<style>")[2].partition("</style>")[0]
        assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style
    assert page.count('class="flow wide"') == page.count('class="flow narrow"') == 1
    (alone,) = write_flow([folder], tmp_path / "docs" / "figure.svg")[:1]
    assert 'href="../p/report.html#flow-ppo"' in alone.read_text("utf-8")


def test_what_has_no_flow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one run or pipeline at a time"):
        write_flow([tmp_path, tmp_path], None)
    with pytest.raises(UserError, match="no two steps of the flow"):
        write_flow([write_run(tmp_path / "w", "world", lines=[{"step": 1}])], None)
    assert steps(write_pipeline(tmp_path / "bare")).boxes[-1].id == "comparison"  # configs that name nothing


JUNK = (
    None,
    3,
    True,
    "x" * 5000,
    [],
    [1],
    {"path": [1]},
    [{"path": 3}],
    [{"path": "y" * 5000}, {"function": {}}],
    "..",
)


def test_damaged_configs_and_rows_never_stop_a_report(tmp_path: Path) -> None:
    item = collect(whole(tmp_path / "p"))
    assert isinstance(item, PipelineData)
    options = ["data", "prompts", "model", "rewards", "labeller", "policies", "baseline", "judge", "kl", "samples"]
    for junk in JUNK:
        configs = [{**run.config, **dict.fromkeys(options, junk)} for run in item.stages]
        stages = [dataclasses.replace(run, config=one) for run, one in zip(item.stages, configs, strict=True)]
        shown = flow(dataclasses.replace(item, stages=tuple(stages)))
        assert shown is None or drawing(shown, narrow=True).shapes
    for row in JUNK:
        file = rows(
            tmp_path / "rows.jsonl", {"responses": row, "ranks": row, "prompt": row, "messages": row}, {"chosen": row}
        )
        stage(tmp_path / f"run-{JUNK.index(row)}", "reward", {"data": [{"path": str(file)}]}, files=[file])
        flow(collect(tmp_path / f"run-{JUNK.index(row)}"))
