"""What is dropped, what is counted, what counts as the same prompt."""

import pytest

from plaudit.data.clean import (
    count_oddities,
    drop_useless,
    duplicates,
    normalise,
    overlap,
    prompt_key,
    spelled_controls,
)
from plaudit.records.text import Comparison, Demonstration, Form, Prompt, PromptRow, Ranking, Rating, Text, Verdict
from tests.data.files import chat, plain
from tests.kills import kills

Q = plain("q")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Comparison(prompt=Q, chosen="a", rejected="a"), "with chosen equal to rejected"),
        (Comparison(prompt=Q, chosen=" a", rejected="a\n"), "with chosen equal to rejected"),
        (Comparison(prompt=Q, chosen="", rejected=""), "with chosen equal to rejected"),
        (Comparison(prompt=Q, chosen="a", rejected="A"), ""),
        (Comparison(prompt=Q, chosen="", rejected="a"), ""),
        (Demonstration(prompt=Q, response=" "), "with an empty answer to learn from"),
        (Demonstration(prompt=Q, response="."), ""),
        (Text(text="\n"), "with an empty text"),
        (Rating(prompt=Q, response="", scores={"score": 0.0}), ""),
        (Ranking(prompt=Q, responses=("a", "a"), ranks=(1, 2)), ""),
    ],
)
def test_the_rules_for_useless_rows(row, reason):
    kept, dropped = drop_useless([row])
    assert kept == (() if reason else (row,))
    assert dropped == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("row", "counted"),
    [
        (Ranking(prompt=Q, responses=("a", "b"), ranks=(1, 2)), {}),
        (Ranking(prompt=Q, responses=("a", "b", "c"), ranks=(1, 2, 2)), {"with ties": 1}),
        (
            Ranking(prompt=Q, responses=("a", "b"), ranks=(1, 1)),
            {"with ties": 1, "without a pair (one answer, or all tied)": 1},
        ),
        (Ranking(prompt=Q, responses=("a",), ranks=(1,)), {"without a pair (one answer, or all tied)": 1}),
        (Ranking(prompt=Q, responses=("a", "a"), ranks=(1, 2)), {"with equal answers on different places": 1}),
        (Ranking(prompt=Q, responses=("a", "a", "b"), ranks=(1, 1, 3)), {"with ties": 1}),
        (Ranking(prompt=Q, responses=("", " "), ranks=(1, 2)), {"with an empty reply": 1}),
        (Comparison(prompt=Q, chosen="a", rejected=""), {"with an empty reply": 1}),
        (Verdict(prompt=Q, response="\n", label=False), {"with an empty reply": 1}),
        (PromptRow(prompt=Q), {}),
    ],
)
def test_what_is_odd_but_stays(row, counted):
    assert count_oddities([row]) == counted


def test_repeats_are_found_by_what_a_row_says_not_where_it_stands():
    rows = [
        Demonstration(prompt=Q, response="a", where="f:1"),
        Demonstration(prompt=Q, response="b", where="f:2"),
        Demonstration(prompt=Q, response="a", where="f:3"),
        Demonstration(prompt=Q, response="a", where="f:4"),
    ]
    assert duplicates(rows) == (("f:1", "f:3"), ("f:1", "f:4"))
    assert count_oddities(rows) == {"repeating an earlier row": 2}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Rating(prompt=Q, response="a", scores={"x": 1.0}), Rating(prompt=Q, response="a", scores={"x": 2.0})),
        (
            Rating(prompt=Q, response="a", scores={"x": 1.0}),
            Rating(prompt=Q, response="a", scores={"x": 1.0}, labeller="b"),
        ),
        (Ranking(prompt=Q, responses=("a", "b"), ranks=(1, 2)), Ranking(prompt=Q, responses=("a", "b"), ranks=(2, 1))),
        (Comparison(prompt=Q, chosen="a", rejected="b"), Comparison(prompt=Q, chosen="b", rejected="a")),
        (Verdict(prompt=Q, response="a", label=True), Verdict(prompt=Q, response="a", label=False)),
        (PromptRow(prompt=Q, columns={"solution": ["1"]}), PromptRow(prompt=Q, columns={"solution": ["2"]})),
        (PromptRow(prompt=Q), PromptRow(prompt=chat(("user", "q")))),
        (Text(text="a"), Text(text="A")),
    ],
)
def test_rows_that_differ_are_no_repeats(first, second):
    assert duplicates([first, second]) == ()
    assert duplicates([first, first]) == (("", ""),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is 2 + 2?", "whatis22"),
        ("  what_IS\n2+2 ", "whatis22"),
        ("Café", "café"),
        ("Cafe\u0301", "café"),
        ("ＡＢＣ１", "abc1"),
        ("你好，世界！", "你好世界"),
        ("???", "???"),
        (" !! ", "!!"),
        ("", ""),
    ],
)
def test_the_normal_form_of_a_prompt(text, expected):
    assert normalise(text) == expected


