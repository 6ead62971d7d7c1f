"""The kind is told by the columns, or the user is told what each kind needs."""

import pytest

from plaudit.data.kinds import candidates, recognise, samples
from plaudit.errors import UserError
from plaudit.records.text import Kind
from tests.data.files import load_rows, message

ASKED = [message("user", "q")]
ANSWERED = [message("user", "q"), message("assistant", "a")]
SHAPES = [
    ({"messages": ANSWERED}, Kind.DEMONSTRATION),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, Kind.DEMONSTRATION),
    ({"prompt": "q", "messages": ANSWERED}, Kind.DEMONSTRATION),
    ({"prompt": "q", "completion": "a"}, Kind.DEMONSTRATION),
    ({"prompt": "q", "response": "a"}, Kind.DEMONSTRATION),
    ({"instruction": "q", "input": "", "output": "a"}, Kind.DEMONSTRATION),
    ({"instruction": "q", "input": "", "output": "a", "text": "q a"}, Kind.DEMONSTRATION),
    ({"text": "once"}, Kind.TEXT),
    ({"text": "once", "label": 1}, Kind.TEXT),
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, Kind.COMPARISON),
    ({"chosen": ANSWERED, "rejected": ANSWERED}, Kind.COMPARISON),
    ({"prompt": "q", "responses": ["a"], "ranks": [1]}, Kind.RANKING),
    ({"prompt": "q", "responses": ["a"], "best": 0}, Kind.RANKING),
    ({"prompt": "q", "responses": [{"text": "a", "score": 0}]}, Kind.RANKING),
    ({"conversation": ASKED, "responses": [{"text": "a", "rank": 0}]}, Kind.RANKING),
    ({"prompt": "q", "responses": [{"text": "a", "scores": {"x": 1}}]}, Kind.RATING),
    ({"prompt": "q", "response": "a", "score": 0}, Kind.RATING),
    ({"prompt": "q", "response": "a", "scores": {"x": 1}}, Kind.RATING),
    ({"prompt": "q", "completion": "a", "label": False}, Kind.VERDICT),
    ({"prompt": "q"}, Kind.PROMPT),
    ({"prompt": "q", "answer": "a"}, Kind.PROMPT),
    ({"prompt": "q", "responses": [{"text": "a", "model": "m"}]}, Kind.CANDIDATES),
    ({"messages": ASKED}, Kind.PROMPT),
    ({"role": "user", "content": "q", "solution": "s"}, Kind.PROMPT),
    ({"instruction": "q", "response": None}, Kind.PROMPT),
]


@pytest.mark.parametrize(("row", "kind"), SHAPES)
def test_every_shape_is_recognised(row, kind):
    assert candidates(samples([row])) == (kind,)
    assert recognise(samples([row])) is kind


