"""PPO's own identities: what must be 1 is 1, what must be 0 is 0, and every logged number can be had another way."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from plaudit.data.options import DataConfig
from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.formulas.statistics import RunningMoments
from plaudit.models.options import LastLayers, LoRA, ModelConfig, SeparateCritic, SharedCritic
from plaudit.models.trunk import Trunk
from plaudit.records.statistics import Max, Sum
from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.records.text import FinishReason, Prompt, PromptRow
from plaudit.runs.folder import Run
from plaudit.scoring.loading import load_function
from plaudit.scoring.options import FunctionConfig, RewardModelConfig
from plaudit.training.options import OptimConfig
from plaudit.training.policy import participants
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.cursor import Outcome, Pending, Update, from_state, to_state
from plaudit.training.policy.estimation import agreement, estimate
from plaudit.training.policy.loop import ppo
from plaudit.training.policy.metrics import describe, summarise
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.options import GAE, FixedKL, Returns, Shaping
from plaudit.training.policy.scored import ModelOutputs, ScoredRollout
from plaudit.training.policy.shaping import shape
from plaudit.training.policy.update import minibatch_rows
from tests.kills import kills
from tests.training.scripted import config, judge, run
from tests.training.tiny import hf, hf_logprobs, ids, jsonl, metrics, model_folder, rollouts, weights

KEYS = {
    "score": "ppo/score_over_responses",
    "kl": "ppo/kl_ref_over_responses",
    "objective": "ppo/objective_over_responses",
    "reward": "ppo/reward_over_responses",
    "length": "ppo/length_over_responses",
    "abstained": "ppo/abstained_over_responses",
}


# ------------------------------------------------------------------------------------------- before the first update


@kills(
    "rollouts/sampler.py",
    old="laid_out(g.logprobs for g in written)",
    new="laid_out(g.logprobs for g in written).exp()",
    why="the sampler's probabilities for its log-probs",
)
@kills(
    "training/policy/scored.py",
    old="return actor(batch, wants, temperature, other)",
    new="return actor(batch, wants, 1.0, other)",
    why="old log-probs without the temperature",
)
@kills(
    "training/policy/update.py",
    old="out = actor(batch, want, temperature, other)",
    new="out = actor(batch, want, 1.0, other)",
    why="new log-probs without the temperature",
)
@pytest.mark.parametrize(
    ("critic", "train"),
    [
        (SharedCritic(), None),
        (SeparateCritic(), None),
        (SharedCritic(), LoRA(rank=2, alpha=4)),
        (SharedCritic(), LastLayers(layers=1)),
    ],
    ids=["shared", "separate", "lora", "last_layers"],
)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_minibatch_has_ratio_one_and_no_kl(tmp_path, critic, train, temperature):
    """The cheapest test of the whole system: one update, measured before it is taken."""
    path = model_folder(tmp_path / "sft", letters="abc", layers=2, spread=0.5)
    model = ModelConfig(path=path) if train is None else ModelConfig(path=path, train=train)
    chosen = config(
        tmp_path,
        model=model,
        critic=critic,
        sampling=SamplingConfig(max_new_tokens=4, temperature=temperature),
        iterations=1,
        epochs=1,
        minibatches=1,
        prompts_per_iteration=24,
    )
    (line,) = metrics(run(tmp_path, chosen))
    assert line["ppo/ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert line["ppo/clip_fraction_over_tokens"] == 0.0
    assert line["ppo/approx_kl_old_over_tokens"] <= 1e-9
    assert abs(line["ppo/kl_ref_over_responses"]) <= 1e-5
    assert line["ppo/sampler_logprob_gap_max"] <= 1e-5
    assert line["ppo/value_over_tokens"] == 0.0
    assert line["ppo/value_clip_fraction_over_tokens"] == 0.0
    assert line["ppo/entropy_over_tokens"] < math.log(6) - 0.01  # the model is not uniform: temperature matters
    # Whitened advantages have mean 0, so at ratio 1 the policy's loss is 0; V is 0, so the critic's is half R̂².
    assert line["ppo/policy_loss_over_tokens"] == pytest.approx(0.0, abs=1e-6)


def test_the_padded_layout_agrees(tmp_path, monkeypatch):
    chosen = config(tmp_path, sampling=SamplingConfig(max_new_tokens=4, temperature=0.7), iterations=2)
    packed = metrics(run(tmp_path, chosen, "packed"))
    monkeypatch.setattr("plaudit.models.trunk._can_pack", lambda trunk: False)
    padded = metrics(run(tmp_path, chosen, "padded"))
    assert padded[0]["ppo/ratio_max"] != 0
    for one, two in zip(packed, padded, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-5)


def test_a_uniform_policy_has_entropy_log_v(tmp_path):
    chosen = config(tmp_path, spread=0.0, iterations=1)
    (line,) = metrics(run(tmp_path, chosen))
    assert line["ppo/entropy_over_tokens"] == pytest.approx(math.log(6), rel=1e-6)


# -------------------------------------------------------------------------------------------- rewards and advantages


def scripted(valid: tuple[bool, ...] = (True, True, False)) -> tuple[Rollout, Scores]:
    mask = torch.tensor([[True, True, False, False], [True, True, True, False], [True, True, True, True]])
    rollout = Rollout(
        rows=(PromptRow(prompt=Prompt.of_text("a")),) * 3,
        responses=("", "", ""),
        finish_reasons=(FinishReason.EOS, FinishReason.EOS, FinishReason.LENGTH),
        prompt_ids=torch.ones(3, 1, dtype=torch.long),
        prompt_mask=torch.ones(3, 1, dtype=torch.bool),
        response_ids=torch.ones(3, 4, dtype=torch.long),
        response_mask=mask,
        sampler_logprobs=torch.zeros(3, 4),
    )
    return rollout, Scores(scores=torch.tensor([2.0, -1.0, 9.0]), valid=torch.tensor(valid), parts={})


OLD = torch.tensor([[-1.0, -2.0, 0.0, 0.0], [-1.0, -1.0, -1.0, 0.0], [-1.0, -1.0, -1.0, -1.0]])
REF = torch.tensor([[-1.5, -1.0, 0.0, 0.0], [-1.0, -1.2, -1.3, 0.0], [-2.0, -2.0, -2.0, -2.0]])
VALUES = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [5.0, 5.0, 5.0, 5.0]])


def experience_of(tmp_path, rollout: Rollout, scores: Scores, **options):
    chosen = config(tmp_path, kl=FixedKL(coef=0.1), advantage=GAE(gae_lambda=0.5, **options))
    return made(rollout, scores, chosen)


def made(rollout: Rollout, scores: Scores, chosen: PPOConfig, old=OLD, ref=REF, values=VALUES) -> Experience:
    """Paragraphs 3 and 4 on numbers that no model said."""
    scored = scored_of(rollout, scores, old, ref, values)
    rewards, _ = shape(scored, chosen, kl_coef=chosen.kl.coef, scores_seen=RunningMoments())
    return estimate(scored, rewards, agreement(scored, chosen), chosen)


def scored_of(rollout: Rollout, scores: Scores, old=OLD, ref=REF, values=VALUES) -> ScoredRollout:
    outputs = ModelOutputs(old_logprobs=old, old_values=values, entropy=old, ref_logprobs=ref, ref_kl=old - ref)
    return ScoredRollout(rollout=rollout, scores=scores, outputs=outputs)


@kills(
    "training/policy/scored.py",
    old="return self.rollout.response_mask & self.scores.valid.unsqueeze(1)",
    new="return self.rollout.response_mask",
    why="a row whose judge abstained is trained on with a score of 0",
)
def test_rewards_returns_and_advantages_by_hand(tmp_path):
    """β = 0.1, γ = 1, λ = ½; the third judge abstained.

    Row 0: log-ratios ½, −1; rewards −0.05, 0.1 + 2; δ = −0.55, 1.6; Â = −0.55 + ½ · 1.6 = 0.25, 1.6.
    Row 1: log-ratios 0, 0.2, 0.3; rewards 0, −0.02, −0.03 − 1; δ = 0, 0.98, −2.03; Â = −0.0175, −0.035, −2.03.
    """
    experience = experience_of(tmp_path, *scripted(), whitening=None)
    assert experience.rewards[0].tolist() == pytest.approx([-0.05, 2.1, 0, 0])
    assert experience.rewards[1].tolist() == pytest.approx([0, -0.02, -1.03, 0], abs=1e-6)
    assert experience.advantages[0].tolist() == pytest.approx([0.25, 1.6, 0, 0], abs=1e-6)
    assert experience.advantages[1].tolist() == pytest.approx([-0.0175, -0.035, -2.03, 0], abs=1e-6)
    assert experience.returns[0].tolist() == pytest.approx([1.25, 2.1, 0, 0], abs=1e-6)
    assert experience.returns[1].tolist() == pytest.approx([-0.0175, -0.035, -1.03, 0], abs=1e-6)
    for name in ("rewards", "advantages", "returns"):
        assert getattr(experience, name)[2].tolist() == [0, 0, 0, 0]
    assert experience.response_mask[2].tolist() == [False] * 4
    assert experience.scores.tolist() == [2.0, -1.0, 0.0]


def test_rewards_sum_to_the_score_less_the_price_of_the_kl(tmp_path):
    rollout, scores = scripted((True, True, True))
    experience = experience_of(tmp_path, rollout, scores)
    kl = torch.where(rollout.response_mask, OLD - REF, 0.0).sum(1)
    assert kl.tolist() == pytest.approx([-0.5, 0.5, 4.0], abs=1e-6)
    assert experience.rewards.sum(1).tolist() == pytest.approx([2 + 0.05, -1 - 0.05, 9 - 0.4], abs=1e-5)
    per_token = experience.rewards + 0.1 * torch.where(rollout.response_mask, OLD - REF, 0.0)
    assert per_token.nonzero().tolist() == [[0, 1], [1, 2], [2, 3]]  # the score stands on the last kept token only


@kills(
    "training/policy/estimation.py",
    old="moments(advantages, mask), std_floor=whitening.std_floor)",
    new="moments(advantages, mask), std_floor=whitening.std_floor)\n        returns = advantages + values",
    why="returns from whitened advantages: the critic learns noise",
)
def test_whitening_changes_advantages_and_nothing_else(tmp_path):
    """Mean −0.0465 and standard deviation 1.160528 over the five kept tokens."""
    raw = experience_of(tmp_path, *scripted(), whitening=None)
    white = experience_of(tmp_path, *scripted())
    kept = white.response_mask
    assert white.advantages[kept].tolist() == pytest.approx(
        [0.2965 / 1.160528, 1.6465 / 1.160528, 0.029 / 1.160528, 0.0115 / 1.160528, -1.9835 / 1.160528], rel=1e-4
    )
    assert white.advantages[~kept].abs().max() == 0
    assert torch.equal(white.returns, raw.returns)
    assert torch.equal(white.rewards, raw.rewards)


def test_what_an_abstained_row_holds_reaches_nothing(tmp_path):
    """NaN in its score, values and log-probs: the other rows' numbers stay what they were."""
    rollout, scores = scripted()
    clean = experience_of(tmp_path, rollout, scores)
    poisoned = scores.scores.clone()
    poisoned[2] = math.nan
    chosen = config(tmp_path, kl=FixedKL(coef=0.1), advantage=GAE(gae_lambda=0.5))
    old, ref, values = OLD.clone(), REF.clone(), VALUES.clone()
    for tensor in (old, ref, values):
        tensor[2] = math.nan
    dirty = made(rollout, Scores(scores=poisoned, valid=scores.valid, parts={}), chosen, old, ref, values)
    for name in ("scores", "rewards", "advantages", "returns"):
        assert torch.equal(getattr(dirty, name), getattr(clean, name)), name


