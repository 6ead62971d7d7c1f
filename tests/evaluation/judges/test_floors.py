"""Judges that know no language: what they see, what they must not, and that they are measured as what they floor."""

import math
import random

import pytest

from plaudit.errors import UserError
from plaudit.evaluation.judges.agreement import agreement
from plaudit.evaluation.judges.floors import (
    BagOfWords,
    LongerWins,
    WordWeights,
    bag_of_words,
    fit_labels,
    fit_pairs,
    floors,
)
from plaudit.evaluation.judges.rows import LabelledRows, as_ranking, score_rows
from plaudit.records.results import Result
from plaudit.records.text import Comparison, Group, Prompt, Ranking, Rating, Verdict
from plaudit.telemetry.register import measure_of
from tests.kills import kills

FILLER = [f"w{i}" for i in range(20)]


def measured(scorer, rows) -> dict[str, Result]:
    return {result.measure: result for result in agreement(score_rows("floor", scorer, LabelledRows.of(rows)))}


def accuracy(scorer, rows) -> Result:
    return measured(scorer, rows)["held_out_accuracy_over_pairs"]


def fitted(rows, **options) -> WordWeights:
    return fit_pairs([as_ranking(row) for row in rows], **options)


def comparison(index: int, chosen: str, rejected: str) -> Comparison:
    return Comparison(prompt=Prompt.of_text(f"prompt {index}"), chosen=chosen, rejected=rejected)


def word_world(size: int, seed: int, *, good: str, bad: str) -> list[Comparison]:
    """Answers of random filler; the better has a `good` word, the worse a `bad` one; their lengths are chance."""
    generator = random.Random(seed)
    filler = [f"w{i}" for i in range(30)]

    def answer(mark: str) -> str:
        words = [*generator.choices(filler, k=generator.randint(3, 9)), mark]
        generator.shuffle(words)
        return " ".join(words)

    return [comparison(seed * 10_000 + i, answer(good), answer(bad)) for i in range(size)]


def test_longer_wins_by_hand():
    groups = [Group(prompt=Prompt.of_text("p"), responses=("a b", "你好吗", ""))]
    assert LongerWins().score(groups).scores.tolist() == [3.0, 3.0, 0.0]
    rows = [comparison(0, "long", "a"), comparison(1, "a", "long"), comparison(2, "same", "size")]
    assert accuracy(LongerWins(), rows).value == 0.5


def test_pairs_come_better_first_and_ties_give_none():
    """Only what tells a from both others has a weight, and both b are alike."""
    ranking = Ranking(prompt=Prompt.of_text("p"), responses=("b", "a", "also b"), ranks=(2, 1, 2))
    bag = fit_pairs([ranking])
    assert bag.weights["a"] > 0 > bag.weights["b"]
    assert "also" not in bag.weights


def test_a_bag_of_words_finds_the_words_that_decide():
    train, held_out = word_world(300, 1, good="kind", bad="rude"), word_world(200, 2, good="kind", bad="rude")
    by_name = {r.subject: r for r in floors(LabelledRows.of(held_out), train)}
    assert by_name["bag of words"].value > 0.97
    assert 0.35 < by_name["longer wins"].value < 0.65
    bag = fitted(train)
    assert bag.weights["kind"] > 0.5 > -0.5 > bag.weights["rude"]


def test_without_a_rule_it_stays_at_chance():
    held_out = word_world(300, 4, good="kind", bad="kind")
    result = accuracy(bag_of_words(word_world(300, 3, good="kind", bad="kind")), held_out)
    assert result.low < 0.5 < result.high


def test_labels_the_other_way_round_turn_the_weights_round():
    train = word_world(60, 5, good="kind", bad="rude")
    flipped = [Comparison(prompt=row.prompt, chosen=row.rejected, rejected=row.chosen) for row in train]
    forward, backward = fitted(train), fitted(flipped)
    assert forward.ridge == backward.ridge
    for word, weight in forward.weights.items():
        assert weight == pytest.approx(-backward.weights[word], abs=1e-5)


def test_the_fit_is_the_minimum_by_hand():
    # n pairs that differ by "good" once against nothing: x = log 2, and w solves ridge · w = n x σ(−w x).
    train = [comparison(i, "good", "") for i in range(8)]
    (weight,) = fitted(train, ridges=[2.0]).weights.values()
    x = math.log(2.0)
    assert 2.0 * weight == pytest.approx(8 * x / (1 + math.exp(weight * x)), rel=1e-5)
    assert weight > 0


