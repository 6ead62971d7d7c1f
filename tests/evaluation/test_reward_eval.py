"""`eval reward` as a user runs it: files in, the table and the numbers out, for judges whose numbers are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.evaluation.options import RewardEvalConfig, TruthConfig
from plaudit.evaluation.reward_eval import measure, reward_eval
from plaudit.evaluation.reward_rows import LabelledRows, RatedRow, read_labelled
from plaudit.records.text import Group, Prompt
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import scores_of
from tests.kills import kills
from tests.training.tiny import jsonl

RULES = '''
def a_share(completions, **columns):
    """log 3 for every a."""
    return [1.0986122886681098 * text.count("a") for text in completions]


def first(completions, **columns):
    """Whoever is listed first: what a judge does that reads all answers at once."""
    seen = {}
    prompts = columns["prompts"]
    return [float(seen.setdefault(str(prompt), i) == i) for i, prompt in enumerate(prompts)]


def shy(completions, **columns):
    return [None for _ in completions]


def bonus(completions, solution, **columns):
    return [float(text == answer) for text, answer in zip(completions, solution, strict=True)]
'''
RANKINGS = [
    {"prompt": "p", "responses": ["a", "bb"], "ranks": [1, 2], "votes": [[1, 2], [1, 2], [2, 1]], "topic": "x"},
    {"prompt": "q", "responses": ["bb", "aa", "b"], "ranks": [2, 1, 2], "topic": "y"},
    {"prompt": "r", "responses": ["b", "a"], "ranks": [1, 2], "topic": "y"},
]


@pytest.fixture
def rules(tmp_path) -> Path:
    (tmp_path / "rules.py").write_text(RULES, encoding="utf-8")
    return tmp_path / "rules.py"


def judge(rules: Path, rule: str, **options) -> FunctionConfig:
    return FunctionConfig(function=f"{rules}:{rule}", isolate=False, **options)


def data(folder: Path, name: str, rows: list[dict]) -> DataConfig:
    jsonl(folder / name, rows)
    return DataConfig(path=str(folder / name))


def run(folder: Path, **options) -> dict:
    config = RewardEvalConfig(**options)
    with Run.create(folder / "run", "reward_eval", config) as opened:
        reward_eval(config, opened)
    return json.loads((folder / "run" / "summary.json").read_text(encoding="utf-8"))


def value(summary: dict, name: str, metric: str) -> dict:
    (row,) = [row for row in summary["stages"] if row["name"] == name and row["metric"] == metric]
    return row


def test_rankings(tmp_path, rules):
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", RANKINGS),),
        models=(judge(rules, "a_share"),),
        subset_column="topic",
    )
    # Pairs: p 1 right, q 2 right (margin 2 log 3), r 1 wrong (−log 3).
    accuracy = value(summary, "a_share", "pair accuracy")
    assert accuracy["value"] == 0.75
    assert accuracy["low"] < 0.75 < accuracy["high"]
    assert accuracy["ceiling"] == 0.0  # of three labellers only the third meets a majority, and it says otherwise
    assert value(summary, "a_share", "pair accuracy, x")["value"] == 1.0
    assert value(summary, "a_share", "pair accuracy, y")["value"] == pytest.approx(2 / 3)
    no_scale = " (its scores have no scale)"
    log_loss = value(summary, "a_share", "log loss of P(better) = σ(difference)" + no_scale)
    assert log_loss["value"] == pytest.approx((math.log(4 / 3) + 2 * math.log(10 / 9) + math.log(4)) / 4, rel=1e-5)
    assert log_loss["floor"] == pytest.approx(math.log(2))
    brier = value(summary, "a_share", "Brier score" + no_scale)
    assert brier["value"] == pytest.approx((1 / 16 + 2 / 100 + 9 / 16) / 4, rel=1e-5)
    # ¾ twice, right once; 9/10 twice, right twice.
    ece = value(summary, "a_share", "expected calibration error" + no_scale)
    assert ece["value"] == pytest.approx((0.5 + 0.2) / 4, rel=1e-5)
    assert value(summary, "longer wins", "floor on the same pairs")["value"] == (0 + 0.5 + 1 + 0.5) / 4
    # Better and longer: aa against b. Shorter: a against bb.
    assert value(summary, "a_share", "pair accuracy where the better answer is the longer")["value"] == 1.0
    assert value(summary, "a_share", "pair accuracy where the better answer is the shorter")["value"] == 1.0
    judged = summary["reward_eval"]["judges"]["a_share"]
    assert judged["scale"] == "none"
    assert judged["pairs"]["accuracy"]["label_ties"] == 1
    assert judged["pairs"]["margins"]["mean"] == pytest.approx((1 + 2 + 2 - 1) / 4 * math.log(3))
    assert "flips" not in judged["pairs"]["position"]
    assert summary["reward_eval"]["agreement"]["two_labellers"]["value"] == pytest.approx(1 / 3)


def test_comparisons_keep_their_subset_and_columns(tmp_path, rules):
    rows = [
        {"prompt": "p", "chosen": "b", "rejected": "a", "solution": "b", "subset": "easy"},
        {"prompt": "q", "chosen": "b", "rejected": "a", "solution": "a", "subset": "hard"},
    ]
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", rows),),
        models=(judge(rules, "bonus"),),
        subset_column="subset",
    )
    assert value(summary, "bonus", "pair accuracy, easy")["value"] == 1.0
    assert value(summary, "bonus", "pair accuracy, hard")["value"] == 0.0


def test_a_weight_is_felt_by_calibration_and_not_by_accuracy(tmp_path, rules):
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", RANKINGS),),
        models=(judge(rules, "a_share"), judge(rules, "a_share", name="twice", weight=2.0)),
    )
    one, two = (summary["reward_eval"]["judges"][name]["pairs"] for name in ("a_share", "twice"))
    assert two["accuracy"] == one["accuracy"]
    assert two["margins"]["mean"] == pytest.approx(2 * one["margins"]["mean"], rel=1e-6)
    assert two["calibration"]["log_loss"] > one["calibration"]["log_loss"]


def test_a_judge_that_prefers_whoever_comes_first_is_found_out(tmp_path, rules):
    pairs = [{"prompt": f"p{i}", "responses": ["a", "b"], "ranks": [1, 2] if i % 2 else [2, 1]} for i in range(6)]
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", pairs),),
        models=(judge(rules, "first"), judge(rules, "a_share")),
        check_order=True,
    )
    assert value(summary, "first", "first-listed answer wins (by the labels 0.500)")["value"] == 1.0
    assert value(summary, "first", "winner changes with the answers' order")["value"] == 1.0
    assert value(summary, "a_share", "winner changes with the answers' order")["value"] == 0.0


@pytest.mark.parametrize(("noise", "probability"), [(1.0, 3 / 4), (0.5, 9 / 10)])
def test_known_truth(tmp_path, rules, noise, probability):
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", [RANKINGS[2]]),),
        models=(judge(rules, "a_share"),),
        truth=TruthConfig(function=f"{rules}:a_share", noise=noise),
    )
    expected = value(summary, "a_share", "pair accuracy, expected under the known label probabilities")
    assert (expected["value"], expected["ceiling"]) == (pytest.approx(probability), pytest.approx(probability))
    assert value(summary, "a_share", "pair accuracy")["value"] == 0.0


def test_the_bag_of_words_learns_from_the_training_files(tmp_path, rules):
    training = [{"prompt": f"t{i}", "chosen": "b", "rejected": "a"} for i in range(20)]
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", [RANKINGS[2]]),),
        models=(judge(rules, "a_share"),),
        train=(data(tmp_path, "t.jsonl", training),),
    )
    assert value(summary, "bag of words", "floor on the same pairs")["value"] == 1.0


def test_ratings(tmp_path, rules):
    rows = [
        {"prompt": "p", "response": "a", "scores": {"good": 1, "long": 0}, "labeller": "u"},
        {"prompt": "p", "response": "a", "scores": {"good": 3}, "labeller": "v"},
        {"prompt": "p", "response": "aaa", "scores": {"good": 4}, "labeller": "u"},
        {"prompt": "q", "response": "b", "scores": {"good": 1, "long": 1}, "labeller": "u"},
        {"prompt": "r", "response": "aa", "scores": {"good": 2.5}, "labeller": "u"},
    ]
    summary = run(tmp_path, data=(data(tmp_path, "d.jsonl", rows),), models=(judge(rules, "a_share"),))
    # a: 2, aaa: 4, b: 1, aa: 2.5 against 1, 3, 0, 2 times log 3: the same order.
    assert value(summary, "a_share", "Spearman correlation with the ratings, good")["value"] == pytest.approx(1.0)
    assert value(summary, "a_share", "Pearson correlation with the ratings, good")["ceiling"] == pytest.approx(-1.0)
    assert value(summary, "a_share", "pair accuracy by the ratings, good")["value"] == 1.0
    found = summary["reward_eval"]["judges"]["a_share"]["ratings"]
    assert found["good"]["answers"] == 4
    assert found["long"]["answers"] == 2
    assert "accuracy" not in found["long"]
    rmse = value(summary, "a_share", "RMSE to the ratings, long")
    assert rmse["value"] == pytest.approx(((math.log(3) ** 2 + 1) / 2) ** 0.5, rel=1e-6)
    assert rmse["floor"] == 0.5


def test_verdicts(tmp_path, rules):
    rows = [
        {"prompt": p, "response": r, "label": label} for p, r, label in [("p", "a", 1), ("q", "b", 0), ("r", "aa", 0)]
    ]
    summary = run(tmp_path, data=(data(tmp_path, "d.jsonl", rows),), models=(judge(rules, "a_share"),))
    accuracy = value(summary, "a_share", "accuracy of `score > 0`")
    assert (accuracy["value"], accuracy["floor"]) == (pytest.approx((1 + 0.5 + 0) / 3), pytest.approx(2 / 3))
    assert value(summary, "a_share", "area under the ROC curve")["value"] == 0.5


@kills(
    "evaluation/reward_eval.py",
    old="text if alone else group.prompt.id",
    new="group.prompt.id",
    why="texts under one prompt count as one draw",
)
def test_labelled_texts_under_one_prompt_are_draws_of_their_own(tmp_path, rules):
    """Sixty texts and one prompt: intervals of sixty draws, not of one."""
    texts = [("a" if i % 3 else "b") * (i + 1) for i in range(60)]
    judged = [{"prompt": "p", "response": text, "label": i % 4 > 0} for i, text in enumerate(texts)]
    summary = run(tmp_path, data=(data(tmp_path, "v.jsonl", judged),), models=(judge(rules, "a_share"),))
    for metric in ("accuracy of `score > 0`", "area under the ROC curve"):
        found = value(summary, "a_share", metric)
        assert 0.05 < found["high"] - found["low"] < 0.35
    rated = [{"prompt": "p", "response": text, "score": len(text)} for text in texts]
    summary = run(tmp_path / "ratings", data=(data(tmp_path, "r.jsonl", rated),), models=(judge(rules, "a_share"),))
    found = value(summary, "a_share", "Spearman correlation with the ratings")
    assert found["low"] < found["value"] < found["high"]


def test_a_column_that_differs_among_a_prompts_ratings_is_not_shown(tmp_path, rules):
    """What belongs to one answer must not judge the others; what all rows share is the prompt's."""
    rated = [
        {"prompt": "p", "response": "a", "score": 1.0, "solution": "a", "topic": "x"},
        {"prompt": "p", "response": "b", "score": 2.0, "solution": "b", "topic": "x"},
        {"prompt": "q", "response": "b", "score": 3.0, "solution": "b", "topic": "x"},
    ]
    source = data(tmp_path, "r.jsonl", rated)
    assert [row.group.columns for row in read_labelled((source,), "").rated] == [
        {"topic": "x"},
        {"topic": "x", "solution": "b"},
    ]
    with pytest.raises(UserError, match="solution"):
        run(tmp_path, data=(source,), models=(judge(rules, "bonus"),))


