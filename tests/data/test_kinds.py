"""The kind is told by the columns, or the user is told what each kind needs."""

import pytest

from plaudit.data.kinds import candidates, recognise, samples
from plaudit.errors import UserError
from plaudit.records.text import Kind
from tests.data.files import message

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
    ({"prompt": "q", "responses": [{"text": "a", "model": "m"}]}, Kind.PROMPT),
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
