"""What an iteration says of three responses whose numbers are written down; the second one's judge abstained."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from plaudit.engines.options import SamplingConfig
from plaudit.formulas.statistics import RunningMoments
from plaudit.models.options import ModelConfig
from plaudit.models.policy import Reference
from plaudit.records.tensors import Rollout
from plaudit.records.text import FinishReason, Prompt, PromptRow
from plaudit.tokens.batches import pad_left, pad_right
from plaudit.training.policy.estimation import agreement, estimate
from plaudit.training.policy.metrics import describe, repetition, results
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.options import GAE, AdaptiveTrust, FixedKL
from plaudit.training.policy.scored import ask_models
from plaudit.training.policy.shaping import shape
from tests.kills import kills
from tests.training.scripted import config
from tests.training.test_invariance import ANSWERS, PROMPTS, ROWS, actor_of
from tests.training.test_ppo import scored_of, scripted
from tests.training.tiny import CPU, model_folder


@kills(
    "training/policy/metrics.py",
    old="for f in rollout.finish_reasons) / len(valid)",
    new="for f in rollout.finish_reasons) / n",
    why="more answers end than there are",
)
@kills(
    "training/policy/metrics.py",
    old="masked_mean(values, mask)",
    new="masked_mean(values, torch.ones_like(mask))",
    why="values of rows that left",
)
@kills(
    "training/policy/metrics.py",
    old="(valid_scores - kl_coef * kl[valid]).sum() / n",
    new="(valid_scores - config.kl.coef * kl[valid]).sum() / n",
    why="the objective by a price that is no longer paid",
)
@kills(
    "training/policy/metrics.py",
    old="float(gap.max())",
    new="float(gap.mean())",
    why="a mean under the name of a maximum",
)
def test_an_iterations_metrics_by_hand(tmp_path):
    """2, 3 and 4 tokens; scores 2, (−1), 9; KLs ½ − 1, (½), 4 · 1; the β that was paid is ½, not the config's 0.1.

    Rewards −¼, ½ + 2 | −½, −½, −½, −½ + 9; with γ = λ = 1 the returns are 2¼, 2½ | 7, 7½, 8, 8½.
    """
    rollout, scores = scripted((True, False, True))
    sampler = torch.tensor([[-1.0, -1.0, 0.0, 0.0], [-1.0, -1.0, 2.0, 0.0], [-1.0, -1.0, -1.0, -1.0]])
    scored = scored_of(
        replace(rollout, sampler_logprobs=sampler), replace(scores, parts={"part": torch.tensor([1.0, math.nan, 3.0])})
    )
    chosen = config(tmp_path, kl=FixedKL(coef=0.1), advantage=GAE(gae_lambda=1.0), trust=AdaptiveTrust())
    shaped, _ = shape(scored, chosen, kl_coef=0.5, scores_seen=RunningMoments())
    agreed = agreement(scored, chosen)
    experience = estimate(scored, shaped, agreed, chosen)
    told = describe(scored, experience, agreed, chosen, Coefficients(kl=0.5, trust=0.25))
    explained = told.pop("explained_variance")
    assert explained == pytest.approx(1 - (3.218750 / 6) / (39.802083 / 6), rel=1e-5)
    assert told == {
        "score_over_responses": 5.5,
        "score_std_over_responses": 3.5,
        "objective_over_responses": pytest.approx((2 + 0.25 + 9 - 2) / 2),
        "kl_ref_over_responses": pytest.approx((-0.5 + 4) / 2),
        "reward_over_responses": pytest.approx((2 + 0.25 + 9 - 2) / 2),
        "length_over_responses": 3.0,  # of all that were written
        "eos_over_responses": pytest.approx(2 / 3),
        "abstained_over_responses": pytest.approx(1 / 3),
        "repetition_over_responses": 0.0,
        "entropy_over_tokens": pytest.approx(-10 / 9),  # scripted; of all nine
        "value_over_tokens": pytest.approx((1 + 0.5 + 5 + 5 + 5 + 5) / 6),
        "return_over_tokens": pytest.approx((2.25 + 2.5 + 7 + 7.5 + 8 + 8.5) / 6),
        "kl_coef": 0.5,
        "trust_kl_coef": 0.25,
        "sampler_logprob_gap_max": 3.0,  # of all nine
        "kl_sampler_over_tokens": pytest.approx((math.exp(-1) - 1 + 1) / 6),  # of one of the six: ρ − 1 − log ρ
        "part/part_over_responses": 2.0,
    }


def written() -> Rollout:
    prompt_ids, prompt_mask = pad_left(PROMPTS)
    response_ids, response_mask = pad_right(ANSWERS)
    return Rollout(
        rows=(PromptRow(prompt=Prompt.of_text("a")),) * 8,
        responses=("",) * 8,
        finish_reasons=(FinishReason.EOS,) * 8,
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        response_ids=response_ids,
        response_mask=response_mask,
        sampler_logprobs=torch.zeros(response_ids.shape),
    )


@kills(
    "training/policy/scored.py",
    old="ref_kl = ESTIMATORS[sampled](",
    new='ref_kl = ESTIMATORS["k1"](',
    why="the estimator of the KL in the reward is read and not used",
)
@kills(
    "training/policy/scored.py",
    old='ref_kl = policy["kl_full"]',
    new='ref_kl = policy["logprobs"] - ref["logprobs"]',
    why="the exact KL is computed and thrown away",
)
@torch.no_grad()
@pytest.mark.parametrize(
    ("estimator", "into", "told"),
    [*((name, "reward", name) for name in ("k1", "abs", "k2", "k3", "full")), ("full", "loss", "k1")],
)
def test_a_token_says_of_the_kl_what_its_estimator_is(tmp_path, estimator, into, told):
    """Policy and reference apart, asked of transformers alone, at the sampling temperature. `full` in the loss is no
    part of the rewards, which are then told of the sampled token."""
    chosen = config(
        tmp_path,
        model=ModelConfig(path=model_folder(tmp_path / "m", spread=0.4)),
        sampling=SamplingConfig(max_new_tokens=4, temperature=0.7),
        kl=FixedKL(coef=0.1, estimator=estimator, into=into),
        microbatch_tokens=20,
    )
    actor = actor_of(chosen)
    reference = Reference(actor.policy)
    generator = torch.Generator().manual_seed(0)
    for parameter in actor.policy.hf.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    said = ask_models(SimpleNamespace(actor=actor, reference=reference, machine=CPU), written(), chosen)
    largest = 0.0
    for i, (prompt, answer) in enumerate(ROWS):
        ids, n = torch.tensor([[*prompt, *answer]]), len(answer)
        own, other = (
            (model.hf(input_ids=ids).logits[0, len(prompt) - 1 : -1] / 0.7).log_softmax(-1)
            for model in (actor.policy, reference.trunk)
        )
        ratio = (own - other).gather(1, torch.tensor([answer]).T).squeeze(1)
        expected = {
            "k1": ratio,
            "abs": ratio.abs(),
            "k2": ratio**2 / 2,
            "k3": 1 / ratio.exp() - 1 + ratio,
            "full": (own.exp() * (own - other)).sum(-1),
        }[told]
        largest = max(largest, expected.abs().max().item())
        torch.testing.assert_close(said.ref_kl[i, :n], expected, atol=1e-5, rtol=1e-4)
        assert not said.ref_kl[i, n:].any()
    assert largest > 0.05


def test_a_run_says_what_it_came_to_by_its_own_judge(tmp_path):
    lines = [
        {"ppo/score_over_responses": score, "ppo/score_std_over_responses": 2.0, "ppo/abstained_over_responses": 0.5,
         "ppo/kl_ref_over_responses": kl}
        for score, kl in ((0.25, 0.0), (9.0, 1.0), (1.5, 3.0))
    ]  # fmt: skip
    options = config(tmp_path, prompts_per_iteration=32)
    score, kl = results(lines, "ppo", options)
    assert (score.measure, score.value, score.floor, score.count) == ("score_over_responses", 1.5, 0.25, 16)
    assert score.low == pytest.approx(1.5 - 1.96 * 2.0 / 4.0)
    assert score.high == pytest.approx(1.5 + 1.96 * 2.0 / 4.0)
    assert (kl.measure, kl.value) == ("kl_ref_over_responses", 3.0)
    assert results([], "ppo", options) == []
    silent = {**lines[0], "ppo/score_over_responses": 0.0, "ppo/abstained_over_responses": 1.0}
    assert results([*lines, silent], "ppo", options) == []
    assert results([silent, *lines], "ppo", options)[0].floor is None


def test_repetition_by_hand():
    """1 2 3 4 1 2 3 4: five runs of four, four of them distinct; a constant answer of eight: one of five."""
    ids = torch.tensor([[1, 2, 3, 4, 1, 2, 3, 4], [7] * 8, [1, 2, 3, 9, 9, 9, 9, 9]])
    mask = torch.tensor([[True] * 8, [True] * 8, [True] * 3 + [False] * 5])
    assert repetition(ids, mask) == pytest.approx((1 / 5 + 4 / 5) / 2)  # the third is too short to repeat itself
