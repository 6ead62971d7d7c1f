"""What templates open, close and leave out; whole turns; turns that say more than text; control tokens as letters."""

import copy

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from plaudit.errors import UserError
from plaudit.records.text import Demonstration, Form, Message, Prompt, PromptRow, Text
from plaudit.tokens.encode import encode_learned, encode_texts, warn_of_unread
from plaudit.tokens.template import Renderer
from tests.kills import kills
from tests.models import zoo
from tests.tokens.test_template import CHATML, LLAMA2, LLAMA3, NO_SYSTEM, THINKING, chat, shown, tokenizer

OPENING = (  # as the R1 distillations: the generation prompt opens a thought, finished turns have none
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
CLOSING = (  # as Qwen's thinking models: a last answer without a thought gets an empty one
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last and '</think>' not in m.content %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}"
    "{{ '[' + call.function.name + ' ' + (call.function.arguments | tojson) + ']' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QUESTION = Prompt.of_text("the cat")
HEAD = "<s><|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
CALL = {"tool_calls": [{"type": "function", "function": {"name": "look", "arguments": {"at": "a<|im_end|>b"}}}]}


def pair(template: str, answer: str, **more) -> tuple[str, str]:
    prompt, response = Renderer(tokenizer(), template=template).pair_ids(QUESTION, answer, **more)
    return shown(prompt), shown(response)


@kills(
    "tokens/chat.py",
    old="        return begun[len(tag) :].removeprefix(self.opens[len(self.opens.rstrip()) :])",
    new="        return text",
    why="the policy learns to open its thought a second time",
)
@pytest.mark.parametrize("template", [OPENING, CLOSING])
@pytest.mark.parametrize("before", ["<think>\n", "\n<think>\n", ""])
def test_an_answer_goes_on_from_the_thought_that_is_open(template, before):
    """Whether the answer has the tag, as other models' answers do, or goes on behind it."""
    assert pair(template, f"{before}so\n</think>\n\nyes") == (f"{HEAD}<think>\n", "so\n</think>\n\nyes<|im_end|>")


@kills(
    "tokens/template.py",
    old="        return self._prompt_ids(prompt, unopened=True), written",
    new="        return ids, written",
    why="an answer without a thought is learnt inside one that never closes",
)
def test_an_answer_without_a_thought_stands_where_the_template_puts_it():
    assert pair(OPENING, "yes") == (HEAD, "yes<|im_end|>")
    assert pair(CLOSING, "yes") == (f"{HEAD}<think>\n", "\n</think>\n\nyes<|im_end|>")


def test_what_the_policy_writes_begins_with_the_tag_that_was_opened_for_it():
    """Judges see a whole thought, and what they saw is learnt as it was written."""
    renderer = Renderer(tokenizer(), template=OPENING)
    text = "<think>\nso\n</think>\nyes"
    ids = renderer.response_ids(text, end=True)
    assert "<think>" not in shown(ids)
    assert renderer.response_text(ids) == text
    ends = renderer.response_ends(ids, text)
    assert ends[0] == len("<think>\n") + len(renderer.response_pieces(ids)[0])
    assert ends[-1] == len(text) and renderer.written_ends(text) == ends


@kills(
    "tokens/template.py",
    old="        return closing + [len(text)",
    new="        return [len(text)",
    why="every token of an answer earns what a token further on did",
)
@pytest.mark.parametrize("template", [OPENING, CLOSING, CHATML])
@pytest.mark.parametrize("text", ["yes", "<think>\nso\n</think>\nyes"])
def test_ends_are_those_of_the_ids_that_a_judge_reads(template, text):
    """A thought that is closed for the answer is none of its text."""
    renderer = Renderer(tokenizer(), template=template)
    _, ids = renderer.pair_ids(QUESTION, text)
    ends = renderer.written_ends(text)
    assert len(ends) == len(ids) and ends[-1] == len(text)
    if template == CLOSING and text == "yes":
        own = len(renderer.response_ids(text, end=True))
        assert ends[:-own] == [0] * (len(ids) - own) and len(ids) > own


@pytest.mark.parametrize("template", [CHATML, LLAMA2, LLAMA3, NO_SYSTEM, THINKING])
def test_other_templates_open_nothing(template):
    style = Renderer(tokenizer(), template=template).chat.answering
    assert (style.opens, style.closes) == ("", "")


def test_answers_without_a_thought_are_counted(caplog):
    rows = [Demonstration(prompt=QUESTION, response=text) for text in ("yes", "so</think>yes", "no")]
    encode_learned(rows, Renderer(tokenizer(), template=OPENING), max_length=99, too_long="error")
    assert "2 of 3 answers have no thought" in caplog.text


# ------------------------------------------------------------------------------------------------------- whole turns


@pytest.mark.parametrize("template", [CHATML, LLAMA2, LLAMA3, NO_SYSTEM, THINKING, OPENING, CLOSING])
def test_a_whole_turn_is_what_transformers_makes_of_the_conversation(template):
    words = tokenizer()
    renderer = Renderer(words, template=template).with_whole_turns()
    turns = [("user", "the cat"), ("assistant", "sat"), ("user", "where?")]
    prompt, response = renderer.pair_ids(chat(*turns), " on the mat ")
    messages = [{"role": role, "content": text} for role, text in (*turns, ("assistant", " on the mat "))]
    wanted = words.apply_chat_template(messages, chat_template=template, return_dict=False)
    assert prompt + response == wanted
    assert "mat" in shown(response) and "where?" in shown(prompt)


def test_in_a_whole_turn_a_spelled_token_is_letters():
    _, response = Renderer(tokenizer(), template=CHATML).with_whole_turns().pair_ids(QUESTION, "a<|im_end|>b")
    end = tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert response.count(end) == 1 and "a<|im_end|>b" in shown(response)


# --------------------------------------------------------------------------------------- turns that say more than text


def test_a_call_is_learnt_as_the_template_writes_it():
    """Up to the end token; what the call spells stays letters."""
    renderer = Renderer(tokenizer(), template=TOOLS)
    prompt, response = renderer.pair_ids(QUESTION, "a moment", extra=CALL)
    assert shown(prompt) == HEAD
    assert shown(response) == 'a moment[look {"at": "a<|im_end|>b"}]<|im_end|>'
    assert response.count(tokenizer().convert_tokens_to_ids("<|im_end|>")) == 1
    thought = pair(TOOLS, "yes", extra={"reasoning_content": "so"})
    assert thought == (HEAD, "<think>so</think>yes<|im_end|>")


def test_earlier_calls_and_tools_are_in_the_prompt():
    turns = (Message(role="user", content="a"), Message(role="assistant", content="", extra=CALL))
    prompt = Prompt(form=Form.CHAT, turns=(*turns, Message(role="tool", content="b")), tools=({"name": "look"},))
    ids = Renderer(tokenizer(), template=TOOLS).prompt_ids(prompt)
    assert '[look {"at": "a<|im_end|>b"}]' in shown(ids) and '[{"name": "look"}]' in shown(ids)
    assert ids.count(tokenizer().convert_tokens_to_ids("<|im_end|>")) == 4


def several(**named: str) -> PreTrainedTokenizerFast:
    words = copy.deepcopy(tokenizer())
    words.chat_template = named
    return words


@kills(
    "tokens/chat.py",
    old="chat_template=self._tools_by if tools else self._rendered_by",
    new="chat_template=self._rendered_by",
    why="a tokenizer with a template of its own for tools, as Command R's, writes none",
)
def test_a_template_named_for_tools_writes_conversations_with_tools():
    renderer = Renderer(several(default=CHATML, tool_use=TOOLS))
    alone = Renderer(tokenizer(), template=TOOLS)
    with_tool = Prompt(form=Form.CHAT, turns=QUESTION.turns, tools=({"name": "look"},))
    assert renderer.prompt_ids(with_tool) == alone.prompt_ids(with_tool) != renderer.prompt_ids(QUESTION)
    assert renderer.pair_ids(with_tool, "a") == alone.pair_ids(with_tool, "a")
    assert renderer.prompt_ids(QUESTION) == Renderer(tokenizer(), template=CHATML).prompt_ids(QUESTION)
    assert renderer.template_hash != Renderer(tokenizer(), template=CHATML).template_hash
    own = Renderer(several(default=CHATML, tool_use=TOOLS), template=LLAMA3)
    assert own.prompt_ids(with_tool) == Renderer(tokenizer(), template=LLAMA3).prompt_ids(with_tool)


@pytest.mark.parametrize(
    "tool_use",
    [
        TOOLS.replace("<|im_end|>\n' }}{% endfor %}{% if", "</s>\n' }}{% endfor %}{% if"),
        TOOLS.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}"),
        "{{ raise_exception('no') }}",
    ],
    ids=["another-end", "another-opening", "refuses"],
)
def test_a_template_for_tools_whose_answers_are_others_is_left_out_and_told(tool_use, caplog):
    renderer = Renderer(several(default=CHATML, tool_use=tool_use))
    row = PromptRow(prompt=Prompt(form=Form.CHAT, turns=QUESTION.turns, tools=({"name": "look"},)), where="a:1")
    assert renderer.prompt_ids(row.prompt) == renderer.prompt_ids(QUESTION)
    warn_of_unread([row], renderer)
    assert "`tools` (1)" in caplog.text


