"""Floors for ratings and verdicts: what they see, their optimum, and their rows in the table."""

import math
import random

import numpy as np
import pytest

from plaudit.evaluation.labelled_floors import fit_words, labelled_floor_rows
from plaudit.evaluation.labelled_report import rating_report, verdict_report
from plaudit.evaluation.word_models import Sparse, ridge_linear, ridge_logistic
from plaudit.records.text import Group, Prompt, Rating, Verdict
from tests.kills import kills

FILLER = [f"w{i}" for i in range(20)]


def answer(generator: random.Random, *marks: str) -> str:
    words = [*generator.choices(FILLER, k=generator.randint(3, 9)), *marks]
    generator.shuffle(words)
    return " ".join(words)


def verdicts(size: int, seed: int, *, share: float = 0.5) -> list[Verdict]:
    generator = random.Random(seed)
    labels = [generator.random() < share for _ in range(size)]
    return [
        Verdict(prompt=Prompt.of_text(f"{seed} {i}"), response=answer(generator, "kind" if x else "rude"), label=x)
        for i, x in enumerate(labels)
    ]


def ratings(size: int, seed: int) -> list[Rating]:
    """Warmth counts one word and is 10 without it, noise is chance; every third answer has no warmth."""
    generator = random.Random(seed)
    rows = []
    for i in range(size):
        times = generator.randint(0, 3)
        text = answer(generator, *["kind"] * times)
        scores = {"warmth": 10 + 2 * math.log1p(times), "noise": generator.random()}
        prompt = Prompt.of_text(f"{seed} {i}")
        rows.append(Rating(prompt=prompt, response=text, scores=scores if i % 3 else {"noise": scores["noise"]}))
    return rows


@kills(
    "evaluation/labelled_floors.py",
    old="min(RIDGES, key=error) if choosable else max(RIDGES))",
    new="max(RIDGES))",
    why="the penalty is not chosen: a floor too easy to beat",
)
@kills(
    "evaluation/labelled_floors.py",
    old="1.0 if row.label else -1.0",
    new="-1.0 if row.label else 1.0",
    why="the floor learns rejection",
)
@kills(
    "evaluation/labelled_floors.py",
    old="return weights[_INTERCEPT] + sum(",
    new="return sum(",
    why="the offset forgotten when the floor speaks",
)
def test_words_tell_verdicts_apart_and_the_offset_follows_the_share():
    bag = fit_words(verdicts(300, 1, share=0.8))
    found = verdict_report(bag, verdicts(200, 2, share=0.8)).measured
    assert found.accuracy.value > 0.95
    assert found.auc.value > 0.97
    weights = bag.weights["accept"]
    assert weights["kind"] > 0.3 > -0.3 > weights["rude"]
    assert bag.value("words never seen", "accept") == weights[""]


def test_each_aspect_has_its_own_words_and_gaps_are_no_zeros():
    bag = fit_words(ratings(400, 3))
    report = rating_report(bag, ratings(200, 4))
    warmth, noise = report.aspects["warmth"], report.aspects["noise"]
    assert warmth.rmse < 0.35 * warmth.label_std  # a label of 0 for every third answer would be 10 off
    assert warmth.spearman.value > 0.9
    assert abs(noise.spearman.value) < 0.2
    assert noise.rmse < 1.1 * noise.label_std


@kills(
    "evaluation/labelled_floors.py",
    old="penalty[place[_INTERCEPT]] = 0.0",
    new="penalty[place[_INTERCEPT]] = ridge",
    why="the mean of the ratings is shrunk to 0",
)
def test_a_constant_rating_is_met_by_the_offset_alone():
    rows = [
        Rating(prompt=Prompt.of_text(str(i)), response=answer(random.Random(i)), scores={"x": 3.5}) for i in range(40)
    ]
    bag = fit_words(rows)
    assert bag.weights["x"][""] == pytest.approx(3.5, abs=1e-4)
    assert max(abs(w) for word, w in bag.weights["x"].items() if word) < 1e-4


