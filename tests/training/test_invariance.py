"""What must not matter: how a minibatch is cut, ordered, padded or laid out, and what stands in the padding.

Each case is compared with the plainest computation there is: one row at a time through transformers alone, the loss as
the papers write it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from plaudit.engines.options import SamplingConfig
from plaudit.models.load import load_causal
from plaudit.models.options import Critic, ModelConfig, SeparateCritic, SharedCritic
from plaudit.models.policy import ActorCritic, actor_critic
from plaudit.models.reward import scalar
from plaudit.models.trunk import Trunk
from plaudit.records.statistics import Statistics, add, number
from plaudit.records.tensors import Experience
from plaudit.tokens.batches import pad_left, pad_right
from plaudit.training.likelihood import nll_backward
from plaudit.training.policy import update
from plaudit.training.policy.config import PPOConfig
from plaudit.training.policy.objective import Coefficients
from plaudit.training.policy.options import GAE, AdaptiveTrust, FixedLength, SequenceMean, TokenMean, Whitening
from plaudit.training.policy.update import drift
from plaudit.training.reward.objective import Budget
from plaudit.training.reward.objectives import objective_of
from plaudit.training.reward.options import KWise, Pairwise
from plaudit.training.reward.rankings import Ranked
from tests.kills import kills
from tests.training.scripted import config
from tests.training.tiny import CPU, gradients, hf, hf_logprobs, language, model_folder, relative_difference

CLOSE = 1e-5
CUTS = [10**6, 20, 12, 1]
"""Micro-batches of tokens: all eight rows at once, about four, about two, one row each."""
PROMPTS = [[0, 3], [0, 4, 5], [0, 5, 5, 5, 5, 5], [0], [0, 3, 4], [0, 6], [0, 4], [0, 3, 3, 3]]
ANSWERS = [[3, 4, 1], [5], [6, 6, 6, 6, 3, 1], [3, 1], [4, 4], [1], [7, 7, 7, 3], [5, 1]]
ROWS = list(zip(PROMPTS, ANSWERS, strict=True))


def padding(mask: Tensor, fill: float) -> Tensor:
    return torch.where(mask, 0.0, fill)


def experience(prompts: Sequence[list[int]] = PROMPTS) -> Experience:
    """Eight rows with numbers that are neither flat nor small; ratios fall on both sides of the clip."""
    generator = torch.Generator().manual_seed(0)
    prompt_ids, prompt_mask = pad_left(prompts)
    response_ids, response_mask = pad_right(ANSWERS)

    def numbers(scale: float, shift: float = 0.0) -> Tensor:
        drawn = torch.randn(response_mask.shape, generator=generator) * scale + shift
        return torch.where(response_mask, drawn, 0.0)

    return Experience(
        group_ids=torch.arange(8),
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        response_ids=response_ids,
        response_mask=response_mask,
        loss_mask=response_mask,
        importance=response_mask.float(),
        old_logprobs=numbers(0.3, -2.1),
        ref_logprobs=numbers(0.3, -2.1),
        old_values=numbers(0.3),
        scores=torch.randn(8, generator=generator),
        rewards=numbers(1.0),
        advantages=numbers(1.0),
        returns=numbers(1.0),
    )


@pytest.fixture
def chosen(tmp_path) -> PPOConfig:
    return config(
        tmp_path,
        model=ModelConfig(path=model_folder(tmp_path / "m", spread=0.4)),
        sampling=SamplingConfig(max_new_tokens=4, temperature=0.7),
    )


CRITICS = pytest.mark.parametrize("critic", [SharedCritic(), SeparateCritic()], ids=["shared", "separate"])


SHARED = SharedCritic()


def actor_of(chosen: PPOConfig, critic: Critic = SHARED) -> ActorCritic:
    spoken = language(chosen.model.path)
    actor = actor_critic(load_causal(chosen.model, spoken, seed=0), critic, chosen.model, seed=0)
    trunk = actor.critic or actor.policy
    trunk.value_head.weight.data.copy_(torch.linspace(-1, 1, 16)[None])  # not 0, or no gradient of V meets the trunk
    return actor


def gradient(
    actor: ActorCritic, experience: Experience, chosen: PPOConfig, rows: Sequence[int] = range(8), budget: int = 10**6
) -> tuple[dict[str, Tensor], Statistics]:
    """The minibatch's gradient, and what is said of it."""
    actor.zero_grad()
    options = replace(chosen, microbatch_tokens=budget)
    now = Coefficients.start(chosen)
    participants = SimpleNamespace(actor=actor, reference=None, machine=CPU)
    seen = update.backward(participants, experience[rows], options, now)
    return gradients(actor), seen


