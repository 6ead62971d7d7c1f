"""Public files that are shaped otherwise: two answers side by side, reviews of some pairs, labels that are words."""

import pytest

from plaudit.data.check import check
from plaudit.data.clean import overlap
from plaudit.data.options import DataConfig
from plaudit.data.shapes import reshaped
from plaudit.data.sources import load
from plaudit.data.splits import split
from plaudit.data.turns import RowError
from plaudit.errors import UserError
from plaudit.records.text import Kind, Rating, Verdict
from tests.data.files import load_rows, message, plain, write
from tests.kills import kills

TWO = {"prompt": "Name a fruit.", "input": "", "response1": "A stone.", "response2": "An apple."}
REVIEWED = {
    "prompt": "Name a fruit.",
    "responses": [{"model": m, "text": f"text of {m}"} for m in ("a", "b", "c")],
    "reviews": [
        {"model_1": "b", "model_2": "a", "score_1": 9, "score_2": 7.5},
        {"model_1": "a", "model_2": "c", "score_1": 6, "score_2": 6},
    ],
}


# ------------------------------------------------------------------------------------------------- two and their votes


@kills(
    "data/shapes.py",
    old="_RANKS = {0: [1, 1], 1: [1, 2], 2: [2, 1]}",
    new="_RANKS = {0: [1, 1], 1: [2, 1], 2: [1, 2]}",
    why="a vote read as the place of the worse answer",
)
@pytest.mark.parametrize(("majority", "ranks"), [(0, (1, 1)), (1, (1, 2)), (2, (2, 1))])
def test_two_answers_become_a_ranking_with_votes(tmp_path, majority, ranks):
    rows = [{**TWO, "annotations": [2, 0, 1], "majority": majority}]
    loaded = load_rows(tmp_path, rows, Kind.RANKING)
    (row,) = loaded.rows
    assert loaded.kind_found is Kind.RANKING
    assert (row.prompt, row.responses, row.ranks) == (plain("Name a fruit."), ("A stone.", "An apple."), ranks)
    assert row.columns["votes"] == [[2, 1], [1, 1], [1, 2]]


@kills(
    "data/shapes.py",
    old="if counts[0][0] > counts[1][0] else 0])",
    new="])",
    why="votes in balance decided by their number",
)
@pytest.mark.parametrize(
    ("votes", "ranks"),
    [([2, 2, 1], (2, 1)), ([0, 1, 1], (1, 2)), ([0, 1, 2], (1, 1)), ([1, 1, 2, 2], (1, 1)), ([2], (2, 1))],
)
def test_without_a_majority_column_most_votes_count(tmp_path, votes, ranks):
    (row,) = load_rows(tmp_path, [{**TWO, "annotations": votes}], Kind.RANKING).rows
    assert row.ranks == ranks


def test_a_majority_alone_has_no_votes(tmp_path):
    (row,) = load_rows(tmp_path, [{**TWO, "majority": 2}], Kind.RANKING).rows
    assert row.ranks == (2, 1)
    assert "votes" not in row.columns


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"response1": True}, "response1: must be a string, not true"),
        ({"majority": 3}, "majority: must be 0 (tie), 1 or 2, not 3"),
        ({"majority": True}, "majority: must be 0 (tie), 1 or 2, not True"),
        ({"annotations": [1, 5]}, "annotations: must be 0 (tie), 1 or 2, not 5"),
        ({"annotations": []}, "annotations: must be a list of votes, each 0 (tie), 1 or 2"),
        ({"majority": None}, "majority: neither `majority` nor `annotations` says which answer is better"),
    ],
)
def test_what_is_wrong_with_two_answers_is_said(change, reason):
    raw = {**TWO, "majority": 1, **change}
    with pytest.raises(RowError) as caught:
        reshaped(raw, raw)
    assert f"{caught.value.column}: {caught.value.reason}" == reason


def test_bad_rows_of_another_shape_are_named_and_may_be_skipped(tmp_path):
    rows = [{**TWO, "majority": 1}, {**TWO, "response2": None, "majority": 1}]
    with pytest.raises(UserError, match=r"rows.jsonl:2: column `response2` must be a string, not null"):
        load_rows(tmp_path, rows, Kind.RANKING)
    loaded = load_rows(tmp_path, rows, Kind.RANKING, on_bad_row="skip", max_bad_fraction=0.5)
    assert [row.where[-2:] for row in loaded.rows] == [":1"]
    (report,) = check([write(tmp_path, rows)]).files
    assert (report.kind, report.rows, len(report.bad)) == ("ranking", 1, 1)


