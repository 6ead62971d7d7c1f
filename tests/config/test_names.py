"""What a name that is no option may have meant."""

import pytest

from plaudit.config.explain import describe
from plaudit.config.load import load_config
from plaudit.config.names import _ELSEWHERE, meant
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.stages import STAGES
from tests.kills import kills


@kills(
    "config/names.py",
    old="    if one := _of_a_group(plain, names):\n",
    new="    if one := False:\n",
    why="an option of a group, written without it, is not found",
)
@pytest.mark.parametrize(
    ("stage", "key", "option"),
    [
        ("ppo", "learning_rate", "optim.learning_rate"),
        ("ppo", "clip_range", "objective.clip_range"),
        ("ppo", "lr", "optim.learning_rate"),
        ("ppo", "beta", "kl.coef"),
        ("ppo", "kl_coef", "kl.coef"),
        ("ppo", "cliprange", "objective.clip_range"),
        ("ppo", "temprature", "sampling.temperature"),
        ("ppo", "num-generations", "samples_per_prompt"),
        ("ppo", "iteratons", "iterations"),
        ("ppo", "promts", "prompts"),
        ("ppo", "reward_model", "rewards"),
        ("ppo", "held_out_fractoin", ""),
        ("ppo", "s", ""),
        ("sft", "per_device_train_batch_size", "minibatch_size"),
        ("sft", "eval_dataset", "held_out"),
        ("sft", "output_dir", "--out on the command line"),
        ("sft", "lora_r", "model.train.rank"),
        ("sft", "top_p", ""),
        ("sft", "train_dataset", "data"),
        ("ppo", "train_dataset", "prompts"),
        ("reward", "max_seq_length", "max_length"),
    ],
)
def test_the_option_that_was_meant_is_named_with_its_group(stage: str, key: str, option: str) -> None:
    assert meant(key, STAGES[stage].config_class) == option


@kills(
    "config/build.py",
    old="    if why := missing_here(key):\n",
    new='    if why := "":\n',
    why="`stop` is offered for top_p",
)
def test_what_is_not_here_is_said_to_be_so() -> None:
    with pytest.raises(UserError, match=r"--sampling\.top_p: unknown key: there is no such option; answers are drawn"):
        plain = {"prompts": "a", "rewards": [{"kind": "function", "function": "script"}], "model": "b"}
        load_config(STAGES["ppo"].config_class, plain, ["--sampling.top_p", "0.9"])
    with pytest.raises(UserError, match="from the whole distribution"):
        load_config(SamplingConfig, {"top-k": 3})


def test_all_names_of_other_tools_lead_to_options_that_there_are() -> None:
    options = [option for stage in STAGES.values() for option in describe(stage.config_class)]
    known = {option.name.removesuffix(".kind") for option in options}
    ours = [name for name in _ELSEWHERE if not name.startswith("--")]
    assert [name for name in ours if not any(f".{one}".endswith(f".{name}") for one in known)] == []
