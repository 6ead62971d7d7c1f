"""What a row of logits says of one token, and of all tokens. Logits in nats; log base e."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.formulas.masks import at_least_float32, select


def all_logprobs(logits: Float[Tensor, "*dims V"], temperature: float = 1.0) -> Float[Tensor, "*dims V"]:
    """log π of every token, log softmax(z/τ), in nats, float32 or better: once where several numbers want it (N4.1).

    Raises ValueError for a temperature that is not positive.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    logits = at_least_float32(logits)
    return torch.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=-1)


def token_logprobs(
    logits: Float[Tensor, "*dims V"], ids: Int[Tensor, "*dims"], temperature: float = 1.0
) -> Float[Tensor, "*dims"]:
    """log π(y) = z_y/τ − log Σ_v exp(z_v/τ), in nats, float32 or better (N4.1; Ziegler et al. 2019).

    `logits[..., :]` must be those that *predict* `ids[...]`: shifting is the caller's business. `ids` lie in [0, V);
    no pad sentinel passes. The temperature is the sampling one for policy, old and reference alike (the first
    minibatch's ratio is then 1); SFT and perplexity use 1. Choose the response positions before the call: a NaN
    row of logits stays in its own position here, but goes on into whatever computed it.

    The note's "stores the logits as log π_old" means these numbers, not logits.
    Raises ValueError for a temperature that is not positive.
    """
    return chosen(all_logprobs(logits, temperature), ids)


def chosen(every_logprob: Float[Tensor, "*dims V"], ids: Int[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Of `all_logprobs` those of these tokens, nats (N4.1)."""
    return every_logprob.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Float[Tensor, "*dims V"], temperature: float = 1.0) -> Float[Tensor, "*dims"]:
    """H = −Σ_v π_v log π_v of softmax(z/τ), in nats, from the full logits (N4.9; Schulman et al. 2017, eq. 9).

    Between 0 and log V. A logit of −inf is a token that cannot come: it adds 0, to the gradient too.
    Raises ValueError for a temperature that is not positive.
    """
    return entropy_of(all_logprobs(logits, temperature))


def entropy_of(every_logprob: Float[Tensor, "*dims V"]) -> Float[Tensor, "*dims"]:
    """`entropy` in nats, from `all_logprobs` (N4.9)."""
    finite = every_logprob.clamp_min(torch.finfo(every_logprob.dtype).min)
    return -(every_logprob.exp() * finite).sum(dim=-1)


def entropy_losses(entropies: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    """−H_t per token, zero outside the mask: the entropy bonus as a loss, to be added with weight c2 ≥ 0 (N4.9).

    `entropies` is `entropy` of each position's logits. Minimising −H makes the policy less certain. Where the KL to the
    reference is in the reward, −β log π is already such a bonus. Source: Schulman et al. 2017, eq. 9.
    """
    return -select(at_least_float32(entropies), mask)


def nll_losses(logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    """−log π(y_t) per token, zero outside the mask: the loss of SFT and of PPO-ptx's text (N1.1, N4.12).

    PPO-ptx *maximises* γ E[log π(x)] (Ouyang et al. 2022, eq. 2), so it adds γ times this to the loss. Nats, at
    temperature 1: text was not sampled from the policy.
    """
    return -select(at_least_float32(logprobs), mask)
