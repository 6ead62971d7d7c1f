"""Sampling from the live model: the distribution it says, the same tokens in any batch, and why each answer ends."""

import collections
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MambaConfig

from plaudit.engines.drawing import BLOCK, draw
from plaudit.engines.llama import LlamaDecoder
from plaudit.engines.options import SamplingConfig
from plaudit.engines.protocol import Generation
from plaudit.engines.slots import balanced
from plaudit.engines.torch_engine import TorchEngine
from plaudit.errors import UserError
from plaudit.formulas.logprobs import entropy, token_logprobs
from plaudit.hardware.randomness import SampleKey
from plaudit.models import bf16
from plaudit.models.adapters import apply
from plaudit.models.load import checkpoint_activations
from plaudit.models.options import LoRA
from plaudit.models.trunk import Trunk
from plaudit.records.text import FinishReason
from plaudit.tokens.batches import pack
from tests.kills import kills
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


@kills("engines/llama.py", old="width, rows = rounded(longest + 1, tokens)", new="width, rows = longest + 1",
       why="in bf16 on a CPU a kernel is made for each length")  # fmt: skip
def test_where_a_new_shape_is_dear_the_same_is_written_by_fewer(monkeypatch):
    trunk, product, widths = Trunk(build("llama gqa")), torch.baddbmm, set()
    plain = write(trunk)
    monkeypatch.setattr(bf16, "is_dear", lambda where: True)
    monkeypatch.setattr(torch, "baddbmm", lambda *args, **kw: widths.add(args[2].shape[2]) or product(*args, **kw))
    same(write(trunk), plain)
    assert widths == {64}


@kills("models/bf16.py", old="parameter.requires_grad_(True)", new="pass", why="frozen weights are cast at each token")
def test_in_bf16_frozen_weights_are_cast_as_often_as_others_and_stay_frozen():
    class Casts(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default and kwargs["dtype"] == torch.bfloat16:
                self.count += args[0].ndim == 2 and len(args[0]) >= 16  # a matrix
            return func(*args, **(kwargs or {}))

    found = []
    for learns in (True, False):
        trunk = Trunk(build("llama")).requires_grad_(learns)
        engine = TorchEngine(trunk, (), decode=str)
        with torch.autocast("cpu", dtype=torch.bfloat16), Casts() as casts:
            engine.generate(PROMPTS[:1], keys(1), SamplingConfig(max_new_tokens=12), seed=0)
        assert {p.requires_grad for p in trunk.parameters()} == {learns}
        found.append(casts.count)
    assert found[0] == found[1]


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
    trunk = Trunk(build("gpt2"))
    ends = tuple(range(2, 12))  # a third of the vocabulary: rows end at different steps
    written = []
    for share in (0.0, 0.75, 1.0):
        monkeypatch.setattr("plaudit.engines.batches.COMPACT_BELOW", share)
        written.append(write(trunk, ends=ends))
    same(written[1], written[0])
    same(written[2], written[0])
    assert len({len(g.ids) for g in written[0]}) > 2


def test_finished_rows_really_leave():
    trunk = Trunk(build("gpt2"))
    engine = TorchEngine(trunk, tuple(range(2, 12)), decode=str)
    sizes = []
    trunk.hf.transformer.h[0].register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape[0]))
    written = engine.generate(PROMPTS, keys(7), SamplingConfig(max_new_tokens=12), seed=0)
    assert sizes[:2] == [6, 7]  # a prompt stands there twice, and is read once
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
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


@kills("engines/drawing.py", old="right=True", new="right=False", why="a token of chance 0 at a border")
def test_the_draw_inverts_the_cumulative_distribution_by_hand():
    """π = 0, 0.5, 0.2, 0, 0.3, 0: borders at 0.5 and 0.7; a token of probability 0 never comes, at any border."""
    logits = torch.tensor([0.0, 0.5, 0.2, 0.0, 0.3, 0.0]).log().expand(7, 6)
    uniform = torch.tensor([0.0, 0.25, 0.4999, 0.5001, 0.6999, 0.7001, 1 - 2**-53], dtype=torch.float64)
    drawn = draw(logits.clone(), 1.0, uniform, entropy=True)
    assert drawn.tokens.tolist() == [1, 1, 1, 2, 2, 4, 4]
    assert drawn.logprobs.exp().tolist() == pytest.approx([0.5, 0.5, 0.5, 0.2, 0.2, 0.3, 0.3])
    by_hand = -sum(p * math.log(p) for p in (0.5, 0.2, 0.3))
    assert drawn.entropies.tolist() == pytest.approx([by_hand] * 7)
    drawn = draw(logits[:1].clone(), 0.5, uniform[:1], greedy=True)
    assert drawn.tokens.tolist() == [1]
    assert float(drawn.logprobs.exp()) == pytest.approx(0.25 / (0.25 + 0.04 + 0.09))