# ------------------------------------------------------------------------------------------------- what is logged


@pytest.fixture(scope="module")
def two_iterations(tmp_path_factory):
    """Folder, a run of two iterations with all rollouts kept, and one of the first iteration alone."""
    tmp_path = tmp_path_factory.mktemp("ppo")
    chosen = config(
        tmp_path,
        sampling=SamplingConfig(max_new_tokens=4, temperature=0.7),
        prompts_per_iteration=16,
        keep_rollouts=99,
        kl=FixedKL(coef=0.3),
    )
    run(tmp_path, chosen, "two")
    written = load_function(chosen.rewards[0].function).__globals__["seen"]
    jsonl(tmp_path / "second.jsonl", [{"ids": list(row)} for row in written[1]])
    run(tmp_path, config(tmp_path, **_fields(chosen), iterations=1), "one")
    return tmp_path


def _fields(chosen: PPOConfig) -> dict:
    names = ("sampling", "prompts_per_iteration", "keep_rollouts", "kl", "model", "optim", "epochs", "minibatches")
    return {name: getattr(chosen, name) for name in names}


@kills(
    "training/policy/scored.py",
    old='kept_log_ratio(policy["logprobs"], ref["logprobs"], rollout',
    new='kept_log_ratio(ref["logprobs"], policy["logprobs"], rollout',
    why="policy and reference exchanged in the reward",
)
@kills(
    "training/policy/metrics.py",
    old='"kl_ref_over_responses": float(kl[valid].sum() / n)',
    new='"kl_ref_over_responses": float(kl.mean() / rollout.response_mask.shape[1])',
    why="KL per token under the name of KL per response",
)
def test_the_metrics_are_means_of_the_rollouts(two_iterations):
    for line in metrics(two_iterations / "two"):
        rows = rollouts(two_iterations / "two", line["step"])
        assert len(rows) == 16

        def mean(name: str, rows: list[dict] = rows) -> float:
            return sum(row[name] for row in rows) / 16

        assert line[KEYS["score"]] == pytest.approx(mean("score"), abs=1e-6)
        assert line["ppo/part/letters_over_responses"] == pytest.approx(mean("score"), abs=1e-6)
        assert line[KEYS["kl"]] == pytest.approx(mean("kl"), abs=1e-5)
        assert line[KEYS["objective"]] == pytest.approx(mean("score") - 0.3 * mean("kl"), abs=1e-5)
        assert line[KEYS["reward"]] == pytest.approx(mean("score") - 0.3 * mean("kl"), abs=1e-5)
        assert line[KEYS["length"]] == pytest.approx(mean("length"))
        assert line[KEYS["abstained"]] == 0.0
        ended = sum(row["finish_reason"] == "eos" for row in rows) / 16
        assert line["ppo/eos_over_responses"] == pytest.approx(ended)
        spread = (sum((row["score"] - mean("score")) ** 2 for row in rows) / 16) ** 0.5
        assert line["ppo/score_std_over_responses"] == pytest.approx(spread, abs=1e-6)
        assert line["ppo/kl_coef"] == 0.3
        for row in rows:
            assert row["score"] == row["response"].count("a") - row["response"].count("b")
            assert row["length"] <= 4
            assert row["length"] == 4 or row["finish_reason"] == "eos"


