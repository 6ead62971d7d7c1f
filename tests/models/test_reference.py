"""The reference stays what the policy was, and costs no second copy where adapters can be switched off."""

import hashlib

import pytest
import torch
from torch import nn

from plaudit.models.adapters import apply
from plaudit.models.load import checkpoint_activations
from plaudit.models.options import Full, LastLayers, LoRA
from plaudit.models.policy import Reference
from plaudit.models.trunk import Trunk
from tests.models.tiny import build, packed

RULES = pytest.mark.parametrize("train", [Full(), LastLayers(layers=1), LoRA(rank=2)], ids=lambda rule: rule.kind)


def digest(module: nn.Module, *, without: str = "lora_") -> str:
    state = [x.numpy().tobytes() for name, x in sorted(module.state_dict().items()) if without not in name]
    return hashlib.sha256(b"".join(state)).hexdigest()


def step(policy: Trunk) -> None:
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # LoRA's A moves in the second step
        policy(packed(), {"logprobs"})["logprobs"].sum().neg().backward()
        optimizer.step()
        optimizer.zero_grad()


@RULES
@pytest.mark.parametrize("name", ["llama gqa", "gpt2", "gemma2"])
def test_it_is_the_policy_at_first_and_stays_so(name, train):
    policy = Trunk(apply(build(name), train, seed=1))
    reference = Reference(policy)
    first = reference.logprobs(packed(), 0.7)
    assert torch.equal(first, policy(packed(), {"logprobs"}, 0.7)["logprobs"])
    before = digest(reference.trunk)
    step(policy)
    assert digest(reference.trunk) == before
    assert torch.equal(reference.logprobs(packed(), 0.7), first)
    assert (policy(packed(), {"logprobs"}, 0.7)["logprobs"] - first).abs().max() > 1e-3


@RULES
def test_it_has_no_gradient(train):
    policy = Trunk(apply(build("llama"), train, seed=1))
    trained = {name for name, p in policy.named_parameters() if p.requires_grad}
    reference = Reference(policy)
    assert not reference.logprobs(packed(), 1.0).requires_grad
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == trained
    if not reference.shares_base:
        assert not any(p.requires_grad for p in reference.trunk.parameters())
        shared = {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in reference.trunk.parameters()}
        assert not shared


def test_with_lora_it_is_the_base_without_a_copy():
    base = Trunk(build("llama"))
    policy = Trunk(apply(build("llama"), LoRA(rank=2), seed=1))
    reference = Reference(policy)
    assert reference.shares_base
    assert reference.trunk is policy
    step(policy)
    alone = base(packed(), {"logprobs"}, 0.7)["logprobs"]
    torch.testing.assert_close(reference.logprobs(packed(), 0.7), alone, atol=1e-6, rtol=1e-6)
    adapted = policy(packed(), {"logprobs"}, 0.7)["logprobs"]
    assert (adapted - alone).abs().max() > 1e-3


def test_the_temperature_is_heard():
    reference = Reference(Trunk(build("llama")))
    assert not torch.allclose(reference.logprobs(packed(), 0.7), reference.logprobs(packed(), 1.0), atol=1e-2)


@pytest.mark.parametrize("train", [Full(), LoRA(rank=2)], ids=lambda rule: rule.kind)
def test_it_goes_with_checkpointed_activations(train):
    hf = apply(build("llama"), train, seed=1)
    checkpoint_activations(hf.get_base_model() if train.kind == "lora" else hf)
    plain = Trunk(build("llama"))
    reference = Reference(Trunk(hf))
    torch.testing.assert_close(reference.logprobs(packed(), 1.0), plain(packed(), {"logprobs"})["logprobs"])
