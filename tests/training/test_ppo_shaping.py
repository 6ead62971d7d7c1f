"""From scores to rewards by hand: three responses of 2, 3 and 4 tokens with scores 2, −1, 6; the last one was cut."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from plaudit.engines.options import SamplingConfig
from plaudit.errors import UserError
from plaudit.formulas.statistics import RunningMoments
from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.records.text import FinishReason, Prompt, PromptRow
from plaudit.training.policy.estimation import agreement, estimate
from plaudit.training.policy.metrics import mean_kl
from plaudit.training.policy.options import (
    GAE,
    Exclude,
    FixedKL,
    Overlong,
    PenalisedUnfinished,
    PerToken,
    ReferenceNormalisation,
    ReplacedUnfinished,
    RewardWhitening,
    RunningNormalisation,
    Shaping,
    Truncate,
    Whitening,
)
from plaudit.training.policy.scored import ModelOutputs, ScoredRollout
from plaudit.training.policy.shaping import shape
from plaudit.training.policy.update import _whitened
from tests.kills import kills
from tests.training.scripted import config

NAN = math.nan
MASK = torch.tensor([[True, True, False, False], [True, True, True, False], [True, True, True, True]])
REF_KL = torch.tensor([[0.5, -1.0, NAN, NAN], [0.0, 0.2, 0.3, NAN], [1.0, 1.0, 1.0, 1.0]])
OLD = torch.where(MASK, -1.0, NAN)


def scored(valid=(True, True, True), **scores) -> ScoredRollout:
    rollout = Rollout(
        rows=(PromptRow(prompt=Prompt.of_text("a")),) * 3,
        responses=("", "", ""),
        finish_reasons=(FinishReason.EOS, FinishReason.STOP, FinishReason.LENGTH),
        prompt_ids=torch.ones(3, 1, dtype=torch.long),
        prompt_mask=torch.ones(3, 1, dtype=torch.bool),
        response_ids=torch.ones(3, 4, dtype=torch.long),
        response_mask=MASK,
        sampler_logprobs=torch.where(MASK, -1.0, 0.0),
    )
    values = torch.where(MASK, 0.0, NAN)
    outputs = ModelOutputs(old_logprobs=OLD, old_values=values, entropy=OLD, ref_logprobs=OLD - REF_KL, ref_kl=REF_KL)
    numbers = {"scores": torch.tensor([2.0, -1.0, 6.0]), "valid": torch.tensor(valid), "parts": {}, **scores}
    return ScoredRollout(rollout=rollout, scores=Scores(**numbers), outputs=outputs)


def rewards(tmp_path, seen: RunningMoments | None = None, made: ScoredRollout | None = None, **shaping) -> Tensor:
    chosen = config(tmp_path, kl=FixedKL(coef=0.1), shaping=Shaping(**shaping))
    return shape(made or scored(), chosen, kl_coef=0.1, scores_seen=seen or RunningMoments())[0]


def totals(tmp_path, *args, **shaping) -> list[float]:
    """What is left of each response's rewards without the price of the KL: its shaped score."""
    kl = torch.where(MASK, REF_KL, 0.0).sum(1)
    return (rewards(tmp_path, *args, **shaping).sum(1) + 0.1 * kl).tolist()


def test_without_options_the_score_and_the_kl_are_all(tmp_path):
    assert totals(tmp_path) == pytest.approx([2, -1, 6], abs=1e-6)
    assert rewards(tmp_path)[0].tolist() == pytest.approx([-0.05, 0.1 + 2, 0, 0])
    assert rewards(tmp_path)[2].tolist() == pytest.approx([-0.1, -0.1, -0.1, -0.1 + 6])


