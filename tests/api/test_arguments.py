"""Arguments of a call become the config that a file would give."""

from pathlib import Path
from typing import Any

import pytest

from plaudit.api.arguments import bind
from plaudit.config.explain import dump_yaml
from plaudit.config.load import load_config
from plaudit.config.objects import behind
from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.errors import UserError
from plaudit.records.text import Kind
from plaudit.training.options import SFTConfig
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.options import AdaptiveKL, FixedKL


def good(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [1.0 for _ in completions]


def ppo(**arguments: Any) -> PPOConfig:
    given = {"prompts": ["a", "b"], "rewards": good, "model": {"path": "runs/sft/model"}, **arguments}
    return bind(PPOConfig, given).config


@pytest.mark.parametrize("given", [{"kl_coef": 0.1}, {"kl": {"coef": 0.1}}, {"kl": FixedKL(coef=0.1)}])
def test_an_option_in_an_option_is_named_in_three_ways(given: dict[str, Any]) -> None:
    assert ppo(**given).kl == FixedKL(coef=0.1)


def test_names_lead_as_deep_as_they_must() -> None:
    config = ppo(
        iterations=3, sampling_max_new_tokens=7, kl="adaptive", kl_target=4.0, model_train_rank=2, model_train="lora"
    )
    assert (config.iterations, config.sampling.max_new_tokens, config.model.train.rank) == (3, 7, 2)  # type: ignore[union-attr]
    assert isinstance(config.kl, AdaptiveKL) and config.kl.target == 4.0
    assert config.model.path == "runs/sft/model"
    assert ppo(advantage_whitening=None).advantage.whitening is None  # type: ignore[union-attr]


def test_what_is_not_given_is_the_commands_default() -> None:
    plain = {"prompts": ["p.jsonl"], "rewards": [{"kind": "model", "path": "r"}], "model": {"path": "m"}}
    assert bind(PPOConfig, plain).config == load_config(PPOConfig, plain)


def test_unknown_names_are_told_together_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"kl_coeff: no such option; did you mean kl_coef\?\niteration: .* iterations"):
        ppo(kl_coeff=1, iteration=1)
    for name, option in {
        "lr": "optim_learning_rate",
        "beta": "kl_coef",
        "dataset": "prompts",
        "output_dir": "out",
    }.items():
        with pytest.raises(UserError, match=rf"{name}: no such option; did you mean {option}\?"):
            ppo(**{name: 1})
    with pytest.raises(UserError, match="expected whole number, got 'many'"):
        ppo(iterations="many")
    with pytest.raises(UserError, match="kl_coef: given twice"):
        ppo(kl={"coef": 1.0}, kl_coef=1.0)


def rows(config: Any) -> list[str]:
    loaded = [load(one, Kind.PROMPT) for one in config.prompts]
    return [row.prompt.text for one in loaded for row in one.rows]


class Dataset:
    """Iterates over mappings, as `datasets.Dataset` does."""

    def __iter__(self) -> Any:
        return iter([{"prompt": "a"}, {"prompt": "b"}])


@pytest.mark.parametrize(
    "given",
    [
        ["a", "b"],
        [{"prompt": "a"}, {"prompt": "b"}],
        Dataset(),
        {"path": ["a", "b"]},
        [{"path": [{"question": "a"}], "columns": {"question": "prompt"}}, {"path": ["b"], "limit": 1}],
    ],
)
def test_rows_stand_where_a_file_may(given: Any) -> None:
    assert rows(ppo(prompts=given)) == ["a", "b"]


def test_files_stay_files(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    for given in (str(file), file, [file], [str(file)], {"path": file}, DataConfig(path=str(file))):
        config = ppo(prompts=given)
        assert config.prompts[0].path == str(file) and rows(config) == ["a", "b"]


def test_texts_of_training_data_are_plain_text() -> None:
    config = bind(SFTConfig, {"data": ["once upon a time"]}).config
    (row,) = load(config.data[0], Kind.DEMONSTRATION, Kind.TEXT).rows
    assert row.text == "once upon a time"  # type: ignore[union-attr]


def test_bad_rows_are_named_by_number() -> None:
    with pytest.raises(UserError, match=r"prompts> row 1.* is a number, not a mapping"):
        rows(ppo(prompts=[{"prompt": "a"}, 3]))
    with pytest.raises(UserError, match=r"prompts> row 0.*JSON"):
        rows(ppo(prompts=[{"prompt": object()}]))
    with pytest.raises(UserError, match="prompts: there are no rows"):
        ppo(prompts=[])
    with pytest.raises(UserError, match="prompts: give a file, a list of rows"):
        ppo(prompts=3)


def test_fingerprints_follow_the_rows() -> None:
    prints = [
        load(ppo(prompts=given).prompts[0], Kind.PROMPT).fingerprint for given in (["a"], [{"prompt": "a"}], ["b"])
    ]
    assert prints[0] == prints[1] != prints[2]


def test_judges_of_all_sorts() -> None:
    config = ppo(
        rewards=[good, (good, -0.5), "runs/reward/model", "repetition", "my.py:f", {"function": good, "weight": 2}]
    )
    assert [reward.kind for reward in config.rewards] == ["function"] * 2 + ["model"] + ["function"] * 3
    assert [reward.weight for reward in config.rewards] == [1.0, -0.5, 1.0, 1.0, 1.0, 2.0]  # type: ignore[union-attr]
    mine = [config.rewards[index] for index in (0, 1, 5)]
    assert all(behind(one.function) is good and one.name == "good" and not one.is_isolated for one in mine)  # type: ignore[union-attr]
    assert ppo(rewards=lambda completions: [0.0]).rewards[0].name == "function"  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"rewards\.0: float is no judge"):
        ppo(rewards=3.5)


def test_a_recorded_config_can_be_read_but_not_replayed(tmp_path: Path) -> None:
    bound = bind(PPOConfig, {"prompts": ["a"], "rewards": [good], "model": {"path": "m"}})
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(bound.recorded))
    text = file.read_text()
    assert "path: <python object prompts>" in text and "function: <python object rewards.0 good>" in text
    with pytest.raises(UserError) as told:
        load_config(PPOConfig, file)
    first, second = [line for line in str(told.value).splitlines() if "python object" in line]
    assert "prompts.0.path: <python object prompts> lived in the Python session" in first
    assert f"{file}:" in second and "rewards.0.function" in second


def test_a_function_may_judge_by_token() -> None:
    (judge,) = ppo(rewards=[{"function": good, "by_token": True}]).rewards
    assert judge.by_token and behind(judge.function) is good  # type: ignore[union-attr]
