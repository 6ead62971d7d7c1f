"""One forward of packed rows says what each row alone would say, in value and gradient, for every architecture."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from plaudit.errors import UserError
from plaudit.models import bf16
from plaudit.models import trunk as module
from plaudit.models.adapters import apply
from plaudit.models.load import checkpoint_activations
from plaudit.models.options import LoRA
from plaudit.models.trunk import Trunk, final_logits
from plaudit.tokens.batches import pack
from tests.kills import kills
from tests.models.tiny import (
    CONFIGS,
    NOISY,
    PADDED,
    ROWS,
    build,
    causal,
    gradients,
    linear,
    logits_alone,
    packed,
    relative_difference,
)

ALL = ("logprobs", "entropy", "values", "scores")
EVERY_MODEL = pytest.mark.parametrize("name", CONFIGS)


def full_trunk(name: str) -> Trunk:
    return Trunk(build(name), value_head=linear(16, seed=5), score_head=linear(16, seed=6))


def probe(out: dict[str, torch.Tensor]) -> torch.Tensor:
    """A number whose gradient feels every output of every token differently."""
    total = torch.zeros(())
    for number, name in enumerate(ALL):
        weight = torch.randn(out[name].shape, generator=torch.Generator().manual_seed(number))
        total = total + (out[name] * weight).sum()
    return total


# ---------------------------------------------------------------------------------------------------- the same as alone


@EVERY_MODEL
def test_packed_or_padded_as_expected(name):
    assert Trunk(build(name)).layout == ("padded" if name in PADDED else "packed")


@EVERY_MODEL
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@torch.no_grad()
def test_logprobs_and_entropy_are_those_of_transformers_on_each_row_alone(name, temperature):
    model = build(name)
    out = Trunk(copy.deepcopy(model))(packed(), {"logprobs", "entropy"}, temperature)
    for row, (prompt, response) in enumerate(ROWS):
        probabilities = (logits_alone(model, prompt, response).double() / temperature).softmax(-1)
        chosen = [float(probabilities[j, token].log()) for j, token in enumerate(response)]
        entropy = -(probabilities * probabilities.log()).sum(-1)
        assert out["logprobs"][row, : len(response)].tolist() == pytest.approx(chosen, abs=1e-5)
        assert out["entropy"][row, : len(response)].tolist() == pytest.approx(entropy.tolist(), abs=1e-5)
        assert not out["logprobs"][row, len(response) :].any()
        assert not out["entropy"][row, len(response) :].any()


@EVERY_MODEL
@torch.no_grad()
def test_values_and_scores_are_the_heads_on_each_rows_own_hidden_states(name):
    trunk = full_trunk(name)
    out = trunk(packed(), {"values", "scores"})
    for row, (prompt, response) in enumerate(ROWS):
        ids = torch.tensor([[*prompt, *response]])
        hidden = trunk.hf.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        before_each_token = hidden[len(prompt) - 1 : len(prompt) - 1 + len(response)]
        values = trunk.value_head(before_each_token).flatten().tolist()
        assert out["values"][row, : len(response)].tolist() == pytest.approx(values, abs=1e-5)
        assert not out["values"][row, len(response) :].any()
        assert float(out["scores"][row]) == pytest.approx(float(trunk.score_head(hidden[-1])), abs=1e-5)


@EVERY_MODEL
def test_both_layouts_and_each_row_alone_agree_in_value_and_gradient(name):
    trunk = full_trunk(name)
    layouts = ["padded"] if name in PADDED else ["packed", "padded"]
    found = {}
    for layout in layouts:
        trunk.layout = layout
        trunk.zero_grad()
        out = trunk(packed(), ALL, 0.7)
        probe(out).backward()
        found[layout] = ({k: x.detach() for k, x in out.items()}, gradients(trunk))
    trunk.zero_grad()
    together, by_row = packed(), [trunk(packed([row]), ALL, 0.7) for row in ROWS]
    width = together.response_mask.shape[1]
    alone = {
        want: torch.stack([nn.functional.pad(out[want][0], (0, width - out[want].shape[1])) for out in by_row])
        for want in ALL[:3]
    } | {"scores": torch.cat([out["scores"] for out in by_row])}
    probe(alone).backward()
    for out, grads in found.values():
        for want in ALL:
            torch.testing.assert_close(out[want], alone[want].detach(), atol=1e-5, rtol=1e-5)
        assert relative_difference(grads, gradients(trunk)) < 1e-5


@EVERY_MODEL
@torch.no_grad()
def test_the_order_of_rows_changes_nothing(name):
    trunk = full_trunk(name)
    forwards, backwards = trunk(packed(), ALL), trunk(packed(ROWS[::-1]), ALL)
    for want in ALL:
        torch.testing.assert_close(backwards[want].flip(0), forwards[want], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama gqa", "gpt2", "mistral window"])
@torch.no_grad()
def test_a_neighbour_is_never_seen(name):
    """Other tokens in another row, before or behind, move nothing; another prompt of one's own moves all."""
    trunk = full_trunk(name)
    row = ROWS[0]
    out = trunk(packed([([9, 9, 9], [1, 2]), row, ([7], [7, 7, 7])]), ALL)
    other = trunk(packed([([2, 3, 4], [5, 6]), row, ([20], [21, 22, 23])]), ALL)
    moved = trunk(packed([([9, 9, 9], [1, 2]), ([1, 5, 9, 6, 8], row[1]), ([7], [7, 7, 7])]), ALL)
    for want in ALL:
        torch.testing.assert_close(other[want][1], out[want][1], atol=1e-6, rtol=1e-6)
        assert (moved[want][1] - out[want][1]).abs().max() > 1e-3