def test_a_conversation_is_known_by_its_beginning():
    short = PromptRow(prompt=chat(("system", "Be kind."), ("user", "Hi!")))
    longer = PromptRow(prompt=chat(("system", "Be kind."), ("user", "hi"), ("assistant", "Yes?"), ("user", "Why")))
    other = PromptRow(prompt=chat(("system", "Be rude."), ("user", "Hi!")))
    assert prompt_key(short) == prompt_key(longer) == "bekindhi"
    assert prompt_key(other) == "berudehi"
    assert prompt_key(PromptRow(prompt=plain("Hi!"))) == "hi"
    assert prompt_key(Text(text="Once, twice")) == "oncetwice"


def test_overlap_counts_prompts_rows_and_names_places():
    first = [PromptRow(prompt=plain(t), where=f"a:{i}") for i, t in enumerate(["One?", "two", "one", "three"], 1)]
    second = [PromptRow(prompt=plain(t), where=f"b:{i}") for i, t in enumerate(["ONE", "four", "Two!", "two"], 1)]
    found = overlap(first, second)
    assert (found.prompts, found.rows) == (2, (3, 3))
    assert found.examples == (("a:1", "b:1"), ("a:2", "b:3"))
    assert overlap(first[3:], second).prompts == 0


@kills(
    "data/clean.py",
    old="verdicts.setdefault(what, verdict) == -verdict",
    new="verdicts.setdefault(what, verdict) == verdict",
    why="rows that agree are called contradictions",
)
def test_judgements_that_contradict_an_earlier_row_are_counted():
    pairs = [
        Comparison(prompt=Q, chosen="a", rejected="b"),
        Comparison(prompt=Q, chosen="b", rejected="a"),
        Comparison(prompt=plain("p"), chosen="b", rejected="a"),
        Ranking(prompt=Q, responses=("c", "b", "a"), ranks=(1, 2, 3)),
    ]
    assert count_oddities(pairs) == {"judging the same two answers the other way round than an earlier row": 2}
    verdicts = [Verdict(prompt=Q, response="a", label=True), Verdict(prompt=Q, response="a", label=False)]
    assert sum(count_oddities(verdicts).values()) == 1


def test_prompts_inside_answers_and_spelled_control_tokens_are_counted():
    q = plain("What is a sea?")
    rows = [
        Comparison(prompt=q, chosen="What is a sea? Salt water.", rejected="What is a sea? A hat."),
        Demonstration(prompt=q, response="Salt water.</s>"),
        Demonstration(prompt=Prompt.of_text("<s>q", Form.RENDERED), response="a"),
    ]
    assert count_oddities(rows) == {"with the prompt repeated at the beginning of an answer": 1}
    assert spelled_controls(rows) == (1, ["</s>"])
    assert spelled_controls(rows, ["Salt"]) == (2, ["Salt"])
