"""Sampling from the live model: the distribution it says, the same tokens in any batch, and why each answer ends."""

import collections
import math

import pytest
import torch
from torch import nn
from transformers import MambaConfig

from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Generation
from plaudit.engines.torch_engine import TorchEngine, _draw
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.models.adapters import apply
from plaudit.models.load import checkpoint_activations
from plaudit.models.options import LoRA
from plaudit.models.trunk import Trunk
from plaudit.records.text import FinishReason
from plaudit.tokens.batches import pack
from tests.models.tiny import CONFIGS, build, causal

PROMPTS = [[1, 5, 9, 2, 7], [4], [8, 9], [3, 1, 2, 5, 6, 7, 8, 9, 4], [30], [1, 5, 9, 2, 7], [11, 12, 13]]
EOS = 2


def keys(n: int) -> list[SampleKey]:
    return [SampleKey(prompt_id=f"{i:x}", sample_index=i % 3) for i in range(n)]


def write(trunk: Trunk, prompts=PROMPTS, ends=(EOS,), *, seed=0, greedy=False, order=None, **sampling):
    chosen = keys(len(PROMPTS)) if order is None else [keys(len(PROMPTS))[i] for i in order]
    return TorchEngine(trunk, ends, decode=str).generate(
        prompts,
        chosen[: len(prompts)],
        SamplingConfig(**{"max_new_tokens": 12} | sampling),
        seed=seed,
        greedy=greedy,
    )


def same(one: list[Generation], two: list[Generation]) -> None:
    assert [(g.ids, g.finish_reason) for g in one] == [(g.ids, g.finish_reason) for g in two]
    for a, b in zip(one, two, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


# ---------------------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_writes_what_transformers_writes(name):
    model = build(name)
    written = write(Trunk(model), ends=(), greedy=True)
    model.generation_config.eos_token_id = None
    for prompt, generation in zip(PROMPTS, written, strict=True):
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12, pad_token_id=0)
        assert list(generation.ids) == ids[0, len(prompt) :].tolist()
        assert generation.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_samplers_logprobs_are_the_trainers(name, temperature):
    trunk = Trunk(build(name))
    written = write(trunk, ends=range(2, 10), temperature=temperature)
    with torch.no_grad():
        out = trunk(pack(PROMPTS, [g.ids for g in written]), {"logprobs"}, temperature)["logprobs"]
    for row, generation in zip(out, written, strict=True):
        assert list(generation.logprobs) == pytest.approx(row[: len(generation.ids)].tolist(), abs=1e-5)
    assert len({len(g.ids) for g in written}) > 1


def test_lora_writes_as_the_adapted_policy():
    trunk = Trunk(apply(build("llama"), LoRA(rank=2, alpha=8), seed=1))
    before = write(trunk, greedy=True)
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
        after = write(trunk, greedy=True)
        out = trunk(pack(PROMPTS, [g.ids for g in after]), {"logprobs"})["logprobs"]
    assert [g.ids for g in after] != [g.ids for g in before]
    assert list(after[0].logprobs) == pytest.approx(out[0, : len(after[0].ids)].tolist(), abs=1e-5)


def test_checkpointed_activations_do_not_cost_the_cache():
    """transformers drops the cache in training mode then: every token would be written without its prompt."""
    model = build("llama")
    plain = write(Trunk(build("llama")))
    checkpoint_activations(model)
    trunk = Trunk(model)
    same(write(trunk), plain)
    assert model.training


def test_a_model_without_a_key_value_cache_is_refused():
    config = MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(UserError, match=r"MambaForCausalLM doesn't go on from a key-value cache"):
        TorchEngine(Trunk(causal(config)), (EOS,), decode=str)


# ---------------------------------------------------------------------------------------------------- any batch


@pytest.mark.parametrize("name", ["llama gqa", "gpt2", "gemma3", "mistral window"])
def test_the_same_tokens_whatever_batch_size_order_and_neighbours(name):
    trunk = Trunk(build(name))
    together = write(trunk)
    for size in (1, 2, 3):
        same(write(trunk, batch_size=size), together)
    order = [4, 0, 6, 2, 5, 1, 3]
    shuffled = write(trunk, [PROMPTS[i] for i in order], order=order)
    same(shuffled, [together[i] for i in order])
    for i in (1, 3):
        same(write(trunk, [PROMPTS[i]], order=[i]), [together[i]])


