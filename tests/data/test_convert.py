"""From kind to kind: nothing made up, every loss counted."""

from collections import Counter
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.data.convert import comparisons_of_ranking, convert, once_a_prompt, serves, serves_rows
from plaudit.errors import UserError
from plaudit.records.text import (
    Comparison,
    Demonstration,
    Kind,
    Ranking,
    Rating,
    Verdict,
)
from tests.data.files import plain

Q, P = plain("q"), plain("p")
RANKING = Ranking(prompt=Q, responses=("a", "b", "c"), ranks=(2, 1, 2), columns={"level": 1}, where="f:1")


def rating(prompt, response, labeller="", where="f:1", **scores):
    return Rating(prompt=prompt, response=response, scores=scores, labeller=labeller, where=where)


def test_a_ranking_gives_its_pairs_best_first_and_none_for_ties():
    rows, dropped = convert([RANKING], Kind.RANKING, Kind.COMPARISON)
    assert rows == [
        Comparison(prompt=Q, chosen="b", rejected="a", where="f:1"),
        Comparison(prompt=Q, chosen="b", rejected="c", where="f:1"),
    ]
    assert not dropped


@given(st.lists(st.integers(1, 4), min_size=1, max_size=7))
def test_the_number_and_direction_of_pairs(ranks):
    names = [f"answer {i}" for i in range(len(ranks))]
    row = Ranking(prompt=Q, responses=tuple(names), ranks=tuple(ranks))
    pairs = list(comparisons_of_ranking(row, Counter()))
    tied = sum(comb(count, 2) for count in Counter(ranks).values())
    assert len({(pair.chosen, pair.rejected) for pair in pairs}) == len(pairs) == comb(len(ranks), 2) - tied
    assert all(ranks[names.index(pair.chosen)] < ranks[names.index(pair.rejected)] for pair in pairs)


def test_equal_answers_and_tied_rankings_are_counted():
    same = Ranking(prompt=Q, responses=("a", "a ", "b"), ranks=(1, 2, 3))
    tied = Ranking(prompt=Q, responses=("a", "b"), ranks=(1, 1))
    rows, dropped = convert([same, tied], Kind.RANKING, Kind.COMPARISON)
    assert [(row.chosen, row.rejected) for row in rows] == [("a", "b"), ("a ", "b")]
    assert dropped == {"with chosen equal to rejected": 1, "without a pair (one answer, or all tied)": 1}


def test_a_comparison_is_a_ranking_of_two():
    pair = Comparison(prompt=Q, chosen="good", rejected="bad", margin=0.5, where="f:1")
    rows, _ = convert([pair], Kind.COMPARISON, Kind.RANKING)
    expected = {"responses": ("good", "bad"), "ranks": (1, 2), "columns": {"margin": 0.5}}
    assert rows == [Ranking(prompt=Q, where="f:1", **expected)]
    back, _ = convert(rows, Kind.RANKING, Kind.COMPARISON)
    assert (back[0].chosen, back[0].rejected) == ("good", "bad")


def test_ratings_of_one_prompt_by_one_labeller_are_a_ranking():
    rows = [
        rating(Q, "a", "ann", score=1.0),
        rating(Q, "b", "bob", score=5.0),
        rating(P, "c", "ann", score=1.0),
        rating(Q, "d", "ann", score=3.0),
        rating(Q, "e", "ann", score=1.0),
        rating(Q, "f", "ann", other=9.0),
    ]
    rankings, dropped = convert(rows, Kind.RATING, Kind.RANKING)
    assert rankings == [
        Ranking(
            prompt=Q,
            responses=("a", "d", "e"),
            ranks=(2, 1, 2),
            columns={"response_score": (1.0, 3.0, 1.0)},
            where="f:1",
        )
    ]
    assert dropped == {"with the only rated answer of the prompt": 2, "without a number for score": 1}


def test_ratings_give_comparisons_by_way_of_rankings():
    rows, _ = convert([rating(Q, "a", score=1.0), rating(Q, "b", score=2.0)], Kind.RATING, Kind.COMPARISON)
    assert [(row.chosen, row.rejected) for row in rows] == [("b", "a")]