@kills(
    "training/policy/shaping.py",
    old="reason is not FinishReason.LENGTH",
    new="reason is FinishReason.LENGTH",
    why="finished responses are penalised, cut ones are not",
)
@kills(
    "training/policy/shaping.py",
    old="reason is not FinishReason.LENGTH",
    new="reason is FinishReason.EOS",
    why="an answer that ended at a stop string counts as cut",
)
@pytest.mark.parametrize(
    ("shaping", "expected"),
    [
        ({"unfinished": PenalisedUnfinished(penalty=2.5)}, [2, -1, 3.5]),
        ({"unfinished": ReplacedUnfinished(score=-3.0)}, [2, -1, -3]),
        ({"score_limit": 1.5}, [1.5, -1, 1.5]),
        ({"score_limit": 1.5, "unfinished": PenalisedUnfinished(penalty=2.5)}, [1.5, -1, -1]),
        ({"length": PerToken(price=0.25)}, [1.5, -1.75, 5]),
        ({"length": PerToken(price=0.25, free_tokens=2)}, [2, -1.25, 5.5]),
        ({"length": Overlong(buffer=4)}, [2 - 0.5, -1 - 0.75, 6 - 1]),
        ({"length": Overlong(buffer=2)}, [2, -1 - 0.5, 6 - 1]),
    ],
)
def test_scores_are_shaped(tmp_path, shaping, expected):
    assert totals(tmp_path, **shaping) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("scores", "options", "sign"),
    [
        ([7.0, 8.0, 9.0], {}, 1.0),
        ([-7.0, -8.0, -9.0], {}, -1.0),
        ([7.0, 8.0, 9.0], {"advantage": GAE(gae_lambda=1.0)}, 0.0),
        ([7.0, 8.0, 9.0], {"advantage": GAE(gae_lambda=1.0, gamma=0.9)}, 1.0),
    ],
)
def test_scores_far_from_zero_favour_late_or_early_tokens_while_the_critic_knows_nothing(
    tmp_path, scores, options, sign
):
    """What the health rule `scores_off_zero` tells of."""
    made = scored(scores=torch.tensor(scores))
    made = replace(made, outputs=replace(made.outputs, old_values=torch.where(MASK, 0.0, NAN)))
    chosen = config(tmp_path, kl=FixedKL(coef=0.0), **options)
    shaped, _ = shape(made, chosen, kl_coef=0.0, scores_seen=RunningMoments())
    steps = estimate(made, shaped, agreement(made, chosen), chosen).advantages[2].diff()
    assert bool((steps.sign() == sign).all())


@kills(
    "training/policy/shaping.py",
    old="limit = config.sampling.max_new_tokens",
    new="limit = int(lengths.max())",
    why="the longest answer of an iteration is always too long",
)
def test_a_long_answer_is_one_that_comes_near_the_limit_not_near_the_longest(tmp_path):
    chosen = config(
        tmp_path,
        kl=FixedKL(coef=0.0),
        sampling=SamplingConfig(max_new_tokens=6),
        shaping=Shaping(length=Overlong(buffer=4)),
    )
    found = shape(scored(), chosen, kl_coef=0.0, scores_seen=RunningMoments())[0].sum(1)
    assert found.tolist() == pytest.approx([2, -1 - 0.25, 6 - 0.5])


@kills(
    "training/policy/shaping.py",
    old="return merge(before, running_moments(moments(raw, valid)))",
    new="return running_moments(moments(raw, valid))",
    why="scores normalised by their own batch: equal ones become noise",
)
def test_running_normalisation_knows_all_iterations(tmp_path):
    """Before: 2 scores, mean 1, Σ of squares 2. With 2, −1, 6: mean 9/5, Σ(x − mean)² = 0² + 2² … = 28.8."""
    before = RunningMoments(count=2.0, mean=1.0, sum_squared_deviations=2.0)  # 0 and 2
    std = math.sqrt((1.8**2 + 0.2**2 + 0.2**2 + 2.8**2 + 4.2**2) / 5)
    found = totals(tmp_path, before, normalise=RunningNormalisation())
    assert found == pytest.approx([0.2 / std, -2.8 / std, 4.2 / std], rel=1e-5)
    chosen = config(tmp_path, shaping=Shaping(normalise=RunningNormalisation()))
    seen = shape(scored(), chosen, kl_coef=0.0, scores_seen=before)[1]
    assert (seen.count, seen.mean) == (5.0, pytest.approx(1.8))