# ------------------------------------------------------------------------------------------------------------- reviews


@kills(
    "data/shapes.py",
    old='"score": review.get(f"score_{number}")})',
    new='"score": review.get(f"score_{3 - number}")})',
    why="a review's scores exchanged",
)
def test_each_review_is_a_ranking_of_its_two_answers(tmp_path):
    first, second = load_rows(tmp_path, [REVIEWED], Kind.RANKING).rows
    assert (first.responses, first.ranks) == (("text of b", "text of a"), (1, 2))
    assert (second.responses, second.ranks) == (("text of a", "text of c"), (1, 1))
    assert first.columns["response_score"] == (9, 7.5)
    assert first.prompt == second.prompt == plain("Name a fruit.")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reviews": [{"model_1": "x", "model_2": "a"}]}, "`model_1` is 'x', of which `responses` has no answer"),
        ({"reviews": []}, "must be a list of comparisons"),
        ({"reviews": ["a"]}, "a review must be an object, not a string"),
        ({"responses": [{"text": "t"}]}, r"item 0 \(counted from 0\) has no `model` and `text` for its reviews"),
        ({"responses": [{"text": "t", "model": "a"}] * 2}, "two items are by the model 'a'"),
    ],
)
def test_what_is_wrong_with_reviews_is_said(tmp_path, change, reason):
    with pytest.raises(UserError, match=reason):
        load_rows(tmp_path, [{**REVIEWED, **change}], Kind.RANKING)


def test_other_rows_stay_as_they_are():
    for raw in ({"prompt": "q", "response": "a"}, {"response1": "a"}, {"responses": ["a"], "best": 0}):
        assert reshaped(raw, raw) == [raw]


# --------------------------------------------------------------------------------- conversations whose answer is judged

TALK = [message("user", "One?"), message("assistant", "Uno."), message("user", "Two?"), message("assistant", "Tre.")]
SHORT = [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "Uno."}]


@kills(
    "data/shapes.py",
    old='judged = kind == "auto" and str(raw.get("label")).lower() in _VERDICTS',
    new="judged = False",
    why="a rejected answer of a conversation learned as a demonstration",
)
def test_a_conversation_with_a_label_is_a_verdict_and_no_demonstration(tmp_path):
    rows = [{"messages": TALK, "label": False}, {"conversations": SHORT, "label": 1}]
    loaded = load_rows(tmp_path, rows, Kind.RANKING, Kind.RATING, Kind.VERDICT)
    assert [(len(row.prompt.turns), row.response, row.label) for row in loaded.rows] == [
        (3, "Tre.", False),
        (1, "Uno.", True),
    ]
    with pytest.raises(UserError, match="holds verdict rows, but demonstration rows are needed"):
        load_rows(tmp_path, rows, Kind.DEMONSTRATION)
    with pytest.raises(UserError, match="column `label` must be true or false"):
        load_rows(tmp_path, [*rows, {"messages": TALK, "label": "false"}], Kind.VERDICT)
    loaded = load_rows(tmp_path, [{"messages": TALK, "label": "poor"}], Kind.VERDICT, kind="verdict", accept=("poor",))
    assert [(row.response, row.label) for row in loaded.rows] == [("Tre.", True)]
    (prompt,) = load_rows(tmp_path, rows[:1], Kind.PROMPT).rows
    assert [turn.content for turn in prompt.prompt.turns] == ["One?", "Uno.", "Two?"]


def test_what_may_be_said_of_conversations_without_judging_them_leaves_demonstrations(tmp_path):
    for beside in ({"label": "geography"}, {"score": 0.5}):
        loaded = load_rows(tmp_path, [{"messages": TALK, **beside}], Kind.DEMONSTRATION)
        assert [row.response for row in loaded.rows] == ["Uno.", "Tre."]
        assert f"columns not used: {next(iter(beside))}" in str(loaded)
    loaded = load_rows(tmp_path, [{"messages": TALK, "label": True}], Kind.DEMONSTRATION, kind="demonstration")
    assert [row.response for row in loaded.rows] == ["Uno.", "Tre."]
    (rating,) = load_rows(tmp_path, [{"messages": TALK, "score": 0.5}], Kind.RATING, kind="rating").rows
    assert (len(rating.prompt.turns), rating.response, rating.scores) == (3, "Tre.", {"score": 0.5})


