"""What decoding knows is not computed again, and a reference that is the policy still is not asked."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from plaudit.engines.options import SamplingConfig
from plaudit.engines.torch_engine import TorchEngine
from plaudit.models.options import LoRA, ModelConfig, SeparateCritic, SharedCritic
from plaudit.models.policy import Reference
from plaudit.models.trunk import Trunk
from plaudit.training.policy.options import FixedKL
from plaudit.training.policy.scored import ask_models
from tests.kills import kills
from tests.training.scripted import config, run
from tests.training.test_invariance import actor_of
from tests.training.test_ppo_described import written
from tests.training.tiny import CPU, metrics, model_folder

CRITICS = {"shared": SharedCritic(), "separate": SeparateCritic()}


@pytest.fixture
def passes(monkeypatch) -> list[tuple[frozenset[str], int]]:
    """What every pass of a trunk was asked for, and on how many rows."""
    made: list[tuple[frozenset[str], int]] = []
    forward = Trunk.forward

    def counted(self, batch, want, *more):
        if not torch.is_grad_enabled():
            made.append((frozenset(want), batch.num_rows))
        return forward(self, batch, want, *more)

    monkeypatch.setattr(Trunk, "forward", counted)
    monkeypatch.setattr(TorchEngine, "_agrees", lambda self, kind: kind is not None)
    monkeypatch.setattr("plaudit.training.policy.loop.drift", lambda *_: 0.0)
    return made


@kills("training/policy/scored.py", old="gap <= limits", new="gap >= limits", why="numbers that disagree are taken")
@pytest.mark.parametrize("critic", CRITICS)
def test_the_policys_pass_falls_away_where_the_engine_agrees(tmp_path, passes, critic):
    chosen = config(tmp_path, critic=CRITICS[critic], iterations=2)
    auto = metrics(run(tmp_path, chosen, "auto"))
    made = list(passes)
    passes.clear()
    always = metrics(run(tmp_path, replace(chosen, scoring_pass="always"), "always"))
    for mine, its in zip(auto, always, strict=True):
        assert mine["ppo/sampler_logprob_gap_max"] <= 1e-5
        for name in mine.keys() - {"time"} - {key for key in mine if "seconds" in key or "sampler" in key}:
            assert mine[name] == pytest.approx(its[name], abs=2e-4), name
    values = {"values"} if critic == "shared" else set()
    probe = (frozenset({"logprobs", "entropy", *values}), 4)
    own_critic = [(frozenset({"values"}), 8)] if critic == "separate" else []
    reference = [(frozenset({"logprobs"}), 8)]
    assert made == [probe, *own_critic, probe, *own_critic, *reference]
    whole = [(probe[0], 8), *own_critic]
    assert passes == [*whole, *whole, *reference]  # in the first iteration the reference is the policy


def test_the_exact_kl_needs_the_policys_own_pass(tmp_path, passes):
    run(tmp_path, config(tmp_path, kl=FixedKL(estimator="full"), iterations=1))
    assert [rows for want, rows in passes if "kl_full" in want] == [8]


@kills(
    "models/policy.py",
    old="if self.shares_base:\n            return",
    new="if True:\n            return",
    why="never asked",
)
@kills("models/adapters.py", old="layer.lora_B[POLICY].get", new="layer.lora_A[POLICY].get", why="asked for nothing")
@pytest.mark.parametrize("train", ["full", "lora"])
@torch.no_grad()
def test_the_reference_is_the_policy_until_a_parameter_moves(tmp_path, passes, train):
    model = ModelConfig(path=model_folder(tmp_path / "m"), **({"train": LoRA(rank=2)} if train == "lora" else {}))
    chosen = config(tmp_path, model=model)
    actor = actor_of(chosen)
    reference = Reference(actor.policy)
    who = SimpleNamespace(actor=actor, reference=reference, machine=CPU)
    assert reference.is_policy(actor.policy)
    said = ask_models(who, written(), chosen)
    assert torch.equal(said.ref_logprobs, said.old_logprobs)
    assert len(passes) == 1
    passes.clear()
    moved = [p for name, p in actor.policy.hf.named_parameters() if p.requires_grad and "lora_A" not in name][-1]
    moved.view(-1)[0] += 0.5
    assert not reference.is_policy(actor.policy)
    said = ask_models(who, written(), chosen)
    assert not torch.equal(said.ref_logprobs, said.old_logprobs)
    assert len(passes) == 2


@kills("models/policy.py", old="if not self.is_start:", new="if False:", why="another reference is not asked")
@kills(
    "training/policy/scored.py",
    old="reference.look(batch, wants, temperature)",
    new="reference.look(batch, wants, 1.0)",
    why="the reference without the temperature: a KL before the first step",
)
@torch.no_grad()
def test_another_reference_is_always_asked_and_at_the_sampling_temperature(tmp_path, passes):
    model = ModelConfig(path=model_folder(tmp_path / "m", spread=0.5))
    chosen = config(tmp_path, model=model, sampling=SamplingConfig(max_new_tokens=4, temperature=0.7))
    actor = actor_of(chosen)
    twin = Reference(actor.policy, actor_of(chosen).policy.hf)
    assert not twin.is_policy(actor.policy)
    said = ask_models(SimpleNamespace(actor=actor, reference=twin, machine=CPU), written(), chosen)
    assert len(passes) == 2
    torch.testing.assert_close(said.ref_logprobs, said.old_logprobs)
