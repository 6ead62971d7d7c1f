"""Fewer answers of long rankings: how many, how far apart, and everything that belongs to an answer with it."""

from itertools import pairwise

import pytest

from plaudit.data.options import DataConfig
from plaudit.data.sources import check_config
from plaudit.errors import UserError
from plaudit.records.text import Kind
from tests.data.files import load_rows
from tests.kills import kills

SCORES = [0.1, 0.9, 0.5, 0.5, 0.52, 0.0, 0.7, 0.3]


def rows(count: int = 30, scores=SCORES) -> list[dict]:
    def answers(i: int) -> list[dict]:
        return [{"text": f"{i} {k}", "score": s, "model": f"m{k}"} for k, s in enumerate(scores)]

    return [{"prompt": f"prompt {i}", "responses": answers(i), "topic": [1, 2]} for i in range(count)]


def load(tmp_path, **options):
    return load_rows(tmp_path, rows(), Kind.RANKING, **options).rows


@kills(
    "data/thinning.py",
    old="1 + sum(other < rank for other in ranks)",
    new="1 + sum(other > rank for other in ranks)",
    why="the thinned ranking upside down",
)
@kills(
    "data/thinning.py",
    old="tuple(value[i] for i in indices)",
    new="tuple(value[: len(indices)])",
    why="the answers keep other answers' scores",
)
def test_as_many_as_asked_in_their_old_order_with_places_of_their_own(tmp_path):
    whole = load(tmp_path)
    thin = load(tmp_path, answers=3)
    for before, after in zip(whole, thin, strict=True):
        kept = [before.responses.index(text) for text in after.responses]
        assert kept == sorted(kept)
        assert len(kept) == 3
        scores = [SCORES[k] for k in kept]
        assert after.columns["response_score"] == tuple(scores)
        assert after.columns["response_model"] == tuple(f"m{k}" for k in kept)
        assert after.columns["topic"] == [1, 2]
        assert after.ranks == tuple(1 + sum(other > own for other in scores) for own in scores)


@kills(
    "data/thinning.py",
    old='uniform(f"{row.prompt.id} {index}", 0)',
    new='uniform(f"{index}", 0)',
    why="the same answers (models) of every prompt",
)
def test_prompts_draw_different_answers_and_the_same_each_time(tmp_path):
    def kept(row):
        return tuple(text.split()[1] for text in row.responses)

    first, again = load(tmp_path, answers=3), load(tmp_path, answers=3)
    assert first == again
    assert len({kept(row) for row in first}) > 10
    assert {k for row in first for k in kept(row)} == {str(k) for k in range(8)}


@kills(
    "data/thinning.py",
    old="all(abs(scores[index] - scores[other]) >= min_gap for other in indices)",
    new="(not indices or any(abs(scores[index] - scores[other]) >= min_gap for other in indices))",
    why="far from one answer is far enough",
)
def test_no_two_closer_than_the_gap(tmp_path):
    for row in load(tmp_path, min_gap=0.15):
        scores = sorted(row.columns["response_score"])
        assert all(b - a >= 0.15 for a, b in pairwise(scores))
        left = [s for s in SCORES if all(abs(s - other) >= 0.15 for other in scores)]
        assert left == []  # nothing more would fit
    assert all(len(row.responses) <= 2 for row in load(tmp_path, min_gap=0.15, answers=2))


def test_more_than_there_are_changes_nothing(tmp_path):
    assert load(tmp_path, answers=8) == load(tmp_path, answers=20) == load(tmp_path)


def test_without_scores_there_is_no_gap(tmp_path):
    plain = [{"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}]
    assert len(load_rows(tmp_path, plain, Kind.RANKING, answers=2).rows[0].responses) == 2
    with pytest.raises(UserError, match="`min_gap` needs a `score` of every answer"):
        load_rows(tmp_path, plain, Kind.RANKING, min_gap=0.1)


def test_only_rankings_are_thinned(tmp_path):
    pair = [{"prompt": "q", "chosen": "a", "rejected": "b"}]
    with pytest.raises(UserError, match="`answers` and `min_gap` thin rankings"):
        load_rows(tmp_path, pair, Kind.RANKING, answers=2)


@pytest.mark.parametrize("options", [{"answers": 1}, {"answers": -1}, {"min_gap": -0.1}, {"min_gap": float("nan")}])
def test_other_numbers_are_refused(options):
    with pytest.raises(UserError, match="answers must be 0"):
        check_config(DataConfig(path="x", **options))