def test_a_single_aspect_orders_answers_and_several_do_not():
    single = [rating(Q, "a", care=1.0), rating(Q, "b", care=2.0)]
    assert convert(single, Kind.RATING, Kind.RANKING)[0][0].ranks == (2, 1)
    several = [rating(Q, "a", care=1.0, wit=2.0), rating(Q, "b", care=2.0, wit=1.0)]
    with pytest.raises(UserError, match=r"x.jsonl: ratings by several aspects \(care, wit\) give no one order"):
        convert(several, Kind.RATING, Kind.RANKING, source="x.jsonl")
    assert serves_rows(single, Kind.RATING) == (Kind.RANKING, Kind.COMPARISON, Kind.PROMPT)
    assert serves_rows(several, Kind.RATING) == (Kind.PROMPT,)


def test_nothing_left_is_an_error():
    with pytest.raises(UserError, match=r"none of the 1 rating rows gives a ranking row: 1 with the only rated answer"):
        convert([rating(Q, "a", score=1.0)], Kind.RATING, Kind.RANKING)


def test_a_ranking_with_scores_gives_ratings():
    columns = {
        "response_score": (1, 2),
        "response_scores": ({"x": 3, "y": None}, None),
        "response_labeller": ("ann", 4),
    }
    row = Ranking(prompt=Q, responses=("a", "b"), ranks=(2, 1), columns=columns, where="f:1")
    rows, dropped = convert([row, RANKING], Kind.RANKING, Kind.RATING)
    assert rows == [
        Rating(prompt=Q, response="a", scores={"x": 3.0, "score": 1.0}, labeller="ann", where="f:1"),
        Rating(prompt=Q, response="b", scores={"score": 2.0}, labeller="4", where="f:1"),
    ]
    assert dropped == {"with an order of the answers but no scores": 1}
    assert Kind.RATING in serves_rows([row], Kind.RANKING)
    assert Kind.RATING not in serves_rows([RANKING], Kind.RANKING)


def test_the_best_answer_is_a_demonstration():
    tied = Ranking(prompt=P, responses=("a", "b", "c"), ranks=(2, 1, 1))
    rows, _ = convert([RANKING, tied], Kind.RANKING, Kind.DEMONSTRATION)
    assert [(row.prompt, row.response) for row in rows] == [(Q, "b"), (P, "b")]
    pair = Comparison(prompt=Q, chosen="good", rejected="bad")
    assert convert([pair], Kind.COMPARISON, Kind.DEMONSTRATION)[0] == [Demonstration(prompt=Q, response="good")]


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (Kind.DEMONSTRATION, Demonstration(prompt=Q, response="a", where="f:1")),
        (Kind.COMPARISON, Comparison(prompt=Q, chosen="a", rejected="b", where="f:1")),
        (Kind.RATING, rating(Q, "a", score=1.0)),
        (Kind.VERDICT, Verdict(prompt=Q, response="a", label=True, where="f:1")),
    ],
)
def test_every_answered_prompt_is_a_prompt_once(kind, row):
    dropped = Counter()
    assert Kind.PROMPT in serves(kind)
    assert list(once_a_prompt([row, row], dropped)) == [row]
    assert dropped == {"with a prompt that came before": 1}


def test_the_whole_table():
    table = {kind.value: [other.value for other in serves(kind)] for kind in Kind}
    assert {kind: sorted(others) for kind, others in table.items()} == {
        "demonstration": ["prompt"],
        "text": [],
        "comparison": ["demonstration", "prompt", "ranking"],
        "ranking": ["comparison", "demonstration", "prompt", "rating", "verdict"],
        "rating": ["comparison", "prompt", "ranking", "verdict"],
        "verdict": ["prompt"],
        "prompt": [],
        "candidates": ["prompt"],
    }


def test_the_kind_itself_needs_no_conversion():
    rows, dropped = convert([RANKING], Kind.RANKING, Kind.RANKING)
    assert rows[0] is RANKING
    assert not dropped