@kills("engines/drawing.py", old="total = blocks.sum(-1)", new="total = blocks[:, :-1].sum(-1)", why="the rest is lost")
@kills("engines/drawing.py", old="(index - 1)", new="index", why="the target inside a block lies a block too low")
@pytest.mark.parametrize("vocabulary", [BLOCK, 2 * BLOCK, 3 * BLOCK + 7])
def test_the_draw_finds_every_token_at_its_borders_in_every_block(vocabulary):
    """Just above each token's lower border, in its middle, and just below its upper one."""
    weights = torch.randint(0, 3, (vocabulary,), generator=torch.Generator().manual_seed(1)).double()
    weights[: BLOCK // 2] = weights[-3:] = 0.0
    weights[-4] = 1.0
    probabilities = weights / weights.sum()
    tokens = probabilities.nonzero().squeeze(1)
    mine, ends = probabilities[tokens], probabilities.cumsum(0)[tokens]
    for share in (0.001, 0.5, 0.999):
        drawn = draw(probabilities.log().float().repeat(len(tokens), 1), 1.0, ends - (1 - share) * mine)
        assert torch.equal(drawn.tokens, tokens)
        assert drawn.logprobs.tolist() == pytest.approx(mine.log().tolist(), abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_draw_says_what_the_formulas_say(temperature):
    logits = 4 * torch.randn(16, 300, generator=torch.Generator().manual_seed(3))
    uniform = torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    drawn = draw(logits.clone(), temperature, uniform, entropy=True)
    assert torch.allclose(drawn.logprobs, token_logprobs(logits, drawn.tokens, temperature), atol=1e-6)
    assert torch.allclose(drawn.entropies, entropy(logits, temperature), atol=2e-6)
    assert torch.equal(drawn.tokens, draw(logits.clone(), temperature, uniform).tokens)
    assert torch.equal(draw(logits.clone(), temperature, uniform, greedy=True).tokens, logits.argmax(-1))


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
        last = self.last if self.last.ndim == 1 else self.last[:, -1]  # in slots each row feeds one token
        return 50.0 * nn.functional.one_hot((last + 1) % 32, 32)


@pytest.fixture(params=["slots", "batches"])
def counting(request, monkeypatch) -> Trunk:
    model = build("llama")
    trunk = Trunk(model)
    model.lm_head = Counting(model)
    # This model knows its last token only, so it isn't asked whether it decodes as it reads.
    made = LlamaDecoder if request.param == "slots" else lambda _: None
    monkeypatch.setattr(TorchEngine, "_decoder", lambda self: made(self.trunk))
    return trunk


def check(generation: Generation, ids: list[int], reason: FinishReason) -> None:
    assert list(generation.ids) == ids
    assert len(generation.logprobs) == len(ids)
    assert generation.logprobs == pytest.approx([0.0] * len(ids), abs=1e-6)
    assert generation.finish_reason is reason


def plain_engine(trunk: Trunk, ends, check_stop=lambda: None, decode=str) -> TorchEngine:
    return TorchEngine(trunk, ends, decode=decode, check_stop=check_stop)


def test_each_end_id_ends_and_is_kept(counting):
    engine = plain_engine(counting, (8, 20))
    written = engine.generate(
        [[5], [1, 16], [7], [25], [8]], keys(5), SamplingConfig(max_new_tokens=5), seed=0, greedy=True
    )
    check(written[0], [6, 7, 8], FinishReason.EOS)
    check(written[1], [17, 18, 19, 20], FinishReason.EOS)
    check(written[2], [8], FinishReason.EOS)
    check(written[3], [26, 27, 28, 29, 30], FinishReason.LENGTH)
    check(written[4], [9, 10, 11, 12, 13], FinishReason.LENGTH)  # an end id in the prompt ends nothing


def test_an_end_at_the_limit_is_an_end(counting):
    engine = plain_engine(counting, (8,))
    sampling = SamplingConfig(max_new_tokens=3)
    check(engine.generate([[5]], keys(1), sampling, seed=0)[0], [6, 7, 8], FinishReason.EOS)
    check(engine.generate([[4]], keys(1), sampling, seed=0)[0], [5, 6, 7], FinishReason.LENGTH)


def test_stop_strings_are_looked_for_in_each_rows_own_text_and_the_token_is_kept(counting):
    asked = []

    def decode(ids):
        asked.append(list(ids))
        return " ".join(map(str, ids))

    engine = plain_engine(counting, (8,), decode=decode)
    sampling = SamplingConfig(max_new_tokens=9, stop=("12 13",))
    written = engine.generate([[5], [10]], keys(2), sampling, seed=0, greedy=True)
    check(written[0], [6, 7, 8], FinishReason.EOS)
    check(written[1], [11, 12, 13], FinishReason.STOP)
    assert asked == [[6], [11], [6, 7], [11, 12], [11, 12, 13]]  # never of an end token, never after the end


def test_check_stop_is_called_at_every_token_and_interrupts(counting):
    calls = []

    class Stop(Exception):
        pass

    def check_stop():
        calls.append(1)
        if len(calls) == 4:
            raise Stop

    engine = plain_engine(counting, (), check_stop)
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


# ---------------------------------------------------------------------------------------------------- slots

FAST = {"llama", "llama gqa", "qwen2", "qwen3", "gemma", "mistral"}


@pytest.mark.parametrize("name", CONFIGS)
def test_llama_like_models_are_decoded_in_slots_and_no_others(name):
    """Granite has their parts and puts them together otherwise; only its numbers say so."""
    assert (TorchEngine(Trunk(build(name)), (), decode=str).decoder is not None) == (name in FAST)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("name", ["llama gqa", "gpt2"])
def test_values_and_entropy_from_decoding_are_the_trunks_own(name, adapted):
    model = apply(build(name), LoRA(rank=2, alpha=8), seed=1) if adapted else build(name)
    trunk = Trunk(model, value_head=nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)))
    engine = TorchEngine(trunk, range(2, 10), decode=str)
    sampling = SamplingConfig(max_new_tokens=12, temperature=0.8, batch_size=3)
    written = engine.generate(PROMPTS, keys(7), sampling, seed=0, want={"values", "entropy"})
    with torch.no_grad():
        out = trunk(pack(PROMPTS, [g.ids for g in written]), {"values", "entropy", "logprobs"}, 0.8)
    for i, g in enumerate(written):
        assert list(g.values) == pytest.approx(out["values"][i, : len(g.ids)].tolist(), abs=1e-5)
        assert list(g.entropies) == pytest.approx(out["entropy"][i, : len(g.ids)].tolist(), abs=1e-5)
        assert list(g.logprobs) == pytest.approx(out["logprobs"][i, : len(g.ids)].tolist(), abs=1e-5)
    assert len({len(g.ids) for g in written}) > 1
    assert not engine.generate(PROMPTS[:1], keys(1), sampling, seed=0)[0].values