@kills(
    "training/policy/shaping.py",
    old='if rule is None or (rule.kind == "reference" and before.count):',
    new="if rule is None:",
    why="the reference's moments follow the policy",
)
def test_reference_normalisation_keeps_the_first_iterations_moments(tmp_path):
    """Mean 7/3, variance (1/9 + 100/9 + 121/9)/3 of the first; a later iteration changes nothing."""
    std = math.sqrt((1 + 100 + 121) / 27)
    first = totals(tmp_path, normalise=ReferenceNormalisation())
    assert first == pytest.approx([-1 / 3 / std, -10 / 3 / std, 11 / 3 / std], rel=1e-5)
    before = RunningMoments(count=2.0, mean=1.0, sum_squared_deviations=8.0)
    assert totals(tmp_path, before, normalise=ReferenceNormalisation()) == pytest.approx([0.5, -1, 2.5], abs=1e-5)
    chosen = config(tmp_path, shaping=Shaping(normalise=ReferenceNormalisation()))
    assert shape(scored(), chosen, kl_coef=0.0, scores_seen=before)[1] == before


def test_normalising_comes_before_the_limit_and_the_unfinished(tmp_path):
    before = RunningMoments(count=2.0, mean=1.0, sum_squared_deviations=8.0)  # (x − 1)/2: 0.5, −1, 2.5
    both = {"normalise": ReferenceNormalisation(), "score_limit": 0.75, "unfinished": PenalisedUnfinished(penalty=1.0)}
    assert totals(tmp_path, before, **both) == pytest.approx([0.5, -0.75, -0.25], abs=1e-5)


def test_rows_without_a_score_enter_no_moments(tmp_path):
    chosen = config(tmp_path, shaping=Shaping(normalise=RunningNormalisation()))
    some = scored((True, True, False), scores=torch.tensor([2.0, -1.0, NAN]))
    shaped, seen = shape(some, chosen, kl_coef=0.0, scores_seen=RunningMoments())
    assert (seen.count, seen.mean) == (2.0, 0.5)
    assert shaped[2].tolist() == [0, 0, 0, 0]


def test_equal_scores_make_no_noise(tmp_path):
    same = scored(scores=torch.tensor([3.0, 3.0, 3.0]))
    assert totals(tmp_path, None, same, normalise=RunningNormalisation()) == pytest.approx([0, 0, 0], abs=1e-5)


BY_TOKEN = {"token_scores": ((1.5, 0.5), (-0.5, -0.5, 0.0), (1.0, 2.0, 3.0, 0.0))}


@kills(
    "training/policy/shaping.py",
    old="rewards = rewards + token_rewards(scores - raw,",
    new="rewards = rewards + token_rewards(scores,",
    why="a judge of tokens is paid twice: token by token, and its sum at the end",
)
@kills(
    "training/policy/shaping.py",
    old="tokens[row, mask] = torch.tensor(numbers)",
    new="tokens[row, : len(numbers)] = torch.tensor(numbers).flip(0)",
    why="a token's score on another token",
)
def test_a_judge_of_tokens_pays_each_where_it_stands(tmp_path):
    made = scored(**BY_TOKEN)
    found = rewards(tmp_path, None, made, credit="token")
    assert found[0].tolist() == pytest.approx([1.5 - 0.05, 0.5 + 0.1, 0, 0])
    assert found[2].tolist() == pytest.approx([0.9, 1.9, 2.9, -0.1])
    changed = rewards(tmp_path, None, made, credit="token", unfinished=PenalisedUnfinished(penalty=2.0))
    assert changed[2].tolist() == pytest.approx([0.9, 1.9, 2.9, -2.1])
    assert torch.equal(rewards(tmp_path, None, made), rewards(tmp_path))  # without the option nothing of it is used
    with pytest.raises(UserError, match="credit: token needs a judge that scores tokens"):
        rewards(tmp_path, credit="token")


def test_whitened_rewards_keep_their_mean(tmp_path):
    raw, white = rewards(tmp_path), rewards(tmp_path, whiten=RewardWhitening())
    assert white[MASK].mean().item() == pytest.approx(raw[MASK].mean().item(), rel=1e-5)
    assert white[MASK].std(correction=0).item() == pytest.approx(1.0, rel=1e-4)
    assert not white[~MASK].any()


