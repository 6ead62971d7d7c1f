"""Argilla's and Label Studio's exports, and benchmarks with several answers a side, are read as they are."""

import pytest

from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.records.text import Kind
from tests.data.files import load_rows, plain, write
from tests.kills import kills

FIELDS = {"prompt": "Name a sea.", "answer-1": "Lake.", "answer-2": "The Red Sea.", "answer-3": "Pond."}


def rankings(tmp_path, *rows):
    loaded = load_rows(tmp_path, list(rows), Kind.RANKING)
    assert all(row.prompt == plain("Name a sea.") for row in loaded.rows)
    return [dict(zip(row.responses, row.ranks, strict=True)) for row in loaded.rows], loaded


def test_several_chosen_and_rejected_answers_are_a_ranking(tmp_path):
    row = {
        "prompt": "Name a sea.",
        "chosen": ["Red", "Dead"],
        "rejected": ["Geneva"],
        "num_correct": 2,
        "subset": "Ties",
    }
    found, loaded = rankings(tmp_path, row)
    assert found == [{"Red": 1, "Dead": 1, "Geneva": 3}]
    assert loaded.rows[0].columns == {"num_correct": 2, "subset": "Ties"}


def test_argillas_rankings_are_a_row_for_each_annotator(tmp_path):
    placed = [{"value": "answer-2", "rank": 1}, {"value": "answer-1", "rank": 2}, {"value": "answer-3", "rank": 2}]
    first = {"value": placed, "user_id": "ann", "status": "submitted"}
    draft = {"value": placed[::-1], "user_id": "bob", "status": "draft"}
    second = {"value": ["answer-3", "answer-2", "answer-1"], "user_id": "cat"}
    expected = [{"The Red Sea.": 1, "Lake.": 2, "Pond.": 2}, {"Pond.": 1, "The Red Sea.": 2, "Lake.": 3}]
    nested = {"id": "7", "fields": FIELDS, "responses": {"order": [first, draft, second]}}
    assert rankings(tmp_path, nested)[0] == expected
    column = {**FIELDS, "order": [first, draft, second]}
    assert rankings(tmp_path, column)[0] == expected
    flat = {**FIELDS, "order.responses": [first["value"], second["value"]], "order.responses.users": ["ann", "cat"]}
    assert rankings(tmp_path, {**flat, "order.responses.status": ["submitted", "submitted"]})[0] == expected


def test_argillas_labels_and_ratings(tmp_path):
    pair = {"prompt": "Name a sea.", "text_a": "Red", "text_b": "Pond"}
    better = {
        "fields": pair,
        "responses": {"which": [{"value": "text_b", "user_id": 1}, {"value": "tie", "user_id": 2}]},
    }
    assert rankings(tmp_path, better)[0] == [{"Red": 2, "Pond": 1}, {"Red": 1, "Pond": 1}]
    rated = {
        "prompt": "Name a sea.",
        "response": "Red",
        "clear": [{"value": 4, "user_id": "ann"}],
        "kind.responses": [2],
    }
    loaded = load(DataConfig(path=write(tmp_path, [{**rated, "kind.responses.users": ["ann"]}])), Kind.RATING)
    assert [(row.scores, row.labeller) for row in loaded.rows] == [({"clear": 4.0, "kind": 2.0}, "ann")]


def label_studio(value, **data):
    result = [{"from_name": "judged", "type": "any", "value": value}]
    cancelled = {"completed_by": 2, "was_cancelled": True, "result": result}
    return {
        "id": 1,
        "data": {"prompt": "Name a sea.", **data},
        "annotations": [{"completed_by": 1, "result": result}, cancelled],
    }


@kills(
    "data/exports.py",
    old="enumerate(sorted(names))",
    new="enumerate(names)",
    why="left and right change places where a data base turned the fields round",
)
def test_label_studios_pairs_and_rankings(tmp_path):
    left = label_studio({"selected": "left"}, answer1="Red", answer2="Pond")
    right = label_studio({"choices": ["right"]}, answer1="Red", answer2="Pond")
    turned = label_studio({"selected": "left"}, answer2="Pond", answer1="Red")
    items = [{"id": "x", "title": "X", "body": "Red"}, {"id": "y", "title": "Y", "body": "Pond"}]
    ranked = label_studio({"ranker": {"rank": ["y", "x"]}}, items=items)
    found, loaded = rankings(tmp_path, left, right, turned, ranked)
    assert found == [{"Red": 1, "Pond": 2}, {"Red": 2, "Pond": 1}, {"Red": 1, "Pond": 2}, {"Pond": 1, "Red": 2}]
    assert len(loaded.rows) == 4  # cancelled annotations are none


def test_label_studios_ratings_and_verdicts(tmp_path):
    rated = load_rows(tmp_path, [label_studio({"rating": 4}, answer="Red")], Kind.RATING)
    assert (rated.rows[0].scores, rated.rows[0].labeller) == ({"score": 4.0}, "1")
    good = label_studio({"choices": ["good"]}, answer="Red")
    bad = label_studio({"choices": ["poor"]}, answer="Pond")
    verdicts = load_rows(tmp_path, [good, bad], Kind.VERDICT, accept=("good",)).rows
    assert [row.label for row in verdicts] == [True, False]


def test_what_nobody_has_judged_is_left_out_and_counted(tmp_path):
    judged = label_studio({"selected": "left"}, answer1="Red", answer2="Pond")
    loaded = load_rows(tmp_path, [judged, {**judged, "annotations": []}], Kind.RANKING)
    assert (len(loaded.rows), loaded.dropped) == (1, {"that nobody has judged": 1})
    with pytest.raises(UserError, match=r"no row is left\. Left out: 1 that nobody has judged"):
        load_rows(tmp_path, [{**judged, "annotations": []}], Kind.RANKING)
    lost = {"fields": FIELDS, "responses": {"order": [{"value": ["answer-9"], "user_id": 1}]}}
    with pytest.raises(UserError, match=r"rows.jsonl:1: column `ranks` the ranking names 'answer-9'"):
        load_rows(tmp_path, [lost], Kind.RANKING)
