"""Losses over all answers of a prompt at once: the best of K, whole rankings. Scores in score units, losses in nats.

Each is (sum, number of prompts): both add up over micro-batches and ranks, and the minibatch's loss is their ratio.
"""

import itertools
from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.formulas.masks import at_least_float32

MAX_TIED = 12
"""Answers that may share a rank above others: the exact probability of such a tie takes 2^tied terms."""


def best_of_k(
    scores: Float[Tensor, " N"], best: Bool[Tensor, " N"], groups: Int[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ_x L_x, number of prompts counted), L_x = −log P_b, P_i = exp r_i / Σ_j exp r_j over x's answers   (N3.4).

    The gradient of L_x is Σ_i P_i ∇r_i − ∇r_b. Several best answers share the target evenly: L_x is the mean of their
    −log P. A prompt with nothing to learn (one answer, none best, all best) is not counted and its scores are not
    touched. `groups` names each answer's prompt by any integer, in any order. Nothing counted: (0, 0).
    """
    _, prompt = torch.unique(groups, return_inverse=True)
    answers = torch.bincount(prompt)
    winners = torch.bincount(prompt[best], minlength=answers.shape[0])
    counted = (winners > 0) & (winners < answers)
    winner = torch.nonzero(best & counted[prompt], as_tuple=True)[0]
    losses = _minus_log_first(scores, winner, groups[winner].unsqueeze(1) == groups)
    return (losses / winners[prompt[winner]]).sum(), counted.sum()


def plackett_luce(
    scores: Float[Tensor, " N"], ranks: Int[Tensor, " N"], groups: Int[Tensor, " N"]
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """(Σ_x −log P(x's ranking), number of prompts counted); 1 is the best rank   (N3.4; Plackett 1975, Luce 1959).

        P(1 ≻ 2 ≻ … ≻ K) = Π_k exp r_k / Σ_{j ≥ k} exp r_j

    Answers that share a rank come before the rest *in whatever order*: the probability is summed over the orders within
    the tie, exactly. So ranks (1, 2, 2, 2) give `best_of_k` of one best, and two answers `pairwise_logistic`. The last
    rank may be shared by any number, any other by at most MAX_TIED: ValueError beyond. A prompt with one answer, or
    all tied, is not counted and its scores are not touched. Nothing counted: (0, 0).
    """
    same_prompt = groups.unsqueeze(1) == groups
    tied = same_prompt & (ranks.unsqueeze(1) == ranks)
    below = same_prompt & (ranks.unsqueeze(1) < ranks)
    # The last rank is certain once the others are taken, so it has no term.
    size = torch.where(below.any(dim=1), tied.sum(dim=1), 0)
    alone = torch.nonzero(size == 1, as_tuple=True)[0]
    total = _minus_log_first(scores, alone, (tied | below)[alone]).sum()
    for members in _tied_places(tied, size):
        total = total + _minus_log_tied_first(scores, members, below[members[:, 0]]).sum()
    _, prompt = torch.unique(groups, return_inverse=True)
    return total, (torch.bincount(prompt[size > 0]) > 0).sum()


def _minus_log_first(
    scores: Float[Tensor, " N"], first: Int[Tensor, " M"], among: Bool[Tensor, "M N"]
) -> Float[Tensor, " M"]:
    """−log P(answer `first` is taken first of those that `among` marks, itself included) = log Σ_j exp(r_j − r_first).

    Differences and not scores go into the exponential: scores of 10⁴ keep their float32 digits.
    """
    scores = at_least_float32(scores)
    return _log_sum_exp(scores - scores[first].unsqueeze(1), among)


def _log_sum_exp(differences: Float[Tensor, "M N"], among: Bool[Tensor, "M N"]) -> Float[Tensor, " M"]:
    """log Σ exp over what `among` marks in each row, at least one."""
    if differences.numel() == 0:
        return differences.sum(dim=1)
    return torch.where(among, differences, -torch.inf).logsumexp(dim=1)


def _tied_places(tied: Bool[Tensor, "N N"], size: Int[Tensor, " N"]) -> Iterator[Int[Tensor, "M T"]]:
    """Indices of the answers of every rank that T > 1 share, all ranks of one T together."""
    for shared in torch.unique(size[size > 1]).tolist():
        if shared > MAX_TIED:
            raise ValueError(f"plackett_luce: {shared} answers share a rank above others, at most {MAX_TIED} may")
        rows = tied[size == shared]
        members = torch.nonzero(rows, as_tuple=True)[1].reshape(-1, shared)
        yield torch.unique(members, dim=0)  # each rank was found once per member


def _minus_log_tied_first(
    scores: Float[Tensor, " N"], members: Int[Tensor, "M T"], below: Bool[Tensor, "M N"]
) -> Float[Tensor, " M"]:
    """−log P(the T members are taken before all that `below` marks, in any order), by recursion over their subsets.

    f(S) = P(the members S, all that are left, come before the rest): f(∅) = 1 and, the first of S being taken next,
    f(S) = Σ_{i ∈ S} exp r_i f(S∖i) / (Σ_{j ∈ S} exp r_j + Σ_{j below} exp r_j), in logarithms.
    """
    scores = at_least_float32(scores)
    origin = scores[members[:, :1]]  # scores enter as differences, as above
    own = scores[members] - origin
    rest = _log_sum_exp(scores - origin, below)
    log_f = torch.zeros_like(own[:, :1])  # [M subsets], of the empty set
    for subsets, without in _subsets(members.shape[1]):
        chosen = own[:, torch.tensor(subsets, device=own.device)]  # [M subsets size]
        remaining = log_f[:, torch.tensor(without, device=own.device)]
        log_total = torch.logaddexp(chosen.logsumexp(dim=-1), rest.unsqueeze(1))
        log_f = (chosen + remaining).logsumexp(dim=-1) - log_total
    return -log_f.squeeze(1)


@cache
def _subsets(count: int) -> tuple[tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]], ...]:
    """For each size from 1 to `count`: the subsets of that size, and where each of them without its i-th member stands
    among those of the size before."""
    levels = []
    index_of: dict[tuple[int, ...], int] = {(): 0}
    for size in range(1, count + 1):
        subsets = tuple(itertools.combinations(range(count), size))
        without = tuple(tuple(index_of[s[:i] + s[i + 1 :]] for i in range(size)) for s in subsets)
        levels.append((subsets, without))
        index_of = {subset: index for index, subset in enumerate(subsets)}
    return tuple(levels)