def test_what_a_trunk_has_no_head_for_is_refused():
    engine = TorchEngine(Trunk(build("llama")), (), decode=str)
    assert engine.capabilities.gathers == {"entropy"}
    with pytest.raises(ValueError, match=r"gathers \['entropy'\], not \['values'\]"):
        engine.generate([[4]], keys(1), SamplingConfig(), seed=0, want={"values"})


@kills("engines/slots.py", old="while head not in self.bounds:", new="while True:", why="read for each answer")
@kills(
    "engines/batches.py",
    old="if len(distinct) < len(prompts):",
    new="if False:",
    why="a row a prompt",
)
@pytest.mark.parametrize("name", ["llama gqa", "gpt2"])
def test_several_answers_to_a_prompt_are_those_of_separate_rows_and_its_prompt_is_read_once(name):
    trunk = Trunk(build(name))
    engine = TorchEngine(trunk, range(2, 6), decode=str)
    prompts = [prompt for prompt in PROMPTS[:4] for _ in range(4)]
    asked = [SampleKey(prompt_id=f"{i // 4}", sample_index=i % 4) for i in range(16)]
    read = []
    embedding = trunk.inner.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _, args: read.append(args[0].numel()))
    sampling = SamplingConfig(max_new_tokens=6, batch_size=16)
    together = engine.generate(prompts, asked, sampling, seed=0)
    hook.remove()
    # In slots the last token of a prompt is each row's own first step; static batches pad prompts on the left.
    assert read[0] == (sum(len(prompt) - 1 for prompt in PROMPTS[:4]) if name != "gpt2" else 4 * 9)
    assert max(read[1:]) == 16
    apart = [engine.generate([p], [k], sampling, seed=0)[0] for p, k in zip(prompts, asked, strict=True)]
    same(together, apart)
    assert len({g.ids for g in together}) > 12