def test_columns_that_some_rows_lack_or_have_null_are_seen():
    rows = [{"prompt": "q", "chosen": None}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    assert recognise(samples(rows)) is Kind.COMPARISON
    assert samples(rows) == {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert samples([{"prompt": "q", "margin": None}])["margin"] is None


def test_columns_that_mean_nothing_list_what_each_kind_needs():
    with pytest.raises(UserError) as caught:
        recognise(samples([{"question": "q", "reply": "a"}]), source="x.jsonl")
    text = str(caught.value)
    assert text.startswith("x.jsonl: no kind of data is told by the columns question, reply.\n")
    for kind in Kind:
        assert f"\n  {kind.value} " in text
    assert "columns: {its name: plaudit's name}" in text


def test_a_thousand_columns_are_not_all_listed():
    with pytest.raises(UserError, match=r"c18, c19 and 980 more\.") as caught:
        recognise({f"c{i}": 1 for i in range(1000)})
    assert "c20," not in str(caught.value)


BOTH = {"prompt": "q", "response": "a", "score": 1, "label": True}


def test_two_kinds_in_one_file_are_the_users_choice():
    with pytest.raises(UserError, match=r"fit several kinds \(rating or verdict\).*`kind: rating`"):
        recognise(BOTH)
    with pytest.raises(UserError, match="several kinds"):
        recognise(BOTH, [Kind.RANKING])


def test_the_wanted_kind_settles_it():
    assert recognise(BOTH, [Kind.VERDICT]) is Kind.VERDICT
    assert recognise(BOTH, [Kind.RANKING, Kind.RATING]) is Kind.RATING
    assert recognise(BOTH, [Kind.PROMPT]) is Kind.RATING  # the prompt is the same whichever it is


@pytest.mark.parametrize(
    "row", [{"prompt": "q", "completion": "a", "output": "b"}, {"prompt": "q", "instruction": "i", "output": "b"}]
)
def test_two_columns_of_one_meaning_are_refused(row):
    with pytest.raises(UserError, match="mean the same to plaudit") as caught:
        recognise(row, source="x.jsonl")
    assert str(caught.value).startswith("x.jsonl: `")


def test_the_kind_does_not_depend_on_the_order_of_the_rows(tmp_path):
    open_end = {"messages": [message("user", "q"), message("assistant", "a"), message("user", "thanks")]}
    good = {"messages": [message("user", "q"), message("assistant", "a")]}
    for rows in ([open_end, good, good], [good, good, open_end]):
        loaded = load_rows(tmp_path, rows, Kind.DEMONSTRATION, on_bad_row="skip", max_bad_fraction=0.5)
        assert (loaded.kind_found, len(loaded.rows)) == (Kind.DEMONSTRATION, 2)
        assert loaded.bad[0].reason == "the last turn of a demonstration must be the assistant's, not the user's"
        assert len(load_rows(tmp_path, rows, Kind.PROMPT).rows) == 2  # each conversation's open question, once
    with pytest.raises(UserError, match="Its conversations all end with the user's turn, none with an answer"):
        load_rows(tmp_path, [open_end], Kind.DEMONSTRATION)


def test_a_dialogue_that_cannot_be_read_says_why(tmp_path):
    spelt = {"messages": [{"role": "User", "content": "q"}, {"role": "Assistant", "content": "a"}]}
    with pytest.raises(UserError, match=r"rows.jsonl:1: column `messages` unknown role 'User'; did you mean 'user'"):
        load_rows(tmp_path, [spelt], Kind.DEMONSTRATION)
    with pytest.raises(UserError, match="must be a list of turns, not a string; the list stands inside a string"):
        load_rows(tmp_path, [{"messages": '[{"role": "user", "content": "q"}]'}], Kind.DEMONSTRATION)
    for column in ("prompt", "messages"):
        asked = [message("user", "q"), message("assistant", "a"), message("user", " ")]
        with pytest.raises(UserError, match=f"column `{column}` its last turn, the user's, is empty"):
            load_rows(tmp_path, [{column: asked}], Kind.PROMPT)


def test_null_is_absent(tmp_path):
    turn = {"role": None, "from": "human", "content": None, "value": "q", "weight": None, "tool_calls": None}
    rows = [
        {"conversations": [turn, {"from": "gpt", "value": "a"}], "prompt": None, "system": None, "history": None},
        {"conversations": None, "prompt": "q", "completion": "a", "system": "", "tools": []},
    ]
    loaded = load_rows(tmp_path, rows[:1], Kind.DEMONSTRATION)
    assert (loaded.rows[0].response, str(loaded)) == ("a", "1 row from demonstration data")
    assert str(load_rows(tmp_path, rows[1:], Kind.DEMONSTRATION)) == "1 row from demonstration data"
    (prompt,) = load_rows(tmp_path, [{"prompt": "q", "solution": None}], Kind.PROMPT).rows
    assert dict(prompt.columns) == {}
    with pytest.raises(UserError, match="column `solution` is missing, while other rows have it"):
        load_rows(tmp_path, [{"prompt": "q", "solution": 4}, {"prompt": "p", "solution": None}], Kind.PROMPT)


def test_responses_without_an_order_say_what_they_lack(tmp_path):
    with pytest.raises(UserError, match=r"rows.jsonl:1: column `ranks` `ranks` or `best` is missing"):
        load_rows(tmp_path, [{"prompt": "q", "responses": ["a", "b"]}], Kind.RANKING)
    assert load_rows(tmp_path, [{"prompt": "q", "responses": ["a", "b"]}], Kind.PROMPT).kind_found is Kind.CANDIDATES


def test_answers_that_nobody_has_ranked_are_candidates(tmp_path):
    texts = {"prompt": "q", "responses": ["a", "b"], "note": "n"}
    described = {"prompt": "q", "responses": [{"text": "a", "model": "m"}, {"text": "b", "model": "n"}]}
    first, second = load_rows(tmp_path, [texts, described], Kind.CANDIDATES).rows
    assert (first.responses, dict(first.columns)) == (("a", "b"), {"note": "n"})
    assert (second.responses, dict(second.columns)) == (("a", "b"), {"response_model": ("m", "n")})
    assert load_rows(tmp_path, [{**texts, "ranks": [1, 2]}], *Kind).kind_found is Kind.RANKING
    with pytest.raises(UserError, match="answers that nobody has ranked: plaudit label"):
        load_rows(tmp_path, [texts], Kind.RANKING)
