"""Reward functions that judge by token: lists for lists, never broadcast; PPO pays each token its own (N3.14)."""

from dataclasses import dataclass

import pytest
import torch

from plaudit.errors import UserError
from plaudit.records.tensors import Scores
from plaudit.records.text import Group, Prompt
from plaudit.scoring.combine import WeightedMix
from plaudit.scoring.functions import FunctionScorer, function_scorer
from plaudit.scoring.options import FunctionConfig
from tests.kills import kills
from tests.training.tiny import jsonl, model_folder, rollouts

GROUPS = [
    Group(prompt=Prompt.of_text("p"), responses=("ab", "c"), response_ids=((3, 4, 1), (5,))),
    Group(prompt=Prompt.of_text("q"), responses=("",), response_ids=((1,),)),
]
FILE = """
def letters(completions, completion_ids, **columns):
    return [[0.5 * token for token in ids] for ids in completion_ids]

def moody(completions, completion_ids, **columns):
    if any(text == "c" for text in completions):
        raise ValueError("no c here")
    return [[1.0] * len(ids) for ids in completion_ids]
"""


def scorer(function, **options) -> FunctionScorer:
    return FunctionScorer(function=function, name="mine", by_token=True, **options)


@pytest.fixture
def file(tmp_path) -> str:
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    return str(tmp_path / "mine.py")


@pytest.mark.parametrize("isolate", [False, True])
def test_the_score_is_the_sum_and_each_token_keeps_its_number(file, isolate):
    said = function_scorer(FunctionConfig(function=f"{file}:letters", by_token=True, isolate=isolate)).score(GROUPS)
    assert said.token_scores == ((1.5, 2.0, 0.5), (2.5,), (0.5,))
    assert said.scores.tolist() == [4.0, 2.5, 0.5]
    assert said.valid.all()


def test_an_abstained_row_has_no_numbers_and_a_failed_one_its_value_at_the_end(file):
    none = scorer(lambda completion_ids, **_: [[1.0] * 3, None, (2.0,)]).score(GROUPS)
    assert none.valid.tolist() == [True, False, True]
    assert none.token_scores == ((1.0, 1.0, 1.0), (0.0,), (2.0,))
    config = FunctionConfig(function=f"{file}:moody", by_token=True, on_error="value", error_value=-4.0)
    said = function_scorer(config).score(GROUPS)
    assert said.token_scores == ((1.0, 1.0, 1.0), (-4.0,), (1.0,))
    assert said.scores.tolist() == [3.0, -4.0, 1.0]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([[1.0, 1.0], [1.0], [1.0]], r"row 0 .*returned 2 numbers for 3 tokens"),
        ([1.0, 2.0, 3.0], "row 0 .*returned 1.0 where a list by token belongs"),
        ([[1.0] * 3, [1.0]], "it returned 2"),
        (torch.zeros(3, 3), r"not an array of shape \(3, 3\)"),
        ([[1.0, "a", 1.0], [1.0], [1.0]], "row 0 .*where a number belongs"),
        ([[1.0, float("nan"), 1.0], [1.0], [1.0]], "row 0 .*nan"),
    ],
)
def test_whatever_does_not_fit_is_refused_by_row(returned, message):
    with pytest.raises(UserError, match=message):
        scorer(lambda completion_ids, **_: returned).score(GROUPS)


def test_lists_are_refused_where_nobody_asked_for_them():
    with pytest.raises(UserError, match=r"row 0 .*returned list \[1\.0, 1\.0, 1\.0\] where a number belongs"):
        FunctionScorer(function=lambda completions: [[1.0] * 3, [1.0], [1.0]], name="mine").score(GROUPS)
    with pytest.raises(UserError, match="none of those built in judges by token"):
        FunctionConfig(function="repetition", by_token=True)


def test_texts_without_tokens_are_refused():
    texts = [Group(prompt=Prompt.of_text("p"), responses=("ab",))]
    with pytest.raises(UserError, match="without `completion_ids`"):
        scorer(lambda completions, **_: [[1.0]]).score(texts)


def test_ppo_pays_each_token_what_it_earned(tmp_path, file):
    from plaudit.data.options import DataConfig
    from plaudit.engines.options import SamplingConfig
    from plaudit.models.options import ModelConfig
    from plaudit.runs.folder import Run
    from plaudit.training.policy.config import PPOConfig
    from plaudit.training.policy.loop import ppo
    from plaudit.training.policy.options import FixedKL, Shaping

    config = PPOConfig(
        prompts=(DataConfig(path=jsonl(tmp_path / "prompts.jsonl", [{"prompt": p} for p in "abcd"])),),
        rewards=(FunctionConfig(function=f"{file}:letters", by_token=True),),
        model=ModelConfig(path=model_folder(tmp_path / "m", spread=0.4)),
        kl=FixedKL(coef=0.0),
        sampling=SamplingConfig(max_new_tokens=4),
        shaping=Shaping(credit="token"),
        iterations=1,
        prompts_per_iteration=4,
        minibatches=1,
    )
    with Run.create(tmp_path / "run", "ppo", config) as run:
        ppo(config, run)
    for row in rollouts(tmp_path / "run", 1):
        assert row["tokens"]["reward"] == pytest.approx([0.5 * token for token in row["tokens"]["id"]], abs=1e-4)


def test_a_mix_keeps_what_was_said_by_token_and_pays_the_rest_at_the_end():
    tokens = scorer(lambda completion_ids, **_: [[1.0, 2.0, 3.0], None, [5.0]])
    whole = FunctionScorer(function=lambda completions: [10.0, 20.0, None], name="whole")
    said = WeightedMix(parts=((tokens, 2.0), (whole, -1.0))).score(GROUPS)
    assert said.token_scores == ((2.0, 4.0, 6.0 - 10.0), (-20.0,), (10.0,))
    assert said.scores.tolist() == [2.0, -20.0, 10.0]
    assert WeightedMix(parts=((whole, 1.0), (tokens, 0.0))).score(GROUPS).token_scores == ()


@kills(
    "scoring/combine.py",
    old="if not (valid[i] and result.valid[i] and row):",
    new="if not row:",
    why="who abstains pays the last token all the same",
)
def test_what_stands_where_a_judge_abstained_is_paid_to_no_token():
    """A judge of one's own may leave any number there."""

    @dataclass
    class Abstains:
        name: str = "abstains"

        def score(self, groups):
            return Scores(scores=torch.tensor([7.0, 1.0, 7.0]), valid=torch.tensor([False, True, False]), parts={})

    tokens = scorer(lambda completion_ids, **_: [[1.0, 2.0, 3.0], [4.0], [5.0]])
    said = WeightedMix(parts=((tokens, 1.0), (Abstains(), 1.0))).score(GROUPS)
    assert said.token_scores == ((1.0, 2.0, 3.0), (5.0,), (5.0,))
    assert said.scores.tolist() == [6.0, 5.0, 5.0]
