"""A reward model as a judge: flat scores in the order of the groups, through its own template."""

import pytest
import torch

from plaudit.errors import UserError
from plaudit.hardware.machine import Machine
from plaudit.models.load import load_classifier, load_language
from plaudit.models.options import ModelConfig, TinyShape
from plaudit.models.reward import scalar
from plaudit.models.reward.normalisation import Normalisation
from plaudit.records.text import Group, Prompt, PromptRow
from plaudit.scoring.build import (
    RewardModelScorer,
    build_scorer,
    check_rewards,
    reward_model_scorer,
    say_unread_columns,
)
from plaudit.scoring.combine import WeightedMix, part_metrics
from plaudit.scoring.options import FunctionConfig, RewardModelConfig
from plaudit.scoring.protocol import Scorer, check_scores
from plaudit.telemetry.register import measure_of
from tests.kills import kills
from tests.models.tiny import spread_out

TINY = ModelConfig(path="tiny", tiny=TinyShape(hidden_size=16, layers=1, heads=2, vocabulary=280, context=48))
CPU = Machine(torch.device("cpu"), "fp32")
GROUPS = [
    Group(prompt=Prompt.of_text("the cat"), responses=("sat on the mat", "", "sat")),
    Group(prompt=Prompt.of_text("a"), responses=()),
    Group(prompt=Prompt.of_text("the mat and the cat sat on the cat"), responses=("sat",)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("reward")
    model = scalar.load(TINY, load_language(TINY, ["the cat sat on the mat"] * 3), seed=3)
    spread_out(model.reader.trunk.hf)
    model.normalisation = Normalisation(bias=0.5)
    model.save(path, {})
    return str(path)


def test_scores_are_flat_and_in_order_and_the_same_alone(folder):
    scorer = reward_model_scorer(RewardModelConfig(path=folder, name="judge"), CPU)
    assert isinstance(scorer, Scorer)
    together = scorer.score(GROUPS)
    assert check_scores("judge", together, 4) is together
    alone = [
        float(scorer.model.score([Group(prompt=group.prompt, responses=(text,))], 99).scores)
        for group in GROUPS
        for text in group.responses
    ]
    assert together.scores.tolist() == pytest.approx(alone, abs=1e-5)
    assert len({round(x, 3) for x in alone}) == 4
    assert together.valid.tolist() == [True] * 4
    assert together.parts.keys() == {"judge"}
    assert torch.equal(together.parts["judge"], together.scores)
    backwards = scorer.score(GROUPS[::-1]).scores.tolist()
    assert backwards == pytest.approx([alone[3], *alone[:3]], abs=1e-5)


@pytest.mark.parametrize("budget", [1, 30])
def test_the_budget_changes_nothing(folder, budget):
    scorer = reward_model_scorer(RewardModelConfig(path=folder), CPU)
    small = RewardModelScorer(scorer.model, CPU, budget=budget)
    assert small.score(GROUPS).scores.tolist() == pytest.approx(scorer.score(GROUPS).scores.tolist(), abs=1e-5)


def test_no_groups(folder):
    assert reward_model_scorer(RewardModelConfig(path=folder), CPU).score([]).scores.shape == (0,)


def test_a_judge_is_not_trained_and_keeps_its_bias(folder):
    scorer = reward_model_scorer(RewardModelConfig(path=folder), CPU)
    assert not any(p.requires_grad for p in scorer.model.parameters())
    assert scorer.model.normalisation.bias == 0.5
    assert not scorer.score(GROUPS).scores.requires_grad


def test_ids_that_the_policy_wrote_are_not_read(folder):
    """The judge has a tokenizer of its own; the policy's ids mean nothing to it."""
    scorer = reward_model_scorer(RewardModelConfig(path=folder), CPU)
    with_ids = [Group(prompt=GROUPS[0].prompt, responses=("sat",), response_ids=((9999, 3),))]
    assert scorer.score(with_ids).scores.tolist() == pytest.approx([float(scorer.score(GROUPS).scores[2])], abs=1e-5)


def test_bf16_scores_are_near_and_still_fp32(folder):
    scorer = reward_model_scorer(RewardModelConfig(path=folder), CPU)
    half = RewardModelScorer(scorer.model, Machine(torch.device("cpu"), "bf16")).score(GROUPS)
    assert half.scores.dtype == torch.float32
    assert half.scores.tolist() == pytest.approx(scorer.score(GROUPS).scores.tolist(), abs=0.1)


# ---------------------------------------------------------------------------------------------------- configuration


def test_one_judge_of_weight_one_stands_alone_and_others_are_mixed(folder):
    model, variety = RewardModelConfig(path=folder), FunctionConfig(function="distinct_n", weight=-3.0)
    single = build_scorer([model], CPU)
    assert isinstance(single, RewardModelScorer)
    mixed = build_scorer([RewardModelConfig(path=folder, weight=2.0), variety], CPU)
    assert isinstance(mixed, WeightedMix)
    distinct = build_scorer([FunctionConfig(function="distinct_n")], CPU).score(GROUPS).scores
    expected = 2.0 * single.score(GROUPS).scores - 3.0 * distinct
    assert mixed.score(GROUPS).scores.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    halved = build_scorer([RewardModelConfig(path=folder, weight=0.5)], CPU)
    assert halved.score(GROUPS).scores.tolist() == pytest.approx((0.5 * single.score(GROUPS).scores).tolist())


def test_what_is_wrong_is_said_before_a_model_loads(folder, tmp_path):
    check_rewards([RewardModelConfig(path=folder)], [])
    with pytest.raises(UserError, match=r"rewards\.1\.path: no folder './nowhere'"):
        check_rewards([RewardModelConfig(path=folder), RewardModelConfig(path="./nowhere")], [])
    with pytest.raises(UserError, match=r"judge\.0\.path: .*no config\.json"):
        check_rewards([RewardModelConfig(path=str(tmp_path))], [], option="judge")
    rows = [PromptRow(prompt=Prompt.of_text("x"), where="p.jsonl:3")]
    with pytest.raises(UserError, match=r"p\.jsonl:3: .*solution"):
        check_rewards([FunctionConfig(function="edit_similarity")], rows)


def test_a_classifier_of_two_classes_scores_by_its_log_odds(folder, tmp_path):
    """Whoever trained it: two labels without plaudit.json are reject and accept."""
    config = ModelConfig(path=folder)
    language = load_language(config)
    hf = spread_out(load_classifier(TINY, language, seed=0, num_labels=2).hf)
    hf.save_pretrained(tmp_path)
    language.tokenizer.save_pretrained(tmp_path)
    prompt, response = language.renderer.prompt_ids(GROUPS[2].prompt), language.renderer.response_ids("sat", end=True)
    with torch.no_grad():
        reject, accept = hf(input_ids=torch.tensor([[*prompt, *response]])).logits[0].tolist()
    scored = reward_model_scorer(RewardModelConfig(path=str(tmp_path)), CPU).score(GROUPS[2:]).scores.tolist()
    assert scored == pytest.approx([accept - reject], abs=1e-5)
    assert abs(accept - reject) > 0.1


def test_a_language_model_is_no_judge(tmp_path):
    """Its reward head would be random: refused before anything is scored."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from plaudit.errors import UserError
    from plaudit.scoring.build import check_rewards
    from plaudit.scoring.options import RewardModelConfig

    shape = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "sft")
    with pytest.raises(UserError, match=r"rewards\.0\.path.*is no reward model"):
        check_rewards((RewardModelConfig(path=str(tmp_path / "sft")),), [])


@kills(
    "scoring/options.py",
    old="trust_remote_code=self.trust_remote_code)\n\n\n@",
    new="trust_remote_code=False)\n\n\n@",
    why="trust that is accepted and ignored",
)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_judge_is_trusted_where_the_option_says_so(trusted):
    found = RewardModelConfig(path="me/judge", trust_remote_code=trusted).model
    assert (found.path, found.trust_remote_code) == ("me/judge", trusted)


def test_columns_that_no_judge_takes_are_told(caplog):
    columns = {"solution": "4", "topic": "sums", "level": None}
    rows = [PromptRow(prompt=Prompt.of_text("2 + 2?"), columns=columns)]
    caplog.set_level("INFO")
    for judges in ([], [FunctionConfig(function="numeric_match")], [FunctionConfig(function="repetition")]):
        say_unread_columns(judges, rows)
    assert caplog.messages == ["columns that nothing reads: topic", "columns that nothing reads: solution, topic"]


# ------------------------------------------------------------------------------------- what it can't read, or can't say


def test_answers_that_its_context_cuts_are_counted_and_said_once(folder, capsys):
    """Room for 48 tokens, a letter or so each: of the four answers two don't fit."""
    scorer = reward_model_scorer(RewardModelConfig(path=folder, name="judge"), CPU)
    long = "zx " * 30
    groups = [
        Group(prompt=Prompt.of_text("the cat"), responses=("sat", long)),
        Group(prompt=Prompt.of_text("a" + long), responses=("a",)),
        GROUPS[2],
    ]
    for _ in range(2):
        scorer.score(groups)
    notices = [line for line in capsys.readouterr().err.splitlines() if "room for 48 tokens" in line]
    assert len(notices) == 1
    assert "2 of 4 answers were judged by a part" in notices[0]
    mix = WeightedMix(parts=((scorer, 1.0),))
    assert part_metrics(mix) == {"part_cut/judge_over_responses": 0.5}
    scorer.score(GROUPS)
    assert part_metrics(mix) == {"part_cut/judge_over_responses": 0.0}
    assert measure_of("ppo/part_cut/judge_over_responses").better == "down"


def test_a_score_that_is_no_number_names_model_answer_and_prompt(folder):
    scorer = reward_model_scorer(RewardModelConfig(path=folder, name="judge"), CPU)
    with torch.no_grad():
        scorer.model.reader.trunk.score_head.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"'judge': row 0 .*'the cat'.*'sat on the mat'.*score is nan \(4 of 4"):
        scorer.score(GROUPS)
