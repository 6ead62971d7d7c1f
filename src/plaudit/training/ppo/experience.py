"""From prompts to what PPO updates on: sample, score, shape, estimate (N4.1, N4.6, N4.7)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.engines.device import Machine
from plaudit.formulas.advantages import gae, moments, whiten
from plaudit.formulas.rewards import token_rewards
from plaudit.records.tensors import Experience, Rollout, Scores
from plaudit.records.text import PromptRow
from plaudit.rollouts.sampler import sample
from plaudit.tokens.batches import TokenBatch, pack, unpad
from plaudit.training import order
from plaudit.training.ppo.config import PPOConfig
from plaudit.training.ppo.setup import Setup


def roll_out(setup: Setup, config: PPOConfig, iteration: int) -> Rollout:
    """Let the policy answer this iteration's prompts; the stream of prompts is endless and shuffled pass by pass."""
    n, g = config.prompts_per_iteration, config.samples_per_prompt
    chosen = order.endless(len(setup.prompts), iteration * n, n, config.seed)
    rows: list[PromptRow] = [setup.prompts[row] for row, _ in chosen for _ in range(g)]
    with setup.place.autocast():
        return sample(
            setup.engine,
            setup.language,
            rows,
            config.sampling,
            sample_indices=[epoch * g + i for _, epoch in chosen for i in range(g)],
            seed=config.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinions:
    """What the models say of a rollout before any update, on the CPU; 0 outside the rollout's mask."""

    old_logprobs: Float[Tensor, "B R"]
    old_values: Float[Tensor, "B R"]
    entropy: Float[Tensor, "B R"]
    ref_logprobs: Float[Tensor, "B R"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A rollout and all that was said of it."""

    rollout: Rollout
    scores: Scores
    opinions: Opinions


@torch.no_grad()
def ask_models(setup: Setup, rollout: Rollout, config: PPOConfig) -> Opinions:
    """One pass of policy and critic, one of the reference, over the whole rollout."""
    temperature = config.sampling.temperature

    def own(batch: TokenBatch) -> dict[str, Tensor]:
        return setup.actor(batch, {"logprobs", "values", "entropy"}, temperature)

    def frozen(batch: TokenBatch) -> dict[str, Tensor]:
        return {"ref_logprobs": setup.reference.logprobs(batch, temperature)}

    said = _in_microbatches(own, rollout, config, setup.place)
    return Opinions(
        old_logprobs=said["logprobs"],
        old_values=said["values"],
        entropy=said["entropy"],
        **_in_microbatches(frozen, rollout, config, setup.place),
    )


def _in_microbatches(
    forward: Callable[[TokenBatch], dict[str, Tensor]], rollout: Rollout, config: PPOConfig, place: Machine
) -> dict[str, Tensor]:
    prompts = unpad(rollout.prompt_ids, rollout.prompt_mask)
    responses = unpad(rollout.response_ids, rollout.response_mask)
    out: dict[str, Tensor] = {}
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
    for cut in place.ranks.cuts(lengths, config.microbatch_tokens):
        batch = pack([prompts[i] for i in cut], [responses[i] for i in cut]).to(place.device)
        with place.autocast():
            part = forward(batch)
        for name, values in part.items():
            whole = out.setdefault(name, torch.zeros(rollout.response_mask.shape))
            whole[cut, : values.shape[1]] = values.float().cpu()
    return place.ranks.gather_tensors(out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """What PPO optimises."""

    mask: Bool[Tensor, "B R"]
    """The rollout's mask, less the rows whose judge abstained: they leave here."""
    rewards: Float[Tensor, "B R"]


def shape(judged: Judged, config: PPOConfig, *, kl_coef: float) -> Shaped:
    """Paragraph 3: the score goes on the last kept token, the price of the KL on each (N4.6)."""
    scores, opinions = judged.scores, judged.opinions
    mask = judged.rollout.response_mask & scores.valid.unsqueeze(1)
    said = torch.where(scores.valid, scores.scores, 0.0)
    rewards = token_rewards(said, opinions.old_logprobs - opinions.ref_logprobs, mask, kl_coef=kl_coef)
    return Shaped(mask=mask, rewards=rewards)


def estimate(judged: Judged, shaped: Shaped, config: PPOConfig) -> Experience:
    """Paragraph 4: advantages and returns by GAE, whitened (N4.7)."""
    rollout, opinions, mask = judged.rollout, judged.opinions, shaped.mask
    advantages, returns = gae(
        shaped.rewards, opinions.old_values, mask, gamma=config.gamma, gae_lambda=config.gae_lambda
    )
    if config.whitening and config.whitening.over == "iteration":
        advantages = whiten(advantages, mask, moments(advantages, mask), std_floor=config.whitening.std_floor)
    return Experience(
        prompt_ids=rollout.prompt_ids,
        prompt_mask=rollout.prompt_mask,
        response_ids=rollout.response_ids,
        response_mask=mask,
        old_logprobs=opinions.old_logprobs,
        ref_logprobs=opinions.ref_logprobs,
        old_values=opinions.old_values,
        scores=torch.where(judged.scores.valid, judged.scores.scores, 0.0),
        rewards=shaped.rewards,
        advantages=advantages,
        returns=returns,
    )
