"""From what the judge says (scores, one a response) to what PPO optimises (rewards, one a token).

In the order of use: the scores' statistics and bounds, penalties for unfinished and long responses, then tokens.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.formulas.masks import last_index, select


def normalised_scores(scores: Float[Tensor, " B"], *, mean: float, std: float, std_floor: float) -> Float[Tensor, " B"]:
    """(r − μ) / max(σ, floor), the scores in standard deviations   (N4.6).

    μ and σ of the reference's own answers, fixed before training (Stiennon et al. 2020; Ouyang et al. 2022), or running
    ones (`statistics.RunningMoments`; Zheng et al. 2023): not of this batch alone, which would make noise of equal
    scores. Clip after, not before. Raises ValueError for a floor that is not positive.
    """
    if not std_floor > 0.0:
        raise ValueError(f"std_floor must be positive, not {std_floor}")
    return (scores - mean) / max(std, std_floor)


def clipped_scores(scores: Float[Tensor, " B"], *, score_limit: float) -> Float[Tensor, " B"]:
    """clip(r, ±limit), score units   (N4.6; Zheng et al. 2023). Raises ValueError for a limit that is not positive."""
    if not score_limit > 0.0:
        raise ValueError(f"score_limit must be positive, not {score_limit}")
    return scores.clamp(-score_limit, score_limit)


def penalised_unfinished(
    scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"], *, penalty: float
) -> Float[Tensor, " B"]:
    """r − penalty for responses that did not end, score units   (N4.6; TRL's `missing_eos_penalty`).

    `ended` is False where the token limit cut the *response*: made from its finish reason, never by looking for an end
    token in the row, where the prompt may hold one. Raises ValueError for a negative penalty.
    """
    if penalty < 0.0:
        raise ValueError(f"the penalty is subtracted and must not be negative: {penalty}")
    return torch.where(ended, scores, scores - penalty)


def replaced_unfinished(
    scores: Float[Tensor, " B"], ended: Bool[Tensor, " B"], *, unfinished_score: float
) -> Float[Tensor, " B"]:
    """A fixed score for responses that did not end, whatever the judge said of them   (N4.6; Ziegler et al. 2019: −1).

    After normalising and clipping, so that the number means what it says. `ended` as in `penalised_unfinished`.
    """
    return torch.where(ended, scores, torch.full_like(scores, unfinished_score))


def length_penalty(lengths: Int[Tensor, " B"], *, free_tokens: int, penalty_per_token: float) -> Float[Tensor, " B"]:
    """−c · max(0, |y| − free): what each token beyond `free_tokens` costs, to be added to the scores   (N4.6).

    Never positive. `lengths` counts the kept tokens. Raises ValueError for a negative limit or price.
    """
    if free_tokens < 0 or penalty_per_token < 0.0:
        raise ValueError(f"length_penalty: free_tokens {free_tokens}, penalty_per_token {penalty_per_token}")
    return -penalty_per_token * (lengths - free_tokens).clamp(min=0).float()


def soft_overlong_penalty(lengths: Int[Tensor, " B"], *, max_length: int, buffer: int) -> Float[Tensor, " B"]:
    """0 up to max − buffer tokens, falling linearly to −1 at max, −1 beyond; to be added to the scores   (N4.6).

    Source: DAPO (Yu et al. 2025), eq. 13. Raises ValueError unless 0 < buffer ≤ max_length.
    """
    if not 0 < buffer <= max_length:
        raise ValueError(f"soft_overlong_penalty: buffer {buffer} must lie in 1 … max_length {max_length}")
    return (((max_length - buffer) - lengths) / buffer).clamp(-1.0, 0.0)


def token_rewards(
    scores: Float[Tensor, " B"], ref_kl: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], *, kl_coef: float
) -> Float[Tensor, "B R"]:
    """r_t = −β k_t + [t is the last kept token] · r(x, y)   (N4.6).

    So Σ_t r_t = r(x, y) − β Σ_t k_t. `scores` in score units; `ref_kl` k_t in nats, what each token says of KL(π ‖
    π_ref), π being the policy that sampled it: k1, log π(y_t) − log π_ref(y_t), is the one whose policy gradient is
    right, for the others see kl.py. `kl_coef` β in score units per nat. Zero outside the mask; an empty row is all
    zeros, its score goes nowhere. The score is added to the last kept token's own KL term (Ziegler et al. 2019; Ouyang
    et al. 2022), not one slot later as in TRL since 0.9.
    """
    rewards = -kl_coef * select(ref_kl, mask)
    columns = torch.arange(mask.shape[1], device=mask.device)
    is_last = columns == last_index(mask).unsqueeze(1)
    return torch.where(is_last, rewards + scores.unsqueeze(1), rewards)


def dense_token_rewards(
    token_scores: Float[Tensor, "B R"], ref_kl: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"], *, kl_coef: float
) -> Float[Tensor, "B R"]:
    """r_t = score_t − β k_t: a judge of single tokens, each paid where it stands   (N3.8, N4.6).

    So Σ_t r_t = Σ_t score_t − β Σ_t k_t. Zero outside the mask: what the judge says of padding is lost. A judge of the
    whole response besides is added by `token_rewards` with this function's result: rewards add up.
    """
    return select(token_scores, mask) - kl_coef * select(ref_kl, mask)
