"""Supervised fine-tuning: the answers' tokens and nothing else, from log V down to memory."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plaudit.data.options import DataConfig
from plaudit.engines.build import build_engine
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.hardware.randomness import SampleKey
from plaudit.models.load import load_causal
from plaudit.models.options import LastLayers, LoRA, ModelConfig, TinyShape
from plaudit.models.trunk import Trunk
from plaudit.runs.folder import Run
from plaudit.training import sft as module
from plaudit.training.likelihood import nll_backward
from plaudit.training.options import KnownEntropy, OptimConfig, SFTConfig
from plaudit.training.sft import sft
from tests.training.tiny import (
    CPU,
    END,
    gradients,
    hf,
    hf_logprobs,
    ids,
    jsonl,
    language,
    metrics,
    model_folder,
    relative_difference,
    results,
    tokenizer,
    weights,
)

ROWS = [([0, 3, 4], [5, 6, END]), ([0, 9], [END]), ([0, 4, 4, 4, 7], [3, 3, 3, 3, 8, END])]


def trunk_of(folder: str) -> Trunk:
    return Trunk(load_causal(ModelConfig(path=folder), language(folder), seed=0).hf)


def config(tmp_path, rows, **options) -> SFTConfig:
    data = (DataConfig(path=jsonl(tmp_path / "data.jsonl", rows)),)
    return SFTConfig(**{"data": data, "held_out_fraction": 0.0, **options})


def train(tmp_path, chosen: SFTConfig, name: str = "run"):
    with Run.create(tmp_path / name, "sft", chosen) as run:
        sft(chosen, run)
    return tmp_path / name


def echoes(n: int) -> list[dict]:
    """A world that can be learned: the answer is the prompt's first letter, twice."""
    letters = "abcdefgh"
    prompts = [letters[i % 8] + letters[(i // 8) % 8] for i in range(n)]
    return [{"prompt": prompt, "completion": prompt[0] * 2} for prompt in prompts]


# ---------------------------------------------------------------------------------------------------------- the loss


def test_the_loss_and_its_gradient_are_those_of_the_textbook(tmp_path):
    """Against transformers alone, one row at a time: −Σ log π(answer) ÷ answers' tokens."""
    folder = model_folder(tmp_path / "model", spread=0.5)
    trunk, other = trunk_of(folder), hf(folder)
    loss = nll_backward(trunk, ROWS, 10**6, CPU)
    expected = -torch.cat([hf_logprobs(other, p, r) for p, r in ROWS]).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    mine = {name.removeprefix("hf."): grad for name, grad in gradients(trunk).items()}
    assert relative_difference(mine, gradients(other)) < 1e-5


def test_prompts_are_conditions_not_targets(tmp_path):
    """A model that says the same whatever stands before: only what is predicted can matter."""
    folder = model_folder(tmp_path / "model", spread=0.5)
    trunk = trunk_of(folder)
    with torch.no_grad():
        for name, parameter in trunk.hf.named_parameters():
            if "layers" in name:
                parameter.zero_()
        trunk.hf.get_input_embeddings().weight.copy_(torch.ones(11, 16))
    losses = [nll_backward(trunk, [(prompt, [5, END])], 10**6, CPU) for prompt in ([0], [0, 6, 7], [0, 3, 3, 3, 3])]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    assert nll_backward(trunk, [([0], [6, END])], 10**6, CPU) != pytest.approx(losses[0], rel=1e-3)


def test_a_uniform_model_has_loss_log_v(tmp_path):
    folder = model_folder(tmp_path / "model", spread=0.0)
    assert nll_backward(trunk_of(folder), ROWS, 10**6, CPU) == pytest.approx(math.log(11), rel=1e-6)


def test_every_token_of_plain_text_counts(tmp_path):
    rows = [{"text": "abcabc"}, {"text": "h"}]
    chosen = config(tmp_path, rows, model=ModelConfig(path=model_folder(tmp_path / "m", spread=0.5)), minibatch_size=2)
    folder = train(tmp_path, chosen)
    other = hf(tmp_path / "m")
    text = [[*ids("abcabc"), END], [*ids("h"), END]]
    with torch.no_grad():
        expected = -torch.cat([hf_logprobs(other, [0], row) for row in text]).mean()
    assert metrics(folder)[0]["sft/loss_over_tokens"] == pytest.approx(expected.item(), rel=1e-6)


# --------------------------------------------------------------------------------------------------------- whole runs


def test_it_starts_near_log_v_and_learns_eight_examples_by_heart(tmp_path):
    rows = [{"prompt": p, "completion": c} for p, c in zip("abcdefgh", ["hacb", "de", "gg", "f", "abc"], strict=False)]
    rows = [*rows, {"prompt": "ab", "completion": "hh"}, {"prompt": "ba", "completion": "ddd"}][:8]
    folder = model_folder(tmp_path / "m", width=32)
    chosen = config(
        tmp_path,
        rows,
        model=ModelConfig(path=folder),
        epochs=80,
        minibatch_size=4,
        optim=OptimConfig(learning_rate=1e-2),
    )
    done = train(tmp_path, chosen)
    losses = [line["sft/loss_over_tokens"] for line in metrics(done)]
    assert losses[0] == pytest.approx(math.log(11), abs=0.1)
    assert losses[-1] < 0.02
    trunk = trunk_of(str(done / "model"))
    spoken = language(str(done / "model"))
    engine = build_engine(trunk, spoken)
    prompts = [[0, *ids(row["prompt"])] for row in rows]
    keys = [SampleKey(prompt_id=str(i), sample_index=0) for i in range(len(rows))]
    written = engine.generate(prompts, keys, SamplingConfig(max_new_tokens=8), seed=0, greedy=True)
    assert [spoken.renderer.response_text(g.ids) for g in written] == [row["completion"] for row in rows]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """One run with held-out rows, a known entropy, and a learning rate that overshoots in the end."""
    tmp_path = tmp_path_factory.mktemp("learned")
    (tmp_path / "world.json").write_text('{"nll": 0.125}', encoding="utf-8")
    chosen = config(
        tmp_path,
        echoes(64),
        model=ModelConfig(tiny=TinyShape(hidden_size=16, layers=1, heads=2, vocabulary=270, context=16)),
        held_out_fraction=0.25,
        epochs=6,
        minibatch_size=8,
        optim=OptimConfig(learning_rate=2e-2),
        entropy=KnownEntropy(path=str(tmp_path / "world.json"), key="nll"),
        evaluate_every=7,
    )
    SHOWN.clear()  # the tests of this file may come in two parts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plaudit.training.sft.show", SHOWN.append)
        return train(tmp_path, chosen)


SHOWN: list[str] = []
"""What the run of `learned` has shown of its answers."""


def test_held_out_loss_falls_and_is_logged_before_the_first_step(learned):
    lines = [line for line in metrics(learned) if "sft/held_out_loss_over_tokens" in line]
    assert lines[0]["step"] == 0
    assert lines[0]["sft/held_out_loss_over_tokens"] == pytest.approx(math.log(259), abs=0.3)
    assert lines[-1]["sft/held_out_loss_over_tokens"] < 0.5 * lines[0]["sft/held_out_loss_over_tokens"]
    for line in lines:
        loss = line["sft/held_out_loss_over_tokens"]
        assert line["sft/held_out_perplexity"] == pytest.approx(math.exp(loss))
        # Two letters and the end token, in one or two merges: an answer is two or three tokens.
        assert 2 <= line["sft/held_out_nll_over_answers"] / loss <= 3
    steps = metrics(learned)[-1]["step"]
    assert [line["step"] for line in lines[1:]] == sorted({*range(7, steps, 7), steps})


def test_an_answer_of_the_model_is_shown_whenever_it_is_measured(learned):
    shown = [message.removeprefix("sft: ").split(" → ") for message in SHOWN]
    assert len(shown) == sum("sft/held_out_loss_over_tokens" in line for line in metrics(learned))
    question, said = shown[-1]
    spoken = language(str(learned / "model"))
    engine, prompt = build_engine(trunk_of(str(learned / "model")), spoken), spoken.tokenizer.encode(question)
    key, sampling = SampleKey(prompt_id="", sample_index=0), SamplingConfig(max_new_tokens=8)
    (answer,) = engine.generate([prompt], [key], sampling, seed=0, greedy=True)
    assert said == spoken.tokenizer.decode(list(answer.ids), skip_special_tokens=True).strip()


def test_the_table_stands_between_the_untrained_model_and_the_entropy(learned):
    per_token, perplexity, found = results(learned)
    assert perplexity.value == pytest.approx(math.exp(per_token.value)) and per_token.floor > per_token.value
    lines = [line for line in metrics(learned) if "sft/held_out_nll_over_answers" in line]
    assert found.floor == lines[0]["sft/held_out_nll_over_answers"]
    assert found.ceiling == 0.125
    assert found.value == pytest.approx(lines[-1]["sft/held_out_nll_over_answers"])
    assert found.low < found.value < found.high


@pytest.mark.parametrize("name", ["best", "model"])
def test_both_models_load_in_transformers_and_here(learned, name):
    folder = learned / name
    AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("ab").input_ids[0] == 0
    pairs = [([0, *p], r) for p, r in [([70, 71], [70, 1]), ([72], [72, 72, 1])]]
    loss = nll_backward(trunk_of(str(folder)), pairs, 10**6, CPU)
    with torch.no_grad():
        expected = -torch.cat([hf_logprobs(hf(folder), p, r) for p, r in pairs]).mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_best_is_the_model_of_the_lowest_held_out_loss(tmp_path):
    """Trained far too fast on the opposite of what is measured: the best model is an early one."""
    folder = model_folder(tmp_path / "m", width=16)
    held_out = DataConfig(path=jsonl(tmp_path / "held.jsonl", [{"prompt": "a", "completion": "bc"}]))
    rows = [{"prompt": "a", "completion": c} for c in ("bc", "bc", "dd", "ee", "ff", "gg")]
    chosen = config(
        tmp_path,
        rows,
        model=ModelConfig(path=folder),
        held_out=(held_out,),
        epochs=4,
        minibatch_size=2,
        evaluate_every=1,
        optim=OptimConfig(learning_rate=3e-2, schedule="constant"),
    )
    done = train(tmp_path, chosen)
    measured = [line["sft/held_out_loss_over_tokens"] for line in metrics(done)][1:]
    pair = [([0, *ids("a")], [*ids("bc"), END])]
    assert min(measured) < measured[-1]
    assert nll_backward(trunk_of(str(done / "best")), pair, 100, CPU) == pytest.approx(min(measured), rel=1e-5)
    assert nll_backward(trunk_of(str(done / "model")), pair, 100, CPU) == pytest.approx(measured[-1], rel=1e-5)


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (LastLayers(layers=1, head=False), lambda name: "layers.1." in name),
        (LastLayers(layers=0, head=True), lambda name: name in ("model.norm.weight", "lm_head.weight")),
        (LoRA(rank=2, alpha=4), lambda name: "_proj" in name),
        (LoRA(rank=2, alpha=4, target_modules=("q_proj",)), lambda name: "q_proj" in name),
    ],
    ids=["last_layers", "head", "lora", "lora-one-matrix"],
)
def test_only_the_chosen_part_is_trained(tmp_path, rule, expected):
    folder = model_folder(tmp_path / "m", layers=2, spread=0.2)
    chosen = config(
        tmp_path,
        echoes(16),
        model=ModelConfig(path=folder, train=rule),
        epochs=6,
        minibatch_size=16,
        optim=OptimConfig(learning_rate=3e-2),
    )
    done = train(tmp_path, chosen)
    before, after = weights(tmp_path / "m"), weights(done / "model")
    assert moved(before, after) == {name for name in before if expected(name)}
    losses = [line["sft/loss_over_tokens"] for line in metrics(done)]
    assert losses[-1] < losses[0]


def test_weights_of_sources_set_the_number_of_steps(tmp_path):
    one = DataConfig(path=jsonl(tmp_path / "one.jsonl", echoes(8)), weight=2.0)
    two = DataConfig(path=jsonl(tmp_path / "two.jsonl", [{"text": "abc"}] * 1 + [{"text": "abd"}]), weight=0.5)
    chosen = SFTConfig(
        data=(one, two),
        held_out_fraction=0.0,
        model=ModelConfig(path=model_folder(tmp_path / "m")),
        minibatch_size=4,
        epochs=2,
    )
    done = train(tmp_path, chosen)
    assert metrics(done)[-1]["step"] == 2 * 5  # (8 · 2 + 2 · ½) ÷ 4, rounded up


def test_the_same_seed_twice_is_the_same_run(tmp_path):
    chosen = config(tmp_path, echoes(24), model=ModelConfig(path=model_folder(tmp_path / "m")), minibatch_size=8)
    one, two = train(tmp_path, chosen, "one"), train(tmp_path, chosen, "two")
    assert metrics(one) == metrics(two)
    other = config(tmp_path, echoes(24), model=ModelConfig(path=model_folder(tmp_path / "m")), minibatch_size=8, seed=1)
    assert metrics(one) != metrics(train(tmp_path, other, "three"))


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.fixture
def no_model(monkeypatch):
    """Loading weights is a failure of the test: the mistake must be found before."""

    def loaded(*_, **__):
        raise AssertionError("a model was loaded before the data were checked")

    monkeypatch.setattr(module, "load_causal", loaded)


def test_a_row_that_is_too_long_is_named(tmp_path, no_model):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a" * 20, "completion": "b" * 20}]
    chosen = config(tmp_path, rows, model=ModelConfig(path=model_folder(tmp_path / "m", context=32)))
    with pytest.raises(UserError, match=r"data\.jsonl:2: 42 tokens"):
        train(tmp_path, chosen)


@pytest.mark.parametrize(("rule", "steps"), [("drop", 1), ("truncate", 2)])
def test_long_rows_are_dropped_or_cut_when_asked(tmp_path, rule, steps):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a" * 20, "completion": "b" * 20}]
    model = ModelConfig(path=model_folder(tmp_path / "m", context=32))
    done = train(tmp_path, config(tmp_path, rows, model=model, too_long=rule, minibatch_size=1))
    assert metrics(done)[-1]["step"] == steps


def test_nothing_left_is_a_mistake(tmp_path, no_model):
    model = ModelConfig(path=model_folder(tmp_path / "m"))
    chosen = config(tmp_path, [{"prompt": "aaaa", "completion": "b"}], model=model, max_length=3, too_long="drop")
    with pytest.raises(UserError, match=r"no row is left.*data\.jsonl"):
        train(tmp_path, chosen)


def test_a_length_beyond_the_context_is_refused(tmp_path, no_model):
    model = ModelConfig(path=model_folder(tmp_path / "m", context=32))
    with pytest.raises(UserError, match="max_length: 33 exceeds the model's context of 32"):
        train(tmp_path, config(tmp_path, echoes(4), model=model, max_length=33))


@pytest.mark.parametrize("text", ["", "[]", '{"other": 1}', '{"nll": "much"}'])
def test_a_known_entropy_that_is_not_there_is_told_at_once(tmp_path, no_model, text):
    if text:
        (tmp_path / "world.json").write_text(text, encoding="utf-8")
    known = KnownEntropy(path=str(tmp_path / "world.json"), key="nll")
    model = ModelConfig(path=model_folder(tmp_path / "m"))
    with pytest.raises(UserError, match=r"entropy: no number 'nll' can be read from .*world\.json"):
        train(tmp_path, config(tmp_path, echoes(4), model=model, entropy=known))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"minibatch_size": 0}, {"save_every": 0}, {"data": ()}])