@torch.no_grad()
def test_kl_and_entropy_are_those_of_the_two_models(two_iterations):
    """The second iteration is written by the model that the shorter run saved; asked of transformers alone."""
    policy, reference = hf(two_iterations / "one" / "model"), hf(two_iterations / "sft")
    line, entropies = metrics(two_iterations / "two")[1], []
    written = [json.loads(text)["ids"] for text in (two_iterations / "second.jsonl").read_text("utf-8").splitlines()]
    for row, response in zip(rollouts(two_iterations / "two", 2), written, strict=True):
        prompt = [0, *ids(row["prompt"])]
        assert len(response) == row["length"]
        ratio = hf_logprobs(policy, prompt, response, 0.7) - hf_logprobs(reference, prompt, response, 0.7)
        assert row["kl"] == pytest.approx(ratio.sum().item(), abs=2e-5)
        logits = policy(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1] / 0.7
        entropies += torch.distributions.Categorical(logits=logits).entropy().tolist()
    assert abs(line[KEYS["kl"]]) > 0.01
    assert line["ppo/entropy_over_tokens"] == pytest.approx(sum(entropies) / len(entropies), abs=1e-5)


def test_a_judge_that_abstains_leaves_numerator_and_denominator(tmp_path):
    chosen = config(tmp_path, "shy", keep_rollouts=99, prompts_per_iteration=24, iterations=2)
    chosen = replace(chosen, optim=OptimConfig(learning_rate=1e-3))
    line, later = metrics(run(tmp_path, chosen))
    heard = [row for row in rollouts(tmp_path / "run", 2) if "c" not in row["response"]]
    assert 0 < len(heard) < 24
    assert later["ppo/kl_ref_over_responses"] == pytest.approx(sum(r["kl"] for r in heard) / len(heard), abs=1e-4)
    objective = sum(r["score"] - later["ppo/kl_coef"] * r["kl"] for r in heard) / len(heard)
    assert later["ppo/objective_over_responses"] == pytest.approx(objective, abs=1e-4)
    rows = rollouts(tmp_path / "run", 1)
    kept = [row for row in rows if "c" not in row["response"]]
    assert 0 < len(kept) < 24
    assert line["ppo/abstained_over_responses"] == pytest.approx(1 - len(kept) / 24)
    assert line["ppo/length_over_responses"] == pytest.approx(sum(r["length"] for r in rows) / 24)
    assert line["ppo/score_over_responses"] == pytest.approx(sum(r["score"] for r in kept) / len(kept), abs=1e-6)
    assert line["ppo/part/shy_over_responses"] == pytest.approx(line["ppo/score_over_responses"])
    assert line["ppo/reward_over_responses"] == pytest.approx(line["ppo/score_over_responses"], abs=1e-5)  # KL is 0


