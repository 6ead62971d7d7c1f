"""What a row or a turn says is read, refused by name or counted: nothing is dropped without a word."""

import pytest

from plaudit.data.check import check
from plaudit.errors import UserError
from plaudit.records.text import Form, Kind
from tests.data.files import chat, load_rows, message, write
from tests.kills import kills

CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"town": "Rome"}'}}
TWO = [message("user", "One?"), message("assistant", "Uno."), message("user", "Two?"), message("assistant", "Due.")]


def learned(tmp_path, *rows, **options):
    loaded = load_rows(tmp_path, list(rows), Kind.DEMONSTRATION, **options)
    return [(len(row.prompt.turns), row.response) for row in loaded.rows], str(loaded)


def test_all_answers_of_a_conversation_or_the_last_and_a_word_either_way(tmp_path):
    rows, told = learned(tmp_path, {"messages": TWO})
    assert rows == [(1, "Uno."), (3, "Due.")]
    assert "conversations: 2 of 2 answers are learned" in told
    rows, told = learned(tmp_path, {"messages": TWO}, learn="last")
    assert rows == [(3, "Due.")]
    assert "conversations: 1 of 2 answers is learned" in told
    assert "conversations" not in learned(tmp_path, {"messages": TWO[:2]})[1]


@kills(
    "data/formats.py",
    old="if weights[index] is not False]",
    new="if weights[index] is False]",
    why="the answers that are marked as context are learned, the others not",
)
@pytest.mark.parametrize("key", ["weight", "train", "loss"])
def test_a_turns_weight_decides_whether_it_is_learned(tmp_path, key):
    marked = [TWO[0], {**TWO[1], key: 1}, TWO[2], {**TWO[3], key: 0}]
    for learn in ("all", "last"):
        rows, told = learned(tmp_path, {"messages": marked}, learn=learn)
        assert rows == [(1, "Uno.")]
        assert "conversations: 1 of 2 answers is learned" in told
    nothing = [TWO[0], {**TWO[1], key: False}]
    rows, told = learned(tmp_path, {"messages": nothing}, {"messages": [TWO[0], {**TWO[1], key: None}]})
    assert rows == [(1, "Uno.")]
    assert "1 left out with weight 0 on every answer" in told
    with pytest.raises(UserError, match=rf"rows.jsonl:1: column `messages` `{key}` of a turn must be 0 or 1"):
        learned(tmp_path, {"messages": [TWO[0], {**TWO[1], key: 0.5}]})