def textbook(
    actor: ActorCritic, experience: Experience, chosen: PPOConfig, prompts: Sequence[list[int]] = PROMPTS
) -> dict[str, Tensor]:
    """Row by row: −min(ρÂ, clip(ρ)Â) and ½ max of the two squares, summed over the kept tokens, by their count."""
    actor.zero_grad()
    critic = actor.critic or actor.policy
    total = torch.zeros(())
    for i, (prompt, answer) in enumerate(zip(prompts, ANSWERS, strict=True)):
        n = len(answer)
        logprobs = hf_logprobs(actor.policy.hf, prompt, answer, 0.7)
        hidden = getattr(critic.hf, "model", critic.hf)(input_ids=torch.tensor([[*prompt, *answer]])).last_hidden_state[
            0
        ]
        values = critic.value_head(hidden[len(prompt) - 1 : -1]).squeeze(-1)
        ratio = (logprobs - experience.old_logprobs[i, :n]).exp()
        advantage, target, old = (x[i, :n] for x in (experience.advantages, experience.returns, experience.old_values))
        held = old + (values - old).clamp(-0.2, 0.2)
        kept = experience.loss_mask[i, :n]
        total = total - torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)[kept].sum()
        total = total + 0.1 * 0.5 * torch.maximum((values - target) ** 2, (held - target) ** 2)[kept].sum()
    (total / experience.loss_mask.sum()).backward()
    return gradients(actor)


@kills(
    "tokens/batches.py",
    old="begin.unsqueeze(1) + columns - 1)",
    new="begin.unsqueeze(1) + columns)",
    why="off by one: each token's own output is asked for it",
)
@kills(
    "tokens/batches.py",
    old="torch.where(columns == 0, before.unsqueeze(1),",
    new="torch.where(columns == 0, before.unsqueeze(1) * 0,",
    why="a response's first token predicted from another row",
)
@kills(
    "training/policy/update.py",
    old="loss_of(out, rows, counts, config, coefficients)",
    new="loss_of(out, rows, loss_weights(rows.loss_mask, config), config, coefficients)",
    why="a mean of micro-batches' means (transformers' gradient accumulation until 2024)",
)
@CRITICS
@pytest.mark.parametrize("budget", CUTS)
def test_ppos_gradient_is_the_textbooks_however_it_is_cut(chosen, critic, budget):
    actor = actor_of(chosen, critic)
    expected = textbook(actor, experience(), chosen)
    mine, seen = gradient(actor, experience(), chosen, budget=budget)
    assert relative_difference(mine, expected) < CLOSE
    assert number(seen, "tokens") == 21
    assert 0 < number(seen, "clipped_tokens") < 21
    assert 0 < number(seen, "value_clipped_tokens") < 21


GROUPS = [PROMPTS[i] for i in (0, 1, 0, 2, 1, 0, 0, 1)]