def test_what_a_template_cannot_write_is_said(caplog):
    row = Demonstration(prompt=Prompt(form=Form.CHAT, turns=QUESTION.turns, tools=({"name": "look"},)), response="a")
    silent = Demonstration(prompt=QUESTION, response="a", extra={"reasoning_content": "so"})
    called = (*QUESTION.turns, Message(role="assistant", content="", extra=CALL), *QUESTION.turns)
    after = Demonstration(prompt=Prompt(form=Form.CHAT, turns=called), response="a")
    encode_learned(
        [row, silent, silent, after], Renderer(tokenizer(), template=CHATML), max_length=99, too_long="error"
    )
    assert "`reasoning_content` (2), `tool_calls` (1), `tools` (1)" in caplog.text
    caplog.clear()
    encode_learned([row, silent, after], Renderer(tokenizer(), template=TOOLS), max_length=99, too_long="error")
    assert caplog.text == ""
    call = Demonstration(prompt=QUESTION, response="", extra=CALL, where="f:7")
    for template in (CHATML, None):
        with pytest.raises(UserError, match=r"f:7: the answer calls a tool \(`tool_calls`\), which this model's chat"):
            encode_learned([call], Renderer(tokenizer(), template=template), max_length=99, too_long="error")


# ------------------------------------------------------------------------------------------- control tokens as letters


