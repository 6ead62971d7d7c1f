"""A policy that is handed in to fine-tuning or to the collection of answers does what the one in its folder does."""

from dataclasses import replace

import pytest

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import LoRA, ModelConfig
from plaudit.runs.folder import Run
from plaudit.scoring.options import FunctionConfig
from plaudit.training import collect as answers
from plaudit.training import sft
from plaudit.training.options import CollectConfig
from tests.faults import stages
from tests.training.tiny import jsonl, metrics, model_folder, same_weights


def loaded(path: str):
    plain = ModelConfig(path=path)
    return load_causal(plain, load_language(plain), seed=0)


@pytest.mark.parametrize("rule", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_fine_tuning(tmp_path, rule):
    named = stages.sft(tmp_path)
    named = named if rule is None else replace(named, model=replace(named.model, train=rule))
    stages.train("sft", named, tmp_path / "named")
    bare = replace(named, model=replace(named.model, path="nowhere"))
    with Run.create(tmp_path / "given", "sft", bare) as run:
        sft.optimise(sft.participants(bare, run, policy=loaded(named.model.path)), bare, run)
    assert metrics(tmp_path / "given") == metrics(tmp_path / "named")
    assert same_weights(tmp_path / "given" / "model", tmp_path / "named" / "model")


def test_a_resumed_run_refuses_another_frozen_part(tmp_path):
    config = stages.sft(tmp_path)
    config = replace(config, model=replace(config.model, train=LoRA(rank=2)))
    with Run.create(tmp_path / "run", "sft", config) as run:
        sft.optimise(sft.participants(config, run, policy=loaded(config.model.path)), config, run)
    other = loaded(config.model.path)
    other.hf.get_input_embeddings().weight.data.mul_(2.0)
    with Run.open(tmp_path / "run") as run, pytest.raises(UserError, match="policy: changed since"):
        sft.participants(config, run, policy=other)


def test_a_policy_that_has_adapters_is_refused(tmp_path):
    config = stages.sft(tmp_path)
    adapted = replace(config.model, train=LoRA(rank=2))
    policy = load_causal(adapted, load_language(adapted), seed=0)
    with Run.create(tmp_path / "run", "sft", config) as run, pytest.raises(UserError, match="holds adapters already"):
        sft.participants(config, run, policy=policy)


def test_answers(tmp_path):
    (tmp_path / "judge.py").write_text(
        "def letters(completions, **columns):\n    return [float(text.count('a')) for text in completions]\n",
        encoding="utf-8",
    )
    named = CollectConfig(
        prompts=(DataConfig(path=jsonl(tmp_path / "prompts.jsonl", [{"prompt": word} for word in stages.WORDS[:6]])),),
        model=ModelConfig(path=model_folder(tmp_path / "m", spread=0.3)),
        labeller=(FunctionConfig(function=f"{tmp_path / 'judge.py'}:letters"),),
        sampling=SamplingConfig(max_new_tokens=3),
        samples=3,
    )
    with Run.create(tmp_path / "named", "collect", named) as run:
        answers.collect(named, run)
    bare = replace(named, model=ModelConfig(path="nowhere"))
    with Run.create(tmp_path / "given", "collect", bare) as run:
        answers.gather(answers.participants(bare, run, policy=loaded(named.model.path)), bare, run)
    one, other = ((tmp_path / name / answers.RANKINGS).read_text(encoding="utf-8") for name in ("named", "given"))
    assert one == other != ""
