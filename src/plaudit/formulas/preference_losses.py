"""Losses of reward models that learn from comparisons and rankings. Scores in score units; losses in nats."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.formulas.masks import at_least_float32


def pairwise_logistic(
    chosen: Float[Tensor, " N"], rejected: Float[Tensor, " N"], margin: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """−log σ(r_w − r_l − m) = log(1 + exp(r_l − r_w + m)) of each pair   (N3.1 = N3.2).

    "LogSig" (Ouyang et al. 2022, eq. 1) and "LogExp" (Askell et al. 2021) are one function; this form of it is stable,
    float32 or better: either written naively is inf when r_l − r_w passes 88. `margin` m ≥ 0, in score units, is by how
    much the chosen must win (Touvron et al. 2023); zeros where the data has none. log 2 at equal scores and no margin.
    """
    return -logsigmoid(at_least_float32(chosen) - at_least_float32(rejected) - margin)


def ranked_pairs(ranks: Int[Tensor, " N"], groups: Int[Tensor, " N"]) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"]]:
    """Indices (better, worse) of every pair within a prompt whose ranks differ; 1 is the best rank (N2.2).

    At most C(K,2) pairs a prompt: ties give none (the note is silent on them). `groups` names each answer's prompt by
    any integer, in any order.
    """
    same_prompt = groups.unsqueeze(1) == groups.unsqueeze(0)
    better = ranks.unsqueeze(1) < ranks.unsqueeze(0)
    first, second = torch.nonzero(same_prompt & better, as_tuple=True)
    return first, second


def kwise(
    scores: Float[Tensor, " N"], ranks: Int[Tensor, " N"], groups: Int[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ_x L_x, number of prompts counted), L_x = mean over x's pairs (i above j) of −log σ(r_i − r_j)   (N3.3).

    The loss of a minibatch is the first over the second, both summed over micro-batches and ranks; the mean is over
    prompts, each weighing the same whatever its K (Ouyang et al. 2022, eq. 1: 1/C(K,2) inside the prompt). K varies;
    with ties the divisor is the number of pairs that are left. A prompt with no pair (K = 1, all tied) is not counted
    and its scores are not touched. Nothing counted: (0, 0).
    """
    better, worse = ranked_pairs(ranks, groups)
    losses = pairwise_logistic(scores[better], scores[worse], torch.zeros_like(scores[better]))
    _, prompt = torch.unique(groups, return_inverse=True)
    pairs_of_prompt = torch.bincount(prompt[better])
    return (losses / pairs_of_prompt[prompt[better]]).sum(), (pairs_of_prompt > 0).sum()