# ---------------------------------------------------------------------------------------------------- the shift


class Scripted(LlamaForCausalLM):
    """A model that knows by heart which token follows: token t at position p is followed by (3t + p + 1) mod V."""

    def __init__(self):
        super().__init__(LlamaConfig(vocab_size=11, hidden_size=2, num_hidden_layers=1, num_attention_heads=1))
        self.model = Scripted.Body(self.config)
        self.get_output_embeddings = nn.Identity

    class Body(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config, self.weight = config, nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, position_ids=None, **_):
            if position_ids is None:
                position_ids = torch.arange(input_ids.shape[1]).expand_as(input_ids)
            follows = (3 * input_ids + position_ids + 1) % 11
            sure = 50.0 * nn.functional.one_hot(follows, 11) + self.weight
            return type("Output", (), {"last_hidden_state": sure})

    def forward(self, input_ids, **_):
        return type("Output", (), {"logits": self.model(input_ids).last_hidden_state})


def continued(prompt: list[int], length: int) -> tuple[list[int], list[int]]:
    row = list(prompt)
    for _ in range(length):
        row.append((3 * row[-1] + len(row) - 1 + 1) % 11)
    return prompt, row[len(prompt) :]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@torch.no_grad()
def test_a_model_that_knows_the_next_token_is_sure_of_every_response_token(layout):
    trunk = Trunk(Scripted())
    trunk.layout = layout
    rows = [continued([4, 7], 5), continued([2], 3), continued([1, 1, 1], 1)]
    sure = trunk(packed(rows), {"logprobs", "entropy"})
    assert sure["logprobs"].abs().max() < 1e-6
    assert sure["entropy"].abs().max() < 1e-6
    wrong = [(prompt, [(token + 1) % 11 for token in response]) for prompt, response in rows]
    assert float(trunk(packed(wrong[2:]), {"logprobs"})["logprobs"]) == pytest.approx(-50.0, abs=1e-3)


# ---------------------------------------------------------------------------------------------------- logits


@pytest.mark.parametrize("name", ["gemma2", "granite", "cohere", "cohere2", "llama"])
@torch.no_grad()
def test_final_logits_are_the_models_own(name):
    model = build(name)
    ids = torch.tensor([[3, 9, 27, 17]])
    head = model.get_output_embeddings()
    raw = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    own = model(input_ids=ids).logits
    torch.testing.assert_close(final_logits(model.config, raw), own, atol=1e-6, rtol=1e-6)
    assert torch.allclose(raw, own, atol=1e-3) == (name == "llama")


