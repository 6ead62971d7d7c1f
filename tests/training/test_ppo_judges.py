"""Judges that PPO reads in ways of their own: a head on its trunk (N3.13), values by token (N3.8)."""

import json

import pytest
import torch
from safetensors.torch import load_file

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.models.options import LoRA, ModelConfig, SeparateCritic
from plaudit.models.reward import shared_trunk, token_level
from plaudit.models.reward.normalisation import Normalisation
from plaudit.models.trunk import Trunk
from plaudit.records.tensors import Scores
from plaudit.records.text import Prompt
from plaudit.runs.folder import Run
from plaudit.scoring.combine import WeightedMix, judges_elsewhere
from plaudit.scoring.functions import function_scorer
from plaudit.scoring.options import FunctionConfig, RewardModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy import scored
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.loop import ppo
from plaudit.training.policy.options import FixedKL, Shaping, TrunkReward
from plaudit.training.policy.participants import Silent, with_trunk
from tests.kills import kills
from tests.training.tiny import hf, jsonl, language, metrics, model_folder, rollouts, same_weights

PROMPTS = [{"prompt": p} for p in ("ab", "cd", "efg", "h")]


@pytest.fixture
def judge(tmp_path) -> str:
    """A language model with a reward head, and a normalisation."""
    folder = model_folder(tmp_path / "base", spread=0.4)
    model = shared_trunk.new(ModelConfig(path=folder), language(folder), seed=2)
    model.normalisation = Normalisation(bias=0.25, gain=2.0)
    model.save(tmp_path / "judge", {})
    return str(tmp_path / "judge")


def run(tmp_path, rewards, model: ModelConfig, *, name="run", **options):
    config = PPOConfig(
        **{
            "prompts": (DataConfig(path=jsonl(tmp_path / "prompts.jsonl", PROMPTS)),),
            "rewards": rewards,
            "model": model,
            "kl": FixedKL(coef=0.1),
            "sampling": SamplingConfig(max_new_tokens=4),
            "optim": OptimConfig(learning_rate=1e-2, eps=1e-5),
            "iterations": 2,
            "prompts_per_iteration": 4,
            "epochs": 2,
            "minibatches": 2,
            **options,
        }
    )
    with Run.create(tmp_path / name, "ppo", config) as opened:
        ppo(config, opened)
    return tmp_path / name


def by_hand(folder: str, prompt: str, ids: list[int]) -> float:
    """2 (head(last hidden state) − 0.25) of one row, by transformers alone."""
    prompt_ids = language(folder).renderer.prompt_ids(Prompt.of_text(prompt))
    head = load_file(f"{folder}/{shared_trunk.HEAD}")
    with torch.no_grad():
        hidden = hf(folder).model(input_ids=torch.tensor([[*prompt_ids, *ids]])).last_hidden_state[0, -1]
    return 2.0 * (float(head["weight"][0] @ hidden + head["bias"][0]) - 0.25)


@pytest.mark.parametrize("on", ["reference", "policy"])
@pytest.mark.parametrize("kind", ["full", "lora", "separate"])
def test_a_head_on_a_trunk_scores_what_it_reads_there(tmp_path, judge, on, kind):
    """In the first iteration both trunks are the judge's own; later the reference's still is."""
    model = ModelConfig(path=judge, train=LoRA(rank=2) if kind == "lora" else ModelConfig().train)
    more = {"critic": SeparateCritic()} if kind == "separate" else {}
    done = run(tmp_path, (TrunkReward(on=on),), model, **more)
    iterations = (1, 2) if on == "reference" else (1,)
    for iteration in iterations:
        for row in rollouts(done, iteration):
            expected = by_hand(judge, row["prompt"], row["tokens"]["id"])
            assert row["score"] == pytest.approx(expected, abs=1e-3)
            assert row["parts"]["trunk"] == pytest.approx(expected, abs=1e-3)
    if on == "policy" and kind != "lora":
        moved = rollouts(done, 2)[0]
        stale = by_hand(judge, moved["prompt"], moved["tokens"]["id"])
        assert abs(moved["score"] - stale) > 1e-4


def test_no_pass_is_run_for_the_head(tmp_path, judge, monkeypatch):
    """One forward of policy and critic, one of the reference: as many as without it."""
    counted = []
    forward = Trunk.forward

    def counting(self, batch, want, *rest):
        if not torch.is_grad_enabled():
            counted.append(sorted(want))
        return forward(self, batch, want, *rest)

    monkeypatch.setattr(Trunk, "forward", counting)
    options = {"iterations": 1, "epochs": 1}
    run(tmp_path, (FunctionConfig(function="distinct_n"),), ModelConfig(path=judge), name="rule", **options)
    without = len(counted)
    counted.clear()
    run(tmp_path, (TrunkReward(on="policy"),), ModelConfig(path=judge), name="head", **options)
    assert len(counted) == without
    assert ["entropy", "logprobs", "scores", "values"] in counted


def test_it_is_mixed_with_other_judges(tmp_path, judge):
    rewards = (FunctionConfig(function="distinct_n", weight=3.0), TrunkReward(weight=0.5))
    done = run(tmp_path, rewards, ModelConfig(path=judge))
    for row in rollouts(done, 1):
        assert row["score"] == pytest.approx(3.0 * row["parts"]["distinct_n"] + 0.5 * row["parts"]["trunk"], abs=1e-3)
    assert "ppo/part/trunk_over_responses" in metrics(done)[0]


