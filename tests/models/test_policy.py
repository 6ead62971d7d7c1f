"""Policy and critic: zero at first, one forward where they share a trunk, no gradient across where they don't."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from plaudit.errors import UserError
from plaudit.models import adapters
from plaudit.models.load import Language, load_causal, load_classifier, load_language
from plaudit.models.options import (
    AdapterCritic,
    Full,
    LastLayers,
    LoRA,
    ModelConfig,
    SeparateCritic,
    SharedCritic,
    TinyShape,
)
from plaudit.models.policy import ActorCritic, Reference, actor_critic, value_head
from plaudit.models.trunk import Trunk
from tests.kills import kills
from tests.models.tiny import CONFIGS, build, causal, gradients, linear, packed

TINY = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=2, heads=4, vocabulary=280, context=64))


@pytest.fixture(scope="module")
def language() -> Language:
    return load_language(TINY, ["the cat sat on the mat"] * 3)


@pytest.fixture(scope="module")
def policy_config(language, tmp_path_factory) -> ModelConfig:
    folder = tmp_path_factory.mktemp("policy")
    config = CONFIGS["llama"]()
    config.vocab_size = len(language.tokenizer)
    causal(config, seed=3).save_pretrained(folder)
    language.tokenizer.save_pretrained(folder)
    return ModelConfig(path=str(folder))


def actor(config: ModelConfig, language: Language, critic) -> ActorCritic:
    return actor_critic(load_causal(config, language, seed=1), critic, config, seed=2)


@pytest.mark.parametrize("critic", [SharedCritic(), SeparateCritic()])
@pytest.mark.parametrize("name", ["tiny", "folder"])
def test_values_are_zero_before_training(name, critic, language, policy_config):
    both = actor(TINY if name == "tiny" else policy_config, language, critic)
    out = both(packed(), {"logprobs", "values"}, 0.7)
    assert not out["values"].any()
    assert out["values"].shape == out["logprobs"].shape
    assert out["values"].requires_grad


def test_a_value_head_draws_nothing():
    before = torch.get_rng_state()
    head = value_head(CONFIGS["llama"]())
    assert torch.equal(torch.get_rng_state(), before)
    assert head.weight.shape == (1, 16)
    assert not head.weight.any()
    assert not head.bias.any()


def test_a_shared_critic_costs_one_pass():
    hf = build("llama")
    both = ActorCritic(Trunk(hf, value_head=linear(16)), None)
    passes = []
    hf.model.layers[0].register_forward_pre_hook(lambda *_: passes.append(1))
    out = both(packed(), {"logprobs", "values"})
    assert len(passes) == 1
    out["values"].sum().backward()
    assert "policy.hf.model.layers.0.mlp.up_proj.weight" in gradients(both)


def test_nothing_of_the_value_loss_reaches_a_policy_with_a_separate_critic(language, policy_config):
    both = actor(policy_config, language, SeparateCritic())
    nn.init.ones_(both.critic.value_head.weight)  # zero weights let no gradient through
    out = both(packed(), {"logprobs", "values"}, 0.7)
    out["values"].square().sum().backward()
    found = gradients(both)
    assert found and all(name.startswith("critic.") for name in found)
    # Every parameter that the optimiser gets has a gradient: no output matrix idles among them.
    assert found.keys() == {n for n, p in both.critic.named_parameters(prefix="critic") if p.requires_grad}
    assert not any("lm_head" in name for name in found)
    both.zero_grad()
    both(packed(), {"logprobs"}, 0.7)["logprobs"].sum().backward()
    assert all(name.startswith("policy.") for name in gradients(both))


def test_the_temperature_is_the_policys(language, policy_config):
    both = actor(policy_config, language, SeparateCritic())
    own = both.policy(packed(), {"logprobs", "entropy"}, 0.7)
    out = both(packed(), {"logprobs", "entropy", "values"}, 0.7)
    assert torch.equal(out["logprobs"], own["logprobs"])
    assert torch.equal(out["entropy"], own["entropy"])
    assert set(both(packed(), {"values"})) == {"values"}


@pytest.mark.parametrize("name", ["tiny", "folder"])
def test_a_separate_critic_starts_as_the_policys_blocks(name, language, policy_config):
    config = TINY if name == "tiny" else policy_config
    both = actor_critic(load_causal(config, language, seed=2), SeparateCritic(), config, seed=2)
    policy, critic = both.policy.hf.model.state_dict(), both.critic.hf.state_dict()
    assert critic.keys() == policy.keys()
    assert all(torch.equal(x, policy[n]) and x.data_ptr() != policy[n].data_ptr() for n, x in critic.items())


@pytest.mark.parametrize(
    ("rule", "trained"),
    [(LastLayers(layers=1), "layers.1."), (LoRA(rank=2), "lora_")],
    ids=["last layers", "lora"],
)
def test_a_separate_critic_trains_the_part_that_the_policy_trains(rule, trained, language, policy_config):
    both = actor(ModelConfig(path=policy_config.path, train=rule), language, SeparateCritic())
    names = {n for n, p in both.critic.named_parameters() if p.requires_grad} - {
        "value_head.weight",
        "value_head.bias",
        "hf.norm.weight",
    }
    assert names
    assert all(trained in name for name in names)


def test_a_critic_from_a_reward_model_has_its_blocks(language, policy_config, tmp_path):
    reward = load_classifier(policy_config, language, seed=5).hf
    with torch.no_grad():
        reward.model.layers[0].mlp.up_proj.weight.add_(1.0)
    reward.save_pretrained(tmp_path)
    language.tokenizer.save_pretrained(tmp_path)
    both = actor(policy_config, language, SeparateCritic(init=str(tmp_path)))
    critic = both.critic.hf.state_dict()
    assert all(torch.equal(x, critic[name]) for name, x in reward.model.state_dict().items())
    assert not both(packed(), {"values"})["values"].any()


def test_a_critic_of_another_tokenizer_is_refused(language, policy_config, tmp_path):
    load_classifier(policy_config, language, seed=5).hf.save_pretrained(tmp_path)
    load_language(TINY, ["quite other words"] * 3).tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"critic.init: .* has another tokenizer than the policy"):
        actor(policy_config, language, SeparateCritic(init=str(tmp_path)))


def lora(config: ModelConfig) -> ModelConfig:
    return replace(config, train=LoRA(rank=2, alpha=4))


@kills(
    "models/adapters.py",
    old="    with _same_trained(hf_model), hf_model.disable_adapter():",
    new="    with hf_model.disable_adapter():",
    why="after the reference was asked, one of two adapters is trained no more",
)
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_an_adapter_critic_is_trained_beside_the_policy(language, policy_config, head):
    """One base, two adapters: each loss reaches its own adapter, whatever was asked in between."""
    both = actor(lora(policy_config), language, AdapterCritic(head=head))
    reference = Reference(both.policy)
    before = both(packed(), {"logprobs", "values"}, 0.7)
    assert not before["values"].any()
    nn.init.ones_(next(p for p in reversed(list(both.critic.value_head.parameters())) if p.ndim == 2))
    reference.logprobs(packed(), 0.7)
    both(packed(), {"values"})["values"].square().sum().backward()
    critics = gradients(both)
    assert critics and all("critic" in name for name in critics)
    assert any("lora_B.critic" in name for name in critics)
    both.zero_grad()
    reference.logprobs(packed(), 0.7)
    both(packed(), {"logprobs", "values"}, 0.7)["logprobs"].sum().backward()
    policies = {name for name, grad in gradients(both).items() if grad.abs().max() > 0}
    assert policies and all("lora_B.default" in name for name in policies)  # A's gradient is 0 while B is
    trained = {name for name, p in both.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 2)[-2] for name in trained if "lora" in name} == {"default", "critic"}


@kills(
    "models/adapters.py",
    old="        for layer in layers:\n            layer.set_adapter(CRITIC)\n",
    new="        for layer in layers:\n            layer.set_adapter(POLICY)\n",
    why="the critic answers through the policy's adapter",
)
def test_an_adapter_critic_leaves_policy_and_reference_alone(language, policy_config):
    both = actor(lora(policy_config), language, AdapterCritic())
    reference = Reference(both.policy)
    said, ref = both(packed(), {"logprobs"})["logprobs"], reference.logprobs(packed(), 1.0)
    with torch.no_grad():
        for parameter in adapters.critic_parameters(both.policy.hf):
            parameter.add_(0.3)
        nn.init.ones_(both.critic.value_head.weight)
    moved = both(packed(), {"logprobs", "values"})
    assert torch.equal(moved["logprobs"], said)
    assert torch.equal(reference.logprobs(packed(), 1.0), ref)
    assert moved["values"].abs().max() > 0
    with torch.no_grad():
        policys = both.policy.hidden(packed())
        with adapters.critic_on(both.policy.hf):
            critics = both.policy.hidden(packed())
    assert not torch.allclose(policys, critics)
    merged = adapters.merge(both.policy.hf)
    assert torch.allclose(Trunk(merged)(packed(), {"logprobs"})["logprobs"], said, atol=1e-5)
    assert not any("lora" in name or "critic" in name for name, _ in merged.named_parameters())


def test_an_adapter_critics_activations_are_recomputed_by_its_own_adapter(language, policy_config):
    """Activation checkpointing runs the blocks again in the backward pass, when the policy's adapter is on."""
    found = []
    for checkpointing in (False, True):
        config = replace(lora(policy_config), activation_checkpointing=checkpointing)
        both = actor(config, language, AdapterCritic())
        nn.init.ones_(both.critic.value_head.weight)
        with torch.no_grad():
            for i, parameter in enumerate(adapters.critic_parameters(both.policy.hf)):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.3)
        out = both(packed(), {"logprobs", "values"}, 0.7)
        (out["logprobs"].sum() + out["values"].square().sum()).backward()
        found.append(gradients(both))
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_an_adapter_critic_needs_adapters(language, policy_config):
    with pytest.raises(UserError, match=r"kind adapter needs `model\.train: lora`"):
        actor(policy_config, language, AdapterCritic())
    with pytest.raises(TypeError, match="LoRA"):
        adapters.add_critic(build("llama"), seed=0)