def test_an_iteration_without_any_score_changes_nothing(tmp_path):
    chosen = config(tmp_path, "mute", iterations=1)
    (line,) = metrics(run(tmp_path, chosen))
    assert line["ppo/abstained_over_responses"] == 1.0
    assert line["ppo/grad_norm"] == 0.0
    assert line["non_finite"] == {"ppo/part/mute_over_responses": "nan"}
    before, after = weights(tmp_path / "sft"), weights(tmp_path / "run" / "model")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_explained_variance_of_a_scripted_rollout(tmp_path):
    """R̂ = 1, 3, 5 and V = 1, 2, 3: Var(R̂) = 8/3, errors 0, 1, 2 of variance 2/3, so ¾ is explained."""
    rollout, scores = scripted((True, False, False))
    rollout = replace(rollout, response_mask=torch.tensor([[True, True, True, False]] + [[True] * 4] * 2))
    values = torch.tensor([[1.0, 2.0, 3.0, 9.0]] * 3)
    base = made(rollout, scores, config(tmp_path), values=values)
    experience = replace(base, returns=torch.tensor([[1.0, 3.0, 5.0, 7.0]] * 3))
    scored, chosen = scored_of(rollout, scores, values=values), config(tmp_path)
    told = describe(scored, experience, agreement(scored, chosen), chosen, Coefficients.start(chosen))
    assert told["explained_variance"] == pytest.approx(0.75)