@kills(
    "training/policy/shaping.py",
    old="scale(rewards, mask, moments(rewards, mask)",
    new="scale(rewards, mask, moments(rewards, scored.rollout.response_mask)",
    why="zeros of abstained rows in the rewards' deviation",
)
def test_rows_without_a_score_enter_no_whitening_of_rewards(tmp_path):
    kept = MASK & torch.tensor([[True], [True], [False]])
    some = scored((True, True, False))
    raw, white = rewards(tmp_path, None, some), rewards(tmp_path, None, some, whiten=RewardWhitening())
    assert white[kept].mean().item() == pytest.approx(raw[kept].mean().item(), rel=1e-5)
    assert white[kept].std(correction=0).item() == pytest.approx(1.0, rel=1e-4)
    assert not white[~kept].any()


@kills(
    "training/policy/shaping.py",
    old='kl_coef = kl_coef if config.kl.into == "reward" else 0.0',
    new="kl_coef = kl_coef * 1.0",
    why="the KL is paid twice: in the reward and in the loss",
)
def test_a_kl_in_the_loss_leaves_the_rewards(tmp_path):
    chosen = config(tmp_path, kl=FixedKL(coef=0.1, estimator="k3", into="loss"))
    found = shape(scored(), chosen, kl_coef=0.1, scores_seen=RunningMoments())[0]
    assert found[2].tolist() == [0, 0, 0, 6]


# --------------------------------------------------------------------------------------------- estimation, mismatch


def estimated(
    tmp_path, made: ScoredRollout | None = None, sampler_mismatch: Truncate | Exclude | None = None, **options
) -> Experience:
    gae = GAE(**{"whitening": None, "gae_lambda": 0.0, **options})
    chosen = config(tmp_path, kl=FixedKL(coef=0.0), advantage=gae, sampler_mismatch=sampler_mismatch)
    made = made or scored()
    rewards, _ = shape(made, chosen, kl_coef=0.0, scores_seen=RunningMoments())
    return estimate(made, rewards, agreement(made, chosen), chosen)


@kills(
    "training/policy/estimation.py",
    old="policy_lambda=gae.gae_lambda,",
    new="policy_lambda=gae.gae_lambda if gae.critic_gae_lambda is None else gae.critic_gae_lambda,",
    why="the critic's λ for the policy too",
)
@kills(
    "training/policy/estimation.py",
    old="gae_lambda if gae.critic_gae_lambda is None",
    new="gae_lambda if not gae.critic_gae_lambda",
    why="a λ of 0 taken for none",
)
def test_the_critics_lambda_is_its_own(tmp_path):
    """Only the last token is paid and V = 0: λ = 0 gives the score to the last token alone, λ = 1 to all."""
    own = estimated(tmp_path, critic_gae_lambda=1.0)
    assert own.advantages[1].tolist() == [0, 0, -1, 0]
    assert own.returns[1].tolist() == [-1, -1, -1, 0]
    same = estimated(tmp_path)
    assert same.returns[1].tolist() == [0, 0, -1, 0]
    none = estimated(tmp_path, gae_lambda=1.0, critic_gae_lambda=0.0)  # 0 is a choice, not the lack of one
    assert (none.advantages[1].tolist(), none.returns[1].tolist()) == ([-1, -1, -1, 0], [0, 0, -1, 0])


@kills("training/policy/estimation.py", old="gamma=gae.gamma", new="gamma=1.0", why="the discount is read and not used")
def test_what_comes_later_is_discounted(tmp_path):
    """V = 0 and γ = ½: the score of −1 on the third token is worth −½ at the second, −¼ at the first."""
    found = estimated(tmp_path, gamma=0.5, gae_lambda=1.0)
    assert found.returns[1].tolist() == [-0.25, -0.5, -1, 0]
    assert found.advantages[1].tolist() == [-0.25, -0.5, -1, 0]


@kills(
    "training/policy/metrics.py",
    old=".sum()) / max(episodes, 1), episodes",
    new=".sum()) / len(experience), episodes",
    why="responses without a score dilute the KL that an adaptive β looks at",
)
def test_an_adaptive_price_looks_at_the_responses_that_have_a_score(tmp_path):
    """Log-ratios −½, (left out), 4: their mean, and n = 2."""
    found = estimated(tmp_path, scored((True, False, True)))
    kl, episodes = mean_kl(found)
    assert kl == pytest.approx(1.75, abs=1e-6)
    assert episodes == 2