def test_calls_thoughts_and_tools_stay_with_their_turns(tmp_path):
    turns = [
        message("user", "Weather?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "I must look."},
        {"role": "tool", "content": "sunny", "tool_call_id": "1", "name": "weather"},
        message("assistant", "It is sunny."),
    ]
    first, last = load_rows(tmp_path, [{"messages": turns, "tools": '[{"name": "weather"}]'}], Kind.DEMONSTRATION).rows
    call = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Rome"}}}
    assert (first.response, first.extra) == ("", {"tool_calls": [call], "reasoning_content": "I must look."})
    assert last.prompt.turns[1].to_plain() == {"role": "assistant", "content": "", **first.extra}
    assert last.prompt.turns[2].extra == {"tool_call_id": "1", "name": "weather"}
    assert first.prompt.tools == last.prompt.tools == ({"name": "weather"},)
    with pytest.raises(UserError, match="`tool_calls` must be a list, not a string"):
        learned(tmp_path, {"messages": [turns[0], {**turns[1], "tool_calls": "call it"}]})


def test_calls_that_are_turns_of_their_own(tmp_path):
    called = {"from": "function_call", "value": '{"name": "weather", "arguments": {"town": "Rome"}}'}
    turns = [{"from": "human", "value": "Weather?"}, called, {**called}, {"from": "observation", "value": "sunny"}]
    row = {"conversations": [*turns, {"from": "gpt", "value": "It is sunny.", "reasoning_content": " \n"}]}
    first, second, last = load_rows(tmp_path, [row], Kind.DEMONSTRATION).rows
    call = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Rome"}}}
    assert first.extra == second.extra == {"tool_calls": [call]}
    assert (last.response, last.extra, last.prompt.turns[3].role) == ("It is sunny.", {}, "tool")


def test_other_keys_of_turns_are_counted(tmp_path):
    turns = [{**message("user", "q"), "id": 7}, {**message("assistant", "a"), "id": 8, "model": "m", "images": []}]
    _, told = learned(tmp_path, {"messages": turns})
    assert told.endswith("(turns' keys not used: id (2), model (1))")
    pair = {"chosen": [message("user", "q"), {**message("assistant", "a"), "thinking": "hm", "weight": 1}]}
    pair["rejected"] = [message("user", "q"), message("assistant", "b")]
    assert "turns' keys not used: thinking (1), weight (1)" in str(load_rows(tmp_path, [pair], Kind.COMPARISON))
    text = check([write(tmp_path, [pair])]).to_text()
    assert "  in turns      not used: thinking (1), weight (1)\n" in text


def test_an_answer_that_is_a_call_is_not_judged(tmp_path):
    calls = {**message("assistant", ""), "tool_calls": [CALL]}
    with pytest.raises(UserError, match=r"rows.jsonl:1: column `chosen` the answer calls a tool"):
        load_rows(tmp_path, [{"prompt": "q", "chosen": [calls], "rejected": "b"}], Kind.COMPARISON)


SPOKEN = chat(("system", "Be brief."), ("user", "One?"), ("assistant", "Uno."), ("user", "Two?"))


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt": "Two?", "system": "Be brief.", "history": [["One?", "Uno."]]},
        {"instruction": "Two?", "input": "", "system": "Be brief.", "history": TWO[:2]},
        {"messages": TWO[:3], "system": "Be brief."},
        {"messages": [message("system", "Be brief."), *TWO[:3]], "system": "Be brief.", "history": []},
    ],
)
def test_a_system_turn_and_earlier_turns_in_columns_of_their_own(tmp_path, raw):
    (row,) = load_rows(tmp_path, [raw], Kind.PROMPT).rows
    assert row.prompt == SPOKEN
    assert not {"system", "history"} & {*row.columns} or raw["history"] == []
    answered = {**raw, "chosen": "Due.", "rejected": "Zwei."}
    (pair,) = load_rows(tmp_path, [answered], Kind.COMPARISON).rows
    assert pair.prompt == SPOKEN


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"prompt": "q", "prompt_rendered": True, "system": "s"}, "column `system` stands beside a rendered prompt"),
        ({"messages": TWO[:3], "history": [["a", "b"]]}, "column `history` stands beside a prompt of several turns"),
        (
            {"prompt": [message("system", "Be kind."), TWO[0]], "system": "Be rude."},
            "column `system` is not the system",
        ),
    ],
)
def test_what_contradicts_the_prompt_is_a_bad_row(tmp_path, raw, reason):
    with pytest.raises(UserError, match=f"rows.jsonl:1: {reason}"):
        load_rows(tmp_path, [raw], Kind.PROMPT)


def test_columns_are_counted_row_by_row(tmp_path):
    rows = [{"prompt": "q", "messages": TWO, "completion": "a"}, {"prompt": "p", "completion": "b", "system": 3}]
    loaded = load_rows(tmp_path, rows, Kind.DEMONSTRATION)
    assert loaded.unread.columns == {"messages": 1, "system": 1}  # a number is no system turn


def test_a_prompt_beside_whole_conversations(tmp_path):
    def prompt_of(prompt, chosen, rejected):
        (row,) = load_rows(tmp_path, [{"prompt": prompt, "chosen": chosen, "rejected": rejected}], Kind.COMPARISON).rows
        return row.prompt, row.chosen, row.rejected

    one, other = [*TWO[:3], message("assistant", "2")], [*TWO[:3], message("assistant", "3")]
    spoken = chat(*((turn["role"], turn["content"]) for turn in TWO[:3]))
    assert prompt_of("One?", one, other) == (spoken, "2", "3")
    assert prompt_of("Two? ", one, other) == (spoken, "2", "3")  # the last question
    assert prompt_of(TWO[:1], one[1:], other[1:]) == (spoken, "2", "3")  # they go on from it
    assert prompt_of([message("system", "Be brief."), *TWO[:3]], one, other)[0] == SPOKEN
    with pytest.raises(UserError, match="column `prompt` is neither how `chosen` begins nor its last question"):
        prompt_of("Three?", one, other)
    rows, _ = learned(tmp_path, {"prompt": [message("system", "Be brief."), TWO[0]], "messages": TWO})
    assert rows == [(2, "Uno."), (4, "Due.")]
    with pytest.raises(UserError, match="column `prompt` is neither how `messages` begins"):
        learned(tmp_path, {"prompt": "Three?", "messages": TWO})


def test_rendered_files_say_so(tmp_path):
    row = {"text": "<|im_start|>user\nOne?<|im_end|>"}
    (text,) = load_rows(tmp_path, [row], Kind.TEXT, rendered=True).rows
    (prompt,) = load_rows(tmp_path, [{"prompt": row["text"]}], Kind.PROMPT, rendered=True).rows
    assert text.form is prompt.prompt.form is Form.RENDERED
    assert load_rows(tmp_path, [row], Kind.TEXT).rows[0].form is Form.TEXT
    assert "1  with control tokens spelled as text (<|im_" in check([write(tmp_path, [row])]).to_text()
