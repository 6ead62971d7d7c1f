"""What PPO does around its loss: text learned beside, brakes, critics and their warm-up, controllers; whole runs."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.models.options import AdapterCritic, LoRA, ModelConfig, SeparateCritic, SharedCritic
from plaudit.records.statistics import number
from plaudit.training import optim
from plaudit.training.options import OptimConfig
from plaudit.training.policy import loop, participants, ptx, update
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.cursor import Cursor, Outcome
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.options import (
    GAE,
    AdaptiveKL,
    AdaptiveTrust,
    Brakes,
    Clip,
    Exclude,
    FixedKL,
    FixedTrust,
    PenalisedUnfinished,
    PerToken,
    PolicyGradient,
    Ptx,
    SequenceMean,
    Shaping,
    Surrogate,
    Truncate,
)
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.tiny import CPU, hf, hf_logprobs, ids, jsonl, metrics, model_folder, same_weights, weights

LORA = LoRA(rank=2, alpha=4)
CRITICS = {
    "shared": (SharedCritic(), None),
    "mlp": (SharedCritic(head="mlp"), None),
    "separate": (SeparateCritic(), None),
    "separate-mlp": (SeparateCritic(head="mlp"), None),
    "lora-shared": (SharedCritic(), LORA),
    "lora-separate": (SeparateCritic(), LORA),
    "adapter": (AdapterCritic(), LORA),
    "adapter-mlp": (AdapterCritic(head="mlp"), LORA),
}
REPEATING = {"separate-mlp", "adapter-mlp", "lora-shared", "lora-separate"}
"""A head or a critic that others of them have too, combined."""
KINDS = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in REPEATING else []) for kind in CRITICS]
)


def with_critic(folder, kind: str, **options) -> PPOConfig:
    critic, train = CRITICS[kind]
    path = model_folder(folder / "sft", letters="abc", layers=2, spread=0.5)
    model = ModelConfig(path=path) if train is None else ModelConfig(path=path, train=train)
    return config(folder, model=model, critic=critic, **options)


def text(folder, rows=("abcab", "cab", "bbca", "acb")) -> DataConfig:
    return DataConfig(path=jsonl(folder / "text.jsonl", [{"text": row} for row in rows]))


# ---------------------------------------------------------------------------------------------- identities, every form

FORMS = {
    "clip-higher": {"objective": Clip(clip_range_high=0.3, dual_clip=3.0)},
    "surrogate": {"objective": Surrogate(), "trust": FixedTrust()},
    "policy-gradient": {"objective": PolicyGradient()},
    "kl-loss": {"kl": FixedKL(coef=0.1, estimator="full", into="loss")},
    "full-reward": {"kl": FixedKL(coef=0.1, estimator="full"), "entropy_coef": 0.01},
    "sequences": {"aggregation": SequenceMean()},
}


@pytest.mark.parametrize("form", list(FORMS))
def test_the_first_minibatch_has_ratio_one_whatever_the_objective(tmp_path, form):
    sampling = SamplingConfig(max_new_tokens=4, temperature=0.7)
    (line,) = metrics(
        run(tmp_path, config(tmp_path, sampling=sampling, iterations=1, epochs=1, minibatches=1, **FORMS[form]))
    )
    assert line["ppo/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert line["ppo/clip_fraction_over_tokens"] == 0.0
    assert line["ppo/approx_kl_old_over_tokens"] <= 1e-9
    assert abs(line.get("ppo/kl_loss_over_tokens", 0.0)) <= 1e-6
    assert abs(line["ppo/reward_over_responses"] - line["ppo/score_over_responses"]) <= 1e-5  # no KL yet, of any kind


@KINDS
def test_every_critic_starts_at_zero_and_learns(tmp_path, kind):
    """Of a policy that stands still, so that there is something to be learned."""
    steady = OptimConfig(learning_rate=2e-2, schedule="constant")
    still = {"iterations": 5, "critic_warmup": 5, "prompts_per_iteration": 32, "kl": FixedKL(coef=0.0)}
    still |= {"value_coef": 1.0, "value_clip_range": 0.0, "advantage": GAE(gae_lambda=1.0)}
    chosen = with_critic(tmp_path, kind, optim=steady, **still)
    lines = metrics(run(tmp_path, chosen))
    assert lines[0]["ppo/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert (lines[0]["ppo/value_over_tokens"], lines[0]["ppo/explained_variance"]) == (0.0, 0.0)
    assert lines[-1]["ppo/value_over_tokens"] != 0.0
    assert lines[-1]["ppo/explained_variance"] > 0.1


@pytest.mark.parametrize(
    "nothing",
    [
        {"trust": FixedTrust(coef=0.0)},
        {"entropy_coef": 0.0},
        {"shaping": Shaping(unfinished=PenalisedUnfinished(penalty=0.0))},
        {"shaping": Shaping(length=PerToken(price=0.0))},
        {"kl": FixedKL(coef=0.0, estimator="full", into="loss")},
        {"kl": FixedKL(coef=0.0, estimator="k3")},
        {"advantage": GAE(critic_gae_lambda=0.95)},
        {"ptx": 0.0},
    ],
    ids=lambda x: next(iter(x)),
)
def test_a_term_of_weight_nothing_is_no_term(tmp_path, nothing):
    """Bit for bit: metrics and weights. `ptx` reads no file either: there is none."""
    chosen = config(tmp_path, kl=FixedKL(coef=0.0))
    if "ptx" in nothing:
        nothing = {"ptx": Ptx(data=(DataConfig(path="nowhere.jsonl"),), coef=0.0)}
    plain = run(tmp_path, chosen, "plain")
    other = run(tmp_path, replace(chosen, **nothing), "other")
    assert same_weights(plain / "model", other / "model")
    for one, two in zip(metrics(plain), metrics(other), strict=True):
        assert one == {key: two[key] for key in one}


# --------------------------------------------------------------------------------------------------------------- ptx


@kills(
    "training/likelihood.py",
    old="loss = nll_losses(",
    new="loss = -nll_losses(",
    why="the text is unlearned",
)
@kills(
    "training/likelihood.py",
    old="(coef * loss).backward()",
    new="loss.backward()",
    why="the text's weight is read and not used",
)
def test_the_texts_gradient_is_transformers_own(tmp_path):
    """However it is cut: −coef times the mean log-prob of every token but the first, at temperature 1."""
    chosen = config(tmp_path, spread=0.4)
    made = participants.load_causal(chosen.model, participants.load_language(chosen.model), seed=0)
    policy, other = participants.actor_critic(made, SharedCritic(), chosen.model, seed=0).policy, hf(tmp_path / "sft")
    rows = [([0], ids("abcab")), ([0], ids("c")), ([0], ids("bb"))]
    expected = -torch.cat([hf_logprobs(other, *row) for row in rows]).mean()
    (2.5 * expected).backward()
    for budget in (100, 6, 1):
        policy.zero_grad()
        told = ptx.backward(policy, rows, 2.5, budget, CPU)
        assert number(told, "ptx_tokens") == 8
        assert number(told, "ptx_loss") == pytest.approx(8 * expected.item(), rel=1e-5)
        for name, parameter in other.named_parameters():
            assert torch.allclose(policy.get_parameter(f"hf.{name}").grad, parameter.grad, rtol=1e-4, atol=1e-6), name


def test_text_is_learned_beside_the_rollouts(tmp_path):
    """A judge that wants nothing: the policy learns the text, and without it forgets nothing."""
    rows = ("abab", "ababab", "ab", "abababab")
    beside = Ptx(data=(text(tmp_path, rows),), coef=1.0, rows=4)
    chosen = config(tmp_path, "mute", iterations=6, kl=FixedKL(coef=0.0))
    lines = metrics(run(tmp_path, replace(chosen, ptx=beside), "with"))
    assert lines[0]["ppo/ptx_loss_over_tokens"] > 1.1 > 0.7 > lines[-1]["ppo/ptx_loss_over_tokens"]
    prompt, targets = [0], ids("abab")
    with torch.no_grad():
        before, after = (
            hf_logprobs(hf(p), prompt, targets).mean() for p in (tmp_path / "sft", tmp_path / "with/model")
        )
    assert after > before + 0.5


@kills(
    "training/policy/ptx.py",
    old="step * self.per_step, self.per_step, self.seed)",
    new="0, self.per_step, self.seed)",
    why="the same rows of text in every step",
)
def test_both_gradients_make_one_step(tmp_path, monkeypatch):
    """Two optimiser steps an epoch with and without text; the text's rows follow from the step's number."""
    seen = []
    honest = ptx.backward
    monkeypatch.setattr(ptx, "backward", lambda *a: seen.append([tuple(r[1]) for r in a[1]]) or honest(*a))
    chosen = config(tmp_path, iterations=2, ptx=Ptx(data=(text(tmp_path),), coef=0.5, rows=3))
    lines = metrics(run(tmp_path, chosen))
    assert [line["ppo/minibatches"] for line in lines] == [4, 4]
    assert [len(rows) for rows in seen] == [3] * 8
    stream = [row for rows in seen for row in rows]
    starts = range(0, 24, 4)
    assert all(len(set(stream[i : i + 4])) == 4 for i in starts)  # each pass sees every text once


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_length": 99}, "ptx.max_length: 99 exceeds the model's context of 32"), ({"max_length": 1}, "two tokens")],
)
def test_mistakes_in_ptx_are_found_early(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, config(tmp_path, ptx=Ptx(data=(text(tmp_path),), **options)))


def test_a_model_that_can_never_end_an_answer_is_refused(tmp_path):
    chosen = config(tmp_path)
    folder = Path(chosen.model.path)
    for name, key in (
        ("tokenizer_config.json", "eos_token"),
        ("generation_config.json", "eos_token_id"),
        ("config.json", "eos_token_id"),
    ):
        facts = json.loads((folder / name).read_text(encoding="utf-8"))
        facts[key] = None
        (folder / name).write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.path: .* has no token that ends an answer"):
        run(tmp_path, chosen)


# ------------------------------------------------------------------------------------------------------------- brakes

STEEP = OptimConfig(learning_rate=0.05, schedule="constant")


@kills(
    "training/policy/update.py",
    old='ratio(statistics, "approx_kl_old", "tokens") > brakes.max_approx_kl',
    new='ratio(statistics, "approx_kl_old", "tokens") < brakes.max_approx_kl',
    why="the brake holds while all is well",
)
def test_an_iteration_that_leaves_the_trust_region_ends_early(tmp_path):
    free = metrics(run(tmp_path, config(tmp_path, epochs=4, optim=STEEP), "free"))
    held = metrics(run(tmp_path, config(tmp_path, epochs=4, optim=STEEP, brakes=Brakes(max_approx_kl=0.02)), "held"))
    assert [line["ppo/minibatches"] for line in free] == [8, 8]
    assert all(1 <= line["ppo/minibatches"] < 8 for line in held)
    assert all(line["ppo/skipped_updates"] == 0 for line in held)


@kills(
    "training/policy/cursor.py",
    old="return self.iteration * config.steps_per_iteration + self.update",
    new="return self.iteration * config.minibatches + self.update",
    why="the learning rate's step counted otherwise than its total",
)
def test_the_step_of_the_schedule_goes_by_the_iteration_not_by_what_was_taken(tmp_path):
    """Linear from 0.05: the second iteration begins at half of it, however early the first one ended."""
    linear = OptimConfig(learning_rate=0.05)
    chosen = config(tmp_path, epochs=4, optim=linear, brakes=Brakes(max_approx_kl=1e-6), save_every=1)
    first, second = metrics(run(tmp_path, chosen))
    assert (first["ppo/minibatches"], second["ppo/minibatches"]) == (1, 1)
    assert (first["ppo/learning_rate"], second["ppo/learning_rate"]) == (pytest.approx(0.05), pytest.approx(0.025))
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit())[-1] == "000016"


def test_a_minibatch_whose_mean_ratio_is_too_large_is_left_out(tmp_path):
    free = metrics(run(tmp_path, config(tmp_path, epochs=4, optim=STEEP), "free"))
    held = metrics(run(tmp_path, config(tmp_path, epochs=4, optim=STEEP, brakes=Brakes(max_mean_ratio=1.02)), "held"))
    assert held[0]["ppo/minibatches"] < free[0]["ppo/minibatches"] == 8
    assert held[0]["ppo/ratio_max"] > 1.02  # what was left out was seen
    assert same_weights(tmp_path / "free" / "model", tmp_path / "held" / "model") is False


def test_the_gradient_is_really_clipped(tmp_path):
    """SGD-like in one step of Adam's moments: with a limit of 1e-3 the first moment's norm is 1e-4."""
    chosen = config(
        tmp_path,
        iterations=1,
        epochs=1,
        minibatches=1,
        save_every=1,
        optim=OptimConfig(learning_rate=1e-3, max_grad_norm=1e-3, betas=(0.9, 0.999)),
    )
    (line,) = metrics(run(tmp_path, chosen))
    assert line["ppo/grad_norm"] > 0.01
    moments = load_file(tmp_path / "run" / "checkpoints" / "000001" / "optimizer.safetensors")
    norm = math.sqrt(sum(float(m.square().sum()) for name, m in moments.items() if name.endswith("::exp_avg")))
    assert norm == pytest.approx(0.1 * 1e-3, rel=1e-3)


@pytest.mark.parametrize("options", [{"max_approx_kl": -1.0}, {"max_mean_ratio": 0.5}])
def test_impossible_brakes_are_refused(options):
    with pytest.raises(ValueError, match="brakes"):
        Brakes(**options)


# ------------------------------------------------------------------------------------------------ warm-up, controllers


@kills(
    "training/policy/update.py",
    old="if cursor.iteration < config.critic_warmup:",
    new="if cursor.iteration > config.critic_warmup:",
    why="the critic's warm-up moves the policy",
)
@kills(
    "models/policy.py",
    old="own += adapters.critic_parameters(self.policy.hf)",
    new="own += self.policy.hf.parameters()",
    why="the value loss moves a shared trunk in the warm-up",
)
@KINDS
def test_in_the_warm_up_only_the_critic_moves(tmp_path, kind):
    chosen = with_critic(tmp_path, kind, iterations=2, critic_warmup=2, ptx=Ptx(data=(text(tmp_path),)))
    lines = metrics(run(tmp_path, chosen, "warm"))
    assert same_weights(tmp_path / "sft", tmp_path / "warm" / "model")
    assert lines[1]["ppo/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert "ppo/ptx_loss_over_tokens" not in lines[0]
    assert lines[1]["ppo/value_over_tokens"] != 0.0
    longer = metrics(run(tmp_path, replace(chosen, iterations=3), "longer"))
    assert longer[:2] == lines or longer[0]["ppo/score_over_responses"] == lines[0]["ppo/score_over_responses"]
    assert longer[2]["ppo/ratio_max"] > 1.0 and "ppo/ptx_loss_over_tokens" in longer[2]


def test_a_warm_up_without_a_critic_to_train_is_refused(tmp_path):
    with pytest.raises(ValueError, match="critic_warmup trains the critic alone"):
        config(tmp_path, critic_warmup=1, value_coef=0.0)


def test_an_adapter_needs_adapters(tmp_path):
    with pytest.raises(ValueError, match=r"kind adapter needs model\.train: lora"):
        config(tmp_path, critic=AdapterCritic())


def after(chosen: PPOConfig, kl: tuple[float, int], kl_old: float, iteration: int = 0) -> Coefficients:
    return replace(Cursor.start(chosen), iteration=iteration).next(chosen, kl, kl_old).coefficients


@kills(
    "training/policy/cursor.py",
    old="beta = adapted_kl_coef(now.kl, kl[0],",
    new="beta = adapted_kl_coef(now.kl, 2 * target - kl[0],",
    why="the adaptive β goes the wrong way",
)
def test_an_adaptive_price_rises_above_its_target_and_falls_below(tmp_path):
    """β (1 + 0.2 · n/horizon) at the bounds: n = 50 of 100 gives ± 10 %."""
    chosen = config(tmp_path, kl=AdaptiveKL(coef=0.5, target=2.0, horizon=100))
    assert after(chosen, (9.0, 50), 0.0).kl == pytest.approx(0.55)
    assert after(chosen, (0.0, 50), 0.0).kl == pytest.approx(0.45)
    assert after(chosen, (2.2, 50), 0.0).kl == pytest.approx(0.525)
    assert after(replace(chosen, critic_warmup=1), (0.0, 50), 0.0).kl == 0.5
    assert after(replace(chosen, critic_warmup=1), (0.0, 50), 0.0, iteration=1).kl == pytest.approx(0.45)
    assert after(config(tmp_path, kl=FixedKL(coef=0.5)), (9.0, 50), 0.0).kl == 0.5


def test_an_adaptive_trust_region_doubles_and_halves(tmp_path):
    chosen = config(tmp_path, trust=AdaptiveTrust(coef=3.0, target=0.01))
    assert after(chosen, (0.0, 8), 0.016).trust == 6.0
    assert after(chosen, (0.0, 8), 0.006).trust == 1.5
    assert after(chosen, (0.0, 8), 0.012).trust == 3.0
    assert after(replace(chosen, critic_warmup=1), (0.0, 8), 0.0).trust == 3.0
    assert after(config(tmp_path, trust=FixedTrust(coef=3.0)), (0.0, 8), 9.0).trust == 3.0


@kills(
    "training/policy/cursor.py",
    old="horizon=horizon, num_episodes=kl[1])",
    new="horizon=horizon, num_episodes=1)",
    why="n = 1 in the adaptive β: it hardly moves",
)
def test_controllers_move_in_a_run_by_what_it_measures(tmp_path):
    chosen = config(
        tmp_path,
        iterations=4,
        epochs=2,
        optim=STEEP,
        kl=AdaptiveKL(coef=0.2, target=0.05, horizon=40),
        trust=AdaptiveTrust(coef=0.1, target=1e-4),
    )
    lines = metrics(run(tmp_path, chosen))
    assert [line["ppo/trust_kl_coef"] for line in lines] == [0.1, 0.2, 0.4, 0.8]  # far beyond its target each time
    for one, two in pairwise(lines):
        error = min(max(one["ppo/kl_ref_over_responses"] / 0.05 - 1, -0.2), 0.2)
        assert two["ppo/kl_coef"] == pytest.approx(one["ppo/kl_coef"] * (1 + error * 8 / 40), rel=1e-5)
    assert lines[-1]["ppo/kl_coef"] > 0.2


def test_a_large_trust_coefficient_holds_the_policy(tmp_path):
    held, free = (
        metrics(run(tmp_path, config(tmp_path, objective=Surrogate(), trust=trust, epochs=4, optim=STEEP), name))
        for trust, name in ((FixedTrust(coef=100.0), "held"), (None, "free"))
    )
    assert held[0]["ppo/approx_kl_old_over_tokens"] < free[0]["ppo/approx_kl_old_over_tokens"]


def test_an_entropy_bonus_keeps_the_policy_uncertain(tmp_path):
    gentle = {"optim": OptimConfig(learning_rate=1e-2, schedule="constant"), "iterations": 6}
    plain, bonus = (
        metrics(run(tmp_path, config(tmp_path, entropy_coef=c2, kl=FixedKL(coef=0.0), **gentle), f"{c2}"))[-1]
        for c2 in (0.0, 1.0)
    )
    assert bonus["ppo/entropy_over_tokens"] > plain["ppo/entropy_over_tokens"] + 0.05


def test_the_loop_is_short_enough_to_be_read():
    """Six paragraphs, in order."""
    source = Path(loop.__file__).read_text(encoding="utf-8")
    steps = ["# 1. sample", "# 2. score", "# 3. shape", "# 4. estimate", "# 5. update", "# 6. record"]
    places = [source.index(step) for step in steps]
    assert places == sorted(places)
    assert not any(word in source for word in ("cuda", "device", ".to(", "torch"))


def test_a_checkpoint_says_all_that_moves(tmp_path):
    chosen = config(tmp_path, iterations=1, save_every=1)
    run(tmp_path, chosen)
    state = json.loads((tmp_path / "run" / "checkpoints" / "000004" / "state.json").read_text(encoding="utf-8"))
    assert set(state["cursor"]) == {"iteration", "update", "coefficients", "scores_seen", "skipped", "watch"}
    assert set(weights(tmp_path / "run" / "model")) == set(weights(tmp_path / "sft"))


def test_what_the_sampler_got_wrong_gives_no_gradient(tmp_path, monkeypatch):
    """A sampler whose every probability is off by e: with a band around 1 nothing is left to learn from."""
    honest = loop.roll_out
    monkeypatch.setattr(
        loop, "roll_out", lambda *a: (r := honest(*a)) and replace(r, sampler_logprobs=r.sampler_logprobs - 1.0)
    )
    (plain,) = metrics(run(tmp_path, config(tmp_path, iterations=1), "plain"))
    assert plain["ppo/sampler_logprob_gap_max"] == pytest.approx(1.0, abs=1e-5)
    assert plain["ppo/kl_sampler_over_tokens"] == pytest.approx(math.e - 2, rel=1e-4)
    (line,) = metrics(run(tmp_path, config(tmp_path, iterations=1, sampler_mismatch=Exclude(high=1.5)), "masked"))
    assert line["ppo/sampler_corrected_over_tokens"] == 1.0
    assert same_weights(tmp_path / "sft", tmp_path / "masked" / "model")
    (line,) = metrics(run(tmp_path, config(tmp_path, iterations=1, sampler_mismatch=Truncate(cap=2.0)), "truncated"))
    assert line["ppo/sampler_corrected_over_tokens"] == 1.0
    assert not same_weights(tmp_path / "plain" / "model", tmp_path / "truncated" / "model")


@kills(
    "training/policy/update.py",
    old="        participants.optimizer.zero_grad(set_to_none=True)\n",
    new="        pass\n",
    why="the gradient of a minibatch that was left out joins the next one's",
)
def test_what_a_brake_left_out_is_in_no_later_step(tmp_path, monkeypatch):
    """Of two minibatches the first is left out: the second's step must be the one that it takes by itself."""
    base = config(tmp_path, iterations=1, epochs=1, minibatches=2, save_every=1)
    norms = []
    for name, outcomes in (("both", [Outcome.TAKEN] * 2), ("second", [Outcome.RATIO_TOO_LARGE, Outcome.TAKEN])):
        told = iter(outcomes)
        monkeypatch.setattr(update, "_braked", lambda *_, told=told: next(told))
        monkeypatch.setattr(
            optim, "step", lambda o, *a, honest=optim.step, **k: norms.append(_norm(o)) or honest(o, *a, **k)
        )
        run(tmp_path, base, name)
        monkeypatch.undo()
    assert len(norms) == 3
    alone = norms[2]
    assert alone == pytest.approx(_expected_norm(tmp_path, base), rel=1e-5)