def test_the_fit_is_a_minimum_in_every_direction():
    train = word_world(40, 6, good="kind", bad="rude")
    bag = fitted(train, ridges=[3.0])

    def loss(weights: dict[str, float]) -> float:
        moved = WordWeights(weights=weights, offset=0.0, ridge=3.0)
        pairs = [(moved.value(row.chosen), moved.value(row.rejected)) for row in train]
        return sum(math.log1p(math.exp(b - a)) for a, b in pairs) + 1.5 * sum(w * w for w in weights.values())

    least = loss(dict(bag.weights))
    for word in ("kind", "rude", "w0", "w7"):
        for shift in (-0.05, 0.05):
            assert loss({**bag.weights, word: bag.weights[word] + shift}) > least


def test_rare_words_and_unseen_words_weigh_nothing():
    train = [*word_world(20, 7, good="kind", bad="rude"), comparison(999, "kind hapax", "rude")]
    bag = fitted(train)
    assert "hapax" not in bag.weights
    assert bag.value("hapax never seen") == 0.0
    assert bag.value("KIND") == pytest.approx(bag.weights["kind"] * math.log(2.0))


def test_the_same_data_in_another_order_gives_the_same_judge():
    train = word_world(80, 8, good="kind", bad="rude")
    forward, backward = fitted(train), fitted(train[::-1])
    assert forward.ridge == backward.ridge
    for word, weight in forward.weights.items():
        assert weight == pytest.approx(backward.weights[word], abs=1e-9)
    rows = ratings(60, 6)
    assert fit_labels(rows) == fit_labels(rows[::-1])


def test_noise_is_met_with_a_heavier_penalty_than_a_rule():
    noise = fitted(word_world(200, 9, good="kind", bad="kind"))
    rule = fitted(word_world(200, 10, good="kind", bad="rude"))
    assert noise.ridge > rule.ridge


def test_words_that_never_differ_leave_a_judge_without_opinion():
    bag = fitted([comparison(i, "same words", "same words") for i in range(3)])
    assert bag.weights == {}
    assert accuracy(BagOfWords(aspects={"x": bag}), [comparison(0, "a", "b")]).value == 0.5


def test_nothing_to_fit_is_told():
    tied = Ranking(prompt=Prompt.of_text("p"), responses=("a", "b"), ranks=(1, 1))
    with pytest.raises(UserError, match="no pair"):
        fit_pairs([tied])


# --- ratings and verdicts -------------------------------------------------------------------------------------------


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
    "evaluation/judges/floors.py",
    old="ridge = min(errors, key=lambda choice: errors[choice])",
    new="ridge = max(ridges)",
    why="the penalty is not chosen: a floor too easy to beat",
)
@kills(
    "evaluation/judges/floors.py",
    old="1.0 if row.label else -1.0",
    new="-1.0 if row.label else 1.0",
    why="the floor learns rejection",
)
@kills(
    "evaluation/judges/floors.py",
    old="return self.offset + sum(",
    new="return sum(",
    why="the offset forgotten when the floor speaks",
)
def test_words_tell_verdicts_apart_and_the_offset_follows_the_share():
    bag = bag_of_words(verdicts(300, 1, share=0.8))
    found = measured(bag, verdicts(200, 2, share=0.8))
    assert found["held_out_accuracy_over_rows"].value > 0.95
    assert found["held_out_auc"].value > 0.97
    words = bag.aspects["accept"]
    assert words.weights["kind"] > 0.3 > -0.3 > words.weights["rude"]
    assert words.value("words never seen") == words.offset > 0


def test_each_aspect_has_its_own_words_and_gaps_are_no_zeros():
    found = measured(bag_of_words(ratings(400, 3)), ratings(200, 4))
    warmth, noise = found["aspect/warmth_rmse_over_labels"], found["aspect/noise_rmse_over_labels"]
    assert warmth.value < 0.35 * warmth.floor  # a label of 0 for every third answer would be 10 off
    assert found["aspect/warmth_spearman_over_labels"].value > 0.9
    assert abs(found["aspect/noise_spearman_over_labels"].value) < 0.2
    assert noise.value < 1.1 * noise.floor


