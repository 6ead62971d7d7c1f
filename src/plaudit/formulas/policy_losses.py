"""PPO's clipped objective as a loss, with its diagnostics as sums that add up over micro-batches and ranks."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import pad

from plaudit.formulas.kl import LOG_RATIO_LIMIT, k3
from plaudit.formulas.masks import at_least_float32, masked_sum, over_tokens, select


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStats:
    """Sums over kept tokens (N4.4), float64, without gradient. `a + b` merges micro-batches, minibatches or ranks."""

    num_tokens: Float64[Tensor, ""]
    """Kept tokens that were counted."""
    loss_sum: Float64[Tensor, ""]
    """Σ of the per-token loss, before the division by the minibatch's count."""
    clipped_tokens: Float64[Tensor, ""]
    """Tokens whose clipped term was strictly the larger, so that they give no gradient."""
    approx_kl_old_sum: Float64[Tensor, ""]
    """Nats: Σ of k3 for KL(π_old ‖ π_θ), (ρ − 1) − log ρ ≥ 0 (the tokens were sampled from π_old)."""
    ratio_max: Float64[Tensor, ""]
    """max ρ_t, at most e^20; 0 where nothing was counted. Merges by max, not by sum."""

    @classmethod
    def zero(cls, device: torch.device | str = "cpu") -> "PolicyStats":
        """The neutral element of `+`."""
        nothing = torch.zeros((), dtype=torch.float64, device=device)
        return cls(
            num_tokens=nothing,
            loss_sum=nothing,
            clipped_tokens=nothing,
            approx_kl_old_sum=nothing,
            ratio_max=nothing,
        )

    def __add__(self, other: "PolicyStats") -> "PolicyStats":
        return PolicyStats(
            num_tokens=self.num_tokens + other.num_tokens,
            loss_sum=self.loss_sum + other.loss_sum,
            clipped_tokens=self.clipped_tokens + other.clipped_tokens,
            approx_kl_old_sum=self.approx_kl_old_sum + other.approx_kl_old_sum,
            ratio_max=torch.maximum(self.ratio_max, other.ratio_max),
        )

    @property
    def clip_fraction(self) -> float:
        """Share of the counted tokens that were clipped; 0 of none."""
        return (self.clipped_tokens / self.num_tokens.clamp(min=1.0)).item()

    @property
    def approx_kl_old(self) -> float:
        """Nats per token, never negative; 0 of none."""
        return (self.approx_kl_old_sum / self.num_tokens.clamp(min=1.0)).item()

    @property
    def loss_mean(self) -> float:
        """Loss per counted token; 0 of none."""
        return (self.loss_sum / self.num_tokens.clamp(min=1.0)).item()


def clipped_policy_loss(
    logprobs: Float[Tensor, "B R"],
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    clip_range: float,
    num_tokens: int | Int[Tensor, ""],
) -> tuple[Float[Tensor, ""], PolicyStats]:
    """L = Σ_t m_t max(−ρ_t Â_t, −clip(ρ_t, 1−ε, 1+ε) Â_t) / num_tokens,  ρ_t = π_θ(y_t)/π_old(y_t)   (N4.3, N4.4).

    A loss, to be minimised: the sign is the opposite of the papers' objective (Schulman et al. 2017, eq. 7). It has
    the *advantage* where note 001 writes the reward. `num_tokens` is the kept tokens of the whole minibatch (see
    `over_tokens`); an all-masked batch gives 0 and zero gradients. Log-probabilities in nats, at the sampling
    temperature. Gradient flows into `logprobs` only. Raises ValueError for a negative `clip_range`.

    log ρ is held within ±`LOG_RATIO_LIMIT` = 20 nats, so that no ratio overflows: inside, value and gradient are exact;
    outside, the token gives no gradient (as verl has it). PPO's own clip already cuts three of those four corners; the
    fourth is Â < 0 with ρ > e^20.
    """
    if clip_range < 0.0:
        raise ValueError(f"clip_range must not be negative: {clip_range}")
    log_ratio = select(at_least_float32(logprobs) - old_logprobs.detach(), mask)
    log_ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    advantages = select(advantages.detach(), mask)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    loss_sum = masked_sum(torch.maximum(unclipped, clipped), mask)
    with torch.no_grad():
        stats = PolicyStats(
            num_tokens=mask.sum().double(),
            loss_sum=loss_sum.detach().double(),
            clipped_tokens=(mask & (clipped > unclipped)).sum().double(),
            approx_kl_old_sum=masked_sum(k3(-log_ratio), mask).double(),
            ratio_max=pad(select(ratio, mask).flatten(), (0, 1)).amax().double(),
        )
    return over_tokens(loss_sum, num_tokens), stats
