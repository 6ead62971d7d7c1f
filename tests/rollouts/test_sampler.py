"""Prompts in, rollouts out: what the policy wrote, token by token, and the text that judges read."""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Capabilities, Engine, Generation
from plaudit.engines.stopping import StopStrings
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.models.load import Language, load_causal, load_language
from plaudit.models.options import ModelConfig, TinyShape
from plaudit.models.trunk import Trunk
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Form, Message, Prompt, PromptRow
from plaudit.rollouts.sampler import check_prompts, groups, groups_with_ends, sample
from plaudit.tokens.template import Renderer
from plaudit.tokens.tokenizer import train_tokenizer
from tests.kills import kills
from tests.models.tiny import spread_out

TINY = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=2, heads=4, vocabulary=280, context=64))
ROWS = [
    PromptRow(prompt=Prompt.of_text("the cat"), columns={"solution": "mat"}, where="a.jsonl:1"),
    PromptRow(prompt=Prompt.of_text("a"), where="a.jsonl:2"),
    PromptRow(prompt=Prompt.of_text("the cat"), columns={"solution": "mat"}, where="a.jsonl:1"),
]


@pytest.fixture(scope="module")
def language() -> Language:
    return load_language(TINY, ["the cat sat on the mat"] * 3)


class Scripted:
    """An engine that writes given texts, one token at a time, and looks for stop strings as the real one does."""

    def __init__(self, language: Language, texts: Sequence[tuple[str, bool]], limit: int = 99):
        self.ids = [language.renderer.response_ids(text, end=end) for text, end in texts]
        self.ends, self.limit, self.decode = language.end_ids, limit, language.renderer.shown_text
        self.capabilities = Capabilities(
            exact_replay=True, stop_strings=True, trainer_logprobs=True, gathers=frozenset()
        )

    def generate(self, prompts, keys, sampling, *, seed, greedy=False, want=()) -> list[Generation]:
        self.asked = (prompts, keys, sampling, seed, greedy)
        return [self.write(ids, StopStrings(self.decode, sampling.stop)) for ids in self.ids]

    def write(self, ids: Sequence[int], is_stopped: StopStrings) -> Generation:
        for n in range(1, min(len(ids), self.limit) + 1):
            reason = (
                FinishReason.EOS
                if ids[n - 1] in self.ends
                else FinishReason.STOP
                if is_stopped(ids[:n])
                else FinishReason.LENGTH
            )
            if reason is not FinishReason.LENGTH:
                break
        return Generation(ids=tuple(ids[:n]), logprobs=tuple(-0.5 * (i + 1) for i in range(n)), finish_reason=reason)


def scripted(
    language: Language, *texts: tuple[str, bool], stop: tuple[str, ...] = (), limit: int = 99
) -> tuple[Rollout, Scripted]:
    engine = Scripted(language, texts, limit)
    rollout = sample(
        engine,
        language,
        ROWS[: len(texts)],
        SamplingConfig(stop=stop),
        sample_indices=[4, 0, 5][: len(texts)],
        seed=11,
        greedy=True,
    )
    return rollout, engine


# ---------------------------------------------------------------------------------------------------- the record


def test_prompts_left_responses_right_and_masks_say_what_counts(language):
    rollout, engine = scripted(language, ("sat", True), ("on the mat", True), ("x", False))
    asked = engine.asked[0]
    assert asked == [language.renderer.prompt_ids(row.prompt) for row in ROWS]
    assert len(asked[0]) > len(asked[1])
    pad = len(asked[0]) - len(asked[1])
    assert rollout.prompt_mask[1].tolist() == [False] * pad + [True] * len(asked[1])
    assert rollout.prompt_ids[1].tolist()[pad:] == asked[1]
    for i, ids in enumerate(engine.ids):
        width = rollout.response_ids.shape[1]
        assert rollout.response_mask[i].tolist() == [True] * len(ids) + [False] * (width - len(ids))
        assert rollout.response_ids[i, : len(ids)].tolist() == ids
        assert rollout.sampler_logprobs[i].tolist() == pytest.approx(
            [-0.5 * (j + 1) for j in range(len(ids))] + [0.0] * (width - len(ids))
        )
    assert rollout.rows == tuple(ROWS)


def test_the_engine_is_asked_by_prompt_and_sample_not_by_place(language):
    _, engine = scripted(language, ("sat", True), ("on", True), ("x", True))
    _, keys, sampling, seed, greedy = engine.asked
    assert keys == [SampleKey(prompt_id=row.prompt.id, sample_index=i) for row, i in zip(ROWS, [4, 0, 5], strict=True)]
    assert keys[0].prompt_id == keys[2].prompt_id != keys[1].prompt_id
    assert (sampling, seed, greedy) == (SamplingConfig(), 11, True)


