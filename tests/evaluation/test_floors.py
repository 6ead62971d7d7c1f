"""Judges that know no language: what they see, and what they must not."""

import math
import random

import pytest

from plaudit.errors import UserError
from plaudit.evaluation.floors import LongerWins, fit_bag_of_words, floor_accuracies, pairs_of
from plaudit.evaluation.reward_accuracy import reward_accuracy
from plaudit.records.text import Comparison, Group, Prompt, Ranking


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
    assert LongerWins(unit="words").score(groups).scores.tolist() == [2.0, 3.0, 0.0]
    rows = [comparison(0, "long", "a"), comparison(1, "a", "long"), comparison(2, "same", "size")]
    assert reward_accuracy(LongerWins(), rows).accuracy == 0.5


def test_pairs_come_better_first_and_ties_give_none():
    ranking = Ranking(prompt=Prompt.of_text("p"), responses=("b", "a", "also b"), ranks=(2, 1, 2))
    assert [(pair.better, pair.worse) for pair in pairs_of([ranking])] == [("a", "b"), ("a", "also b")]
    assert [(p.better, p.worse) for p in pairs_of([comparison(0, "x", "y")])] == [("x", "y")]


def test_a_bag_of_words_finds_the_words_that_decide():
    train, held_out = word_world(300, 1, good="kind", bad="rude"), word_world(200, 2, good="kind", bad="rude")
    floors = floor_accuracies(train, held_out)
    assert floors["bag_of_words"].accuracy > 0.97
    assert 0.35 < floors["longer_wins"].accuracy < 0.65
    bag = fit_bag_of_words(train)
    assert bag.weights["kind"] > 0.5 > -0.5 > bag.weights["rude"]


def test_without_a_rule_it_stays_at_chance():
    held_out = word_world(300, 4, good="kind", bad="kind")
    bag = fit_bag_of_words(word_world(300, 3, good="kind", bad="kind"))
    result = reward_accuracy(bag, held_out)
    assert result.low < 0.5 < result.high


def test_labels_the_other_way_round_turn_the_weights_round():
    train = word_world(60, 5, good="kind", bad="rude")
    flipped = [Comparison(prompt=row.prompt, chosen=row.rejected, rejected=row.chosen) for row in train]
    forward, backward = fit_bag_of_words(train), fit_bag_of_words(flipped)
    assert forward.ridge == backward.ridge
    for word, weight in forward.weights.items():
        assert weight == pytest.approx(-backward.weights[word], abs=1e-6)


def test_the_fit_is_the_minimum_by_hand():
    # n pairs that differ by "good" once against nothing: x = log 2, and w solves ridge · w = n x σ(−w x).
    train = [comparison(i, "good", "") for i in range(8)]
    (weight,) = fit_bag_of_words(train, ridges=[2.0]).weights.values()
    x = math.log(2.0)
    assert 2.0 * weight == pytest.approx(8 * x / (1 + math.exp(weight * x)), rel=1e-5)
    assert weight > 0


def test_the_fit_is_a_minimum_in_every_direction():
    train = word_world(40, 6, good="kind", bad="rude")
    bag = fit_bag_of_words(train, ridges=[3.0])

    def loss(weights: dict[str, float]) -> float:
        moved = type(bag)(weights=weights, ridge=3.0)
        pairs = [(moved.value(row.chosen), moved.value(row.rejected)) for row in train]
        return sum(math.log1p(math.exp(b - a)) for a, b in pairs) + 1.5 * sum(w * w for w in weights.values())

    least = loss(dict(bag.weights))
    for word in ("kind", "rude", "w0", "w7"):
        for shift in (-0.05, 0.05):
            assert loss({**bag.weights, word: bag.weights[word] + shift}) > least


def test_rare_words_and_unseen_words_weigh_nothing():
    train = [*word_world(20, 7, good="kind", bad="rude"), comparison(999, "kind hapax", "rude")]
    bag = fit_bag_of_words(train)
    assert "hapax" not in bag.weights
    assert bag.value("hapax never seen") == 0.0
    assert bag.value("KIND") == pytest.approx(bag.weights["kind"] * math.log(2.0))


def test_the_same_data_in_another_order_gives_the_same_judge():
    train = word_world(80, 8, good="kind", bad="rude")
    forward, backward = fit_bag_of_words(train), fit_bag_of_words(train[::-1])
    assert forward.ridge == backward.ridge
    for word, weight in forward.weights.items():
        assert weight == pytest.approx(backward.weights[word], abs=1e-9)


def test_noise_is_met_with_a_heavier_penalty_than_a_rule():
    noise = fit_bag_of_words(word_world(200, 9, good="kind", bad="kind"))
    rule = fit_bag_of_words(word_world(200, 10, good="kind", bad="rude"))
    assert noise.ridge > rule.ridge


def test_words_that_never_differ_leave_a_judge_without_opinion():
    bag = fit_bag_of_words([comparison(i, "same words", "same words") for i in range(3)])
    assert bag.weights == {}
    assert reward_accuracy(bag, [comparison(0, "a", "b")]).accuracy == 0.5


def test_nothing_to_fit_is_told():
    tied = Ranking(prompt=Prompt.of_text("p"), responses=("a", "b"), ranks=(1, 1))
    with pytest.raises(UserError, match="no pair"):
        fit_bag_of_words([tied])
    for ridges in ([], [0.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="ridges"):
            fit_bag_of_words([comparison(0, "a", "b")], ridges=ridges)
