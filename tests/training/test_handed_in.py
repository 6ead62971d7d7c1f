"""What is handed in to fine-tuning, a reward model or the collection of answers trains as what the config names."""

from dataclasses import replace

import pytest

from plaudit.data.options import DataConfig
from plaudit.data.sources import load
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.hardware.randomness import derive_seed
from plaudit.models.load import load_causal, load_language
from plaudit.models.options import LoRA, ModelConfig
from plaudit.models.reward import scalar
from plaudit.records.text import Comparison, Kind, Prompt, PromptRow, Ranking
from plaudit.runs.folder import Run
from plaudit.scoring.build import build_scorer
from plaudit.scoring.options import FunctionConfig
from plaudit.training import collect as answers
from plaudit.training import sft
from plaudit.training.options import CollectConfig
from plaudit.training.reward import loop
from plaudit.training.reward.options import Pair, Standardise
from plaudit.training.reward.participants import participants as reward_participants
from tests.faults import stages
from tests.training.tiny import CPU, jsonl, metrics, model_folder, same_weights

NOWHERE = ModelConfig(path="tiny")


def loaded(path: str):
    plain = ModelConfig(path=path)
    return load_causal(plain, load_language(plain), seed=0)


@pytest.mark.parametrize("rule", [None, LoRA(rank=2)], ids=["full", "lora"])
def test_fine_tuning(tmp_path, rule):
    named = stages.sft(tmp_path)
    named = named if rule is None else replace(named, model=replace(named.model, train=rule))
    stages.train("sft", named, tmp_path / "named")
    (rows,) = [load(source, Kind.DEMONSTRATION).rows for source in named.data]
    bare = replace(named, data=(), model=replace(named.model, path="tiny"))
    with Run.create(tmp_path / "given", "sft", bare) as run:
        policy = loaded(named.model.path)
        sft.optimise(sft.participants(bare, run, policy=policy, rows=rows), bare, run)
    assert metrics(tmp_path / "given") == metrics(tmp_path / "named")
    assert same_weights(tmp_path / "given" / "model", tmp_path / "named" / "model")


def test_a_policy_that_has_adapters_is_refused(tmp_path):
    config = stages.sft(tmp_path)
    adapted = replace(config.model, train=LoRA(rank=2))
    policy = load_causal(adapted, load_language(adapted), seed=0)
    with Run.create(tmp_path / "run", "sft", config) as run, pytest.raises(UserError, match="holds adapters already"):
        sft.participants(config, run, policy=policy)


def test_a_reward_model(tmp_path):
    named = stages.reward(tmp_path)
    stages.train("reward", named, tmp_path / "named")
    (rows,) = [load(source, Kind.RANKING).rows for source in named.data]
    (reference,) = [load(source, Kind.DEMONSTRATION).rows for source in named.reference]
    bare = replace(named, data=(), reference=(), model=NOWHERE)
    with Run.create(tmp_path / "given", "reward", bare) as run:
        model = scalar.load(named.model, load_language(named.model), seed=derive_seed(named.seed, "init"))
        loop.optimise(reward_participants(bare, run, model=model, rows=rows, reference=reference), bare, run)
    assert metrics(tmp_path / "given") == metrics(tmp_path / "named")
    assert same_weights(tmp_path / "given" / "model", tmp_path / "named" / "model")


def test_handed_in_rows_are_converted_as_a_files_are_and_checked(tmp_path):
    """A comparison is a ranking of two; prompts are no labels."""
    config = replace(stages.reward(tmp_path), data=(), reference=(), held_out_fraction=0.0)
    compared = [Comparison(prompt=Prompt.of_text(word), chosen="a", rejected="b") for word in "cde"]
    with Run.create(tmp_path / "run", "reward", config) as run:
        made = reward_participants(config, run, rows=compared, held_out=compared)
        assert [type(row) for row in (*made.rows, *made.held_out)] == [Ranking] * 6
        for rows, message in (
            ([PromptRow(prompt=Prompt.of_text("c"))], "data holds prompt rows; they can't become ranking rows"),
            ([], "data: give rows of one kind, at least one"),
            ([*compared, *made.rows], "these are Comparison, Ranking"),
            (None, "data: name at least one file"),
        ):
            with pytest.raises(UserError, match=message):
                reward_participants(config, run, rows=rows)
        with pytest.raises(UserError, match="normalise: needs `reference`"):
            reward_participants(replace(config, normalise=Standardise()), run, rows=compared)
        with pytest.raises(UserError, match="`objective: pair` trains a PairRewardModel"):
            reward_participants(replace(config, objective=Pair()), run, rows=compared, model=made.model)


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
    (prompts,) = [load(source, Kind.PROMPT).rows for source in named.prompts]
    bare = replace(named, prompts=(), labeller=(), model=NOWHERE)
    with Run.create(tmp_path / "given", "collect", bare) as run:
        with pytest.raises(UserError, match="prompts and labeller must each name"):
            answers.participants(bare, run, prompts=prompts)
        labeller = build_scorer(named.labeller, CPU)
        made = answers.participants(bare, run, policy=loaded(named.model.path), prompts=prompts, labeller=labeller)
        answers.gather(made, bare, run)
    one, other = ((tmp_path / name / answers.RANKINGS).read_text(encoding="utf-8") for name in ("named", "given"))
    assert one == other != ""