def test_the_metrics_of_scripted_updates_are_weighed_by_tokens(tmp_path):
    def update(outcome: Outcome, tokens: float, ratio_max: float, grad_norm: float, rate: float, text: tuple) -> Update:
        same = {"policy_loss": 3.0, "clipped_tokens": 1.0, "approx_kl_old": 0.5, "kl_loss": 4.0}
        same |= {"value_loss": 6.0, "value_clipped_tokens": 2.0, "tokens": tokens}
        taken = {"updates": 1.0, "grad_norm": grad_norm, "ptx_tokens": text[0], "ptx_loss": text[1]} if text else {}
        sums = {name: Sum(value) for name, value in (same | taken).items()}
        seen = {**sums, "ratio_max": Max(ratio_max)}
        return Update(outcome=outcome, statistics=seen, learning_rate=rate)

    left_out = update(Outcome.LEFT_TRUST_REGION, 2.0, 1.1, 0.0, 0.0, ())
    start = Pending(experience=None, metrics={})
    pending = start.after(update(Outcome.TAKEN, 3.0, 1.5, 1.0, 0.2, (4.0, 8.0)))
    pending = pending.after(update(Outcome.TAKEN, 5.0, 1.2, 2.0, 0.1, (6.0, 7.0))).after(left_out)
    told = summarise(pending, config(tmp_path, kl=FixedKL(estimator="k3", into="loss")))
    assert told["kl_loss_over_tokens"] == pytest.approx(1.2)
    assert told["policy_loss_over_tokens"] == pytest.approx(0.9)
    assert told["clip_fraction_over_tokens"] == pytest.approx(0.3)
    assert told["approx_kl_old_over_tokens"] == pytest.approx(0.15)
    assert told["value_loss_over_tokens"] == pytest.approx(1.8)
    assert told["value_clip_fraction_over_tokens"] == pytest.approx(0.6)
    assert told["ptx_loss_over_tokens"] == pytest.approx(1.5)
    assert told["ratio_max"] == 1.5
    assert told["grad_norm"] == 1.5
    assert told["learning_rate"] == 0.1
    assert told["minibatches"] == 2
    assert "ptx_loss_over_tokens" not in summarise(start.after(left_out), config(tmp_path))