@kills(
    "tokens/batches.py",
    old="groups[-1][0] == prompt",
    new="groups[-1][0][0] == prompt[0]",
    why="answers behind another row's prompt",
)
@kills(
    "training/policy/scored.py",
    old="yield together, pack_shared",
    new="yield cut, pack_shared",
    why="advantages of the rows that stood there before rows of one prompt came together",
)
@CRITICS
@pytest.mark.parametrize("budget", CUTS)
def test_answers_to_one_prompt_share_it_and_the_gradient_stays(chosen, critic, budget):
    actor, seen = actor_of(chosen, critic), []
    expected = textbook(actor, experience(GROUPS), chosen, GROUPS)
    actor.policy.register_forward_pre_hook(lambda _, args: seen.append(args[0].num_tokens))
    mine, _ = gradient(actor, experience(GROUPS), chosen, budget=budget)
    assert relative_difference(mine, expected) < CLOSE
    whole, once = sum(map(len, GROUPS)), sum(map(len, PROMPTS[:3]))
    assert sum(seen) - 21 == {10**6: once, 1: whole}.get(budget, pytest.approx((whole + once) / 2, abs=8))


@kills(
    "training/policy/update.py",
    old="rows = minibatch[cut].to(machine.device)",
    new="rows = minibatch[sorted(cut, key=lambda i: lengths[i])].to(machine.device)",
    why="advantages of other rows",
)
@pytest.mark.parametrize("order", [range(7, -1, -1), [3, 0, 7, 1, 6, 2, 5, 4]])
def test_the_order_of_rows_does_not_matter(chosen, order):
    actor = actor_of(chosen)
    expected, seen = gradient(actor, experience(), chosen)
    mine, other = gradient(actor, experience(), chosen, order, budget=12)
    assert relative_difference(mine, expected) < CLOSE
    for name in ("policy_loss", "value_loss", "approx_kl_old", "ratio", "ratio_max", "loss"):
        assert number(other, name) == pytest.approx(number(seen, name), rel=1e-5)


@pytest.mark.parametrize("junk", [0.0, 1e30, math.nan, -math.inf])
def test_padding_does_not_matter_and_what_stands_in_it_neither(chosen, junk):
    """Three more columns on the left of prompts, two on the right of responses, junk in every tensor's padding."""
    base = experience()
    actor = actor_of(chosen)
    expected, seen = gradient(actor, base, chosen)

    def left(x: Tensor, fill: int | bool) -> Tensor:
        return nn.functional.pad(x, (3, 0), value=fill)

    def right(x: Tensor, fill: float | bool) -> Tensor:
        return nn.functional.pad(x, (0, 2), value=fill)

    floats = ("importance", "old_logprobs", "ref_logprobs", "old_values", "rewards", "advantages", "returns")
    dirty = {n: right(torch.where(base.response_mask, getattr(base, n), junk), junk) for n in floats}
    poisoned = Experience(
        group_ids=base.group_ids,
        prompt_ids=left(torch.where(base.prompt_mask, base.prompt_ids, 9), 9),
        prompt_mask=left(base.prompt_mask, False),
        response_ids=right(torch.where(base.response_mask, base.response_ids, 9), 9),
        response_mask=right(base.response_mask, False),
        loss_mask=right(base.loss_mask, False),
        scores=base.scores,
        **dirty,
    )
    mine, other = gradient(actor, poisoned, chosen, budget=12)
    assert relative_difference(mine, expected) < CLOSE
    for name in ("policy_loss", "value_loss", "approx_kl_old", "ratio", "ratio_max", "loss"):
        assert number(other, name) == pytest.approx(number(seen, name), rel=1e-5)


@CRITICS
def test_the_padded_layout_gives_the_same_gradient(chosen, critic):
    actor = actor_of(chosen, critic)
    expected, _ = gradient(actor, experience(), chosen, budget=20)
    assert actor.policy.layout == "packed"
    for trunk in filter(None, (actor.policy, actor.critic)):
        trunk.layout = "padded"
    mine, _ = gradient(actor, experience(), chosen, budget=20)
    assert relative_difference(mine, expected) < CLOSE


