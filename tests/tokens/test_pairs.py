"""Two texts in one input: prompt_ids + response_ids is the tokenizer's own pair encoding, and text stays text."""

import pytest

from plaudit.errors import UserError
from plaudit.records.text import Form, Message, Prompt
from plaudit.tokens.encode import AnsweredPrompt, encode_answers, fit
from plaudit.tokens.pairs import PairRenderer
from plaudit.tokens.template import Renderer
from tests.kills import kills
from tests.models import zoo
from tests.training.tiny import tokenizer as letters

FAMILIES = ("bert", "roberta", "deberta", "t5")
PAIRS = [("the cat sat", "on the mat"), ("the cat", ""), ("", "a dog"), ("", ""), ("a", "a"), ("the cat ", " sat")]


@pytest.fixture(scope="module", params=FAMILIES)
def renderer(request) -> PairRenderer:
    return PairRenderer(Renderer(zoo.tokenizer(request.param)))


def written(renderer: PairRenderer, prompt: str, response: str) -> list[int]:
    return renderer.prompt_ids(Prompt.of_text(prompt)) + renderer.response_ids(response, end=True)


@kills(
    "tokens/pairs.py",
    old="first = prompt_length + min(self.frame.between_first, response_length)",
    new="first = prompt_length",
    why="the separator behind the prompt counted to the answer",
)
@pytest.mark.parametrize(("prompt", "response"), PAIRS)
def test_both_parts_together_are_the_tokenizers_own_pair(renderer, prompt, response):
    own = renderer.tokenizer.backend_tokenizer.encode(prompt, response)  # transformers takes "" for no second text
    assert written(renderer, prompt, response) == own.ids
    before = len(renderer.prompt_ids(Prompt.of_text(prompt)))
    assert renderer.token_types(before, len(own.ids) - before) == own.type_ids


def test_the_frames_are_those_of_the_families():
    def spelled(family: str) -> tuple[list[str], ...]:
        frame, words = PairRenderer(Renderer(zoo.tokenizer(family))).frame, zoo.tokenizer(family)
        return tuple(words.convert_ids_to_tokens(part) for part in (frame.before, frame.between, frame.behind))

    assert spelled("bert") == (["[CLS]"], ["[SEP]"], ["[SEP]"])
    assert spelled("roberta") == (["<s>"], ["</s>", "</s>"], ["</s>"])
    assert spelled("t5") == ([], ["</s>"], ["</s>"])


def test_a_separator_that_a_text_spells_is_letters(renderer):
    spelled = "".join(renderer.tokenizer.all_special_tokens)
    ids = written(renderer, f"the {spelled}", f"{spelled} cat")
    plain = written(renderer, "the", "cat")
    for control in renderer.tokenizer.all_special_ids:
        if control != renderer.tokenizer.unk_token_id:
            assert ids.count(control) == plain.count(control)


def test_a_conversation_is_a_transcript(renderer):
    turns = (Message(role="user", content="the cat"), Message(role="assistant", content="sat"))
    talk = Prompt(form=Form.CHAT, turns=(*turns, Message(role="user", content="on")))
    text = "user: the cat\nassistant: sat\nuser: on"
    assert renderer.prompt_ids(talk) == renderer.prompt_ids(Prompt.of_text(text))


def test_a_template_writes_conversations_and_strings_where_there_is_one(renderer):
    template = "{% for m in messages %}{{ m['role'] }} > {{ m['content'] }} {% endfor %}"
    auto, raw = (PairRenderer(Renderer(renderer.tokenizer, policy, template)) for policy in ("auto", "raw"))
    talk = Prompt(form=Form.CHAT, turns=(Message(role="user", content="the cat"),))
    wanted = renderer.prompt_ids(Prompt.of_text("user > the cat assistant >"))  # the turn that the answer fills
    assert auto.prompt_ids(talk) == raw.prompt_ids(talk) == wanted
    assert auto.prompt_ids(Prompt.of_text("the cat")) == wanted
    assert raw.prompt_ids(Prompt.of_text("the cat")) == renderer.prompt_ids(Prompt.of_text("the cat"))
    assert auto.response_ids("sat", end=True) == renderer.response_ids("sat", end=True)
    assert len({r.template_hash for r in (auto, raw, renderer, Renderer(renderer.tokenizer))}) == 4


def test_a_rendered_prompt_may_hold_separators(renderer):
    separator = renderer.tokenizer.convert_ids_to_tokens(renderer.frame.behind)[0]
    prompt = Prompt.of_text(f"the{separator}cat", form=Form.RENDERED)
    ids = renderer.prompt_ids(prompt)
    assert ids.count(renderer.frame.behind[0]) == 1
    assert tuple(ids[: len(renderer.frame.before)]) == renderer.frame.before
    front = "".join(renderer.tokenizer.convert_ids_to_tokens(renderer.frame.before))
    assert renderer.prompt_ids(Prompt.of_text(f"{front}the{separator}cat", form=Form.RENDERED)) == ids


def test_a_tokenizer_that_puts_nothing_between_two_texts_is_refused():
    with pytest.raises(UserError, match="nothing between two texts"):
        PairRenderer(Renderer(letters()))


# -------------------------------------------------------------------------------------------------------- truncation


@kills(
    "tokens/encode.py",
    old="if len(response_ids) > max_length - 1 and closing:",
    new="if False:",
    why="the last separator cut off",
)
def test_what_is_cut_keeps_the_first_and_the_last_separator(renderer):
    prompt, response = "the cat sat on the mat " * 4, "a dog ran to the house " * 4
    whole = (renderer.prompt_ids(Prompt.of_text(prompt)), renderer.response_ids(response, end=True))
    for room in (4, 7, len(whole[1]) + 5):
        cut = fit(*whole, room, renderer.bos, renderer.closing)
        assert len(cut[0]) + len(cut[1]) == room
        assert cut[1][-1] == renderer.frame.behind[-1]
        assert renderer.bos is None or cut[0][0] == renderer.bos
    assert cut[1] == whole[1]  # the prompt is cut first, at its beginning
    assert cut[0][-3:] == whole[0][-3:]
    short = fit(*whole, 9, renderer.bos, renderer.closing)[1]
    assert short[:-1] == whole[1][: len(short) - 1]  # then the answer, before its separator


def test_rows_of_a_file_are_cut_the_same_way(renderer):
    answer = AnsweredPrompt(prompt=Prompt.of_text("the cat"), response="a dog ran " * 9, where="x:1")
    (row,) = encode_answers([answer], renderer, max_length=8, too_long="truncate").rows
    assert row[1][-1] == renderer.frame.behind[-1]
    assert len(row[0]) + len(row[1]) == 8


def test_a_decoders_cut_answer_has_no_end():
    assert fit([1, 2], [3, 4, 5, 9], 4, 1) == ([1], [3, 4, 5])
    assert fit([1, 2], [3, 4, 5, 9], 4, 1, closing=1) == ([1], [3, 4, 9])
    assert fit([1, 2], [3, 9], 4, 1, closing=1) == ([1, 2], [3, 9])