@kills(
    "data/shapes.py",
    old='"responses": [answer, *others], "ranks"',
    new='"responses": [*others, answer], "ranks"',
    why="the answer of the conversation taken for the worse one",
)
@pytest.mark.parametrize(
    "beside",
    [
        {"rejected_response": "Due?"},
        {"rejected_response": [message("assistant", "Due?")]},
        {"rejected_response": ["Due?"]},
        {"rejected_messages": [*TALK[:3], message("assistant", "Due?")]},
    ],
)
def test_a_conversation_beside_a_rejected_answer_is_a_comparison(tmp_path, beside):
    for kind in ("auto", "comparison"):
        loaded = load_rows(tmp_path, [{"messages": TALK, **beside}], Kind.COMPARISON, kind=kind)
        (row,) = loaded.rows
        assert [turn.content for turn in row.prompt.turns] == ["One?", "Uno.", "Two?"]
        assert (row.chosen, row.rejected) == ("Tre.", "Due?")
        assert "not used" not in str(loaded)


def test_a_row_whose_rejected_answer_is_null_says_so(tmp_path):
    rows = [{"messages": TALK, "rejected_response": "Due?"}, {"messages": SHORT, "rejected_response": None}]
    with pytest.raises(UserError, match=r":2: column `rejected_response` is null or missing: there is nothing that"):
        load_rows(tmp_path, rows, Kind.COMPARISON)


def test_a_conversation_may_stand_beside_several_rejected_answers(tmp_path):
    rows = [{"conversations": SHORT, "rejected_response": rejected} for rejected in (["Due.", "Tre."], "Sei.")]
    loaded = load_rows(tmp_path, rows, Kind.RANKING)
    assert [(row.responses, row.ranks) for row in loaded.rows] == [
        (("Uno.", "Due.", "Tre."), (1, 2, 2)),
        (("Uno.", "Sei."), (1, 2)),
    ]


# ------------------------------------------------------------------------------------------- verdicts in other clothes


@kills(
    "data/shapes.py",
    old='"label": str(item["label"]) in accept}',
    new='"label": str(item["label"]) not in accept}',
    why="accepted labels rejected",
)
def test_words_are_verdicts_by_accept(tmp_path):
    rows = [{"prompt": "q", "response": "a", "label": "good"}, {"prompt": "q", "response": "b", "label": "so so"}]
    loaded = load_rows(tmp_path, rows, Kind.VERDICT, accept=("good",))
    assert [(row.response, row.label) for row in loaded.rows] == [("a", True), ("b", False)]
    with pytest.raises(UserError, match="say which words mean accept"):
        load_rows(tmp_path, rows, Kind.VERDICT)
    with pytest.raises(UserError, match=r"`accept` names 'godo', but the labels are good, so so"):
        load_rows(tmp_path, rows, Kind.VERDICT, accept=("godo",))


def test_numbers_are_verdicts_by_accept_too(tmp_path):
    rows = [{"prompt": "q", "response": str(n), "label": n} for n in range(5)]
    loaded = load_rows(tmp_path, rows, Kind.VERDICT, accept=("3", "4"))
    assert [row.label for row in loaded.rows] == [False, False, False, True, True]


def test_several_labelled_answers_of_a_prompt(tmp_path):
    items = [{"text": "a", "label": "full", "score": 1}, {"text": "b", "label": "none", "score": 0.5}]
    rows = [{"prompt": "q", "responses": items}]
    loaded = load_rows(tmp_path, rows, Kind.VERDICT, kind="verdict", accept=("full",))
    assert [(row.response, row.label) for row in loaded.rows] == [("a", True), ("b", False)]
    assert load_rows(tmp_path, rows, Kind.RANKING).kind_found is Kind.RANKING
    told = [{"prompt": "q", "responses": [{"text": "a", "label": True}, {"text": "b", "label": False}]}]
    assert load_rows(tmp_path, told, Kind.VERDICT).kind_found is Kind.VERDICT