class Doubled(LlamaForCausalLM):
    """An architecture of which nobody has told us."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * 2.0
        return out


def test_a_model_with_logits_of_its_own_making_is_refused():
    with pytest.raises(UserError, match=r"Doubled makes its logits in a way"):
        Trunk(Doubled(CONFIGS["llama"]()))


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("rows_at_once", [1, 3, 5])
def test_chunks_of_logits_change_neither_value_nor_gradient(name, rows_at_once, monkeypatch):
    trunk = Trunk(build(name))

    def run() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        trunk.zero_grad()
        out = trunk(packed(), {"logprobs", "entropy"}, 0.7)
        probe(out | dict.fromkeys(("values", "scores"), torch.zeros(1))).backward()
        return {k: x.detach() for k, x in out.items()}, gradients(trunk)

    whole, whole_grads = run()
    monkeypatch.setattr(module, "LOGIT_BUDGET", rows_at_once * 32)
    parts, part_grads = run()
    for want in whole:
        torch.testing.assert_close(parts[want], whole[want], atol=1e-6, rtol=1e-6)
    assert relative_difference(part_grads, whole_grads) < 1e-6
    with torch.no_grad():
        torch.testing.assert_close(trunk(packed(), {"logprobs"}, 0.7)["logprobs"], whole["logprobs"])


def test_no_more_logits_than_the_budget_are_made_at_once(monkeypatch):
    trunk, seen = Trunk(build("llama")), []
    trunk.hf.lm_head.register_forward_hook(lambda *call: seen.append(call[2].numel()))
    monkeypatch.setattr(module, "LOGIT_BUDGET", 4 * 32)
    trunk(packed(), {"logprobs"})["logprobs"].sum().backward()
    # 16 response tokens: 4 at once, computed again in the backward pass. Prompts and padding get none.
    assert seen == [4 * 32] * 8


# ---------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("name", ["llama gqa", "gemma2"])
def test_batches_of_empty_responses_give_no_columns_and_a_score(name):
    trunk = full_trunk(name)
    out = trunk(pack([[4, 5], [7]], [[], []]), ALL)
    assert {want: tuple(x.shape) for want, x in out.items()} == {
        "logprobs": (2, 0),
        "entropy": (2, 0),
        "values": (2, 0),
        "scores": (2,),
    }
    probe(out).backward()
    assert all(torch.isfinite(g).all() for g in gradients(trunk).values())


@EVERY_MODEL
def test_nothing_is_nan(name):
    trunk = full_trunk(name)
    out = trunk(packed(), ALL)
    probe(out).backward()
    assert all(torch.isfinite(x).all() for x in [*out.values(), *gradients(trunk).values()])


@torch.no_grad()
def test_a_poisoned_row_poisons_no_other():
    trunk = full_trunk("llama")
    trunk.hf.model.embed_tokens.weight[29] = float("nan")
    out = trunk(packed([([1, 29], [5, 6]), ROWS[0], ([3], [29])]), ALL)
    for want in ALL:
        assert out[want][0].isnan().any()
        torch.testing.assert_close(out[want][1], trunk(packed([ROWS[0]]), ALL)[want][0], atol=1e-5, rtol=1e-5)
    assert not out["logprobs"][0, 2:].any()


def test_only_what_is_wanted_is_computed():
    trunk = full_trunk("llama")
    seen = []
    trunk.hf.lm_head.register_forward_hook(lambda *call: seen.append("logits"))
    assert set(trunk(packed(), {"values", "scores"})) == {"values", "scores"}
    assert seen == []
    assert trunk(packed(), ()) == {}


def test_wants_that_cannot_be_met():
    trunk = Trunk(build("llama"))
    with pytest.raises(ValueError, match=r"not \['logits'\]"):
        trunk(packed(), {"logits"})
    for want in ("values", "scores"):
        with pytest.raises(ValueError, match=want):
            trunk(packed(), {want})
    with pytest.raises(ValueError, match="logprobs"):
        Trunk(build("llama").model)(packed(), {"logprobs"})
    with pytest.raises(ValueError, match="temperature"):
        trunk(packed(), {"logprobs"}, 0.0)


@torch.no_grad()
def test_heads_stay_in_fp32_under_autocast():
    """bf16 knows three digits: 100.5 and 100.75 would be the same score."""
    trunk = full_trunk("llama")
    trunk.value_head.bias.fill_(100.5 + 1 / 64)
    trunk.score_head.bias.fill_(100.5 + 1 / 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = trunk(packed(), ALL)
    assert {x.dtype for x in out.values()} == {torch.float32}
    for want in ("values", "scores"):
        shown = out[want][out[want] != 0]
        assert not torch.equal(shown.bfloat16().float(), shown)


@kills("models/bf16.py", old="-(-count // MULTIPLE) * MULTIPLE if", new="count if", why="a kernel for every length")
@kills("models/trunk.py", old="position_ids=filled_up(batch.position_ids)", new="position_ids=batch.position_ids",
       why="fewer positions than tokens")  # fmt: skip
@kills("models/last_block.py", old="output[:, : len(positions)]", new="output", why="more rows than places for them")
@EVERY_MODEL
def test_where_a_new_shape_is_dear_lines_are_filled_up_and_say_the_same(name, monkeypatch):
    trunk, found = full_trunk(name), []
    rows_of_the_head = set[int]()
    trunk.inner.get_output_embeddings().register_forward_hook(lambda m, args, y: rows_of_the_head.add(len(args[0])))
    for is_dear in (False, True):
        monkeypatch.setattr(bf16, "is_dear", lambda where, is_dear=is_dear: is_dear)
        trunk.zero_grad()
        out = trunk(packed(), ALL, 0.7)
        probe(out).backward()
        found.append(({k: x.detach() for k, x in out.items()}, gradients(trunk)))
    assert rows_of_the_head == {int(packed().response_mask.sum()), bf16.MULTIPLE}
    (plain, wanted), (filled, grads) = found
    for want in ALL:
        torch.testing.assert_close(filled[want], plain[want], atol=1e-5, rtol=1e-5)
    assert relative_difference(grads, wanted) < 1e-5


@kills("models/bf16.py", old="if _cast not in parts[name]._forward_hooks.values():", new="if True:",
       why="each trunk around a model makes it slower")  # fmt: skip
def test_norms_are_cast_once_however_many_trunks_a_model_has():
    model = build("llama gqa")
    norms = [m for name, m in model.named_modules() if name.endswith("layernorm")]
    for _ in range(3):
        trunk = Trunk(model)
    assert {len(norm._forward_hooks) for norm in norms} == {1}
    seen = list[torch.dtype]()
    norms[0].register_forward_hook(lambda m, args, y: seen.append(y.dtype))
    trunk(packed(), {"logprobs"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trunk(packed(), {"logprobs"})
    assert seen == [torch.float32, torch.bfloat16]


def test_a_router_reads_what_its_norm_gave():
    assert not any(m._forward_hooks for m in Trunk(causal(NOISY["mixtral"]())).hf.modules())


# ---------------------------------------------------------------------------------------------------- noise and modes


@pytest.mark.parametrize("name", NOISY)
def test_two_forwards_in_training_mode_are_equal(name):
    """Dropout, layer drop, routing jitter: the first ratio of PPO would not be 1."""
    model = causal(NOISY[name]())
    trunk = Trunk(model).train()
    first, again = (trunk(packed(), {"logprobs"})["logprobs"] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(trunk.eval()(packed(), {"logprobs"})["logprobs"], first)


@pytest.mark.parametrize("name", NOISY)
def test_those_models_are_noisy_without_us(name):
    model = causal(NOISY[name]()).train()
    ids = torch.tensor([[3, 9, 27, 17]])
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        assert len({float(model(input_ids=ids).logits.double().sum()) for _ in range(6)}) > 1


def test_silence_leaves_the_saved_config_alone(tmp_path):
    model = causal(NOISY["gpt2"]())
    Trunk(model)
    model.save_pretrained(tmp_path)
    assert type(model.config).from_pretrained(tmp_path).resid_pdrop == 0.5


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_building_a_trunk_changes_nothing_about_the_model(name):
    model = build(name).train()
    before, implementation = copy.deepcopy(model.state_dict()), model.config._attn_implementation
    state = torch.get_rng_state()
    Trunk(model)
    assert model.training
    assert model.config._attn_implementation == implementation
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_the_attention_of_the_model_comes_back_after_an_error():
    trunk = Trunk(build("llama"))
    batch = packed([([99], [1])])  # no such token
    with pytest.raises(IndexError):
        trunk(batch, {"logprobs"})
    assert trunk.config._attn_implementation == "sdpa"


def test_lora_is_seen_through_the_wrapper():
    plain = Trunk(build("llama"))
    adapted = Trunk(apply(build("llama"), LoRA(rank=2), seed=1))
    assert adapted.layout == "packed"
    assert adapted.config is adapted.hf.get_base_model().config
    torch.testing.assert_close(adapted(packed(), {"logprobs"}), plain(packed(), {"logprobs"}))
    adapted(packed(), {"logprobs"})["logprobs"].sum().backward()
    assert {name.split(".")[-2] for name in gradients(adapted)} == {"default"}


@pytest.mark.parametrize("name", ["llama", "mistral window"])
def test_checkpointed_activations_change_nothing(name):
    plain, saving = Trunk(build(name)), Trunk(build(name))
    checkpoint_activations(saving.hf)
    grads = []
    for trunk in (plain, saving):
        out = trunk(packed(), {"logprobs"})["logprobs"]
        (out * torch.arange(out.numel()).view_as(out)).sum().backward()
        grads.append((out.detach(), gradients(trunk)))
    torch.testing.assert_close(grads[1][0], grads[0][0])
    assert relative_difference(grads[1][1], grads[0][1]) < 1e-6