def test_compaction_changes_nothing(monkeypatch):
    """Rows leave as soon as they end, or stay to the last step."""
    trunk = Trunk(build("llama gqa"))
    ends = tuple(range(2, 12))  # a third of the vocabulary: rows end at different steps
    written = []
    for share in (0.0, 0.75, 1.0):
        monkeypatch.setattr("plaudit.engines.torch_engine.COMPACT_BELOW", share)
        written.append(write(trunk, ends=ends))
    same(written[1], written[0])
    same(written[2], written[0])
    assert len({len(g.ids) for g in written[0]}) > 2


def test_finished_rows_really_leave(monkeypatch):
    trunk = Trunk(build("llama gqa"))
    engine = TorchEngine(trunk, tuple(range(2, 12)), decode=str)
    sizes = []
    trunk.hf.model.layers[0].register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[0]))
    written = engine.generate(PROMPTS, keys(7), SamplingConfig(max_new_tokens=12), seed=0)
    assert sizes[0] == 7
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == max(len(g.ids) for g in written)
    assert sum(sizes) < 7 * len(sizes)


@pytest.mark.parametrize("name", ["llama gqa", "gpt2", "gemma", "mistral window"])
def test_left_padding_is_harmless(name):
    """A prompt of one token beside one of nine is written as it is alone."""
    trunk = Trunk(build(name))
    beside = write(trunk, [[4], [3, 1, 2, 5, 6, 7, 8, 9, 4]], order=[1, 3], ends=())
    same(beside[:1], write(trunk, [[4]], order=[1], ends=()))


def test_another_seed_or_key_or_sample_writes_another_text():
    trunk = Trunk(build("llama"))
    first = write(trunk, ends=())
    assert [g.ids for g in write(trunk, ends=())] == [g.ids for g in first]
    assert all(a.ids != b.ids for a, b in zip(first, write(trunk, ends=(), seed=1), strict=True))
    assert first[0].ids != first[5].ids  # the same prompt tokens under another key
    one, two = (
        TorchEngine(trunk, (), decode=str).generate(
            [[4]], [SampleKey(prompt_id="a", sample_index=i)], SamplingConfig(max_new_tokens=12), seed=0
        )
        for i in range(2)
    )
    assert one[0].ids != two[0].ids


def test_nothing_is_drawn_from_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = write(Trunk(build("llama")))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    same(write(Trunk(build("llama"))), first)


def test_no_prompts():
    assert write(Trunk(build("llama")), []) == []


# ---------------------------------------------------------------------------------------------------- the distribution


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_tokens_come_as_often_as_their_logprobs_say(temperature):
    """First token and, given the likeliest first, the second: χ² over the vocabulary."""
    trunk, n, prompt = Trunk(build("llama")), 4000, [1, 5, 9]
    written = TorchEngine(trunk, (), decode=str).generate(
        [prompt] * n,
        [SampleKey(prompt_id="p", sample_index=i) for i in range(n)],
        SamplingConfig(max_new_tokens=2, temperature=temperature, batch_size=n),
        seed=3,
    )
    first = collections.Counter(g.ids[0] for g in written)
    likeliest = first.most_common(1)[0][0]
    second = collections.Counter(g.ids[1] for g in written if g.ids[0] == likeliest)
    for counts, context in ((first, prompt), (second, [*prompt, likeliest])):
        with torch.no_grad():
            logits = trunk.hf(input_ids=torch.tensor([context])).logits[0, -1].double()
        expected = (logits / temperature).softmax(-1) * counts.total()
        seen = torch.tensor([counts[token] for token in range(32)])
        rare = expected < 5  # pooled, as χ² wants
        cells = list(zip(seen[~rare].tolist(), expected[~rare].tolist(), strict=True))
        if rare.any():
            cells.append((int(seen[rare].sum()), float(expected[rare].sum())))
        chi2 = sum((o - e) ** 2 / e for o, e in cells)
        freedom = len(cells) - 1
        assert freedom >= 4
        assert chi2 < freedom + 5 * math.sqrt(2 * freedom)