def test_a_row_whose_judge_abstained_might_as_well_not_be_there(chosen):
    actor, base = actor_of(chosen), experience()
    kept = [0, 1, 3, 4, 6, 7]
    expected, seen = gradient(actor, base, chosen, kept)
    mask = base.response_mask.clone()
    mask[[2, 5]] = False
    mine, other = gradient(actor, replace(base, response_mask=mask, loss_mask=mask), chosen)
    assert relative_difference(mine, expected) < CLOSE
    assert number(other, "tokens") == number(seen, "tokens") == 21 - 6 - 1


@pytest.mark.parametrize("aggregation", [TokenMean(), SequenceMean(), FixedLength()])
def test_what_is_left_out_of_the_losses_is_in_no_count(chosen, aggregation):
    """Two rows that the sampler's mismatch takes out whole, though rewards were made of them."""
    actor, base = actor_of(chosen), experience()
    options = replace(chosen, aggregation=aggregation)
    expected, _ = gradient(actor, base, options, [0, 1, 3, 4, 6, 7])
    loss_mask = base.response_mask.clone()
    loss_mask[[2, 5]] = False
    mine, other = gradient(actor, replace(base, loss_mask=loss_mask), options)
    assert relative_difference(mine, expected) < CLOSE
    assert number(other, "tokens") == 21 - 6 - 1


@kills(
    "training/policy/update.py",
    old="weights = loss_weights(minibatch.loss_mask, config)",
    new="weights = loss_weights(minibatch.response_mask, config)",
    why="tokens that were to be left out are in the loss",
)
@CRITICS
@pytest.mark.parametrize("budget", CUTS)
def test_tokens_that_are_left_out_have_no_part_in_the_gradient(chosen, critic, budget):
    """Single tokens of rows that stay: first, last and in the middle; and a row of which nothing is left."""
    actor, base = actor_of(chosen, critic), experience()
    loss_mask = base.response_mask.clone()
    loss_mask[::2, 0] = False
    loss_mask[1, base.response_mask[1].sum() - 1] = False
    loss_mask[3] = False
    longest = int(base.response_mask.sum(1).argmax())
    loss_mask[longest, 1] = False
    left_out = base.response_mask & ~loss_mask
    assert 5 <= left_out.sum() <= 16
    junk = {n: torch.where(left_out, 50.0, getattr(base, n)) for n in ("advantages", "returns", "old_values")}
    partial = replace(base, loss_mask=loss_mask, **junk)
    expected = textbook(actor, partial, chosen)
    mine, seen = gradient(actor, partial, chosen, budget=budget)
    assert relative_difference(mine, expected) < CLOSE
    assert number(seen, "tokens") == loss_mask.sum()


def test_a_minibatch_is_whitened_over_all_its_tokens_those_left_out_too(chosen):
    """As an iteration is: advantages are made of what was answered, losses of what can be trusted."""
    actor, base = actor_of(chosen), experience()
    kept = base.advantages[base.response_mask]
    white = torch.where(base.response_mask, (base.advantages - kept.mean()) / kept.std(correction=0), 0.0)
    loss_mask = base.response_mask.clone()
    loss_mask[[2, 5]] = False
    plain = replace(chosen, advantage=GAE(whitening=None))
    expected, _ = gradient(actor, replace(base, loss_mask=loss_mask, advantages=white), plain)
    options = replace(chosen, advantage=GAE(whitening=Whitening(over="minibatch")))
    mine, _ = gradient(actor, replace(base, loss_mask=loss_mask), options)
    assert relative_difference(mine, expected) < CLOSE


@kills(
    "training/policy/update.py",
    old="    mask = experience.response_mask\n    return float",
    new="    mask = experience.loss_mask\n    return float",
    why="what the losses left out tells nothing of how far the policy went",
)
def test_the_drift_is_measured_on_every_answered_token(chosen):
    """Tokens that the losses leave out tell of π_θ too."""
    actor, base = actor_of(chosen), experience()
    options = replace(chosen, trust=AdaptiveTrust())
    total = 0.0
    for i, (prompt, answer) in enumerate(ROWS):
        log_ratio = hf_logprobs(actor.policy.hf, prompt, answer, 0.7) - base.old_logprobs[i, : len(answer)]
        total += (log_ratio.exp() - 1 - log_ratio).sum().item()
    nothing = replace(base, loss_mask=torch.zeros_like(base.loss_mask))
    found = drift(SimpleNamespace(actor=actor, machine=CPU), nothing, options)
    assert found == pytest.approx(total / 21, rel=1e-4)