# ------------------------------------------------------------------------------------------------ the loop and its rows


@kills(
    "training/policy/update.py",
    old='"minibatches", iteration, epoch)',
    new='"minibatches", iteration)',
    why="minibatches that are never shuffled anew",
)
def test_every_epoch_sees_every_row_once_in_a_new_order(tmp_path):
    chosen = config(tmp_path, prompts_per_iteration=24, epochs=3, minibatches=4)
    epochs = [
        [minibatch_rows(24, chosen, iteration, 4 * epoch + index) for index in range(4)]
        for iteration in range(2)
        for epoch in range(3)
    ]
    flat = [[row for rows in epoch for row in rows] for epoch in epochs]
    assert all(sorted(rows) == list(range(24)) for rows in flat)
    assert all(len(rows) == 6 for epoch in epochs for rows in epoch)
    assert len({tuple(rows) for rows in flat}) == 6
    assert len({frozenset(epoch[0]) for epoch in epochs}) > 1  # new company, not only a new order of minibatches


@kills(
    "training/policy/scored.py",
    old="sample_indices=[epoch * g + i for",
    new="sample_indices=[i for",
    why="the second pass over the prompts with the luck of the first",
)
def test_a_prompt_is_answered_g_times_by_different_samples(tmp_path):
    chosen = config(tmp_path, spread=0.02, samples_per_prompt=4, prompts_per_iteration=6, keep_rollouts=99)
    rows = rollouts(run(tmp_path, chosen), 1)
    assert [row["prompt"] for row in rows[:4]] == [rows[0]["prompt"]] * 4
    per_prompt = {p: [r["response"] for r in rows if r["prompt"] == p] for p in {r["prompt"] for r in rows}}
    assert {len(answers) for answers in per_prompt.values()} == {8}  # two passes over three prompts, four each
    assert all(len(set(answers)) > 3 for answers in per_prompt.values())  # one a pass would be two


def test_repeated_prompts_count_once(tmp_path, capsys):
    chosen = config(tmp_path, iterations=1)
    jsonl(tmp_path / "prompts.jsonl", [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}])
    again = DataConfig(path=jsonl(tmp_path / "again.jsonl", [{"prompt": "b"}, {"prompt": "c"}]))
    both = config(tmp_path, model=chosen.model, iterations=1, keep_rollouts=99, prompts=(chosen.prompts[0], again))
    jsonl(tmp_path / "prompts.jsonl", [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}])
    rows = rollouts(run(tmp_path, both), 1)
    assert "repeated prompts left out" in capsys.readouterr().err
    assert {row["prompt"] for row in rows[:3]} == {"a", "b", "c"}


