"""Generalised advantage estimation, and whitening by moments that ranks can add up."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from plaudit.formulas.masks import select


def gae(
    rewards: Float[Tensor, "B R"],
    values: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    gamma: float,
    gae_lambda: float,
    final_values: Float[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
    """Advantages and returns, both before any whitening and zero outside the mask (N4.7).

        δ_t = r_t + γ V_{t+1} − V_t        Â_t = Σ_{l ≥ 0} (γλ)^l δ_{t+l}        R̂_t = Â_t + V_t

    V_t is the value of the prefix *before* token t. V after the last kept token is 0: in text every ending is
    terminal, the length limit too, so nothing is bootstrapped. λ=1 is Monte Carlo minus V, λ=0 the one-step TD error.
    Score units. t+1 is the next *kept* token: what the mask leaves out does not exist, wherever it stands.

    Elsewhere (N4.13) an episode may be cut by a time limit, or by the end of the buffer, and would have gone on:
    `final_values` is V of each row's state after its last kept step, 0 where the episode really ended.

    Source: Schulman et al. 2016, eq. 16; PPO (2017) eq. 11, whose last exponent is T−1−t (the note misprints T−t+1).
    """
    rewards, values = select(rewards, mask), select(values, mask)
    advantages = torch.zeros_like(values)
    next_advantage = values.new_zeros(values.shape[0])  # [B], after the last kept token
    next_value = next_advantage if final_values is None else select(final_values.to(values.dtype), mask.any(dim=1))
    for t in reversed(range(values.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * gae_lambda * next_advantage
        advantages[:, t] = select(advantage, here)
        next_advantage = torch.where(here, advantage, next_advantage)
        next_value = torch.where(here, values[:, t], next_value)
    return advantages, advantages + values


def decoupled_gae(
    rewards: Float[Tensor, "B R"],
    values: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    gamma: float,
    policy_lambda: float,
    critic_lambda: float,
    final_values: Float[Tensor, " B"] | None = None,
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R"]]:
    """`gae`'s advantages with λ_policy and its returns with λ_critic (N4.7).

    λ_critic = 1 gives the critic unbiased targets that a reward at the end reaches undiminished, while λ_policy < 1
    keeps the policy's variance low. Equal λs are `gae`, bit for bit; else Â + V is not R̂. Source: VC-PPO (Yuan et al.
    2025), VAPO (Yue et al. 2025).
    """
    advantages, _ = gae(rewards, values, mask, gamma=gamma, gae_lambda=policy_lambda, final_values=final_values)
    _, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=critic_lambda, final_values=final_values)
    return advantages, returns


def reward_to_go(rewards: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], *, gamma: float) -> Float[Tensor, "B R"]:
    """Σ_{l ≥ 0} γ^l r_{t+l}, what follows token t, zero outside the mask: advantages without a critic (N4.2).

    REINFORCE without a baseline: unbiased, and of high variance. Score units. Source: Williams 1992.
    """
    advantages, _ = gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, gae_lambda=1.0)
    return advantages


def moments(x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"]) -> Float64[Tensor, "3"]:
    """(Σ m_t, Σ m_t x_t, Σ m_t x_t²) in float64: the moments of several micro-batches or ranks are their sum (N4.7)."""
    masked = select(x, mask).double()
    return torch.stack([mask.sum().double(), masked.sum(), masked.square().sum()])


def mean_and_variance(count_sum_sumsq: Float64[Tensor, "3"]) -> tuple[Float64[Tensor, ""], Float64[Tensor, ""]]:
    """(μ, σ²) of `moments`; σ² is the population's, Σ(x−μ)²/n (N4.7; Ziegler et al. 2019). Nothing counted: (0, 0)."""
    count, total, total_square = count_sum_sumsq
    count = count.clamp(min=1.0)
    mean = total / count
    return mean, (total_square / count - mean.square()).clamp(min=0.0)


def whiten(
    x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"], count_sum_sumsq: Float64[Tensor, "3"], *, std_floor: float
) -> Float[Tensor, "*dims"]:
    """(x − μ) / max(σ, floor): mean 0, standard deviation 1 over the kept tokens; zero outside the mask (N4.7).

    `count_sum_sumsq` is `moments` of the whole batch, over all ranks. The floor, in units of x, keeps noise noise: with
    all rewards equal, dividing 1e-4 of critic error by its own σ would make unit-size advantages of it. One kept token
    gives 0, not the NaN of the note's n/(n−1). Source: lm-human-preferences `whiten(shift_mean=True)`, whose σ has
    an epsilon of 1e-8 under the root instead.
    """
    return _standardised(x, mask, count_sum_sumsq, std_floor).to(x.dtype)


def scale(
    x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"], count_sum_sumsq: Float64[Tensor, "3"], *, std_floor: float
) -> Float[Tensor, "*dims"]:
    """(x − μ) / max(σ, floor) + μ: standard deviation 1, the mean kept; zero outside the mask (N4.6).

    For rewards, whose mean carries the score; else like `whiten`. Source: OpenAI's 2019 `whiten(shift_mean=False)`.
    """
    mean, _ = mean_and_variance(count_sum_sumsq)
    shifted = _standardised(x, mask, count_sum_sumsq, std_floor) + mean
    return select(shifted, mask).to(x.dtype)


def _standardised(
    x: Float[Tensor, "*dims"], mask: Bool[Tensor, "*dims"], count_sum_sumsq: Float64[Tensor, "3"], std_floor: float
) -> Float64[Tensor, "*dims"]:
    if not std_floor > 0.0:
        raise ValueError(f"std_floor must be positive, not {std_floor}")
    mean, variance = mean_and_variance(count_sum_sumsq)
    centred = select(x.double() - mean, mask)
    return centred / variance.sqrt().clamp(min=std_floor)