def test_labels_turned_round_turn_the_log_odds_round():
    rows = verdicts(80, 5)
    turned = [Verdict(prompt=row.prompt, response=row.response, label=not row.label) for row in rows]
    forward, backward = fit_words(rows).weights["accept"], fit_words(turned).weights["accept"]
    assert forward == pytest.approx({word: -weight for word, weight in backward.items()}, abs=1e-4)


def test_order_of_the_rows_does_not_matter():
    rows = ratings(60, 6)
    assert fit_words(rows).weights == fit_words(rows[::-1]).weights


def test_texts_under_one_prompt_choose_their_penalty_as_texts_under_many():
    one = [Verdict(prompt=Prompt.of_text("p"), response=row.response, label=row.label) for row in verdicts(200, 7)]
    weights = fit_words(one).weights["accept"]
    assert weights["kind"] > 1.0  # under the largest penalty it is below


def test_scores_are_the_mean_of_the_aspects_and_name_them():
    bag = fit_words(ratings(50, 8))
    scores = bag.score([Group(prompt=Prompt.of_text("p"), responses=("kind", "w1"))])
    parts = [scores.parts["aspect/warmth"], scores.parts["aspect/noise"]]
    assert ((parts[0] + parts[1]) / 2).tolist() == pytest.approx(scores.scores.tolist())


def test_ridge_linear_solves_the_normal_equations():
    rng = np.random.default_rng(0)
    dense, labels = rng.normal(size=(12, 3)), rng.normal(size=12)
    rows = [{f"f{j}": value for j, value in enumerate(row)} for row in dense]
    x = Sparse.of(rows, {"f0": 0, "f1": 1, "f2": 2})
    ridge = np.array([0.0, 2.0, 5.0])
    expected = np.linalg.solve(dense.T @ dense + np.diag(ridge), dense.T @ labels)
    assert ridge_linear(x, labels, ridge) == pytest.approx(expected, abs=1e-4)


@kills(
    "evaluation/word_models.py",
    old="replace(self, values=self.values * factors[self.rows])",
    new="replace(self, values=self.values * factors[self.columns])",
    why="each word's factor instead of each row's",
)
def test_an_unpenalised_offset_is_the_log_odds_of_the_share():
    rows = [{"": 1.0} for _ in range(8)]
    signs = np.array([1.0] * 6 + [-1.0] * 2)
    x = Sparse.of(rows, {"": 0}).scaled(signs)
    assert ridge_logistic(x, np.zeros(1))[0] == pytest.approx(math.log(3.0), abs=1e-4)


def test_rows_of_the_table():
    rows = labelled_floor_rows("judge", verdicts(120, 9), verdicts(60, 10))
    assert [row["metric"].split(" (")[0] for row in rows] == [
        "floor: longer wins: held-out area under the ROC curve",
        "floor: bag of words: held-out accuracy",
        "floor: bag of words: held-out area under the ROC curve",
    ]
    assert all(row["name"] == "judge" and row["low"] <= row["value"] <= row["high"] for row in rows)
    rated = labelled_floor_rows("judge", ratings(90, 11), ratings(60, 12))
    assert [row["unit"] for row in rated] == ["Spearman's rho"] * 2 + ["Spearman's rho", "rating"] * 2
    assert all("floor: " in row["metric"] for row in rated)


def test_one_prompt_for_all_gives_intervals_of_its_texts():
    """Two hundred texts under one prompt are two hundred trials, not one."""
    one = [Verdict(prompt=Prompt.of_text("p"), response=row.response, label=row.label) for row in verdicts(200, 13)]
    report = verdict_report(fit_words(verdicts(200, 14)), one)
    assert report.measured.accuracy.high - report.measured.accuracy.low < 0.15
    (_, area) = report.rows("judge")
    assert 0 <= area["low"] <= area["value"] <= area["high"] <= 1