def test_the_draw_inverts_the_cumulative_distribution_by_hand():
    """π = 0, 0.5, 0.2, 0, 0.3, 0: borders at 0.5 and 0.7; a token of probability 0 never comes, at any border."""
    logits = torch.tensor([0.0, 0.5, 0.2, 0.0, 0.3, 0.0]).log().expand(7, 6)
    uniform = torch.tensor([0.0, 0.25, 0.4999, 0.5001, 0.6999, 0.7001, 1 - 2**-53], dtype=torch.float64)
    tokens, logprobs = _draw(logits, 1.0, uniform, greedy=False)
    assert tokens.tolist() == [1, 1, 1, 2, 2, 4, 4]
    assert logprobs.exp().tolist() == pytest.approx([0.5, 0.5, 0.5, 0.2, 0.2, 0.3, 0.3])
    tokens, logprobs = _draw(logits[:1], 0.5, uniform[:1], greedy=True)
    assert tokens.tolist() == [1]
    assert float(logprobs.exp()) == pytest.approx(0.25 / (0.25 + 0.04 + 0.09))


# ---------------------------------------------------------------------------------------------------- the end


class Counting(nn.Module):
    """A stand-in for the output matrix: token t is always followed by t + 1."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.last: torch.Tensor | None = None
        model.model.embed_tokens.register_forward_hook(self.remember)

    def remember(self, _module, args, _output) -> None:
        self.last = args[0]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return 50.0 * nn.functional.one_hot((self.last[:, -1] + 1) % 32, 32)


@pytest.fixture
def counting() -> Trunk:
    model = build("llama")
    trunk = Trunk(model)
    model.lm_head = Counting(model)
    return trunk


def check(generation: Generation, ids: list[int], reason: FinishReason) -> None:
    assert list(generation.ids) == ids
    assert len(generation.logprobs) == len(ids)
    assert generation.logprobs == pytest.approx([0.0] * len(ids), abs=1e-6)
    assert generation.finish_reason is reason


def plain_engine(trunk: Trunk, ends, check_stop=lambda: None, monkeypatch=None, decode=str) -> TorchEngine:
    monkeypatch.setattr(TorchEngine, "_check_cache", lambda self: None)  # this model knows its last token only
    return TorchEngine(trunk, ends, decode=decode, check_stop=check_stop)


def test_each_end_id_ends_and_is_kept(counting, monkeypatch):
    engine = plain_engine(counting, (8, 20), monkeypatch=monkeypatch)
    written = engine.generate(
        [[5], [1, 16], [7], [25], [8]], keys(5), SamplingConfig(max_new_tokens=5), seed=0, greedy=True
    )
    check(written[0], [6, 7, 8], FinishReason.EOS)
    check(written[1], [17, 18, 19, 20], FinishReason.EOS)
    check(written[2], [8], FinishReason.EOS)
    check(written[3], [26, 27, 28, 29, 30], FinishReason.LENGTH)
    check(written[4], [9, 10, 11, 12, 13], FinishReason.LENGTH)  # an end id in the prompt ends nothing


def test_an_end_at_the_limit_is_an_end(counting, monkeypatch):
    engine = plain_engine(counting, (8,), monkeypatch=monkeypatch)
    sampling = SamplingConfig(max_new_tokens=3)
    check(engine.generate([[5]], keys(1), sampling, seed=0)[0], [6, 7, 8], FinishReason.EOS)
    check(engine.generate([[4]], keys(1), sampling, seed=0)[0], [5, 6, 7], FinishReason.LENGTH)


def test_stop_strings_are_looked_for_in_each_rows_own_text_and_the_token_is_kept(counting, monkeypatch):
    asked = []

    def decode(ids):
        asked.append(list(ids))
        return " ".join(map(str, ids))

    engine = plain_engine(counting, (8,), monkeypatch=monkeypatch, decode=decode)
    sampling = SamplingConfig(max_new_tokens=9, stop=("12 13",))
    written = engine.generate([[5], [10]], keys(2), sampling, seed=0, greedy=True)
    check(written[0], [6, 7, 8], FinishReason.EOS)
    check(written[1], [11, 12, 13], FinishReason.STOP)
    assert asked == [[6], [11], [6, 7], [11, 12], [11, 12, 13]]  # never of an end token, never after the end


def test_check_stop_is_called_at_every_token_and_interrupts(counting, monkeypatch):
    calls = []

    class Stop(Exception):
        pass

    def check_stop():
        calls.append(1)
        if len(calls) == 4:
            raise Stop

    engine = plain_engine(counting, (), check_stop, monkeypatch)
    counting.train()
    with pytest.raises(Stop):
        engine.generate([[5]], keys(1), SamplingConfig(max_new_tokens=9), seed=0)
    assert len(calls) == 4
    assert counting.hf.training


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": 0.0}, {"temperature": -1.0}, {"batch_size": 0}]
)
def test_sampling_options_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="at least 1, temperature above 0"):
        SamplingConfig(**wrong)
