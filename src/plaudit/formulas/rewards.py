"""From what the judge says (scores, one a response) to what PPO optimises (rewards, one a token)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.formulas.masks import last_index, select


def token_rewards(
    scores: Float[Tensor, " B"],
    ref_log_ratio: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    kl_coef: float,
) -> Float[Tensor, "B R"]:
    """r_t = −β (log π(y_t) − log π_ref(y_t)) + [t is the last kept token] · r(x, y)   (N4.6).

    So Σ_t r_t = r(x, y) − β Σ_t log π/π_ref. `scores` in score units, `ref_log_ratio` in nats (k1 of the sampled
    tokens, π being the policy that sampled them), `kl_coef` β in score units per nat. Zero outside the mask; an empty
    row is all zeros, its score goes nowhere. The score is added to the last kept token's own KL term (Ziegler et al.
    2019; Ouyang et al. 2022), not one slot later as in TRL since 0.9.
    """
    rewards = -kl_coef * select(ref_log_ratio, mask)
    columns = torch.arange(mask.shape[1], device=mask.device)
    is_last = columns == last_index(mask).unsqueeze(1)
    return torch.where(is_last, rewards + scores.unsqueeze(1), rewards)