def test_minibatches_add_up_by_their_tokens(chosen):
    """The gradient of eight rows is the token-weighted mean of the gradients of two times four."""
    actor, base = actor_of(chosen), experience()
    whole, _ = gradient(actor, base, chosen)
    first, a = gradient(actor, base, chosen, range(4))
    second, b = gradient(actor, base, chosen, range(4, 8))
    share = number(a, "tokens") / 21
    assert share != 0.5
    mixed = {name: share * first[name] + (1 - share) * second[name] for name in whole}
    assert relative_difference(mixed, whole) < CLOSE
    assert number(add(a, b), "tokens") == 21


@kills(
    "training/policy/objective.py",
    old="int(mask.any(1).sum())",
    new="mask.shape[1]",
    why="as many responses as the longest has tokens",
)
@pytest.mark.parametrize("aggregation", [TokenMean(), SequenceMean(), FixedLength()], ids=lambda a: a.kind)
def test_minibatches_add_up_by_what_is_in_their_losses(chosen, aggregation):
    """Four rows without their first tokens, of which one is left out, and four whole ones."""
    actor, base = actor_of(chosen), experience()
    loss_mask = base.response_mask.clone()
    loss_mask[:4, 0] = False
    loss_mask[1] = False
    base, options = replace(base, loss_mask=loss_mask), replace(chosen, aggregation=aggregation)
    counted = loss_mask.sum(1) if aggregation.kind == "token_mean" else loss_mask.any(1)
    share = (counted[:4].sum() / counted.sum()).item()
    whole, _ = gradient(actor, base, options)
    first, _ = gradient(actor, base, options, range(4))
    second, _ = gradient(actor, base, options, range(4, 8))
    mixed = {name: share * first[name] + (1 - share) * second[name] for name in whole}
    assert relative_difference(mixed, whole) < CLOSE


@kills(
    "training/policy/objective.py",
    old="loss = loss + config.value_coef * weighted_sum(errors",
    new="loss = loss + weighted_sum(errors",
    why="the critic's weight forgotten",
)
@CRITICS
def test_the_critics_weight_scales_its_gradient_alone(chosen, critic):
    actor = actor_of(chosen, critic)
    heads = {}
    for coef in (0.0, 0.1, 0.3):
        grads, _ = gradient(actor, experience(), replace(chosen, value_coef=coef))
        (heads[coef],) = [grad for name, grad in grads.items() if name.endswith("value_head.weight")]
    assert heads[0.0].abs().max() == 0
    assert heads[0.1].abs().max() > 0
    assert torch.allclose(heads[0.3], 3 * heads[0.1], rtol=1e-4)


def test_a_separate_critics_loss_never_reaches_the_policy(chosen):
    actor = actor_of(chosen, SeparateCritic())
    without, with_it = (gradient(actor, experience(), replace(chosen, value_coef=c))[0] for c in (0.0, 5.0))
    policy = [name for name in without if name.startswith("policy.")]
    assert policy
    assert all(torch.equal(without[name], with_it[name]) for name in policy)


def test_the_temperature_is_the_samplings(chosen):
    """At ratio 1 everywhere the gradient at τ is that of log π_τ: a forgotten temperature changes it."""
    actor = actor_of(chosen)
    cold, warm = (
        gradient(actor, experience(), replace(chosen, sampling=SamplingConfig(max_new_tokens=4, temperature=t)))[0]
        for t in (0.7, 1.0)
    )
    assert relative_difference(cold, warm) > 0.05


# ------------------------------------------------------------------------------------------------- fine-tuning, reward