def _norm(optimizer) -> float:
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return math.sqrt(sum(float(g.square().sum()) for g in grads))


def _expected_norm(tmp_path, base: PPOConfig) -> float:
    """The second minibatch's gradient of an untouched policy: the same run, asked for it first."""
    norms = []
    with pytest.MonkeyPatch.context() as patch:
        honest = update.minibatch_rows
        patch.setattr(update, "minibatch_rows", lambda n, c, i, u: honest(n, c, i, 1 - u))
        patch.setattr(optim, "step", lambda o, *a, honest=optim.step, **k: norms.append(_norm(o)) or honest(o, *a, **k))
        run(tmp_path, base, "turned")
    return norms[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": PolicyGradient()}, "policy_gradient is right for an iteration's first update only"),
        ({"objective": PolicyGradient(), "epochs": 1, "minibatches": 1}, ""),
        ({"objective": Surrogate()}, "surrogate without `trust`"),
        ({"objective": Surrogate(), "trust": FixedTrust(coef=1.0)}, ""),
    ],
)
def test_an_objective_that_nothing_holds_is_told(tmp_path, capsys, options, said):
    run(tmp_path, config(tmp_path, iterations=1, **options))
    errors = capsys.readouterr().err
    assert said in errors
    assert bool(said) == ("warning: objective" in errors)