@pytest.mark.parametrize(
    ("critic", "train", "own"),
    [
        (SharedCritic(), Full(), ("policy.value_head",)),
        (SharedCritic(head="mlp"), LoRA(rank=2), ("policy.value_head",)),
        (SeparateCritic(), Full(), ("critic.",)),
        (AdapterCritic(), LoRA(rank=2), ("critic.value_head", "critic")),
    ],
)
def test_what_is_the_policys(language, policy_config, critic, train, own):
    both = actor(replace(policy_config, train=train), language, critic)
    policys = {id(p) for p in both.policy_parameters()}
    for name, parameter in both.named_parameters():
        is_critics = name.startswith(own[0]) or (len(own) > 1 and own[1] in name)
        assert (id(parameter) in policys) == (parameter.requires_grad and not is_critics), name


@kills(
    "models/trunk.py",
    old="kl.full(logits, other.logits(other_h), temperature)",
    new="kl.full(other.logits(other_h), logits, temperature)",
    why="the exact KL of the other direction",
)
@pytest.mark.parametrize("budget", [2**25, 300])
@pytest.mark.parametrize("train", [Full(), LoRA(rank=2, alpha=4)])
def test_the_full_kl_is_that_of_the_two_distributions(language, policy_config, monkeypatch, train, budget):
    """Against torch's own KL of the whole next-token distributions; the same in chunks, its gradient too."""
    monkeypatch.setattr("plaudit.models.trunk.LOGIT_BUDGET", budget)
    both = actor(replace(policy_config, train=train), language, SharedCritic())
    reference = Reference(both.policy)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in both.policy_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    batch = packed()
    found = both(batch, {"kl_full", "logprobs"}, 0.7, reference.distribution(batch))["kl_full"]
    with torch.no_grad():
        theirs = reference.distribution(batch)
        ref_logits = theirs.logits(theirs.hidden)
    own = torch.distributions.Categorical(logits=both.policy.logits(both.policy.hidden(batch)) / 0.7)
    expected = torch.distributions.kl_divergence(own, torch.distributions.Categorical(logits=ref_logits / 0.7))
    for i, j in batch.response_mask.nonzero().tolist():
        assert found[i, j].item() == pytest.approx(expected[batch.predict_index[i, j]].item(), rel=1e-3, abs=1e-6)
    assert found[batch.response_mask].min() > 0
    assert not found[~batch.response_mask].any()
    found.sum().backward()
    mine = gradients(both)
    both.zero_grad()
    expected[batch.predict_index[batch.response_mask]].sum().backward()
    theirs = gradients(both)
    assert all(torch.allclose(mine[name], theirs[name], rtol=1e-3, atol=1e-5) for name in theirs)


def test_the_full_kl_needs_another_policy(language, policy_config):
    both = actor(policy_config, language, SharedCritic())
    with pytest.raises(ValueError, match="`kl_full` and `other` go together"):
        both(packed(), {"kl_full"})