def test_finish_reasons_and_the_end_token_is_no_text(language):
    rollout, _ = scripted(language, ("sat", True), ("on the mat and so on", False), ("", True), limit=9)
    assert rollout.finish_reasons == (FinishReason.EOS, FinishReason.LENGTH, FinishReason.EOS)
    assert rollout.responses[0] == "sat"
    assert rollout.responses[2] == ""
    assert rollout.response_mask.sum(1).tolist()[2] == 1  # the end token alone is one action
    assert "on the mat and so on".startswith(rollout.responses[1]) and rollout.responses[1]


def test_scorers_read_the_text_before_the_stop_string_and_training_the_tokens_with_it(language):
    rollout, engine = scripted(language, ("the cat\n\nHuman: more", True), ("sat", True), stop=("\n\nHuman:", "zzz"))
    assert rollout.finish_reasons == (FinishReason.STOP, FinishReason.EOS)
    assert rollout.responses == ("the cat", "sat")
    kept = rollout.response_ids[0][rollout.response_mask[0]].tolist()
    assert language.renderer.response_text(kept).startswith("the cat\n\nHuman:")
    assert len(kept) < len(engine.ids[0])


@kills(
    "rollouts/sampler.py",
    old="end < min(ends) for end",
    new="end <= min(ends) for end",
    why="a token behind the stop is learned",
)
def test_tokens_that_an_engine_wrote_behind_the_stop_are_not_learned(language):
    """An engine that doesn't look; of two stops the one that is complete first counts."""
    engine = Scripted(language, [("the cat. sat. on", True), ("the mat", True), ("a cat.", True)])
    engine.write = lambda ids, _: Scripted.write(engine, ids, StopStrings(engine.decode, ()))
    engine.capabilities = dataclasses.replace(engine.capabilities, stop_strings=False)
    stop = SamplingConfig(stop=("t. sat. ", "."))
    rollout = sample(engine, language, ROWS, stop, sample_indices=[0, 1, 2], seed=1)
    assert rollout.responses == ("the cat", "the mat", "a cat")
    assert rollout.finish_reasons == (FinishReason.STOP, FinishReason.EOS, FinishReason.STOP)
    learned = [ids[mask].tolist() for ids, mask in zip(rollout.response_ids, rollout.response_mask, strict=True)]
    text = language.renderer.response_text
    assert "." in text(learned[0]) and "." not in text(learned[0][:-1]) and learned[1] == engine.ids[1]
    assert learned[2] == engine.ids[2][:-1]
    engine.capabilities = dataclasses.replace(engine.capabilities, stop_strings=True)  # what it wrote is not read again
    trusted = sample(engine, language, ROWS, stop, sample_indices=[0, 1, 2], seed=1)
    assert trusted.response_mask.sum(1).tolist() == [len(ids) for ids in engine.ids]


def test_without_stop_strings_nobody_is_asked(language):
    rollout, _ = scripted(language, ("the cat\n\nHuman: more", True))
    assert rollout.finish_reasons == (FinishReason.EOS,)
    assert rollout.responses == ("the cat\n\nHuman: more",)


def test_groups_are_one_a_sequence_with_the_ids_that_were_written(language):
    rollout, engine = scripted(language, ("sat", True), ("on", True), ("x", False))
    found = groups(rollout)
    assert [g.prompt for g in found] == [row.prompt for row in ROWS]
    assert [g.responses for g in found] == [("sat",), ("on",), ("x",)]
    assert [g.response_ids for g in found] == [(tuple(ids),) for ids in engine.ids]
    assert found[0].columns == {"solution": "mat"}


@kills(
    "rollouts/sampler.py",
    old="tuple(ends(group.response_ids[0], group.responses[0], row.prompt.form))",
    new="tuple(ends(group.response_ids[0], group.responses[0]))",
    why="a conversation's answer read as plain text's",
)
def test_where_tokens_end_is_asked_by_the_prompts_own_form(language):
    """What the template writes in front of an answer depends on it."""
    rollout, engine = scripted(language, ("sat", True), ("on", True))
    spoken = dataclasses.replace(ROWS[1], prompt=dataclasses.replace(ROWS[1].prompt, form=Form.CHAT))
    rollout = dataclasses.replace(rollout, rows=(ROWS[0], spoken))
    asked = []
    renderer = SimpleNamespace(response_ends=lambda *told: asked.append(told) or [len(asked)])
    found = groups_with_ends(rollout, SimpleNamespace(decoder_renderer=renderer))
    assert asked == [(tuple(engine.ids[0]), "sat", Form.TEXT), (tuple(engine.ids[1]), "on", Form.CHAT)]
    assert [group.token_ends for group in found] == [((1,),), ((2,),)]


def test_what_a_template_writes_behind_an_answer_is_no_answer():
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 300, chat=True)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}{{ '\\n' }}{% endif %}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    renderer = Renderer(tokenizer)
    language = Language(tokenizer=tokenizer, renderer=renderer, end_ids=renderer.end_ids, context=64)
    rollout, engine = scripted(language, ("sat", True))
    assert tokenizer.decode(engine.ids[0]) == "sat\n</s>"
    assert rollout.responses == ("sat",)