@kills(
    "training/likelihood.py",
    old=".sum() / num_tokens",
    new=".sum() / max(sum(batch.response_lengths), 1)",
    why="a mean of micro-batches' means",
)
@pytest.mark.parametrize("budget", CUTS)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_fine_tunings_gradient(tmp_path, budget, layout):
    folder = model_folder(tmp_path / "m", spread=0.4)
    trunk, other = Trunk(load_causal(ModelConfig(path=folder), language(folder), seed=0).hf), hf(folder)
    trunk.layout = layout
    expected = -torch.cat([hf_logprobs(other, *row) for row in ROWS]).mean()
    expected.backward()
    for rows in (ROWS, ROWS[::-1]):
        trunk.zero_grad()
        loss = nll_backward(trunk, rows, budget, CPU)
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        mine = {name.removeprefix("hf."): grad for name, grad in gradients(trunk).items()}
        assert relative_difference(mine, gradients(other)) < CLOSE


RANKINGS = [
    Ranked(answers=tuple((PROMPTS[0], ANSWERS[k]) for k in (0, 1, 2, 3)), ranks=(2, 1, 2, 4), margin=0.0),
    Ranked(answers=tuple((PROMPTS[2], ANSWERS[k]) for k in (4, 5)), ranks=(2, 1), margin=0.5),
    Ranked(answers=tuple((PROMPTS[4], ANSWERS[k]) for k in (6, 7, 0)), ranks=(1, 2, 3), margin=0.0),
]


@kills(
    "training/reward/objective.py",
    old="(total / max(count, 1)).backward()",
    new="(total / len(cut)).backward()",
    why="a mean of micro-batches' means",
)
@pytest.mark.parametrize("loss", ["kwise", "pairwise"])
@pytest.mark.parametrize("budget", [10**6, 24, 1])
def test_the_reward_models_gradient(tmp_path, loss, budget):
    """Against one classifier call a row: Σ over a prompt's pairs of log(1 + e^(worse − better)), averaged as named."""
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = scalar.load(ModelConfig(path=folder), language(folder), seed=1)
    total, pairs, prompts = torch.zeros(()), 0, 0
    for row in RANKINGS:
        scores = []
        for prompt, answer in row.answers:
            hidden = model.reader.trunk.hf.model(input_ids=torch.tensor([[*prompt, *answer]])).last_hidden_state[0, -1]
            scores.append((model.reader.trunk.hf.score.weight @ hidden).squeeze())
        margin = row.margin if loss == "pairwise" else 0.0
        losses = [
            torch.log1p(torch.exp(scores[j] - scores[i] + margin))
            for i, j in itertools.permutations(range(len(scores)), 2)
            if row.ranks[i] < row.ranks[j]
        ]
        total = total + sum(losses) / (len(losses) if loss == "kwise" else 1)
        pairs, prompts = pairs + len(losses), prompts + 1
    expected = total / (prompts if loss == "kwise" else pairs)
    expected.backward()
    textbook = gradients(model)
    for rows in (RANKINGS, RANKINGS[::-1]):
        model.zero_grad()
        objective = KWise() if loss == "kwise" else Pairwise()
        told = objective_of(objective).backward(model, rows, Budget(machine=CPU, tokens=budget)).metrics
        assert told["loss_over_rows"] == pytest.approx(expected.item(), rel=1e-5)
        assert relative_difference(gradients(model), textbook) < CLOSE


def test_the_reward_models_padded_layout(tmp_path):
    folder = model_folder(tmp_path / "m", spread=0.4)
    model = scalar.load(ModelConfig(path=folder), language(folder), seed=1)
    objective_of(KWise()).backward(model, RANKINGS, Budget(machine=CPU, tokens=30))
    packed = gradients(model)
    model.zero_grad()
    model.reader.trunk.layout = "padded"
    objective_of(KWise()).backward(model, RANKINGS, Budget(machine=CPU, tokens=30))
    assert relative_difference(gradients(model), packed) < CLOSE