def test_impossible_options_are_refused(wrong):
    with pytest.raises(ValueError, match=r"data|at least 1"):
        SFTConfig(**{"data": (DataConfig(path="x.jsonl"),), **wrong})


def test_a_gradient_that_is_no_number_stops_with_what_was_learned_before(tmp_path, monkeypatch):
    """The loss is made NaN at step 4; what was learned in three steps is saved, and the run goes on from it."""
    chosen = config(
        tmp_path,
        echoes(24),
        model=ModelConfig(path=model_folder(tmp_path / "m")),
        minibatch_size=4,
        save_every=2,
        optim=OptimConfig(schedule="constant", max_skipped=1),
    )
    whole = train(tmp_path, chosen, "whole")
    honest, calls = module.nll_backward, []

    def broken(trunk, rows, budget, place):
        loss = honest(trunk, rows, budget, place)
        calls.append(1)
        if len(calls) == 4:
            next(p for p in trunk.parameters() if p.grad is not None).grad.view(-1)[0] = math.nan
        return loss

    monkeypatch.setattr(module, "nll_backward", broken)
    with pytest.raises(UserError, match="step 4 of 6"):
        train(tmp_path, chosen)
    assert [p.name for p in sorted((tmp_path / "run" / "checkpoints").glob("0*"))] == ["000002", "000003"]
    monkeypatch.setattr(module, "nll_backward", honest)
    with Run.open(tmp_path / "run") as run:
        sft(chosen, run)
    assert metrics(tmp_path / "run") == metrics(whole)


def test_letters_are_tokens():
    """The other tests' arithmetic rests on it."""
    assert tokenizer()("abc").input_ids == [0, 3, 4, 5]