@kills(
    "training/policy/update.py",
    old='if whitening is None or whitening.over != "minibatch":',
    new="if True:",
    why="a minibatch that nobody whitens",
)
def test_advantages_can_be_whitened_by_minibatch(tmp_path):
    chosen = config(tmp_path, advantage=GAE(whitening=Whitening(over="minibatch")))
    raw = estimated(tmp_path, whitening=Whitening(over="minibatch"))
    assert torch.equal(raw.advantages, estimated(tmp_path).advantages)
    white = _whitened(raw[[0, 2]], chosen).advantages[MASK[[0, 2]]]
    assert (white.mean().item(), white.std(correction=0).item()) == (pytest.approx(0, abs=1e-6), pytest.approx(1.0))
    plain = replace(chosen, advantage=GAE(whitening=None))
    assert _whitened(raw, plain) is raw


@kills(
    "training/policy/estimation.py",
    old="compared = (scored.outputs.old_logprobs, scored.rollout.sampler_logprobs, mask)",
    new="compared = (scored.rollout.sampler_logprobs, scored.outputs.old_logprobs, mask)",
    why="importance weights upside down",
)
def test_sampler_mismatch_weighs_or_leaves_out(tmp_path):
    """π_old/π_sampler = 1, 4 | 1, ¼, 1 | 1 …: the sampler said log ¼ and log 4 less than the trainer."""
    base = scored()
    sampler = torch.where(MASK, -1.0, 0.0)
    sampler[0, 1], sampler[1, 1] = -1.0 - math.log(4), -1.0 + math.log(4)
    made = replace(base, rollout=replace(base.rollout, sampler_logprobs=sampler))
    plain = estimated(tmp_path, made)
    assert plain.importance[0].tolist() == [1, 1, 0, 0]
    truncated = estimated(tmp_path, made, sampler_mismatch=Truncate(cap=2.0))
    assert truncated.importance[0].tolist() == pytest.approx([1, 2, 0, 0])
    assert truncated.importance[1].tolist() == pytest.approx([1, 0.25, 1, 0])
    assert torch.equal(truncated.loss_mask, MASK)
    by_token = estimated(tmp_path, made, sampler_mismatch=Exclude(low=0.5, high=2.0))
    assert by_token.loss_mask.tolist() == [[True, False, False, False], [True, False, True, False], [True] * 4]
    assert by_token.importance[1].tolist() == [1, 1, 1, 0]
    assert torch.equal(by_token.advantages, plain.advantages)
    assert torch.equal(by_token.response_mask, MASK)
    # Geometric means: √4 = 2 of the first row, 4^(−1/3) ≈ 0.63 of the second.
    by_response = estimated(tmp_path, made, sampler_mismatch=Exclude(by="response", low=0.5, high=1.9))
    assert by_response.loss_mask.any(dim=1).tolist() == [False, True, True]
    # ρ − 1 − log ρ of 4 and ¼, over nine tokens; two of them are cut, or lie outside the band.
    plain, cut, outside = (
        agreement(made, config(tmp_path, sampler_mismatch=rule)) for rule in (None, Truncate(cap=2.0), Exclude())
    )
    assert plain.kl_sampler == cut.kl_sampler == pytest.approx((4 - 1 + 0.25 - 1) / 9, rel=1e-5)
    assert (plain.corrected, cut.corrected, outside.corrected) == (0.0, pytest.approx(1 / 9), pytest.approx(2 / 9))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Truncate(cap=0.5),
        lambda: Exclude(low=1.5),
        lambda: PenalisedUnfinished(penalty=-1.0),
        lambda: Shaping(score_limit=-1.0),
        lambda: PerToken(price=-1.0),
        lambda: Overlong(buffer=0),
        lambda: Shaping(whiten=RewardWhitening(std_floor=0.0)),
        lambda: Shaping(normalise=RunningNormalisation(std_floor=0.0)),
        lambda: Whitening(std_floor=0.0),
    ],
)
def test_impossible_options_are_refused(make):
    with pytest.raises(ValueError, match=r"must|enclose"):
        make()


def test_a_buffer_longer_than_any_answer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shaping\.length\.buffer must not exceed sampling\.max_new_tokens"):
        config(tmp_path, shaping=Shaping(length=Overlong(buffer=5)))
