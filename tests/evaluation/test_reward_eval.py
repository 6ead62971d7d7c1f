"""`eval reward` as a user runs it: files in, the table and the numbers out, for judges whose numbers are known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plaudit.data.options import DataConfig
from plaudit.errors import UserError
from plaudit.evaluation.judges.agreement import agreement
from plaudit.evaluation.judges.rows import LabelledRows, RatedRow, read_labelled, score_rows
from plaudit.evaluation.options import RewardEvalConfig, TruthConfig
from plaudit.evaluation.reward_eval import reward_eval
from plaudit.records.results import Result
from plaudit.records.text import Group, Prompt
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.scoring.protocol import scores_of
from plaudit.telemetry.summary import read_results
from tests.kills import kills
from tests.training.tiny import jsonl

ACCURACY = "held_out_accuracy_over_pairs"
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


def found(summary: dict, name: str, measure: str, part: str = "") -> Result:
    results = [r for r in read_results(summary) if (r.subject, r.measure, r.part) == (name, measure, part)]
    assert len(results) == 1, f"{len(results)} results"
    return results[0]


def test_rankings(tmp_path, rules):
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", RANKINGS),),
        models=(judge(rules, "a_share"),),
        subset_column="topic",
    )
    # Pairs: p 1 right, q 2 right (margin 2 log 3), r 1 wrong (−log 3).
    accuracy = found(summary, "a_share", ACCURACY)
    assert accuracy.value == 0.75
    assert accuracy.low < 0.75 < accuracy.high
    assert accuracy.ceiling == 0.0  # of three labellers only the third meets a majority, and it says otherwise
    assert accuracy.facts["label_ties"] == 1
    assert found(summary, "a_share", ACCURACY, "x").value == 1.0
    assert found(summary, "a_share", ACCURACY, "y").value == pytest.approx(2 / 3)
    log_loss = found(summary, "a_share", "log_loss_over_pairs")
    assert log_loss.value == pytest.approx((math.log(4 / 3) + 2 * math.log(10 / 9) + math.log(4)) / 4, rel=1e-5)
    assert (log_loss.floor, log_loss.facts["has_scale"]) == (pytest.approx(math.log(2)), 0.0)
    assert found(summary, "a_share", "brier_over_pairs").value == pytest.approx(
        (1 / 16 + 2 / 100 + 9 / 16) / 4, rel=1e-5
    )
    # ¾ twice, right once; 9/10 twice, right twice.
    error = found(summary, "a_share", "calibration_error_over_pairs")
    assert error.value == pytest.approx((0.5 + 0.2) / 4, rel=1e-5)
    floor = found(summary, "longer wins", ACCURACY)
    assert (floor.value, floor.role) == ((0 + 0.5 + 1 + 0.5) / 4, "floor")
    # Better and longer: aa against b. Shorter: a against bb.
    assert found(summary, "a_share", "accuracy_where_longer_over_pairs").value == 1.0
    assert found(summary, "a_share", "accuracy_where_shorter_over_pairs").value == 1.0
    assert summary["judges"]["a_share"]["margins"]["mean"] == pytest.approx((1 + 2 + 2 - 1) / 4 * math.log(3))
    assert not [r for r in read_results(summary) if r.measure == "order_flips_over_pairs"]
    assert found(summary, "labellers", "two_labellers_over_pairs").value == pytest.approx(1 / 3)


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
    assert found(summary, "bonus", ACCURACY, "easy").value == 1.0
    assert found(summary, "bonus", ACCURACY, "hard").value == 0.0


def test_a_weight_is_felt_by_calibration_and_not_by_accuracy(tmp_path, rules):
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", RANKINGS),),
        models=(judge(rules, "a_share"), judge(rules, "a_share", name="twice", weight=2.0)),
    )
    one, two = (found(summary, name, ACCURACY) for name in ("a_share", "twice"))
    assert replace(two, subject="a_share") == one
    margins = [summary["judges"][name]["margins"]["mean"] for name in ("a_share", "twice")]
    assert margins[1] == pytest.approx(2 * margins[0], rel=1e-6)
    one, two = (found(summary, name, "log_loss_over_pairs") for name in ("a_share", "twice"))
    assert two.value > one.value


def test_a_judge_that_prefers_whoever_comes_first_is_found_out(tmp_path, rules):
    pairs = [{"prompt": f"p{i}", "responses": ["a", "b"], "ranks": [1, 2] if i % 2 else [2, 1]} for i in range(6)]
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", pairs),),
        models=(judge(rules, "first"), judge(rules, "a_share")),
        check_order=True,
    )
    first = found(summary, "first", "first_wins_over_pairs")
    assert (first.value, first.facts["labels_prefer_first"]) == (1.0, 0.5)
    assert found(summary, "first", "order_flips_over_pairs").value == 1.0
    assert found(summary, "a_share", "order_flips_over_pairs").value == 0.0


@pytest.mark.parametrize(("noise", "probability"), [(1.0, 3 / 4), (0.5, 9 / 10)])
def test_known_truth(tmp_path, rules, noise, probability):
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", [RANKINGS[2]]),),
        models=(judge(rules, "a_share"),),
        truth=TruthConfig(function=f"{rules}:a_share", noise=noise),
    )
    expected = found(summary, "a_share", "expected_accuracy_over_pairs")
    assert (expected.value, expected.ceiling) == (pytest.approx(probability), pytest.approx(probability))
    assert found(summary, "a_share", ACCURACY).value == 0.0


def test_the_bag_of_words_learns_from_the_training_files(tmp_path, rules):
    training = [{"prompt": f"t{i}", "chosen": "b", "rejected": "a"} for i in range(20)]
    summary = run(
        tmp_path,
        data=(data(tmp_path, "d.jsonl", [RANKINGS[2]]),),
        models=(judge(rules, "a_share"),),
        train=(data(tmp_path, "t.jsonl", training),),
    )
    assert found(summary, "bag of words", ACCURACY).value == 1.0


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
    good = found(summary, "a_share", "aspect/good_spearman_over_labels", "good")
    assert (good.value, good.count) == (pytest.approx(1.0), 4)
    assert found(summary, "a_share", "aspect/good_pearson_over_labels", "good").ceiling == pytest.approx(-1.0)
    assert found(summary, "a_share", "aspect/good_accuracy_over_pairs").value == 1.0
    assert not [r for r in read_results(summary) if r.measure == "aspect/long_accuracy_over_pairs"]
    rmse = found(summary, "a_share", "aspect/long_rmse_over_labels", "long")
    assert (rmse.floor, rmse.count) == (0.5, 2)
    assert rmse.value == pytest.approx(((math.log(3) ** 2 + 1) / 2) ** 0.5, rel=1e-6)


def test_verdicts(tmp_path, rules):
    rows = [
        {"prompt": p, "response": r, "label": label} for p, r, label in [("p", "a", 1), ("q", "b", 0), ("r", "aa", 0)]
    ]
    told = {"data": (data(tmp_path, "d.jsonl", rows),), "thresholds": {"a_share": 0.5}}
    summary = run(tmp_path, **told, models=(judge(rules, "a_share"),))
    accuracy = found(summary, "a_share", "held_out_accuracy_over_rows")
    assert (accuracy.value, accuracy.floor) == (pytest.approx((1 + 1 + 0) / 3), pytest.approx(2 / 3))
    assert accuracy.facts["threshold"] == 0.5
    with pytest.raises(ValueError, match="thresholds: 'b_share' is none of the models"):
        run(tmp_path, **told | {"thresholds": {"b_share": 1.0}}, models=(judge(rules, "a_share"),))
    assert found(summary, "a_share", "held_out_auc").value == 0.5


@kills(
    "evaluation/judges/rows.py",
    old="text if alone else group.prompt.id",
    new="group.prompt.id",
    why="texts under one prompt count as one draw",
)
def test_labelled_texts_under_one_prompt_are_draws_of_their_own(tmp_path, rules):
    """Sixty texts and one prompt: intervals of sixty draws, not of one."""
    texts = [("a" if i % 3 else "b") * (i + 1) for i in range(60)]
    judged = [{"prompt": "p", "response": text, "label": i % 4 > 0} for i, text in enumerate(texts)]
    summary = run(tmp_path, data=(data(tmp_path, "v.jsonl", judged),), models=(judge(rules, "a_share"),))
    for measure in ("held_out_accuracy_over_rows", "held_out_auc"):
        result = found(summary, "a_share", measure)
        assert 0.05 < result.high - result.low < 0.35
    rated = [{"prompt": "p", "response": text, "score": len(text)} for text in texts]
    summary = run(tmp_path / "ratings", data=(data(tmp_path, "r.jsonl", rated),), models=(judge(rules, "a_share"),))
    result = found(summary, "a_share", "aspect/score_spearman_over_labels")
    assert result.low < result.value < result.high


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
    with pytest.raises(UserError, match=r"d\.jsonl:1: `votes` must be a list with one list of 2 ranks"):
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
    results = agreement(score_rows("judge", Judge(), LabelledRows(rated=rows)))
    by_measure = {result.measure: result.value for result in results}
    assert by_measure["aspect/tone_pearson_over_labels"] == pytest.approx(1.0)
    assert by_measure["aspect/tone_accuracy_over_pairs"] == 1.0
    assert by_measure["aspect/care_pearson_over_labels"] == pytest.approx(-1.0)
    assert by_measure["aspect/care_accuracy_over_pairs"] == 0.0
