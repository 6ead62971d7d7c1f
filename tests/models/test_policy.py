"""Policy and critic: zero at first, one forward where they share a trunk, no gradient across where they don't."""

import pytest
import torch
from torch import nn

from plaudit.models.adapters import LastLayers, LoRA
from plaudit.models.load import (
    Language,
    ModelConfig,
    TinyShape,
    load_causal,
    load_classifier,
    load_language,
)
from plaudit.models.policy import ActorCritic, SeparateCritic, SharedCritic, actor_critic, value_head
from plaudit.models.trunk import Trunk
from plaudit.runs.errors import UserError
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