@kills("engines/slots.py", old="move(source, target, ", new="move(source, source, ", why="memory")
@kills(
    "engines/llama.py",
    old="hidden = torch.arange(width, device=x.device) > each",
    new="hidden = torch.arange(width, device=x.device) >= each",
    why="no row looks at itself",
)
@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_a_finished_rows_slot_goes_to_the_next_prompt_at_once(slots):
    trunk = Trunk(build("qwen3"))
    engine = TorchEngine(trunk, range(2, 10), decode=str)
    prompts = PROMPTS * 3
    asked = [SampleKey(prompt_id="p", sample_index=i) for i in range(len(prompts))]
    sizes = []
    norm = trunk.inner.base_model.norm
    hook = norm.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    written = engine.generate(prompts, asked, SamplingConfig(max_new_tokens=9, batch_size=slots), seed=5)
    hook.remove()
    assert sum(sizes) == sum(len(g.ids) for g in written)  # no slot ever feeds a row that is finished
    tail = next((i for i, size in enumerate(sizes) if size < slots), len(sizes))
    assert set(sizes[:tail]) == {slots} and len(sizes) - tail <= 9 and sizes == sorted(sizes, reverse=True)
    same(
        written,
        [
            engine.generate([p], [k], SamplingConfig(max_new_tokens=9), seed=5)[0]
            for p, k in zip(prompts, asked, strict=True)
        ],
    )


@kills(
    "engines/slots.py",
    old="self.written[index] = ids, 0",
    new="self.written[index] = ids, 1",
    why="a uniform is left out",
)
@pytest.mark.parametrize("name", ["llama gqa", "qwen3"])
def test_slots_write_what_static_batches_write(name):
    engine = TorchEngine(Trunk(build(name)), range(2, 8), decode=str)
    sampling = SamplingConfig(max_new_tokens=9, batch_size=2, stop=("9, 1",))
    in_slots = engine.generate(PROMPTS, keys(7), sampling, seed=5)
    engine.decoder = None
    same(engine.generate(PROMPTS, keys(7), sampling, seed=5), in_slots)


def test_the_memory_is_kept_and_grows_only_when_it_must():
    engine = TorchEngine(Trunk(build("llama")), (), decode=str)
    write_with = lambda n, **more: engine.generate(PROMPTS[:n], keys(n), SamplingConfig(**more), seed=0)  # noqa: E731
    write_with(7, max_new_tokens=12)
    memory = engine.decoder.memory
    first = write_with(3, max_new_tokens=9)
    assert engine.decoder.memory is memory
    write_with(7, max_new_tokens=90)
    assert engine.decoder.memory is not memory
    same(write_with(3, max_new_tokens=9), first)


@kills(
    "engines/torch_engine.py",
    old="if any(x != x for",
    new="if any(x == x for",
    why="NaN outlives its row",
)
def test_a_policy_that_was_nan_leaves_nothing_behind():
    """0 × NaN is NaN: what a masked position of the memory holds must be a number."""
    trunk = Trunk(build("llama"))
    engine = TorchEngine(trunk, (), decode=str)
    sound = engine.generate(PROMPTS, keys(7), SamplingConfig(max_new_tokens=12), seed=0)
    assert engine.decoder.memory is not None
    weight = trunk.inner.model.layers[0].self_attn.v_proj.weight
    before = weight.detach().clone()
    weight.data.fill_(math.nan)
    engine.generate(PROMPTS, keys(7), SamplingConfig(max_new_tokens=12), seed=0)
    assert engine.decoder.memory is None
    weight.data.copy_(before)
    same(engine.generate(PROMPTS, keys(7), SamplingConfig(max_new_tokens=12), seed=0), sound)


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=40), budget=st.integers(1, 200))
def test_prompts_are_read_in_batches_of_about_as_many_tokens(lengths, budget):
    prompts = [tuple([i] * length) for i, length in enumerate(sorted(lengths))]
    batches = balanced(prompts, budget)
    assert [prompt for batch in batches for prompt in batch] == prompts
    sizes = [sum(map(len, batch)) for batch in batches]
    assert all(size <= budget or len(batch) == 1 for size, batch in zip(sizes, batches, strict=True))


def test_balanced_batches_of_equal_prompts_are_equal():
    assert [len(batch) for batch in balanced([(i,) * 10 for i in range(12)], 50)] == [4, 4, 4]