def test_the_reference_stays_and_the_policy_moves(tmp_path, monkeypatch):
    made = []
    honest = participants.Reference

    def remembered(policy, own):
        made.append(honest(policy, own))
        return made[0]

    monkeypatch.setattr(participants, "Reference", remembered)
    run(tmp_path, config(tmp_path, iterations=3))
    start, end = weights(tmp_path / "sft"), weights(tmp_path / "run" / "model")
    kept = {name.removeprefix("hf."): p for name, p in made[0].trunk.named_parameters()}
    assert all(torch.equal(start[name], kept[name]) for name in start)
    assert not any(torch.equal(start[name], end[name]) for name in start if "norm" not in name)
    assert "value_head" not in " ".join(end)


def test_the_same_seed_twice_is_the_same_run_and_another_seed_is_not(tmp_path):
    chosen = config(tmp_path)
    one, two = run(tmp_path, chosen, "one"), run(tmp_path, chosen, "two")
    assert metrics(one) == metrics(two)
    assert rollouts(one, 2) == rollouts(two, 2)
    other = run(tmp_path, config(tmp_path, model=chosen.model, seed=1), "three")
    assert metrics(one) != metrics(other)


def test_an_enormous_price_of_kl_holds_the_policy(tmp_path):
    gentle = {"optim": OptimConfig(learning_rate=2e-3), "iterations": 12, "prompts_per_iteration": 32}
    free, held = (
        metrics(run(tmp_path, config(tmp_path, kl=FixedKL(coef=beta), **gentle), f"{beta}"))[-1] for beta in (0.0, 50.0)
    )
    assert free["ppo/score_over_responses"] > held["ppo/score_over_responses"] + 0.5
    assert abs(held["ppo/kl_ref_over_responses"]) < 0.3 < 2.0 < free["ppo/kl_ref_over_responses"]


def test_a_loss_that_overflows_is_not_taken_and_three_in_a_row_end_the_run(tmp_path):
    """From its third call on the judge says 1e30: the critic's squared error is infinite."""
    chosen = config(tmp_path, "exploding", iterations=5, save_every=4, advantage=GAE(whitening=None))
    with pytest.raises(
        UserError, match=r"optimiser step 11 of 20: the loss is inf \(value_loss inf\), 3 time\(s\) in a row"
    ):
        run(tmp_path, chosen)
    assert len(metrics(tmp_path / "run")) == 2
    with Run.open(tmp_path / "run") as again:
        assert again.latest().name == "000010"  # saved when the run ended, with the iteration under way
        assert not again.finished
    state = json.loads((tmp_path / "run" / "checkpoints" / "000010" / "state.json").read_text(encoding="utf-8"))
    assert state["cursor"]["iteration"] == 2 and "pending" in state and state["metrics_lines"] == 2
    kept = sorted((tmp_path / "run" / "skipped").iterdir())
    assert [folder.name for folder in kept] == ["000008", "000009", "000010"]
    facts = json.loads((kept[1] / "batch.json").read_text(encoding="utf-8"))
    assert facts["iteration"] == 2 and facts["update"] == 1 and len(facts["rows"]) == 4
    batch = load_file(kept[1] / "batch.safetensors")
    assert len(batch["scores"]) == 4 and batch["scores"].eq(1e30).all()


