"""Models that talk: what they read, what comes out piece by piece, and the numbers beside it."""

import io

import pytest
import torch

import plaudit as pl
from plaudit.api.chat import ChatConfig, ChatModel, model_of, talk_with
from plaudit.cli import main
from plaudit.engines.protocol import Generation
from plaudit.errors import UserError
from plaudit.records.text import FinishReason, Message
from tests.kills import kills

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"
)
TINY = {"model_tiny_hidden_size": 32, "model_tiny_layers": 1, "model_tiny_vocabulary": 300}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    rows = [{"prompt": f"{word} sat", "response": "on the mat."} for word in ("cat", "dog", "bird", "fish")]
    pl.sft("tiny", rows, epochs=2, minibatch_size=4, held_out_fraction=0.3, out=str(folder / "01-sft"), **TINY)
    return folder


def answered(talk, text="The cat sat"):
    grown = [talk.replies[0].text for _ in talk.say(text)]
    assert grown and grown[-1] == talk.replies[0].text
    return talk.replies[0], grown


class Pieces:
    """An engine that writes as many tokens as it may."""

    def __init__(self) -> None:
        self.prompts, self.keys = [], []

    def generate(self, prompts, keys, sampling, *, seed, greedy):
        self.prompts += prompts
        self.keys += keys
        ids = tuple(range(100, 100 + sampling.max_new_tokens))
        return [Generation(ids=ids, logprobs=(0.0,) * len(ids), finish_reason=FinishReason.LENGTH)]


@kills("api/chat.py", old="[[*prompt_ids, *ids]]", new="[prompt_ids]", why="each piece would begin the answer anew")
@kills("api/chat.py", old="sample_index=len(ids))", new="sample_index=0)", why="each piece has the same draws")
def test_each_piece_goes_on_from_the_one_before(folder):
    talk = talk_with([str(folder)], {"max_new_tokens": 20})
    model = talk.speakers[0]
    model.engine = engine = Pieces()
    reply, grown = answered(talk)
    first = model.renderer.prompt_ids(model._prompt(talk.turns))
    written = [*range(100, 104), *range(100, 112), *range(100, 104)]
    assert engine.prompts == [[*first, *written[:count]] for count in (0, 4, 16)]
    assert len(set(engine.keys)) == 3
    assert (reply.tokens, reply.finish, len(grown)) == (20, "length", 3)
    assert reply.text == model.renderer.response_text(written)


def test_the_command(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("The cat sat\n/quit\n"))
    assert main(["chat", str(folder), "--max_new_tokens", "6", "--stop", "zz"]) == 0
    assert "/reset forgets" in capsys.readouterr().out
    assert main(["chat", "a", "b", "c"]) == 2
    assert main(["chat", str(folder), "--temperature", "0"]) == 2
    assert "one model or two" in (errors := capsys.readouterr().err) and "temperature" in errors


def test_piece_by_piece_is_what_greedy_decoding_writes_at_once(folder):
    talk = talk_with([str(folder)], {"greedy": True, "max_new_tokens": 30})
    reply, grown = answered(talk)
    policy = pl.Policy.load(folder / "01-sft" / "model")
    assert reply.text == policy.generate(["The cat sat"], greedy=True, max_new_tokens=30)[0]
    assert reply.finish in ("length", "eos") and (len(grown) > 1 or reply.tokens <= 4)


@kills("api/chat.py", old="(self.trunk, self.reference,", new="(self.reference, self.trunk,", why="the KL's sign")
def test_score_kl_and_stop(folder, tmp_path):
    with pytest.raises(UserError, match="temperature"):
        talk_with([str(folder)], {"temperature": 0.0})
    rule = "def longer(prompts, completions, **columns): return [len(text) for text in completions]\n"
    (tmp_path / "rules.py").write_text(rule, encoding="utf-8")
    options = {"greedy": True, "max_new_tokens": 24, "judge": f"{tmp_path}/rules.py:longer", "kl": str(folder)}
    talk = talk_with([str(folder)], options)
    reply, _ = answered(talk)
    assert reply.score == len(reply.text)
    assert reply.kl == pytest.approx(0.0, abs=1e-4)
    model = talk.speakers[0]
    with torch.no_grad():
        for parameter in model.reference.hf.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    talk.reset()
    assert answered(talk)[0].kl > 0.1  # the likeliest tokens are likelier to it than to another model
    whole = reply.text
    mark = whole[len(whole) // 2 : len(whole) // 2 + 2]
    stopped, _ = answered(talk_with([str(folder)], {"greedy": True, "max_new_tokens": 24, "stop": [mark]}))
    assert (stopped.text, stopped.finish) == (whole[: whole.index(mark)], "stop")


def test_turns_through_the_chat_template_and_the_oldest_leave_where_there_is_no_room(folder):
    talk = talk_with([str(folder)], {"max_new_tokens": 8})
    model: ChatModel = talk.speakers[0]
    turns = [Message(role=role, content=text) for role, text in (("user", "a b"), ("assistant", "c"), ("user", "d e"))]
    assert model._prompt(turns).text == "d e" and not model.remembers
    loaded = pl.Policy.load(folder / "01-sft" / "model", chat_template=TEMPLATE)
    model.renderer = loaded.loaded.language.decoder_renderer
    assert model.remembers and [turn.content for turn in model._prompt(turns).turns] == ["a b", "c", "d e"]
    long = [Message(role="user", content="word " * 400), Message(role="assistant", content="x"), *turns[2:]]
    assert [turn.content for turn in model._prompt(long).turns] == ["d e"]
    (only,) = model.answer(long[:1], turn=1)
    assert "leaves no room" in only.problem


def test_which_model_a_name_stands_for(folder, tmp_path):
    model = str(folder / "01-sft" / "model")
    assert model_of(str(folder)) == model_of(str(folder / "01-sft")) == model_of(model) == model
    assert model_of("some/hub-name") == "some/hub-name"
    with pytest.raises(UserError, match="holds no model yet"):
        model_of(str(tmp_path))
    assert ChatConfig().max_new_tokens == 256