def test_several_files_are_subsets(tmp_path):
    files = (data(tmp_path, "one.jsonl", RANKINGS[:1]), data(tmp_path, "two.jsonl", RANKINGS[1:]))
    assert [row.subset for row in read_labelled(files, "").ranked] == ["one", "two", "two"]
    assert [row.subset for row in read_labelled(files[:1], "").ranked] == [""]
    with pytest.raises(UserError, match="no row of the data has the column 'color'"):
        read_labelled(files, "color")


@pytest.mark.parametrize("votes", ["a", [1, 2], [[1, 2, 3]], [[1, "2"]], [[True, False]]])
def test_votes_that_dont_fit_are_refused(tmp_path, votes):
    with pytest.raises(UserError, match=r"d\.jsonl:1: `votes` must be a list with one list of 2 places"):
        read_labelled((data(tmp_path, "d.jsonl", [RANKINGS[0] | {"votes": votes}]),), "")


def test_judges_cant_see_votes(tmp_path):
    (row,) = read_labelled((data(tmp_path, "d.jsonl", RANKINGS[:1]),), "").ranked
    assert row.votes == ((1, 2), (1, 2), (2, 1))
    assert set(row.group.columns) & {"votes", "ranks", "responses"} == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ()}, "data and models"),
        ({"num_bins": 0}, "num_bins"),
        (
            {"models": (FunctionConfig(function="repetition"), FunctionConfig(function="repetition", args={"n": 3}))},
            "two",
        ),
    ],
)
def test_options_that_make_no_sense(options, message):
    given = {"data": (DataConfig(path="x"),), "models": (FunctionConfig(function="repetition"),), **options}
    with pytest.raises(ValueError, match=message):
        RewardEvalConfig(**given)