def test_an_end_token_that_is_a_word_is_no_text_either(language):
    word = language.tokenizer.convert_tokens_to_ids("t")
    own = dataclasses.replace(
        language, end_ids=(*language.end_ids, word), renderer=Renderer(language.tokenizer, end_id=word)
    )
    rollout, engine = scripted(own, ("so", True), ("on", False))
    assert engine.ids[0][-1] == word
    assert rollout.finish_reasons == (FinishReason.EOS, FinishReason.LENGTH)
    assert rollout.responses == ("so", "on")


# ---------------------------------------------------------------------------------------------------- with a real model


@pytest.fixture(scope="module")
def engine(language) -> Engine:
    hf = spread_out(load_causal(TINY, language, seed=1).hf)
    return build_engine(Trunk(hf), language)


def real(engine: Engine, language: Language, rows, indices, **more) -> Rollout:
    sampling = SamplingConfig(max_new_tokens=10, **more)
    return sample(engine, language, rows, sampling, sample_indices=indices, seed=1)


def test_a_prompt_and_sample_write_the_same_in_any_company(engine, language):
    together = real(engine, language, ROWS, [0, 0, 1])
    alone = real(engine, language, ROWS[2:], [1])
    n = int(alone.response_mask.sum())
    assert together.response_ids[2][together.response_mask[2]].tolist() == alone.response_ids[0, :n].tolist()
    assert together.responses[0] != together.responses[2]
    assert together.responses[2] == alone.responses[0]


def test_a_stop_string_ends_a_real_answer_at_the_token_that_completes_it(engine, language):
    free = real(engine, language, ROWS, [0, 0, 1])
    text = free.responses[0]
    string = next(c for c in text if c.isascii() and c.isprintable())
    cut = real(engine, language, ROWS, [0, 0, 1], stop=(string,))
    assert cut.finish_reasons[0] is FinishReason.STOP
    assert cut.responses[0] == text[: text.index(string)]
    n = int(cut.response_mask[0].sum())
    assert cut.response_ids[0, :n].tolist() == free.response_ids[0, :n].tolist()
    before = language.renderer.response_text(free.response_ids[0, : n - 1].tolist())
    assert string not in before
    for other in cut.responses:
        assert string not in other


def test_logprobs_are_nats_below_zero_and_zero_outside(engine, language):
    rollout = real(engine, language, ROWS, [0, 0, 1])
    assert (rollout.sampler_logprobs[rollout.response_mask] < 0).all()
    assert not rollout.sampler_logprobs[~rollout.response_mask].any()
    assert rollout.sampler_logprobs.dtype == torch.float32


# ---------------------------------------------------------------------------------------------------- too long


def test_prompts_that_leave_no_room_are_named(language):
    length = len(language.renderer.prompt_ids(ROWS[0].prompt))
    check_prompts(ROWS, language, 64 - length)
    with pytest.raises(UserError, match=r"2 prompt\(s\) leave no room.*context of 64: a.jsonl:1: \d+ tokens"):
        check_prompts(ROWS, language, 64 - length + 1)
    many = [PromptRow(prompt=Prompt.of_text("x" * 60 + str(i)), where=f"b:{i}") for i in range(8)]
    with pytest.raises(UserError, match=r"8 prompt\(s\).*b:4: .*… and 3 more\. Shorten"):
        check_prompts(many, language, 10)


def test_a_bad_prompt_names_its_place(engine, language):
    talk = Prompt(form=Form.CHAT, turns=(Message(role="user", content="hi"),))
    with pytest.raises(UserError, match=r"^c.jsonl:9: .*no chat template"):
        real(engine, language, [PromptRow(prompt=talk, where="c.jsonl:9")], [0])


def test_long_prompts_are_counted_file_by_file_or_refused(language, capsys):
    long = [
        PromptRow(prompt=Prompt.of_text("the cat sat on the mat " * n), where=f"{file}.jsonl:{line}")
        for line, (file, n) in enumerate([("a", 30), ("a", 1), ("b", 40), ("a", 50)], 1)
    ]
    assert check_prompts(long, language, 16, "drop") == [long[1]]
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in said] == [
        "a.jsonl: 2 of 3 prompts left out",
        "b.jsonl: 1 of 1 prompts left out",
    ]
    assert "e.g. a.jsonl:1: " in said[0] and "e.g. b.jsonl:3: " in said[1]
    with pytest.raises(UserError, match=r"3 prompt\(s\) .* or say too_long: drop"):
        check_prompts(long, language, 16, "error")
    with pytest.raises(UserError, match=r"lower sampling\.max_new_tokens\.$"):
        check_prompts(long, language, 16)