@kills(
    "evaluation/judges/floors.py",
    old="[float(word != OFFSET) for word in words]",
    new="[1.0 for word in words]",
    why="the mean of the ratings is shrunk to 0",
)
def test_a_constant_rating_is_met_by_the_offset_alone():
    rows = [
        Rating(prompt=Prompt.of_text(str(i)), response=answer(random.Random(i)), scores={"x": 3.5}) for i in range(40)
    ]
    words = fit_labels(rows)["x"]
    assert words.offset == pytest.approx(3.5, abs=1e-4)
    assert max(abs(w) for w in words.weights.values()) < 1e-4


def test_labels_turned_round_turn_the_log_odds_round():
    rows = verdicts(80, 5)
    turned = [Verdict(prompt=row.prompt, response=row.response, label=not row.label) for row in rows]
    forward, backward = fit_labels(rows)["accept"].weights, fit_labels(turned)["accept"].weights
    assert forward == pytest.approx({word: -weight for word, weight in backward.items()}, abs=1e-4)


def test_texts_under_one_prompt_choose_their_penalty_as_texts_under_many():
    one = [Verdict(prompt=Prompt.of_text("p"), response=row.response, label=row.label) for row in verdicts(200, 7)]
    assert fit_labels(one)["accept"].weights["kind"] > 1.0  # under the largest penalty it is below


def test_scores_are_the_mean_of_the_aspects_and_name_them():
    bag = bag_of_words(ratings(50, 8))
    scores = bag.score([Group(prompt=Prompt.of_text("p"), responses=("kind", "w1"))])
    parts = [scores.parts["aspect/warmth"], scores.parts["aspect/noise"]]
    assert ((parts[0] + parts[1]) / 2).tolist() == pytest.approx(scores.scores.tolist())


def test_one_prompt_for_all_gives_intervals_of_its_texts():
    """Two hundred texts under one prompt are two hundred trials, not one."""
    one = [Verdict(prompt=Prompt.of_text("p"), response=row.response, label=row.label) for row in verdicts(200, 13)]
    found = measured(bag_of_words(verdicts(200, 14)), one)
    share, area = found["held_out_accuracy_over_rows"], found["held_out_auc"]
    assert share.high - share.low < 0.15
    assert 0 <= area.low <= area.value <= area.high <= 1


# --- what a floor is a floor of ---------------------------------------------------------------------------------------


def test_a_floor_is_of_the_measure_that_it_is_a_floor_of():
    """Of verdicts a share of answers, of order Spearman's rho, of an error less is better: never a share of pairs."""
    of_verdicts = floors(LabelledRows.of(verdicts(60, 10)), verdicts(120, 9))
    assert [(r.subject, r.measure) for r in of_verdicts] == [
        ("longer wins", "held_out_auc"),
        ("bag of words", "held_out_accuracy_over_rows"),
        ("bag of words", "held_out_auc"),
        ("bag of words", "brier_over_rows"),
    ]
    assert measure_of(of_verdicts[1].measure).unit == "share of answers"
    assert all(result.role == "floor" for result in of_verdicts)
    of_ratings = {(r.subject, r.measure): measure_of(r.measure) for r in floors(*two_sets_of_ratings())}
    order = of_ratings["longer wins", "aspect/warmth_spearman_over_labels"]
    assert (order.unit, order.better) == ("Spearman's ρ", "up")
    error = of_ratings["bag of words", "aspect/warmth_rmse_over_labels"]
    assert (error.unit, error.better) == ("rating", "down")
    assert ("longer wins", "aspect/warmth_rmse_over_labels") not in of_ratings, "a length is no rating"


def two_sets_of_ratings() -> tuple[LabelledRows, list[Rating]]:
    return LabelledRows.of(ratings(60, 12)), ratings(90, 11)


def test_labels_of_another_sort_teach_no_words():
    found = floors(LabelledRows.of(verdicts(60, 10)), word_world(60, 1, good="kind", bad="rude"))
    assert {result.subject for result in found} == {"longer wins"}


def test_floors_are_measured_on_the_whole():
    rows = LabelledRows.of(word_world(40, 1, good="kind", bad="rude"))
    assert len(floors(rows, [])) == 1