def test_options_without_effect_and_judges_without_words_are_refused(tmp_path, rules):
    verdicts = data(tmp_path, "v.jsonl", [{"prompt": "p", "response": "a", "label": True}])
    for name, options in {
        "truth": {"truth": TruthConfig(function=f"{rules}:a_share")},
        "check_order": {"check_order": True},
        "abstained": {"models": (judge(rules, "shy"),)},
        "'solution'": {"models": (judge(rules, "bonus"),)},
    }.items():
        with pytest.raises(UserError, match=name):
            run(tmp_path / name, **{"data": (verdicts,), "models": (judge(rules, "a_share"),), **options})


@pytest.mark.parametrize("prefix", ["", "mix/"])
def test_a_judge_of_aspects_is_measured_by_its_own_part_of_each(prefix):
    """Its score runs against the ratings, its part with them; an aspect without a part is judged by the score."""

    class Judge:
        name = "judge"

        def score(self, groups):
            lengths = [float(len(text)) for group in groups for text in group.responses]
            said = scores_of("judge", [-x for x in lengths])
            return replace(said, parts={f"{prefix}aspect/tone": torch.tensor(lengths)})

    rows = tuple(
        RatedRow(
            group=Group(prompt=Prompt.of_text(str(i)), responses=("a", "bb", "ccc")),
            ratings=tuple({"tone": (float(n),), "care": (float(n),)} for n in (1, 2, 3)),
            subset="",
            where=f"x:{i}",
        )
        for i in range(300)  # more answers than one batch
    )
    config = RewardEvalConfig(data=(DataConfig(path="x"),), models=(FunctionConfig(function="x"),))
    found = measure(Judge(), LabelledRows(rated=rows), config)["ratings"]
    assert found["tone"]["pearson"]["value"] == pytest.approx(1.0)
    assert found["tone"]["accuracy"]["accuracy"] == 1.0
    assert found["care"]["pearson"]["value"] == pytest.approx(-1.0)
    assert found["care"]["accuracy"]["accuracy"] == 0.0