def test_one_bad_iteration_is_left_out_and_counted(tmp_path):
    """The judge's second call says 1e30: its updates are not taken, then training goes on."""
    steady = OptimConfig(learning_rate=1e-2, eps=1e-5, schedule="constant", max_skipped=5)
    chosen = config(tmp_path, "stumbling", iterations=3, advantage=GAE(whitening=None), optim=steady)
    lines = metrics(run(tmp_path, chosen))
    assert [line["ppo/skipped_updates"] for line in lines] == [0, 4, 4]
    assert [line["ppo/minibatches"] for line in lines] == [4, 0, 4]
    after, still = rollouts(tmp_path / "run", 2), rollouts(tmp_path / "run", 3)
    assert after[0]["tokens"]["logprob"] != still[0]["tokens"]["logprob"] or after[0]["prompt"] != still[0]["prompt"]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run" / "model").values())


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.fixture
def no_model(monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("a model was loaded before the input was checked")

    monkeypatch.setattr(participants, "load_causal", loaded)
    monkeypatch.setattr(Trunk, "__init__", loaded)
    monkeypatch.setattr("plaudit.models.reward.scalar.load", loaded)


@kills(
    "rollouts/sampler.py",
    old="if length > room]",
    new="if length > language.context]",
    why="prompts that leave no room for an answer: positions overflow in mid-run",
)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": SamplingConfig(max_new_tokens=30)}, r"prompts\.jsonl:2: 3 tokens.*prompts\.jsonl:3: 4 tokens"),
        ({"critic": SeparateCritic(init="./nowhere")}, r"critic\.init: no folder './nowhere'"),
        ({"rewards": (RewardModelConfig(path="./nowhere"),)}, r"rewards\.0\.path: no folder"),
        ({"rewards": (FunctionConfig(function="no_such_rule"),)}, "no built-in reward function 'no_such_rule'"),
        ({"model": ModelConfig(path="./nowhere")}, r"model\.path: no folder"),
        ({"shaping": Shaping(credit="token")}, r"shaping\.credit: token needs a judge that scores tokens"),
    ],
)
def test_mistakes_are_found_before_a_model_loads(tmp_path, no_model, options, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, config(tmp_path, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minibatches": 3}, r"minibatches \(3\) must divide prompts_per_iteration × samples_per_prompt \(8\)"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"iterations": 0, "save_every": 0}, "iterations, save_every must be at least 1"),
        ({"critic": None}, "advantage: gae needs a critic; with critic: null take kind returns"),
        ({"advantage": Returns()}, "advantage: returns asks no critic; say critic: null"),
        ({"critic": None, "advantage": Returns(), "critic_warmup": 1}, "critic_warmup trains the critic alone"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [(GAE, {"gamma": 1.5}), (GAE, {"gae_lambda": -0.1}), (GAE, {"critic_gae_lambda": 2.0}), (Returns, {"gamma": -0.5})],
)
def test_discounts_lie_between_0_and_1(kind, options):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        kind(**options)


def test_a_steep_learning_rate_is_clipped(tmp_path):
    """The clip is not an ornament: with a large rate tokens leave the band and are counted."""
    chosen = config(tmp_path, iterations=1, epochs=4, optim=OptimConfig(learning_rate=0.1, schedule="constant"))
    (line,) = metrics(run(tmp_path, chosen))
    assert line["ppo/clip_fraction_over_tokens"] > 0.05
    assert line["ppo/ratio_max"] > 1.2
    assert line["ppo/approx_kl_old_over_tokens"] > 0.001


def test_judges_are_summed_by_their_weights(tmp_path):
    first = judge(tmp_path)
    second = FunctionConfig(function=first.function, weight=-2.0, name="again")
    chosen = config(tmp_path, rewards=(first, second), iterations=1, keep_rollouts=99)
    with Run.create(tmp_path / "run", "ppo", chosen) as made:
        ppo(chosen, made)
    for row in rollouts(tmp_path / "run", 1):
        assert row["parts"]["letters"] == row["parts"]["again"]
        assert row["score"] == pytest.approx(-row["parts"]["letters"])


def test_a_resumed_run_keeps_its_schedule(tmp_path):
    """The step counts iterations: with other epochs it would point into another one."""
    cursor, _ = from_state({}, {}, config(tmp_path))
    facts, tensors = to_state(cursor, None, config(tmp_path))
    assert from_state(facts, tensors, config(tmp_path)) == (cursor, None)
    with pytest.raises(UserError, match="keeps epochs × minibatches = 4, not 6"):
        from_state(facts, tensors, config(tmp_path, epochs=3))