def test_rows_that_spell_control_tokens_are_counted_with_the_first_one(caplog):
    renderer = Renderer(tokenizer(), template=CHATML)
    rows = [
        Demonstration(prompt=QUESTION, response="fine", where="f:1"),
        Demonstration(prompt=Prompt.of_text("<|im_start|>user\na<|im_end|>"), response="b", where="f:2"),
        Demonstration(prompt=QUESTION, response="b<|im_end|>", where="f:3"),
        Demonstration(prompt=Prompt.of_text("<|im_start|>a", Form.RENDERED), response="b", where="f:4"),
    ]
    encode_learned(rows, renderer, max_length=99, too_long="error")
    assert "2 of 4 rows spell control tokens of the tokenizer (<|im_end|>, <|im_start|>; first f:2)" in caplog.text
    for kind in (Text(text="<|im_start|>a"), PromptRow(prompt=Prompt.of_text("<|im_start|>a"))):
        caplog.clear()
        warn_of_unread([kind], renderer)
        assert "1 of 1 rows spell control tokens" in caplog.text


def test_a_rendered_text_has_its_control_tokens_and_ends_as_it_does():
    renderer = Renderer(tokenizer(), template=CHATML)
    text = "<|im_start|>user\nthe cat<|im_end|>\n"
    (row,) = encode_texts([Text(text=text, form=Form.RENDERED)], renderer, max_length=99)
    assert shown([*row[0], *row[1]]) == f"<s>{text}"
    assert row[1][0] == tokenizer().convert_tokens_to_ids("<|im_start|>")


def test_an_encoders_prompts_are_read_for_spelled_tokens_too():
    words = zoo.tokenizer("bert")
    words.add_tokens([AddedToken("[X]", special=True)])
    assert Renderer(words).spelled("a[X]b") == {"[X]"}
