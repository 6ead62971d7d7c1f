"""Raw rows become records: every shape, and the reason for every row that can't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.data.formats import competition_ranks, parse, prompt_row
from plaudit.data.turns import RowDropped, RowError
from plaudit.records.text import (
    Comparison,
    Demonstration,
    Form,
    Kind,
    PromptRow,
    Ranking,
    Rating,
    Text,
    Verdict,
)
from tests.data.files import chat, message, plain

Q = chat(("user", "q"))


def one(raw, kind):
    (row,) = parse(raw, kind, "f:1")
    assert row.where == "f:1"
    return row


def bad(raw, kind) -> str:
    with pytest.raises(RowError) as caught:
        parse(raw, kind, "f:1")
    return f"{caught.value.column}: {caught.value.reason}"


# -------------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("raw", "prompt"),
    [
        ({"prompt": " q\n"}, plain(" q\n")),
        ({"instruction": "q"}, plain("q")),
        ({"instruction": "q", "input": "more"}, plain("q\n\nmore")),
        ({"prompt": "q", "input": ""}, plain("q")),
        ({"prompt": "q", "input": " "}, plain("q")),
        ({"prompt": "q", "input": None}, plain("q")),
        ({"prompt": [message("user", "q")]}, Q),
        ({"prompt": message("user", "q")}, Q),
        ({"messages": [message("user", "q")]}, Q),
        ({"role": "user", "content": "q"}, Q),
        ({"prompt": "\n\nHuman: q\n\nAssistant:"}, Q),
        ({"conversations": [{"from": "human", "value": "q"}], "prompt": "q"}, Q),
        ({"conversation": [{"role": "prompter", "text": "q"}]}, Q),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "prompt": "q"},
            chat(("user", "a"), ("assistant", "b"), ("user", "q")),
        ),
    ],
)
def test_every_way_to_write_a_prompt(raw, prompt):
    assert one(raw, Kind.PROMPT) == PromptRow(prompt=prompt, where="f:1")


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "<|user|>\n\nHuman: q", "prompt_rendered": True},
        {"role": "user", "content": "<|user|>\n\nHuman: q", "prompt_rendered": True},
    ],
)
def test_a_rendered_prompt_is_taken_as_it_is(raw):
    prompt = one(raw, Kind.PROMPT).prompt
    assert prompt.form is Form.RENDERED
    assert prompt.turns[0].content == "<|user|>\n\nHuman: q"
    assert one(raw, Kind.PROMPT).columns == {}


def test_special_tokens_in_a_users_text_stay_text():
    assert one({"prompt": "say <|endoftext|>"}, Kind.PROMPT).prompt.form is Form.TEXT


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({}, "prompt: is missing"),
        ({"instruction": None}, "instruction: is null"),
        ({"prompt": 3}, "prompt: must be a string or a list of messages, not a number"),
        ({"prompt": " \n"}, "prompt: the prompt is empty"),
        ({"prompt": "\n\nHuman: \n\nAssistant:"}, "prompt: the prompt is empty"),
        ({"prompt": "q", "input": ["x"]}, "input: must be a string, not a list"),
        ({"prompt": ["q"], "prompt_rendered": True}, "prompt: a rendered prompt"),
        ({"prompt": "q", "prompt_rendered": "yes"}, "prompt_rendered: must be true or false, not a string"),
        ({"prompt": "q", "conversation": [message("user", "x")]}, "prompt: is not the last user turn of"),
        ({"role": "user", "content": 3}, "role: the content of the user turn must be a string, not a number"),
        ({"role": "assistant", "content": "a"}, "content: the last turn of a prompt must be the user's"),
        (
            {"prompt": "q", "solution": {}},
            "solution: must be a string, a number or a list of",
        ),
        ({"prompt": "q", "solution": []}, "solution: the list of solutions is empty"),
        ({"prompt": "q", "solution": ["a", None]}, "solution: the list must hold strings or numbers, not null"),
    ],
)
def test_a_bad_prompt_says_why(raw, reason):
    assert bad(raw, Kind.PROMPT).startswith(reason)


def test_all_other_columns_go_to_reward_functions():
    raw = {"prompt": "q", "input": "i", "solution": ["a", "b"], "level": 2, "extra": None}
    assert one(raw, Kind.PROMPT).columns == {"solution": ["a", "b"], "level": 2, "extra": None}
    spoken = {"prompt": [message("user", "q")], "input": "i", "role": "teacher"}
    assert one(spoken, Kind.PROMPT).columns == {"input": "i", "role": "teacher"}


@pytest.mark.parametrize(
    ("kind", "raw", "columns"),
    [
        (Kind.COMPARISON, {"chosen": "q\na", "rejected": "q\nb"}, {"chosen": "q\na", "rejected": "q\nb"}),
        (Kind.DEMONSTRATION, {"prompt": "q\n", "response": "a"}, {"response": "a"}),
        (Kind.RATING, {"prompt": "q\n", "response": "a", "score": 1}, {"response": "a", "score": 1}),
    ],
)
def test_the_prompt_of_a_row_of_any_kind(kind, raw, columns):
    assert prompt_row(raw, kind, "f:1") == PromptRow(prompt=plain("q\n"), columns=columns, where="f:1")


def test_the_prompt_of_a_finished_conversation():
    raw = {"messages": [message("user", "q"), message("assistant", "a")], "level": 1}
    assert prompt_row(raw, Kind.DEMONSTRATION) == PromptRow(prompt=Q, columns={"level": 1})


# -------------------------------------------------------------------------------------- demonstrations, texts, verdicts


@pytest.mark.parametrize(
    ("raw", "prompt"),
    [
        ({"prompt": "q", "completion": "a"}, plain("q")),
        ({"prompt": "q", "response": "a"}, plain("q")),
        ({"instruction": "q", "input": "i", "output": "a"}, plain("q\n\ni")),
        ({"prompt": [message("user", "q")], "completion": [message("assistant", "a")]}, Q),
        ({"prompt": "q", "completion": message("assistant", "a")}, plain("q")),
        ({"messages": [message("user", "q"), message("assistant", "a")]}, Q),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, Q),
        ({"messages": [message("user", "q")], "response": "a"}, Q),
        ({"prompt": "\n\nHuman: q\n\nAssistant:", "response": " a"}, Q),
    ],
)
def test_every_way_to_write_a_demonstration(raw, prompt):
    assert one(raw, Kind.DEMONSTRATION) == Demonstration(prompt=prompt, response="a", where="f:1")


def test_a_leading_blank_is_kept_where_no_transcript_format_made_it():
    assert one({"prompt": "q", "response": " a"}, Kind.DEMONSTRATION).response == " a"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"prompt": "q"}, "response: is missing"),
        ({"prompt": "q", "output": None}, "output: is null"),
        ({"prompt": "q", "response": 3}, "response: must be a string or a message, not a number"),
        ({"prompt": "q", "response": message("user", "a")}, "response: an answer must be the assistant's turn"),
        (
            {"prompt": "q", "response": ["a", "b"]},
            "response: must be a string or one assistant message, not a list of 2",
        ),
        ({"messages": [message("user", "q")]}, "messages: the last turn of a demonstration must be the assistant's"),
        ({"messages": [message("assistant", "a")]}, "messages: the last turn of a prompt must be the user's"),
    ],
)
def test_a_bad_demonstration_says_why(raw, reason):
    assert bad(raw, Kind.DEMONSTRATION).startswith(reason)


def test_texts():
    assert one({"text": "once", "title": 1}, Kind.TEXT) == Text(text="once", where="f:1")
    assert bad({"text": 3}, Kind.TEXT) == "text: must be a string, not a number"
    assert bad({"Text": "x"}, Kind.TEXT) == "text: is missing"


@pytest.mark.parametrize(("label", "accepted"), [(True, True), (False, False), (1, True), (0, False), (1.0, True)])
def test_verdicts(label, accepted):
    row = one({"prompt": "q", "completion": "a", "label": label}, Kind.VERDICT)
    assert row == Verdict(prompt=plain("q"), response="a", label=accepted, where="f:1")
    assert isinstance(row.label, bool)


@pytest.mark.parametrize("label", ["yes", 2, -1, 0.5, [True]])
def test_other_labels_are_refused(label):
    reason = bad({"prompt": "q", "response": "a", "label": label}, Kind.VERDICT)
    said = "; say which words mean accept: `accept: [...]`" if isinstance(label, str) else ""
    assert reason == f"label: must be true or false (or 1 or 0), not {label!r}{said}"


# ----------------------------------------------------------------------------------------------------- comparisons


@pytest.mark.parametrize(
    ("raw", "prompt"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, plain("q")),
        ({"prompt": "q", "chosen": [message("assistant", "a")], "rejected": [message("assistant", "b")]}, plain("q")),
        ({"prompt": "q", "chosen": message("assistant", "a"), "rejected": {"from": "gpt", "value": "b"}}, plain("q")),
        ({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": " b"}, Q),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, Q),
        (
            {
                "prompt": "q",
                "chosen": [message("user", "q"), message("assistant", "a")],
                "rejected": [message("user", "q"), message("assistant", "b")],
            },
            Q,
        ),
        ({"chosen": "q\na", "rejected": "q\nb"}, plain("q\n")),
        ({"conversations": [{"from": "human", "value": "q"}], "prompt": "q", "chosen": "a", "rejected": "b"}, Q),
    ],
)
def test_every_way_to_write_a_comparison(raw, prompt):
    assert one(raw, Kind.COMPARISON) == Comparison(prompt=prompt, chosen="a", rejected="b", where="f:1")


def test_chosen_and_rejected_are_not_swapped_and_the_margin_is_kept():
    row = one({"prompt": "q", "chosen": "good", "rejected": "bad", "margin": 2}, Kind.COMPARISON)
    assert (row.chosen, row.rejected, row.margin) == ("good", "bad", 2.0)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"prompt": "q", "chosen": "a"}, "rejected: is missing"),
        ({"prompt": "q", "chosen": None, "rejected": "b"}, "chosen: is null"),
        ({"prompt": "q", "chosen": 1, "rejected": "b"}, "chosen: must be a string or a message, not a number"),
        ({"chosen": message("assistant", "a"), "rejected": "b"}, "chosen: without a prompt column"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": "big"}, "margin: must be a number, not a string"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": -1}, "margin: must not be negative, it is -1"),
    ],
)
def test_a_bad_comparison_says_why(raw, reason):
    assert bad(raw, Kind.COMPARISON).startswith(reason)


def test_answers_of_several_turns_are_left_out():
    raw = {"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": " a", "rejected": " b\n\nHuman: c\n\nAssistant: d"}
    with pytest.raises(RowDropped):
        parse(raw, Kind.COMPARISON)


# --------------------------------------------------------------------------------------------------------- rankings


@pytest.mark.parametrize(
    ("raw", "ranks"),
    [
        ({"ranks": [2, 1, 3]}, (2, 1, 3)),
        ({"ranks": [2, 1, 1]}, (3, 1, 1)),
        ({"ranks": [0, 1, 2]}, (1, 2, 3)),
        ({"ranks": [2.5, 1.0, 2.5]}, (2, 1, 2)),
        ({"best": 1.0}, (2, 1, 2)),
        ({"best": 1}, (2, 1, 2)),
        ({"best": 0}, (1, 2, 2)),
    ],
)
def test_rankings_of_strings(raw, ranks):
    row = one({"prompt": "q", "responses": ["a", "b", "c"], **raw}, Kind.RANKING)
    assert row == Ranking(prompt=plain("q"), responses=("a", "b", "c"), ranks=ranks, where="f:1")


def test_higher_scores_are_better_and_ties_stay():
    responses = [{"text": "a", "score": 1.0}, {"text": "b", "score": 3}, {"text": "c", "score": 1}]
    row = one({"prompt": "q", "responses": responses, "level": 5}, Kind.RANKING)
    assert row.responses == ("a", "b", "c")
    assert row.ranks == (2, 1, 2)
    assert row.columns == {"level": 5, "response_score": (1.0, 3, 1)}


def test_lower_ranks_are_better_and_what_is_said_of_each_answer_is_kept():
    responses = [{"text": "a", "rank": 1, "score": -1, "model": "m"}, {"text": "b", "rank": 0, "score": 0}]
    row = one({"prompt": "q", "responses": responses}, Kind.RANKING)
    assert row.ranks == (2, 1)
    assert row.columns == {"response_rank": (1, 0), "response_score": (-1, 0), "response_model": ("m", None)}


def test_answers_to_a_transcript_lose_the_formats_blank():
    raw = {"prompt": "\n\nHuman: q\n\nAssistant:", "responses": [" a", " b"], "ranks": [1, 2]}
    assert one(raw, Kind.RANKING).responses == ("a", "b")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({}, "responses: is missing"),
        ({"responses": []}, "responses: the list is empty"),
        ({"responses": "a"}, "responses: must be a list, not a string"),
        ({"responses": ["a", "b"]}, "ranks: `ranks` or `best` is missing"),
        ({"responses": ["a", 3], "ranks": [1, 2]}, "responses: must be a string or a message, not a number"),
        ({"responses": ["a", "b"], "ranks": [1]}, "ranks: must be a list with one rank for each of the 2 responses"),
        ({"responses": ["a", "b"], "ranks": [1, "2"]}, "ranks: must be a number, not a string"),
        ({"responses": ["a", "b"], "ranks": [1, True]}, "ranks: must be a number, not true"),
        ({"responses": ["a", "b"], "best": 2}, "best: is 2, but the 2 responses are numbered from 0 to 1"),
        (
            {"responses": [{"text": "a", "score": 1}, {"text": "b"}]},
            "responses: item 1 (counted from 0) has no `score`",
        ),
        ({"responses": [{"text": "a", "score": 1}, {"score": 2}]}, "responses: item 1 (counted from 0) has no `text`"),
        ({"responses": [{"text": "a", "model": "m"}]}, "responses: every response needs a `score`"),
        (
            {"responses": [{"text": "a", "score": float("nan")}]},
            "responses.score: must be a finite number, not NaN or infinite",
        ),
        (
            {"responses": [{"text": "a", "rank": 1, "score": 1}, {"text": "b", "rank": 2, "score": 2}]},
            "responses: `rank` (lower is better) and `score` (higher is better) disagree on items 0 and 1",
        ),
    ],
)
def test_a_bad_ranking_says_why(raw, reason):
    assert bad({"prompt": "q", **raw}, Kind.RANKING).startswith(reason)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ()), ([7], (1,)), ([3, 1, 2], (3, 1, 2)), ([5, 5, 9], (1, 1, 3)), ([0, -1, 0, -1], (3, 1, 3, 1))],
)
def test_places(values, expected):
    assert competition_ranks(values) == expected


@given(st.lists(st.integers(-3, 3), max_size=8))
def test_places_keep_the_order_and_the_ties(values):
    ranks = competition_ranks(values)
    for i, first in enumerate(values):
        assert ranks[i] == 1 + sum(other < first for other in values)


# ---------------------------------------------------------------------------------------------------------- ratings


def test_ratings():
    raw = {"prompt": "q", "response": "a", "score": 3, "scores": {"x": 1.5, "y": None}, "labeller": 7.0}
    expected = Rating(prompt=plain("q"), response="a", scores={"x": 1.5, "score": 3.0}, labeller="7", where="f:1")
    assert one(raw, Kind.RATING) == expected


def test_a_row_with_several_rated_answers_gives_several_ratings():
    responses = [{"text": "a", "scores": {"x": 1}, "labeller": "ann"}, {"text": "b", "scores": {"x": 2}, "score": 5}]
    first, second = parse({"prompt": "q", "responses": responses}, Kind.RATING, "f:1")
    assert first == Rating(prompt=plain("q"), response="a", scores={"x": 1.0}, labeller="ann", where="f:1")
    assert second == Rating(prompt=plain("q"), response="b", scores={"x": 2.0, "score": 5.0}, where="f:1")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"score": "4"}, "score: must be a number, not a string"),
        ({"score": True}, "score: must be a number, not true"),
        ({"score": float("inf")}, "score: must be a finite number"),
        ({"score": 10**400}, "score: must be a finite number"),
        ({"scores": {"x": None}}, "score: neither `score` nor any of `scores` has a number"),
        ({"scores": [1]}, "scores: must be an object {aspect: number}, not a list"),
        ({"scores": {"x": "good"}}, "scores.x: must be a number, not a string"),
        ({"score": 1, "labeller": ["a"]}, "labeller: must be a name or a whole number, not a list"),
    ],
)
def test_a_bad_rating_says_why(raw, reason):
    assert bad({"prompt": "q", "response": "a", **raw}, Kind.RATING).startswith(reason)