@kills(
    "data/convert.py",
    old="all(row.scores.get(aspect) in (0.0, 1.0) for row in ratings)",
    new="any(row.scores.get(aspect) in (0.0, 1.0) for row in ratings)",
    why="grades from 1 to 5 become verdicts",
)
@kills(
    "data/convert.py",
    old="label = row.scores[aspect] == 1",
    new="label = row.scores[aspect] >= 0",
    why="every score is an acceptance",
)
def test_scores_of_0_and_1_are_verdicts_and_other_scores_are_not(tmp_path):
    def rows(*scores):
        return [{"prompt": "q", "responses": [{"text": f"t{i}", "score": s} for i, s in enumerate(scores)]}]

    loaded = load_rows(tmp_path, rows(1, 0, 1), Kind.VERDICT)
    assert [row.label for row in loaded.rows] == [True, False, True]
    rated = [{"prompt": "q", "response": "a", "score": 0}, {"prompt": "q", "response": "b", "score": 1}]
    assert [row.label for row in load_rows(tmp_path, rated, Kind.VERDICT).rows] == [False, True]
    with pytest.raises(UserError, match=r"only where every answer's `score` is 0 or 1"):
        load_rows(tmp_path, rows(1, 0.5), Kind.VERDICT)
    (report,) = check([write(tmp_path, rows(1, 0))]).files
    assert "verdict" in report.serves_as
    (report,) = check([write(tmp_path, rows(1, 2))]).files
    assert "verdict" not in report.serves_as


# -------------------------------------------------------------------------------------------------- texts with labels

TEXTS = [{"text": f"text number {i}", "label": i % 2} for i in range(40)]
FIXED = {"columns": {"text": "response"}, "prompt": "A review:"}


def test_texts_with_labels_under_one_prompt(tmp_path):
    loaded = load_rows(tmp_path, TEXTS, Kind.VERDICT, **FIXED)
    assert loaded.rows[3] == Verdict(
        prompt=plain("A review:"), response="text number 3", label=True, where=loaded.rows[3].where
    )
    rated = load_rows(tmp_path, TEXTS, Kind.RATING, prompt="p", columns={"text": "response", "label": "score"})
    assert isinstance(rated.rows[0], Rating)
    assert rated.rows[1].scores == {"score": 1.0}


@kills(
    "data/clean.py",
    old="return [normalise(answer) for row in rows for answer in answers(row)]",
    new="return [row.where for row in rows]",
    why="two spellings of one text on both sides of a split",
)
def test_they_are_divided_by_their_texts(tmp_path):
    rows = load_rows(tmp_path, [*TEXTS, {"text": "Text, number 3!", "label": 1}], Kind.VERDICT, **FIXED).rows
    train, held_out = split(rows, 0.3, seed=0)
    assert 5 <= len(held_out) <= 20
    assert overlap(train, held_out).prompts == 0
    spellings = [
        side for side in (train, held_out) for row in side if row.response in ("text number 3", rows[-1].response)
    ]
    assert spellings[0] is spellings[1]
    assert overlap(rows, rows).prompts == 40


def test_rankings_of_one_prompt_are_not_divided(tmp_path):
    rows = [{"prompt": "q", "responses": ["a", f"b{i}"], "best": 0} for i in range(9)]
    with pytest.raises(UserError, match="leaves one side empty"):
        split(load_rows(tmp_path, rows, Kind.RANKING).rows, 0.5, seed=0)


def test_a_prompt_of_their_own_is_not_overwritten(tmp_path):
    with pytest.raises(UserError, match="the row has a prompt of its own"):
        load_rows(tmp_path, [{"prompt": "q", "response": "a", "label": 1}], Kind.VERDICT, prompt="p")


def test_check_says_what_labelled_texts_lack(tmp_path):
    path = write(tmp_path, TEXTS)
    assert "columns: {text: response}" in check([path]).to_text()
    (report,) = check([DataConfig(path=path, **FIXED)]).files
    assert (report.kind, report.rows) == ("verdict", 40)
    assert "columns: {text: response}" not in check([write(tmp_path, [{"text": "a"}])]).to_text()


def test_load_of_a_ranking_file_keeps_its_options_apart(tmp_path):
    path = write(tmp_path, [{"prompt": "q", "responses": ["a", "b"], "best": 0}])
    assert load(DataConfig(path=path), Kind.RANKING).rows[0].ranks == (1, 2)