def test_the_head_may_come_from_another_folder(tmp_path, judge):
    """Of the same trunk: head and normalisation are that folder's, the policy starts as `model.path` says."""
    done = run(tmp_path, (TrunkReward(path=judge),), ModelConfig(path=str(tmp_path / "base")))
    for row in rollouts(done, 1):
        assert row["score"] == pytest.approx(by_hand(judge, row["prompt"], row["tokens"]["id"]), abs=1e-3)


@kills(
    "training/policy/participants.py",
    old="scores.scores + reward.weight * own, 0.0)",
    new="scores.scores + own, 0.0)",
    why="the weight of a head on the trunk forgotten",
)
def test_a_row_on_which_the_others_abstained_stays_out(judge):
    told = Scores(scores=torch.tensor([1.0, 0.0]), valid=torch.tensor([True, False]), parts={})
    mixed = with_trunk(told, torch.tensor([1.25, 3.25]), TrunkReward(path=judge, weight=0.5), ModelConfig())
    assert mixed.scores.tolist() == [2.0, 0.0]
    assert mixed.valid.tolist() == [True, False]
    assert mixed.parts["trunk"].tolist() == [2.0, 6.0]


def test_a_model_without_a_head_is_refused(tmp_path):
    plain = model_folder(tmp_path / "plain")
    with pytest.raises(UserError, match="has no reward head on its trunk"):
        run(tmp_path, (TrunkReward(),), ModelConfig(path=plain))
    with pytest.raises(ValueError, match="at most one"):
        run(tmp_path, (TrunkReward(), TrunkReward()), ModelConfig(path=plain), name="two")


@kills(
    "training/policy/participants.py",
    old="(*tokens[:-1], tokens[-1] + share) if tokens else ()",
    new="tokens",
    why="a head on the trunk counts in the score and not in the rewards by token",
)
@pytest.mark.parametrize("beside", [(), (TrunkReward(weight=3.0),)], ids=["alone", "head"])
def test_a_judge_of_tokens_pays_where_it_is_earned(tmp_path, judge, beside):
    """Rewards by token sum to the score less β KL, and are not all at the end; a head on the trunk is paid there."""
    model = token_level.load(ModelConfig(path=str(tmp_path / "base")), language(judge), seed=3)
    model.save(tmp_path / "by_token", {})
    done = run(
        tmp_path,
        (RewardModelConfig(path=str(tmp_path / "by_token")), *beside),
        ModelConfig(path=judge),
        shaping=Shaping(credit="token"),
    )
    spread = 0
    for row in rollouts(done, 1):
        assert sum(row["tokens"]["reward"]) == pytest.approx(row["score"] - 0.1 * row["kl"], abs=1e-3)
        spread += sum(abs(earned) > 1e-6 for earned in row["tokens"]["score"][:-1])
    assert spread > 4
    assert json.loads((done / "summary.json").read_text(encoding="utf-8"))


# -------------------------------------------------------------------------------------------- judges that are elsewhere


WAITING = """
import time
from pathlib import Path

DONE = Path(__file__).with_name("models_have_read")


def letters(completions, **columns):
    end = time.monotonic() + 60.0
    while not DONE.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return [float(text.count("a")) if DONE.exists() else None for text in completions]
"""


@kills(
    "training/policy/scored.py",
    old="if judges_elsewhere(scorer):",
    new="if not judges_elsewhere(scorer):",
    why="models that wait for a judge in a process of its own",
)
def test_a_judge_in_a_process_of_its_own_judges_while_the_models_read(tmp_path, judge, monkeypatch):
    (tmp_path / "waiting.py").write_text(WAITING, encoding="utf-8")
    asked = scored.ask_models

    def read(*arguments):
        outputs = asked(*arguments)
        (tmp_path / "models_have_read").touch()
        return outputs

    monkeypatch.setattr(scored, "ask_models", read)
    function = FunctionConfig(function=f"{tmp_path / 'waiting.py'}:letters")
    options = {"iterations": 2, "epochs": 1}
    beside = run(tmp_path, (function,), ModelConfig(path=judge), name="beside", **options)
    monkeypatch.setattr(scored, "judges_elsewhere", lambda scorer: False)
    after = run(tmp_path, (function,), ModelConfig(path=judge), name="after", **options)
    assert metrics(beside) == metrics(after)
    assert metrics(beside)[0]["ppo/abstained_over_responses"] == 0.0
    assert same_weights(beside / "model", after / "model")


def test_who_judges_elsewhere():
    rule = function_scorer(FunctionConfig(function="distinct_n"))
    own = function_scorer(FunctionConfig(function="tests.training.test_ppo_judges:beside_models", isolate=False))
    assert judges_elsewhere(rule)
    assert judges_elsewhere(WeightedMix(parts=((rule, 1.0), (rule, 0.5))))
    assert not judges_elsewhere(own)
    assert not judges_elsewhere(WeightedMix(parts=((rule, 1.0), (own, 0.5))))
    assert not judges_elsewhere(Silent())


def beside_models(completions, **columns):
    return [0.0] * len(completions)
