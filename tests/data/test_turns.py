"""Messages, transcripts, and the prompt that two conversations share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.data import turns
from plaudit.data.formats import parse
from plaudit.data.turns import RowError
from plaudit.records.text import Form, Kind
from tests.data.files import chat, message
from tests.kills import kills


def spoken(parsed) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in parsed]


@pytest.mark.parametrize(
    ("raw", "role"),
    [
        ({"role": "user", "content": "x"}, "user"),
        ({"role": "human", "text": "x"}, "user"),
        ({"role": "prompter", "text": "x"}, "user"),
        ({"from": "human", "value": "x"}, "user"),
        ({"from": "gpt", "value": "x"}, "assistant"),
        ({"role": "assistant", "content": "x"}, "assistant"),
        ({"from": "system", "value": "x"}, "system"),
        ({"role": "tool", "content": "x"}, "tool"),
    ],
)
def test_every_spelling_of_a_message(raw, role):
    parsed = turns.parse_message(raw, "messages")
    assert (parsed.role, parsed.content) == (role, "x")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"role": "usr", "content": "x"}, "unknown role 'usr'; did you mean 'user'?"),
        ({"role": "Assistant", "content": "x"}, "unknown role 'Assistant'; did you mean 'assistant'?"),
        ({"role": "narrator", "content": "x"}, "unknown role 'narrator'; known roles: system, developer, user"),
        ({"content": "x"}, "a turn has no role"),
        ({"from": "function_call", "value": "look it up"}, "a call of a tool must be an object with its name and"),
        ({"role": "user"}, "the content of the user turn must be a string, not null"),
        (
            {"role": "user", "content": [{"type": "image"}]},
            "the content of the user turn has a part that is",
        ),
        ("hello", "a turn must be an object with role and content, not a string"),
    ],
)
def test_a_bad_message_says_why(raw, reason):
    with pytest.raises(turns.RowError) as caught:
        turns.parse_message(raw, "messages")
    assert caught.value.column == "messages"
    assert caught.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("uu", "turns 1 and 2 are both user turns"),
        ("uaa", "turns 2 and 3 are both assistant turns"),
        ("us", "turn 2 is a system turn; only the first turn may be one"),
        ("au", "turn 1 is the assistant's; a conversation begins with the user's turn"),
        ("sau", "turn 2 is the assistant's; a conversation begins with the user's turn"),
    ],
)
def test_odd_turns_are_named(roles, reason):
    names = {"u": "user", "a": "assistant", "s": "system"}
    with pytest.raises(turns.RowError) as caught:
        turns.parse_messages([message(names[r], "x") for r in roles], "messages")
    assert caught.value.reason == reason


def test_tool_turns_may_follow_the_assistant():
    roles = ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [t.role for t in turns.parse_messages([message(r, "x") for r in roles], "messages")] == roles


@pytest.mark.parametrize(("value", "reason"), [([], "the list of turns is empty"), ("hi", "must be a list of turns")])
def test_no_turns(value, reason):
    with pytest.raises(turns.RowError, match=reason):
        turns.parse_messages(value, "messages")


def test_a_prompt_waits_for_an_answer():
    asked = turns.parse_messages([message("user", "q"), message("assistant", "a")], "messages")
    with pytest.raises(turns.RowError, match="must be the user's, here it is the assistant turn"):
        turns.chat_prompt(asked, "messages")
    with pytest.raises(turns.RowError, match="the prompt is empty"):
        turns.chat_prompt(turns.parse_messages([message("user", " \n")], "messages"), "messages")
    assert turns.chat_prompt(asked[:1], "messages") == chat(("user", "q"))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("\n\nHuman: hi\n\nAssistant:", True),
        ("\n\nHuman: hi", True),
        ("Human: hi\n\nAssistant:", True),
        ("Human: a being of flesh", False),
        ("Say\n\nHuman: hi\n\nAssistant:", False),
        ("\n\nAssistant: hi", False),
        ("", False),
        (None, False),
    ],
)
def test_what_a_transcript_is(text, is_one):
    assert turns.is_transcript(text) is is_one


def test_a_transcript_becomes_turns_without_the_white_space_of_its_format():
    text = "\n\nHuman: Hi: you?\n\nAssistant:  Fine.\nReally. \n\nHuman: Good\n\nAssistant:"
    prompt = turns.transcript_prompt(text, "prompt")
    assert prompt == chat(("user", "Hi: you?"), ("assistant", "Fine.\nReally."), ("user", "Good"))


def test_turns_of_one_speaker_in_a_row_become_one():
    text = "\n\nHuman: one\n\nHuman: two\n\nAssistant: a\n\nAssistant: b\n\nHuman: c"
    assert spoken(turns.parse_transcript(text)) == [("user", "one\n\ntwo"), ("assistant", "a\n\nb"), ("user", "c")]


def test_a_transcript_that_ends_in_the_assistants_words_is_left_out():
    with pytest.raises(turns.RowDropped) as caught:
        turns.transcript_prompt("\n\nHuman: hi\n\nAssistant: Well,", "prompt")
    assert caught.value.reason == turns.NO_USER_TURN


def test_the_continuation_of_a_transcript():
    assert turns.transcript_answer(" No, sorry! ") == "No, sorry!"
    assert turns.transcript_answer(" one\n\nAssistant: two") == "one\n\ntwo"
    with pytest.raises(turns.RowDropped) as caught:
        turns.transcript_answer(" one\n\nHuman: two\n\nAssistant: three")
    assert caught.value.reason == turns.SEVERAL_TURNS


def test_two_transcripts_share_their_first_turns():
    start = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nAssistant:"
    prompt, chosen, rejected = turns.split_texts(start + " Because of this", start + " Because of that")
    assert prompt == chat(("user", "Hi"), ("assistant", "Yes?"), ("user", "Why"))
    assert (chosen, rejected) == ("Because of this", "Because of that")


def test_transcripts_that_part_early_are_left_out():
    start = "\n\nHuman: Hi\n\nAssistant:"
    with pytest.raises(turns.RowDropped) as caught:
        turns.split_texts(f"{start} a\n\nHuman: b\n\nAssistant: c", f"{start} d\n\nHuman: e\n\nAssistant: f")
    assert caught.value.reason == turns.SEVERAL_TURNS


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        ("Q: 1+1?\nA: 2 is it", "Q: 1+1?\nA: 2 was it", "Q: 1+1?\nA:", (" 2 is it", " 2 was it")),
        ("One\nTwo\nthe cat", "One\nTwo\nthe dog", "One\nTwo\n", ("the cat", "the dog")),
        ("What is it? red", "What is it? rose", "What is it?", (" red", " rose")),
        ("Tell me: the cat", "Tell me: the cow", "Tell me: the", (" cat", " cow")),
        ("The cat", "The cat sat", "The", (" cat", " cat sat")),
        ("Story\n", "Story\nmore", "Story\n", ("", "more")),
    ],
)
def test_where_two_texts_are_cut(chosen, rejected, prompt, answers):
    found, *rest = turns.split_texts(chosen, rejected)
    assert found.form is Form.TEXT
    assert found.turns[0].content == prompt
    assert tuple(rest) == answers


@pytest.mark.parametrize(("chosen", "rejected"), [("yes", "no"), ("catch", "cattle"), (" a", " b"), ("", "x")])
def test_texts_that_share_no_beginning(chosen, rejected):
    with pytest.raises(turns.RowError, match="no common beginning with rejected"):
        turns.split_texts(chosen, rejected)


@given(st.text(alphabet="ab :\n", max_size=12), st.text(alphabet="ab :\n", max_size=8), st.text("ab :\n", max_size=8))
def test_cutting_two_texts_loses_nothing(shared, first, second):
    try:
        prompt, chosen, rejected = turns.split_texts(shared + first, shared + second)
    except turns.RowError:
        return
    assert prompt.turns[0].content + chosen == shared + first
    assert prompt.turns[0].content + rejected == shared + second


def test_two_lists_of_messages_share_their_first_turns():
    head = [message("system", "s"), message("user", "q")]
    chosen = turns.parse_messages([*head, message("assistant", "yes")], "chosen")
    rejected = turns.parse_messages([*head, message("assistant", "no")], "rejected")
    assert turns.split_turns(chosen, rejected) == (chat(("system", "s"), ("user", "q")), "yes", "no")
    assert turns.split_turns(chosen, chosen) == (chat(("system", "s"), ("user", "q")), "yes", "yes")


def test_lists_of_messages_that_share_nothing():
    a = turns.parse_messages([message("user", "q"), message("assistant", "a")], "chosen")
    b = turns.parse_messages([message("user", "Q"), message("assistant", "a")], "chosen")
    with pytest.raises(turns.RowError, match="shares no first turn"):
        turns.split_turns(a, b)


@kills(
    "data/prompts.py",
    old="    if not is_absent(raw.get(VARIABLES)):\n",
    new="    if False:\n",
    why="a row's own variables are dropped",
)
@pytest.mark.parametrize("kind", [Kind.PROMPT, Kind.DEMONSTRATION, Kind.COMPARISON])
def test_a_rows_own_template_variables_are_refused_by_name(kind):
    row = {"prompt": "a", "response": "b", "chosen": "b", "rejected": "c"}
    assert parse({**row, "chat_template_kwargs": {}}, kind)
    with pytest.raises(RowError, match=r"\(enable_thinking\) aren't used: .*`model.template_variables`") as refused:
        parse({**row, "chat_template_kwargs": {"enable_thinking": False}}, kind)
    assert refused.value.column == "chat_template_kwargs"
